"""`paco.deadline`: one end for all calls of paco inside of a block, on virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars

import pytest

import paco
from paco._base.deadline import remaining
from paco.testing import AsyncSource, Probe, VirtualLoop, now, run


async def nap(seconds=60):
    await asyncio.sleep(seconds)
    return seconds


OVER = r"not finished within the deadline of 5 s$"


# ---- every call keeps to it


CALLS = {
    "map": lambda: paco.map(nap, [60, 60], limit=1),
    "map under a Limit": lambda: paco.map(nap, [60, 60], limit=paco.Limit(1)),
    "map of an async source": lambda: paco.map(nap, AsyncSource([60]), limit=1),
    "map with a longer timeout": lambda: paco.map(nap, [60], timeout=6),
    "map with an endless timeout": lambda: paco.map(nap, [60], timeout=float("inf")),
    "each": lambda: paco.each(nap, [60]),
    "filter": lambda: paco.filter(nap, [60]),
    "filterfalse": lambda: paco.filterfalse(nap, [60]),
    "flat_map": lambda: paco.flat_map(nap, [[60]]),
    "dropwhile": lambda: paco.dropwhile(nap, [60]),
    "reduce": lambda: paco.reduce(lambda total, item: nap(item), [60], initializer=0),
    "some": lambda: paco.some(nap, [60]),
    "every": lambda: paco.every(nap, [60]),
    "repeat": lambda: paco.repeat(lambda _: nap(), 2),
    "gather": lambda: paco.gather(nap(60), nap(60)),
    "series": lambda: paco.series(nap(3), nap(3)),
    "race": lambda: paco.race([nap, nap]),
    "ConcurrentExecutor": lambda: paco.ConcurrentExecutor(coros=[nap(60)]).run(),
    "a pipeline": lambda: [60] | paco.map(nap) | paco.map(nap),
    "hedge": lambda: paco.hedge(nap, 1)(60),
}


@pytest.mark.parametrize("call", CALLS)
async def test_a_run_ends_at_the_deadline_with_nothing_left_running(call):
    with pytest.raises(paco.RunTimeout, match=OVER), paco.deadline(5):
        await CALLS[call]()
    assert (now(), asyncio.current_task().cancelling()) == (5, 0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    "call",
    [
        lambda: paco.timeout(nap, 6)(60),
        lambda: paco.timeout(nap)(60),
        lambda: paco.timeout(nap(60), 6),
        lambda: paco.retry(nap)(60),
    ],
    ids=["timeout", "timeout of None", "timeout of a coroutine", "retry"],
)
async def test_a_call_in_the_callers_task_is_cancelled_at_the_deadline(call):
    with pytest.raises(TimeoutError, match=r"nap did not finish within the deadline of 5 s"), paco.deadline(5):
        await call()
    assert (now(), asyncio.current_task().cancelling()) == (5, 0)


async def test_a_block_of_a_timeout_limit_ends_at_the_deadline():
    with (
        pytest.raises(TimeoutError, match=r"^paco\.TimeoutLimit: the block did not finish within the deadline of 5 s$"),
        paco.deadline(5),
        paco.TimeoutLimit(None),
    ):
        await nap()
    assert now() == 5


async def test_an_earlier_timeout_raises_its_own_error():
    with paco.deadline(5):
        with pytest.raises(paco.RunTimeout, match=r"^paco\.map: not finished within its timeout of 4 s, "):
            await paco.map(nap, [60], timeout=4)
        with pytest.raises(TimeoutError, match=r"did not finish within 0\.5 s"):
            await paco.timeout(nap, 0.5)(60)
    assert now() == 4.5


async def test_at_the_same_time_the_timeout_wins_over_the_deadline():
    with pytest.raises(TimeoutError, match="its timeout of 5 s"), paco.deadline(5):
        await paco.map(nap, [60], timeout=5)


async def test_an_iterated_stream_keeps_the_deadline_of_its_start():
    seen = []
    with paco.deadline(5):
        stream = paco.map(nap, [1, 2, 60], limit=1)
        seen.append(await anext(stream))
    with pytest.raises(paco.RunTimeout, match=OVER):  # though the block has been left
        async for item in stream:
            seen.append(item)
    assert (seen, now()) == ([1, 2], 5)


async def test_wait_returns_at_the_deadline_and_pending_items_continue():
    with paco.deadline(5):
        done, pending = await paco.wait(nap(1), nap(9), nap(60), limit=2)
    assert (len(done), len(pending), now()) == (1, 2, 5)
    await asyncio.wait(pending)
    assert {future.result() for future in pending} == {9, 60}
    assert now() == 61


async def test_wait_under_a_deadline_that_has_passed_returns_at_once():
    with paco.deadline(0):
        done, pending = await paco.wait(nap(1), timeout=10)
    assert (len(done), len(pending), now()) == (0, 1, 0)
    for future in pending:
        future.cancel()
    await asyncio.wait(pending)


async def test_the_outcomes_of_a_settled_run_survive_its_deadline():
    with pytest.raises(paco.RunTimeout) as caught, paco.deadline(5):
        await paco.map(paco.settle(nap), [1, 60, 2])
    assert [one.value for one in caught.value.outcomes] == [1, 2]


# ---- where it holds


async def test_nested_items_inherit_the_deadline():
    ends = []

    async def outer(item):
        try:
            await paco.map(inner, [1])
        finally:
            ends.append(("outer", now()))

    async def inner(item):
        try:
            await paco.timeout(nap)(60)
        except TimeoutError:
            ends.append(("inner", now()))
            raise

    with pytest.raises(TimeoutError), paco.deadline(5):
        await paco.map(outer, [1])
    assert ("outer", 5) in ends
    assert now() == 5


async def test_an_item_can_have_its_own_deadline():
    async def one(seconds):
        with paco.deadline(seconds):
            return await paco.retry(nap, attempts=1)(4)

    outcomes = await paco.map(paco.settle(one), [3, 5], limit=1)
    assert [type(one) for one in outcomes] == [paco.Err, paco.Ok]
    assert now() == 7


@pytest.mark.parametrize(("outer", "inner"), [(5, 9), (9, 5), (5, None), (None, 5), (5, float("inf"))])
async def test_of_nested_deadlines_the_earlier_one_applies(outer, inner):
    with pytest.raises(paco.RunTimeout, match=OVER), paco.deadline(outer), paco.deadline(inner):
        await paco.map(nap, [60])
    assert now() == 5


async def test_a_deadline_counts_from_where_it_was_set():
    with paco.deadline(5):
        await nap(4)
        with pytest.raises(paco.RunTimeout), paco.deadline(2):
            await paco.map(nap, [60])
    assert now() == 5


async def test_after_the_block_the_outer_deadline_applies_again():
    with paco.deadline(9):
        with paco.deadline(1):
            await nap(2)
        with pytest.raises(paco.RunTimeout, match="deadline of 9 s"):
            await paco.map(nap, [60])
    assert now() == 9
    assert await paco.map(nap, [60]) == [60]


async def test_the_block_of_a_deadline_is_not_cancelled():
    with paco.deadline(5):
        await nap(60)
        with pytest.raises(paco.RunTimeout):
            await paco.map(nap, [0])  # there is no time left
    assert now() == 60


async def test_only_tasks_started_in_the_block_see_the_deadline():
    async def call():
        return await paco.map(nap, [60])

    with paco.deadline(5):
        inside = asyncio.ensure_future(call())
    outside = asyncio.ensure_future(call())
    await asyncio.wait([inside, outside])
    assert isinstance(inside.exception(), paco.RunTimeout)
    assert outside.result() == [60]


async def test_a_deadline_can_be_reused_but_not_nested_in_itself():
    five = paco.deadline(5)
    for end in (5, 10):
        with pytest.raises(paco.RunTimeout), five:
            await paco.map(nap, [60])
        assert now() == end
    with five, pytest.raises(RuntimeError, match="this deadline is already in use; create one for each block"), five:
        pass
    assert await paco.map(nap, [60]) == [60]


async def test_an_error_of_the_block_is_unchanged():
    with pytest.raises(LookupError), paco.deadline(5):
        raise LookupError
    assert await paco.map(nap, [60]) == [60]


def test_without_a_running_loop_a_deadline_uses_the_system_clock():
    with pytest.raises(TimeoutError), paco.deadline(0):
        paco.run(paco.map(nap, [60]))
    with paco.deadline(3600):
        assert paco.run(paco.map(nap, [0])) == [0]


@pytest.mark.realtime
async def test_the_loop_of_another_thread_has_the_same_time_left():
    async def left():
        return clock(), remaining(), clock()

    def over():
        with pytest.raises(TimeoutError):
            paco.run(paco.map(nap, [3600]))

    clock = asyncio.get_running_loop().time
    earliest = clock() + 3600
    with paco.deadline(3600):
        latest = clock() + 3600
        before, seconds, after = await asyncio.to_thread(paco.run, left())
        assert earliest - after <= seconds <= latest - before
    with paco.deadline(0.05):
        await asyncio.to_thread(over)


def test_a_deadline_uses_the_clock_of_the_loop_in_which_it_was_set():
    contexts = []

    async def until_four():
        with paco.deadline(5):
            await nap(4)
            contexts.append(contextvars.copy_context())

    async def until_the_end():
        with pytest.raises(paco.RunTimeout):
            await paco.map(nap, [60])
        assert now() == 1

    run(until_four)
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(until_the_end(), context=contexts[0])


async def test_an_abandoned_coroutine_is_closed_in_another_context_without_an_error():
    async def call():
        with paco.deadline(5):
            await nap()

    coro = call()
    contextvars.copy_context().run(coro.send, None)
    coro.close()


@pytest.mark.parametrize(("seconds", "error"), [(-1, ValueError), (float("nan"), ValueError), ("5", TypeError)])
def test_bad_seconds_are_refused_at_the_call(seconds, error):
    with pytest.raises(error, match=r"^paco\.deadline: seconds must be seconds \(a number of 0 or more\) or None, got"):
        paco.deadline(seconds)


# ---- retry


class Fails:
    """An async function that takes a second and fails, each time with another error."""

    def __init__(self):
        self.times = []

    async def __call__(self):
        self.times.append(now())
        await asyncio.sleep(1)
        raise OSError(len(self.times))


@pytest.mark.parametrize("pause", [3, 2.5])
async def test_retry_starts_no_back_off_that_would_end_after_the_deadline(pause):
    fails = Fails()
    with pytest.raises(OSError, match="1") as caught, paco.deadline(3.5):
        await paco.retry(fails, on=lambda _: pause)()
    assert (fails.times, now()) == ([0], 1)
    assert caught.value.__notes__ == [
        "paco.retry: gave up after 1 attempt and 1 s: the deadline comes before the next attempt"
    ]


async def test_retry_cancels_an_attempt_that_is_still_running_at_the_deadline():
    fails = Fails()
    with pytest.raises(TimeoutError, match=r"the deadline of 3\.5 s") as caught, paco.deadline(3.5):
        await paco.retry(fails, on=lambda _: 2)()
    assert (fails.times, now()) == ([0, 3], 3.5)
    assert caught.value.__notes__ == [
        "paco.retry: gave up after 2 attempts and 3.5 s: the deadline comes before the next attempt"
    ]


async def test_retry_obeys_the_servers_delay_if_it_ends_before_the_deadline():
    fails = Fails()
    with pytest.raises(OSError, match="3"), paco.deadline(203.5):
        await paco.retry(fails, on=lambda _: 100)()
    assert fails.times == [0, 101, 202]


async def test_an_attempt_has_the_smaller_of_its_timeout_and_the_time_left():
    with pytest.raises(TimeoutError) as caught, paco.deadline(5):
        await paco.retry(nap, wait=0, timeout=2)(60)
    assert now() == 5  # 2, 2, 1
    assert "the deadline of 5 s" in str(caught.value)


# ---- cancellation


@pytest.mark.parametrize("again", [None, 1])
def test_cancelled_at_every_step_nothing_is_left_running_and_the_deadline_is_reset(again, cancel_at_every_step):
    async def main():
        probe = Probe(lambda item: item, takes=2, cleanup=1)
        try:
            with contextlib.suppress(TimeoutError), paco.deadline(3):
                await paco.map(paco.retry(probe, wait=0), range(4), limit=2)
        finally:
            assert probe.running == 0

    assert cancel_at_every_step(main, again=again) > 5
