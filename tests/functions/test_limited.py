"""`paco.limited`: a limit on a function, wherever it is called."""

from __future__ import annotations

import asyncio
import functools
import inspect
import operator

import pytest

import paco
from paco import testing
from paco.testing import Probe, now


async def fetch(url, *, tries=1):
    """Fetch something."""
    await asyncio.sleep(10)
    return url, tries


async def test_calls_wait_for_a_count():
    probe = Probe(lambda item: item, takes=10)
    careful = paco.limited(probe, 2)
    assert await paco.gather(*map(careful, range(5))) == [0, 1, 2, 3, 4]
    assert probe.started_at == [0, 0, 10, 10, 20]


async def test_calls_wait_for_a_rate_where_throttle_drops():
    probe = Probe(lambda item: item)
    careful = paco.limited(probe, paco.Rate(2, per=10, burst=2))
    assert [await careful(item) for item in range(4)] == [0, 1, 2, 3]
    assert probe.started_at == [0, 0, 5, 10]
    dropping = paco.throttle(probe, limit=2, timeframe=10)
    assert [await dropping(item) for item in range(4)] == [0, 1, 1, 1]


async def test_all_callers_share_the_limit_and_functions_can_share_a_limit_object():
    limit, probe, other = paco.Limit(1), Probe(lambda item: item, takes=1), Probe(lambda item: item, takes=1)
    await paco.gather(paco.limited(probe, limit)(1), paco.limited(other, limit)(2), paco.map(probe, [3], limit=limit))
    assert now() == 3


async def test_a_number_is_a_separate_limit_for_each_function():
    await paco.gather(paco.limited(fetch, 1)("a"), paco.limited(fetch, 1)("b"))
    assert now() == 10


async def test_a_limit_of_0_is_no_limit():
    careful = paco.limited(fetch, 0)
    await paco.gather(*map(careful, range(100)))
    assert now() == 10


async def test_the_function_gets_all_arguments_and_the_limit_gets_the_first_as_the_item():
    seen = []

    def weigh(url):
        seen.append(url)
        return 1

    careful = paco.limited(fetch, paco.Rate(1, cost=weigh))
    assert await careful("a", tries=3) == ("a", 3)
    assert await careful(url="b") == ("b", 1)
    assert seen == ["a", None]


async def test_each_call_acquires_the_limit_in_the_task_of_the_caller():
    async def current():
        return asyncio.current_task()

    assert await paco.limited(current, 1)() is asyncio.current_task()


async def test_a_limited_function_works_in_runs_under_other_limits():
    probe = Probe(lambda item: item, takes=1)
    assert await paco.map(paco.limited(probe, 2), range(6), limit=4) == [0, 1, 2, 3, 4, 5]
    assert (probe.peak, now()) == (2, 3)


async def test_a_failing_call_releases_its_permit_and_a_refused_call_takes_none():
    limit = paco.Limit(1)
    with pytest.raises(ZeroDivisionError):
        await paco.limited(Probe(lambda item: 1 // item), limit)(0)
    assert limit.in_flight == 0
    rate = paco.Rate(1, per=100, cost=lambda item: item)
    with pytest.raises(TypeError, match=r"^paco\.Rate: "):
        await paco.limited(fetch, rate & limit)("text")
    assert limit.in_flight == 0
    assert await paco.limited(fetch, rate)(1) == (1, 1)
    assert now() == 10


@pytest.mark.parametrize("limit", [1, paco.Limit(1) & paco.Rate(1, per=100), asyncio.Semaphore(1)])
async def test_a_deadline_ends_the_wait_for_the_limit_and_the_permit_goes_to_the_next_caller(limit):
    careful = paco.limited(fetch, limit)
    first = asyncio.ensure_future(careful("a"))
    await asyncio.sleep(1)
    message = r"^paco\.limited: the wait of fetch for its limit did not finish within the deadline of 5 s$"
    with paco.deadline(5), pytest.raises(TimeoutError, match=message):
        await careful("b")
    assert now() == 6
    assert await first == ("a", 1)
    assert await careful("c") == ("c", 1)


async def test_a_deadline_does_not_end_the_users_function():
    with paco.deadline(5):
        assert await paco.limited(fetch, 1)("a") == ("a", 1)
    assert now() == 10


async def test_after_the_deadline_no_call_waits_and_a_free_permit_is_still_used():
    careful = paco.limited(fetch, 1)
    with paco.deadline(0):
        first = asyncio.ensure_future(careful("a"))
        await asyncio.sleep(0)
        with pytest.raises(TimeoutError, match="the wait of fetch for its limit"):
            await careful("b")
    assert now() == 0
    assert await first == ("a", 1)


@pytest.mark.parametrize("again", [None, 0, 1])
@pytest.mark.parametrize("limits", [[paco.Limit], [paco.Rate], [paco.Limit, paco.Rate]])
def test_cancelled_at_every_step_a_limited_call_has_ended(limits, again, cancel_at_every_step):
    async def main():
        probe = Probe(lambda item: item, takes=1, cleanup=1)
        careful = paco.limited(probe, functools.reduce(operator.and_, [limit(1) for limit in limits]))
        try:
            await paco.gather(*map(careful, range(3)))
        finally:
            assert probe.running == 0 or again is not None  # a second cancellation cuts the cleanup of an item short

    assert cancel_at_every_step(main, again=again) > 10


async def test_a_function_that_returns_no_awaitable_is_an_error_and_the_permit_is_released():
    limit = paco.Limit(1)
    for how in (limit, 0):
        with pytest.raises(
            TypeError, match=r"^paco\.limited: <lambda> must be a coroutine function, but it returned 1"
        ):
            await paco.limited(lambda: 1, how)()
    assert limit.in_flight == 0


@pytest.mark.parametrize("wrong", [None, "text", 1])
def test_an_argument_that_is_no_function_is_an_error_at_once(wrong):
    with pytest.raises(TypeError, match=r"^paco\.limited: fn must be a coroutine function, got "):
        paco.limited(wrong, 1)


def test_a_coroutine_object_instead_of_the_function_is_an_error_that_names_the_mistake():
    with pytest.raises(TypeError, match=r"pass the function, not the call: fetch instead of fetch\(\.\.\.\)$"):
        paco.limited(fetch("a"), 1)


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (1.5, TypeError), (True, TypeError), ("5", TypeError)])
def test_an_invalid_limit_is_an_error_at_once(wrong, error):
    with pytest.raises(error, match=r"^paco\.limited: limit must be an int of 0 or more"):
        paco.limited(fetch, wrong)


@pytest.mark.parametrize("wrong", [1.5, True, "20", paco.Rate])
def test_the_error_for_an_invalid_limit_mentions_limit_objects(wrong):
    expected = r"limit must be an int of 0 or more, None, or a limit such as paco\.Rate\(50\), got "
    with pytest.raises(TypeError, match=rf"^paco\.limited: {expected}"):
        paco.limited(fetch, wrong)


@pytest.mark.parametrize("limit", [0, None, 1, paco.Rate(1)])
def test_a_limited_function_keeps_the_metadata(limit):
    careful = paco.limited(fetch, limit)
    assert (careful.__name__, careful.__doc__, careful.__wrapped__) == ("fetch", "Fetch something.", fetch)
    assert inspect.signature(careful) == inspect.signature(fetch)
    assert inspect.iscoroutinefunction(careful)
    assert paco.limited(functools.partial(fetch, "a"), limit).__name__ == "fetch"


def test_a_limited_function_can_be_used_in_one_loop_after_another():
    careful = paco.limited(fetch, 1)
    for _ in range(2):
        assert testing.run(careful("a")) == ("a", 1)


async def test_instances_share_the_limit_of_a_limited_method():
    class Client:
        async def ask(self, number):
            await asyncio.sleep(10)
            return number

        ask = paco.limited(ask, 1)

    assert await paco.gather(Client().ask(1), Client().ask(2)) == [1, 2]
    assert now() == 20


async def test_an_abandoned_coroutine_of_a_closed_loop_ends_silently():
    limit = paco.Limit(1)
    call = paco.limited(fetch, limit)("a")
    await asyncio.wait([asyncio.ensure_future(asyncio.sleep(0))])
    assert call.send(None) is not None  # it waits inside of the block, in this context
    other = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: other.set_result(call.close()))  # and is closed in another
    await other
    assert limit.in_flight == 0
