"""`--limit auto`: which errors mean "too many", and what is shown of the limit that is found."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from paco._cli import main
from paco._cli.pace import limit_of, retry_on, too_many
from paco._cli.tally import Tally, summary
from paco._cli.words import rate

pytestmark = pytest.mark.usefixtures("folder")

JOBS = """
import asyncio

in_flight = 0

async def crowded(item):
    global in_flight
    in_flight += 1
    try:
        if in_flight > 8:
            raise ConnectionRefusedError
        await asyncio.sleep(0.001)
    finally:
        in_flight -= 1

async def wrong(item):
    raise ValueError(item)

def again(error):
    return 0.0 if isinstance(error, KeyError) else None

def broken(error):
    raise RuntimeError
"""
FILES = {"jobs.py": JOBS}


class Status(Exception):
    def __init__(self, **members):
        vars(self).update(members)


class Hostile(Exception):
    @property
    def status(self):
        raise RuntimeError


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (Status(status=429), True),
        (Status(response=SimpleNamespace(status_code=503)), True),
        (Status(status_code=429), True),
        (Status(status=404), False),
        (Status(status=[429]), False),
        (Status(response=None), False),
        (Hostile(), False),
        (ValueError(), False),
        (OSError(), False),
    ],
)
def test_what_tells_of_overload_means_too_many_where_nobody_says_what_does(error, means):
    assert too_many(retry_on([]))(error) is means


@pytest.mark.parametrize(
    ("names", "error", "means"),
    [
        (["ValueError"], ValueError(), True),
        (["ValueError"], TimeoutError(), False),
        (["ValueError", "jobs:again"], KeyError(), True),
        (["jobs:again"], ValueError(), False),
        (["jobs:broken"], ValueError(), False),
    ],
)
def test_what_is_to_be_retried_means_too_many_where_it_is_named(names, error, means):
    assert too_many(retry_on(names))(error) is means


@pytest.mark.parametrize(
    ("said", "shown"), [(None, "<paco.Adaptive 10,"), ("50/s", "<paco.Adaptive 10, 0 in flight> & <")]
)
def test_the_word_auto_stands_for_a_limit_that_finds_its_value(said, shown):
    limit = limit_of(SimpleNamespace(limit="auto", rate=None if said is None else rate(said)), Exception)
    assert repr(limit).startswith(shown)


def run(*words):
    return main(["map", *words, "--limit", "auto"])


def items(folder, count):
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(count)))


@pytest.mark.realtime
@pytest.mark.usefixtures("virtual_time")
def test_a_limit_that_is_found_stays_near_what_is_not_refused(folder, capfd):
    items(folder, 1000)
    assert run("jobs:crowded", "items.txt", "-o", "out.jsonl", "--retries", "20", "--progress", "json") == 0
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert last["ok"] == 1000
    assert last["retried"] > 0
    assert 1 <= last["limit"] <= 16


@pytest.mark.realtime
def test_errors_of_other_kinds_do_not_lower_it(folder, capfd):
    items(folder, 50)
    assert run("jobs:wrong", "items.txt", "--halt", "never") == 1
    assert "\n  limit     10   (auto)\n  failures  50 ValueError\n" in capfd.readouterr().err


def test_the_summary_tells_no_limit_that_was_said():
    assert not re.search("limit", "\n".join(summary(Tally(), 0, 1, width=80)))
