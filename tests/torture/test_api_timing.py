"""`throttle`, `timeout`, `TimeoutLimit`, `defer` and `interval` against models, with exact times and cancellation."""

from __future__ import annotations

import asyncio
import itertools
import random

import pytest

import paco
from paco.testing import now


class Stamps:
    """An async function that takes some seconds and records when it starts; some calls fail."""

    def __init__(self, takes=0.0, failing=()):
        self.takes, self.failing = takes, failing
        self.starts = []
        self.running = 0

    async def __call__(self, *_):
        number = len(self.starts)
        self.starts.append(now())
        self.running += 1
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.running -= 1
        if number in self.failing:
            raise ValueError(number)
        return number


# ---- throttle


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("limit", [1, 2, 5])
async def test_throttle_starts_exactly_the_calls_that_a_sliding_window_admits(limit, seed):
    dice, timeframe = random.Random(seed), 4  # noqa: S311 - repeatable, not secret
    work = Stamps(takes=1)
    throttled = paco.throttle(work, limit, timeframe, return_value="dropped")
    admitted, tasks = [], []
    for _ in range(60):
        await asyncio.sleep(dice.choice([0, 0.25, 0.5, 1, 4]))
        admits = sum(start > now() - timeframe for start in admitted) < limit
        admitted += [now()] * admits
        tasks.append((asyncio.ensure_future(throttled()), admits))
        if dice.random() < 0.3:
            await asyncio.sleep(0)
            tasks[-1][0].cancel()  # a cancelled call has been started, so it counts
    await asyncio.wait([task for task, _ in tasks])
    assert work.starts == admitted
    assert work.running == 0
    ended = [(task, admits) for task, admits in tasks if not task.cancelled()]
    assert all((task.result() == "dropped") is not admits for task, admits in ended)
    for start in admitted:
        assert sum(start <= other < start + timeframe for other in admitted) <= limit


async def test_dropped_calls_get_the_last_finished_result():
    work = Stamps(takes=3, failing={1})
    throttled = paco.throttle(work, limit=1, timeframe=5)
    first = asyncio.ensure_future(throttled())
    await asyncio.sleep(1)
    assert await throttled() is None
    assert await first == 0
    assert await throttled() == 0
    await asyncio.sleep(2)
    second = asyncio.ensure_future(throttled())
    await asyncio.sleep(1)
    assert await throttled() == 0
    with pytest.raises(ValueError, match="1"):
        await second
    assert await throttled() == 0
    assert work.starts == [0, 5]


async def test_in_a_run_throttle_admits_its_limit_of_items_and_the_others_raise():
    work = Stamps(takes=1)
    throttled = paco.throttle(work, limit=3, timeframe=10, raise_exception=True)
    results = await paco.map(throttled, range(10), limit=5, return_exceptions=True)
    assert results[:3] == [0, 1, 2]
    assert [type(result) for result in results[3:]] == [RuntimeError] * 7
    assert (work.starts, now()) == ([0, 0, 0], 1)


# ---- timeout and TimeoutLimit


async def test_each_item_has_its_own_timeout_within_that_of_the_run():
    async def nap(seconds):
        await asyncio.sleep(seconds)
        return seconds

    limited = paco.timeout(nap, 3)
    results = await paco.map(limited, [1, 5, 2, 9, 3.5], limit=2, return_exceptions=True)
    assert (results[0], results[2]) == (1, 2)
    assert [type(results[index]) for index in (1, 3, 4)] == [TimeoutError] * 3
    assert now() == 6
    with pytest.raises(TimeoutError, match=r"^paco\.map: not finished within its timeout of 4 s, "):
        await paco.map(limited, [2, 2, 2, 2], limit=1, timeout=4)
    assert now() == 10


@pytest.mark.parametrize(("outer", "inner", "cancelled"), list(itertools.permutations((2, 4, 6))))
async def test_of_two_limits_and_a_cancellation_the_earliest_decides(outer, inner, cancelled):
    raised = []

    async def block():
        with paco.TimeoutLimit(outer):
            try:
                await paco.timeout(asyncio.sleep, inner)(99)
            except (TimeoutError, asyncio.CancelledError) as error:
                raised.append((type(error), now()))
                raise

    task = asyncio.ensure_future(block())
    asyncio.get_running_loop().call_later(cancelled, task.cancel)
    await asyncio.wait([task])
    earliest = min(outer, inner, cancelled)
    assert raised == [(TimeoutError if earliest == inner else asyncio.CancelledError, earliest)]
    if earliest == cancelled:
        assert task.cancelled()
        assert task.cancelling() == 1
    else:
        assert isinstance(task.exception(), TimeoutError)
        assert task.cancelling() == 0
    assert now() == earliest


@pytest.mark.parametrize("again", [None, 0, 1, 2])
@pytest.mark.parametrize("seconds", [0, 1, 2])
def test_nested_timeout_limits_never_mistake_a_cancellation_for_their_own(seconds, again, cancel_at_every_step):
    async def main():
        work = Stamps(takes=1)
        try:
            async with paco.TimeoutLimit(2):
                with paco.TimeoutLimit(seconds):
                    await paco.map(paco.timeout(work, 1), range(3), limit=2)
        except TimeoutError:
            assert asyncio.current_task().cancelling() == 0
        finally:
            assert work.running == 0

    assert cancel_at_every_step(main, again=again) > 3


async def test_a_timeout_waits_for_a_long_cleanup_and_mentions_its_error():
    async def stubborn():
        try:
            await asyncio.sleep(9)
        finally:
            await asyncio.sleep(20)
            raise KeyError("cleanup")

    with pytest.raises(KeyError, match="cleanup") as caught:
        await paco.timeout(stubborn, 1)()
    assert now() == 21
    assert isinstance(caught.value.__context__, asyncio.CancelledError)


# ---- defer


async def test_concurrent_deferred_calls_do_not_wait_for_each_other():
    work = Stamps(takes=2)
    deferred = paco.defer(work, 3)
    assert sorted(await paco.gather(*(deferred() for _ in range(5)))) == [0, 1, 2, 3, 4]
    assert (work.starts, now()) == ([3] * 5, 5)


# ---- interval


@pytest.mark.parametrize("seed", range(30))
async def test_interval_starts_on_its_grid_and_skips_ticks_missed_by_a_slow_call(seed):
    dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
    takes = [dice.choice([0, 0.5, 1.75, 2, 2.25, 4, 7.5]) for _ in range(12)]
    starts, running = [], []

    async def call():
        assert not running
        running.append(True)
        starts.append(now())
        await asyncio.sleep(takes[len(starts) - 1])
        running.pop()

    await paco.interval(call, 2, len(takes))()
    expected = [0.0]
    for seconds in takes[:-1]:
        end = expected[-1] + seconds
        expected.append(max(expected[-1] + 2, -(-end // 2) * 2))
    assert starts == expected
    assert now() == starts[-1] + takes[-1]


@pytest.mark.parametrize("failing", range(4))
async def test_an_interval_ends_with_the_error_of_any_of_its_calls_and_makes_no_other(failing):
    work = Stamps(takes=0.5, failing={failing})
    task = paco.interval(work, 2, 4)()
    with pytest.raises(ValueError, match=str(failing)):
        await task
    await asyncio.sleep(10)
    assert work.starts == [2 * number for number in range(failing + 1)]


@pytest.mark.parametrize("when", [0.25, 1, 1.75, 2.25, 3])
async def test_an_interval_cancelled_in_or_between_calls_starts_no_other(when):
    work = Stamps(takes=0.5)
    task = paco.interval(work, 2)()
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(when, task.cancel)
    await asyncio.wait([task])
    assert task.cancelled()
    await asyncio.sleep(10)
    assert work.running == 0
    assert work.starts == ([0, 2] if when > 2 else [0])


async def test_concurrent_intervals_keep_their_own_grids():
    one, other = Stamps(takes=1), Stamps()
    first = paco.interval(one, 3, 3)()
    await asyncio.sleep(0.5)
    await paco.gather(first, paco.interval(other, 0.75, 4)())
    assert one.starts == [0, 3, 6]
    assert other.starts == [0.5, 1.25, 2, 2.75]


def test_a_timeout_around_an_interval_cancels_it(cancel_at_every_step):
    async def main():
        work = Stamps(takes=0.5)
        with pytest.raises(TimeoutError):
            await paco.timeout(paco.interval(work, 2)(), 5)
        assert work.starts == [0, 2, 4]

    assert cancel_at_every_step(main) > 5
