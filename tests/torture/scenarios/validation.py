"""Validation: invalid arguments are refused with an error before anything starts, and never hang."""

from __future__ import annotations

import math

from tests.torture.kit import Area
from tests.torture.tools import Work, are, caught, same

AREA = Area("arguments")
scenario = AREA.scenario

ERRORS = (TypeError, ValueError)


async def refused_or_obeyed(library, limit, most):
    """Check that the limit is refused before anything has started, or is respected."""
    work = Work(1)
    try:
        results = await library.collect(work.run, list(range(9)), limit)
    except (*ERRORS, ExceptionGroup) as error:
        are(error, ERRORS)
        assert not work.started, f"refused after {len(work.started)} items had started"
        return
    same(results, range(9))
    assert work.peak <= most, f"{work.peak} at once with a limit of {limit}"


@scenario("collect")
async def a_limit_of_zero_is_refused_or_means_no_limit(library):
    await refused_or_obeyed(library, 0, 9)


@scenario("collect", cases={"2.5": (2.5, 2), "True": (True, 1), "infinite": (math.inf, 9)})
async def an_odd_limit_is_refused_or_obeyed(library, case):
    await refused_or_obeyed(library, *case)


@scenario("collect", cases={"-5": -5, "nan": math.nan, "'3'": "3", "[3]": [3]})
async def an_invalid_limit_is_refused(library, limit):
    work = Work(1)
    error = await caught(library.collect(work.run, list(range(9)), limit))
    are(error, ERRORS)
    assert not work.started, f"refused after {len(work.started)} items had started"


@scenario("collect", cases={"None": None, "5": 5, "a list": []})
async def an_argument_that_is_not_a_function_is_refused(library, fn):
    error = await caught(library.collect(fn, [1, 2, 3], 2))
    are(error, ERRORS)


@scenario("collect")
async def a_sync_function_is_refused_or_used(library):
    def sync(item):
        return item

    try:
        results = await library.collect(sync, [1, 2, 3], 2)
    except (*ERRORS, ExceptionGroup) as error:
        are(error, ERRORS)
    else:
        same(results, [1, 2, 3])


@scenario("collect", cases={"None": None, "5": 5})
async def a_source_that_is_not_iterable_is_refused(library, source):
    work = Work()
    error = await caught(library.collect(work.run, source, 2))
    are(error, TypeError)
    assert not work.started
