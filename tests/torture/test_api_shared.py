"""`once` and `times` with callers that arrive, are cancelled, time out and return, in every order."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

import paco
from paco.testing import now
from tests.torture.waiting import ended

CALL, CLEANUP = 10, 3


class Work:
    """An async function that takes 10 seconds, and 3 to clean up; it counts its running calls."""

    def __init__(self, outcome=None):
        self.outcome = outcome
        self.running = self.peak = self.calls = self.cancelled = self.completed = 0

    async def __call__(self, *_):
        self.calls += 1
        self.running += 1
        self.peak = max(self.peak, self.running)
        number = self.calls
        try:
            await asyncio.sleep(CALL)
            self.completed += 1
            if self.outcome is not None:
                raise self.outcome
        except asyncio.CancelledError:
            await asyncio.sleep(CLEANUP)
            self.cancelled += 1
            raise
        finally:
            self.running -= 1
        return number


async def caller(calls, ends):
    """Make a call, and record when and how it ended."""
    try:
        ends.append((await calls(), now()))
    except (asyncio.CancelledError, ValueError) as error:
        ends.append((type(error), now()))
        raise


@pytest.mark.parametrize("error", [None, ValueError("shared")])
async def test_if_any_callers_are_cancelled_the_others_get_the_outcome_of_the_shared_call(error):
    # Each subset of four callers is cancelled, each caller at the second of its number.
    for cancelled in itertools.chain.from_iterable(itertools.combinations(range(4), count) for count in range(4)):
        began, work = now(), Work(error)
        calls, ends = paco.once(work), [[] for _ in range(4)]
        tasks = [asyncio.ensure_future(caller(calls, each)) for each in ends]
        for second in range(4):
            await asyncio.sleep(1)
            if second in cancelled:
                tasks[second].cancel()
        await asyncio.wait(tasks)
        shared = (1 if error is None else ValueError, began + CALL)
        expected = [(asyncio.CancelledError, began + 1 + one) if one in cancelled else shared for one in range(4)]
        assert [end for (end,) in ends] == expected
        assert (work.calls, work.cancelled) == (1, 0)
        assert [task.exception() for task in tasks if not task.cancelled()] == [error] * (4 - len(cancelled))


@pytest.mark.parametrize("last", range(4))
async def test_the_last_cancelled_caller_waits_for_the_cleanup_and_the_next_one_starts_anew(last):
    work, ends = Work(), []
    calls = paco.once(work)
    tasks = [asyncio.ensure_future(caller(calls, ends)) for _ in range(4)]
    await asyncio.sleep(1)
    for task in tasks[:last] + tasks[last + 1 :]:
        task.cancel()
    await asyncio.sleep(1)
    assert (work.running, work.cancelled) == (1, 0)
    tasks[last].cancel()
    await asyncio.wait(tasks)
    assert ends == [(asyncio.CancelledError, 1)] * 3 + [(asyncio.CancelledError, 2 + CLEANUP)]
    assert (await calls(), now()) == (2, 2 + CLEANUP + CALL)
    assert await calls() == 2


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_under_random_traffic_at_most_the_limit_of_calls_complete_and_remaining_callers_get_a_result(limit):
    for seed in range(40):
        dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        work, ends, tasks = Work(), [], []
        calls = paco.times(work, limit)
        for _ in range(12):
            tasks.append(asyncio.ensure_future(caller(calls, ends)))
            await asyncio.sleep(dice.choice([0, 0, 1, 4]))
            if dice.random() < 0.5:
                tasks[-1].cancel()  # each once: a second cancellation would interrupt the cleanup of its own call
                await asyncio.sleep(dice.choice([0, 1, CLEANUP]))
        await asyncio.wait(tasks)
        assert work.running == 0, seed
        assert work.completed <= limit, seed
        assert work.completed + work.cancelled == work.calls, seed
        results = {task.result() for task in tasks if not task.cancelled()}
        assert len(results) <= limit, seed
        assert await calls() in {*results, work.calls}, seed


async def test_callers_that_time_out_one_by_one_leave_the_call_to_the_rest_and_the_last_ends_it():
    work = Work()
    calls = paco.once(work)
    limited = [paco.timeout(calls, seconds) for seconds in (2, 4, 6)]
    results = await paco.gather(*limited, return_exceptions=True)
    assert [type(result) for result in results] == [TimeoutError] * 3
    assert (work.calls, work.running, work.cancelled) == (1, 0, 1)
    assert now() == 6 + CLEANUP


async def test_a_call_that_is_shared_by_the_items_of_a_run_survives_the_end_of_that_run():
    work = Work()
    calls = paco.once(work)
    outside = asyncio.ensure_future(calls())
    with pytest.raises(TimeoutError):
        await paco.map(calls, range(5), limit=3, timeout=5)
    assert (now(), work.running) == (5, 1)
    assert await outside == 1
    assert now() == CALL


async def test_if_a_run_is_the_only_caller_its_timeout_ends_the_shared_call_and_waits_for_it():
    work = Work()
    calls = paco.once(work)
    with pytest.raises(TimeoutError):
        await paco.map(calls, range(5), limit=3, timeout=5)
    assert (now(), work.running, work.calls, work.cancelled) == (5 + CLEANUP, 0, 1, 1)


async def test_racing_callers_of_one_call_share_it_and_the_loser_does_not_end_it():
    work = Work()
    calls = paco.once(work)
    assert await paco.race([calls, paco.defer(calls, 5), calls]) == 1
    assert (now(), work.calls, work.cancelled) == (CALL, 1, 0)


async def test_a_call_that_ends_as_its_last_caller_is_cancelled_is_never_made_twice_at_once():
    for when in (CALL - 1, CALL, CALL + 1):
        work = Work()
        calls, began = paco.once(work), now()
        task = asyncio.ensure_future(calls())
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(began + when, task.cancel)
        await asyncio.wait([task])
        later = await paco.gather(*(calls() for _ in range(3)))
        assert len(set(later)) == 1
        assert (work.peak, work.completed) == (1, 1)


@pytest.mark.parametrize("again", [None, 0, 1, 2])
@pytest.mark.parametrize("position", range(3))
def test_a_caller_cancelled_at_any_step_changes_nothing_for_the_others(position, again, cancel_at_every_step):
    async def main():
        work = Work()
        calls = paco.once(work)
        others = [asyncio.ensure_future(calls()) for _ in range(position)]
        asyncio.get_running_loop().call_later(1, lambda: others.append(asyncio.ensure_future(calls())))
        try:
            await asyncio.sleep(0)
            await calls()
        finally:
            # The other callers end by themselves, whatever happens to this one; one of them arrives at 1.
            await ended(asyncio.ensure_future(asyncio.sleep(2 * CALL)))
            assert len(others) == position + 1
            assert {task.result() for task in others} == {work.calls}
            assert (work.running, work.completed, work.peak) == (0, 1, 1)

    assert cancel_at_every_step(main, again=again) > 3
