"""`paco.Rate`: how many may start in how many seconds, exactly."""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import testing
from paco.limits._bucket import Booking, Bucket
from paco.testing import Probe, Source, VirtualLoop, now


async def nap(seconds=0):
    await asyncio.sleep(seconds)


async def starts_of(limit, count, takes=None):
    """Return when the items of a run have started."""
    probe = Probe(lambda item: item, takes=takes)
    await paco.map(probe, range(count), limit=limit)
    return probe.started_at


def most_in_a_window(starts, per):
    """Return how many starts are in the fullest half-open window, without any rounding."""
    most = first = 0
    starts = [Fraction(start) for start in starts]
    for last, start in enumerate(starts):
        while start - starts[first] >= Fraction(per):
            first += 1
        most = max(most, last + 1 - first)
    return most


async def queued(limit, count, starts, each=lambda number: None):
    """Start tasks that wait in line, and note who starts when."""

    async def one(number):
        async with limit.slot(each(number)):
            starts.append((number, now()))

    tasks = [asyncio.ensure_future(one(number)) for number in range(count)]
    await nap()
    return tasks


# ---- the pace


async def test_starts_are_spaced_by_the_rate():
    assert await starts_of(paco.Rate(8), 5) == [0, 0.125, 0.25, 0.375, 0.5]
    assert await starts_of(paco.Rate(3, per=60), 3) == [0.5, 20.5, 40.5]


async def test_a_rate_below_one_allows_one_start_in_several_windows():
    assert await starts_of(paco.Rate(0.5), 3) == [0, 2, 4]
    assert await starts_of(paco.Rate(2.5, per=10), 3) == [4, 8, 12]


async def test_a_rate_does_not_wait_for_running_items():
    assert await starts_of(paco.Rate(1), 4, takes=100) == [0, 1, 2, 3]
    assert now() == 103


async def test_a_burst_starts_at_once_and_unused_starts_accumulate_up_to_it():
    limit = paco.Rate(1, burst=3)
    assert await starts_of(limit, 5) == [0, 0, 0, 1, 2]
    await nap(1000 - now())
    assert await starts_of(limit, 5) == [1000, 1000, 1000, 1001, 1002]


async def test_starts_unused_in_a_short_idle_time_accumulate_too():
    limit = paco.Rate(1, burst=2)
    assert await starts_of(limit, 3) == [0, 0, 1]
    await nap(2.5 - now())
    assert await starts_of(limit, 2) == [2.5, 3]


@pytest.mark.slow
async def test_ten_thousand_items_of_two_calls_reach_their_shared_rate_and_never_exceed_it():
    limit = paco.Rate(300, per=60, burst=10)
    starts = []

    async def note(_):
        starts.append(now())

    await paco.gather(paco.map(note, range(5000), limit=limit), paco.map(note, range(5000), limit=limit))
    assert len(starts) == 10_000
    assert most_in_a_window(starts, 60) == 309
    ideal = (10_000 - 10) * 60 / 300
    assert starts[-1] == pytest.approx(ideal, rel=1e-9)
    assert now() <= ideal * 1.01


@pytest.mark.slow
@pytest.mark.parametrize("since", [0, 1 / 3, 1e6 + 0.1])
@pytest.mark.parametrize(
    ("n", "per", "burst"),
    [(3, 1, 1), (10, 1, 1), (7, 0.3, 1), (49, 0.1, 2), (300, 60, 10), (0.3, 0.7, 1), (2.9, 1, 3), (3, 1e-5, 1)],
)
async def test_rounding_never_lets_a_window_exceed_the_rate(n, per, burst, since):
    await nap(since)
    starts = await starts_of(paco.Rate(n, per, burst), 400)
    assert most_in_a_window(starts, per) == math.ceil(n + burst) - 1
    assert starts[-1] - since == pytest.approx((400 - burst) * per / n, rel=1e-4)


@pytest.mark.slow
async def test_rounding_errors_do_not_accumulate():
    starts = await starts_of(paco.Rate(3, burst=2), 3_001)
    assert starts[-1] == math.nextafter(2_999 / 3, math.inf)


async def test_first_come_first_served():
    starts = []
    await asyncio.gather(*await queued(paco.Rate(1), 4, starts))
    assert starts == [(0, 0), (1, 1), (2, 2), (3, 3)]


async def test_a_newcomer_does_not_overtake_the_first_waiter_while_it_is_woken():
    limit, order = paco.Rate(1), []

    async def enter(name):
        await limit.acquire()
        order.append((name, now()))

    await limit.acquire()
    waiting = asyncio.ensure_future(enter("waiting"))
    await nap()
    overtakers = []
    asyncio.get_running_loop().call_at(1, lambda: overtakers.append(asyncio.ensure_future(enter("late"))))
    await waiting
    await overtakers[0]
    assert order == [("waiting", 1), ("late", 2)]


async def test_waiters_are_woken_one_by_one_by_a_single_timer():
    limit, resumed = paco.Rate(1, burst=5), []

    class Counted:
        """Awaits a permit, and counts how often that is resumed."""

        def __await__(self):
            acquiring = limit.acquire().__await__()
            with contextlib.suppress(StopIteration):
                while True:
                    yield next(acquiring)
                    resumed.append(now())

    async def wait():
        await Counted()

    tasks = [asyncio.ensure_future(wait()) for _ in range(100)]
    await nap(10.5)
    assert sum(not handle.cancelled() for handle in asyncio.get_running_loop()._scheduled) == 1
    await asyncio.gather(*tasks)
    assert resumed == [float(second) for second in range(1, 96)]


# ---- permits that are used later, or never


async def test_a_run_without_more_items_releases_its_permit():
    limit, probe = paco.Rate(1), Probe(lambda item: item)
    for item in range(3):
        await paco.map(probe, [item], limit=limit)
    assert probe.started_at == [0, 1, 2]


@pytest.mark.parametrize("burst", [1, 3])
async def test_a_start_that_comes_later_than_its_permit_does_not_break_the_window(burst):
    limit, starts = paco.Rate(1, per=1, burst=burst), []
    early = [await limit.reserve() for _ in range(burst)]
    later = await queued(limit, 3, [])
    await nap(100)
    assert limit.waiting == 3  # nothing that was reserved has leaked meanwhile
    for permit in early:
        limit.begin(permit)
        starts.append(now())
    await asyncio.gather(*later)
    assert now() == 103


async def test_a_released_reservation_is_available_at_once():
    limit, starts = paco.Rate(1, per=60), []
    permit = await limit.reserve()
    tasks = await queued(limit, 2, starts)
    await nap(5)
    limit.release(permit)
    await asyncio.gather(*tasks)
    assert starts == [(0, 5), (1, 65)]


async def test_releasing_a_used_permit_frees_nothing():
    limit, starts = paco.Rate(1, per=60), []
    limit.release(await limit.acquire())
    await asyncio.gather(*await queued(limit, 1, starts))
    assert starts == [(0, 60)]


@pytest.mark.parametrize("swap", [False, True])
async def test_two_combined_rates_are_both_reached_and_never_exceeded(swap):
    second, minute = paco.Rate(2, per=1, burst=2), paco.Rate(30, per=60, burst=20)
    both = minute & second if swap else second & minute
    starts = []

    async def note(_):
        starts.append(now())

    await asyncio.gather(*(paco.limited(note, both)(number) for number in range(100)))
    assert most_in_a_window(starts, 1) <= 3
    assert most_in_a_window(starts, 60) == 49
    assert starts[-1] == (100 - 20) * 2


async def test_of_two_rates_the_slower_one_is_acquired_first():
    slow, fast, starts = paco.Rate(1, per=60), paco.Rate(1), []
    await asyncio.gather(*await queued(fast & slow, 1, []))
    both = await queued(fast & slow, 1, starts)
    alone = await queued(fast, 3, starts)
    await asyncio.gather(*both, *alone)
    assert starts == [(0, 1), (1, 2), (2, 3), (0, 60)]


# ---- costs


async def test_a_cost_weighs_an_item():
    limit, probe = paco.Rate(4, cost=lambda item: item), Probe(lambda item: item)
    await paco.map(probe, [2, 4, 2.5, 0, 1, 1], limit=limit)
    assert probe.started == [2, 4, 2.5, 0, 1, 1]
    # Even what weighs nothing waits for its turn, and until the bucket does not overflow any more.
    assert probe.started_at == [0, 0.5, 1.5, 1.875, 2.125, 2.375]


async def test_costs_within_the_burst_start_at_once():
    limit, probe = paco.Rate(1, burst=10, cost=len), Probe(len)
    assert await paco.map(probe, ["three", "four", "a", "two", "ten letters"], limit=limit) == [5, 4, 1, 3, 11]
    # 5 + 4 + 1 fill the bucket; 3 have leaked out at 3; it is empty at 13, and then takes more than it holds.
    assert probe.started_at == [0, 0, 0, 3, 13]


async def test_an_item_above_the_burst_waits_for_an_empty_bucket_and_delays_the_next():
    limit, probe = paco.Rate(1, burst=2, cost=lambda item: item), Probe(lambda item: item)
    await paco.map(probe, [1, 100, 1, 1, 1000, 2], limit=limit)
    assert probe.started_at == [0, 1, 100, 101, 103, 1103]


async def test_a_cost_too_large_to_ever_be_paid_off_still_starts():
    """What follows would have to wait for longer than any clock runs: no timer is set for it."""
    limit, probe = paco.Rate(1e-300, cost=lambda item: item), Probe(lambda item: item)
    run = asyncio.ensure_future(paco.map(probe, [1.7e308, 1], limit=limit))
    await nap(1)
    assert (probe.finished, limit.waiting) == ([1.7e308], 1)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run


@pytest.mark.parametrize(("n", "per"), [(5e-324, 1), (5e-324, 1e300), (1e-300, 1e10), (1e308, 1e-300)])
async def test_a_rate_may_be_as_low_or_high_as_a_float(n, per):
    assert await starts_of(paco.Rate(n, per=per), 1) == [0]


async def test_with_a_cost_one_item_is_taken_ahead():
    limit, probe, source = paco.Rate(1, cost=lambda item: 2), Probe(lambda item: item), Source(range(5))
    run = asyncio.ensure_future(paco.map(probe, source, limit=limit))
    for second in range(8):
        await nap(1)
        assert source.pulled - len(probe.started) in {0, 1}
        assert len(probe.started) == min(1 + (second + 1) // 2, 5)
    await run
    assert (paco.Rate(1).lookahead, limit.lookahead) == (0, 1)


WRONG_COSTS = [
    (-1, ValueError),
    (math.nan, ValueError),
    (math.inf, ValueError),
    (10**400, ValueError),
    (None, TypeError),
    ("1", TypeError),
    (True, TypeError),
    (1j, TypeError),
]


@pytest.mark.parametrize(("wrong", "error"), WRONG_COSTS)
async def test_a_wrong_cost_is_an_error_of_the_item_that_names_the_function(wrong, error):
    def weigh(item):
        return wrong if item == 1 else 1

    limit = paco.Rate(1, cost=weigh)
    probe = Probe(lambda item: item)
    results = await paco.map(probe, range(3), limit=limit, return_exceptions=True)
    assert (results[0], results[2]) == (0, 2)
    assert type(results[1]) is error
    assert str(results[1]).startswith("paco.Rate: weigh(item) must be a number of 0 or more, got ")
    assert probe.started_at == [0, 1]
    with pytest.raises(error, match=r"weigh\(item\) must be") as caught:
        await paco.map(probe, range(3), limit=limit)
    assert caught.value.__notes__ == ["paco.map: item 1: 1"]


async def test_an_error_of_the_cost_function_is_an_error_of_the_item_and_uses_no_start():
    def weigh(item):
        return 1 / item

    limit, probe = paco.Rate(1, cost=weigh), Probe(lambda item: item)
    results = await paco.map(probe, [1, 0, 1], limit=limit, return_exceptions=True)
    assert isinstance(results[1], ZeroDivisionError)
    assert results[1].__notes__ == ["paco.Rate: raised by its cost function, weigh"]
    assert probe.started_at == [0, 1]


async def test_an_async_cost_function_is_refused_and_a_returned_coroutine_is_closed():
    with pytest.raises(TypeError, match=r"^paco\.Rate: cost must be a plain function, not an async one, got <function"):
        paco.Rate(1, cost=nap)
    with pytest.raises(TypeError, match=r"^paco\.Rate: <lambda>\(item\) must be a number of 0 or more, got <coroutine"):
        await paco.map(nap, [0], limit=paco.Rate(1, cost=lambda item: nap()))


# ---- a pause


async def test_a_pause_delays_current_and_new_waiters():
    limit, starts = paco.Rate(1), []
    tasks = await queued(limit, 2, starts)
    limit.pause(10)
    await nap(5)
    tasks += await queued(limit, 1, starts)
    await asyncio.gather(*tasks)
    assert starts == [(0, 0), (1, 10), (0, 11)]


async def test_a_pause_delays_the_first_start():
    limit = paco.Rate(1)
    limit.pause(7)
    assert await starts_of(limit, 2) == [7, 8]


async def test_a_pause_extends_an_earlier_one_and_never_shortens_it():
    limit, starts = paco.Rate(10, burst=2), []
    limit.pause(5)
    tasks = await queued(limit, 2, starts)
    await nap(1)
    limit.pause(10)
    limit.pause(0)
    limit.pause(0.5)
    await asyncio.gather(*tasks)
    assert starts == [(0, 11), (1, 11)]


@pytest.mark.parametrize(("pauses", "starts_at"), [([9], 10), ([30], 31), ([1, 30], 32), ([30, 1], 31)])
async def test_a_pause_delays_an_item_that_has_a_booking_and_waits_for_another_rate(pauses, starts_at):
    """The slow rate is asked first, and has given its booking; the fast one gives its own at 10 s."""
    slow, fast, starts = paco.Rate(1, per=10), paco.Rate(1, per=5), []
    fast.pause(10)
    tasks = await queued(slow & fast, 2, starts)
    for seconds in pauses:
        await nap(1)
        slow.pause(seconds)
    await asyncio.gather(*tasks)
    assert starts == [(0, starts_at), (1, starts_at + 10)]


async def test_a_booking_waits_for_the_end_of_an_extended_pause():
    slow, fast, starts = paco.Rate(1, per=10), paco.Rate(1, per=5), []
    fast.pause(1)
    tasks = await queued(slow & fast, 1, starts)
    slow.pause(3)
    await nap(2)
    slow.pause(10)
    await asyncio.gather(*tasks)
    assert starts == [(0, 12)]


async def test_a_pause_of_one_key_delays_an_item_that_waits_for_another_limit():
    polite, everybody, starts = paco.PerKey(str, lambda: paco.Rate(1)), paco.Rate(1, per=10), []
    await everybody.acquire()
    tasks = await queued(polite & everybody, 1, starts)
    await nap(5)
    polite.limit_of("None").pause(20)
    await asyncio.gather(*tasks)
    assert starts == [(0, 25)]


async def test_a_pause_made_by_an_item_delays_the_next_item():
    limit, starts = paco.Rate(1), []

    async def ask(number):
        starts.append(now())
        if number == 1:
            limit.pause(30)

    await paco.map(ask, range(4), limit=limit)
    assert starts == [0, 1, 31, 32]


async def test_a_pause_delays_a_first_waiter_that_is_just_being_woken():
    limit, starts = paco.Rate(1), []
    tasks = await queued(limit, 2, starts)
    loop = asyncio.get_running_loop()
    loop.call_at(1, limit.pause, 3)  # its timer was set after that of the line, and runs after it in the same step
    await asyncio.gather(*tasks)
    assert starts == [(0, 0), (1, 4)]


async def test_an_infinite_pause_is_allowed_and_its_waiters_can_be_cancelled():
    limit = paco.Rate(1)
    limit.pause(math.inf)
    with pytest.raises(TimeoutError):
        await paco.map(nap, [0], limit=limit, timeout=10**6)
    assert limit.waiting == 0


@pytest.mark.parametrize(
    ("wrong", "error"), [(-1, ValueError), (math.nan, ValueError), ("1", TypeError), (None, TypeError)]
)
async def test_a_pause_of_invalid_seconds_is_an_error(wrong, error):
    with pytest.raises(error, match=r"^paco\.Rate\.pause: seconds must be seconds \(a number of 0 or more\), got "):
        paco.Rate(1).pause(wrong)


# ---- other threads, and no loop


async def test_a_thread_may_charge_and_pause_while_the_loop_runs():
    limit = paco.Rate(1)
    assert await starts_of(limit, 1) == [0]
    await asyncio.to_thread(limit.charge, 4)
    assert await starts_of(limit, 1) == [5]
    await asyncio.to_thread((limit & 5).pause, 10)
    assert await starts_of(limit, 1) == [15]


async def test_a_thread_with_a_loop_of_its_own_reaches_the_loop_that_uses_the_rate():
    async def charge():
        limit.charge(1)

    limit, starts = paco.Rate(1), []
    tasks = await queued(limit, 3, starts)
    await asyncio.to_thread(asyncio.run, charge())
    await asyncio.gather(*tasks)
    assert starts == [(0, 0), (1, 2), (2, 3)]


@pytest.mark.realtime
@pytest.mark.parametrize("change", ["n", "per", "charge"])
def test_a_thread_wakes_items_that_wait(change):
    async def first_two():
        waits = asyncio.ensure_future(paco.map(nap, [0, 0], limit=limit))
        await nap()
        thread.start()
        return await asyncio.wait_for(waits, 60)

    limit = paco.Rate(1, per=3600)
    changes = {"n": (setattr, limit, "n", 1e6), "per": (setattr, limit, "per", 1e-3), "charge": (limit.charge, -1)}
    call, *args = changes[change]
    thread = threading.Timer(0.05, call, args)
    assert asyncio.run(first_two()) == [None, None]
    thread.join()


def test_outside_a_loop_the_clock_is_that_of_the_last_one():
    limit, loop = paco.Rate(1), VirtualLoop()
    assert loop.run_until_complete(starts_of(limit, 1)) == [0]
    limit.charge(4)
    limit.pause(2)
    assert loop.run_until_complete(starts_of(limit, 1)) == [5]
    loop.close()


@pytest.mark.realtime
def test_a_pause_before_the_first_loop_holds():
    limit = paco.Rate(1)
    limit.pause(0.05)
    end = time.monotonic() + 0.05
    asyncio.run(paco.map(nap, [0], limit=limit))
    assert time.monotonic() >= end
    limit.pause(100)
    assert testing.run(starts_of(limit, 1)) == [0]  # its clock is another one


# ---- changes while in use


async def test_changes_of_n_and_per_apply_to_waiting_items_at_once():
    limit, starts = paco.Rate(1, per=60), []
    tasks = await queued(limit, 6, starts)
    await nap(5)
    limit.n = 6  # one in 10 s
    await nap(10)
    limit.per = 6  # one in 1 s
    await nap(1.5)
    limit.per = 24  # one in 4 s
    await asyncio.gather(*tasks)
    assert starts == [(0, 0), (1, 10), (2, 15), (3, 16), (4, 20), (5, 24)]
    assert (limit.n, limit.per, limit.burst) == (6, 24, 1)


async def test_a_change_of_the_rate_keeps_the_number_of_starts_in_the_bucket():
    limit = paco.Rate(1, burst=4)
    assert await starts_of(limit, 4) == [0, 0, 0, 0]
    limit.n = 0.5
    assert await starts_of(limit, 3) == [2, 4, 6]


async def test_a_change_of_the_rate_keeps_the_number_of_reserved_starts():
    limit = paco.Rate(1, burst=3)
    permits = [await limit.reserve() for _ in range(2)]
    limit.per = 4
    assert await starts_of(limit, 2) == [0, 4]
    await nap(8 - now())
    for permit in permits:
        limit.begin(permit)
    assert await starts_of(limit, 3) == [8, 12, 16]


def test_a_rate_can_be_changed_outside_a_running_loop():
    limit = paco.Rate(1)
    limit.n, limit.per = 2, 16
    assert testing.run(starts_of(limit, 3)) == [0, 8, 16]


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (0, ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        (10**400, ValueError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
def test_n_and_per_must_be_numbers_above_0(wrong, error):
    with pytest.raises(error, match=r"^paco\.Rate: n must be a number above 0, got "):
        paco.Rate(wrong)
    with pytest.raises(error, match=r"^paco\.Rate: per must be seconds \(a number above 0\), got "):
        paco.Rate(1, wrong)
    limit = paco.Rate(1)
    with pytest.raises(error, match=r"^paco\.Rate: n must be a number above 0, got "):
        limit.n = wrong
    with pytest.raises(error, match=r"^paco\.Rate: per must be seconds \(a number above 0\), got "):
        limit.per = wrong
    assert (limit.n, limit.per) == (1, 1)


@pytest.mark.parametrize(("wrong", "error"), [(0, ValueError), (1.5, TypeError), (True, TypeError), (None, TypeError)])
def test_burst_must_be_an_int_of_1_or_more(wrong, error):
    with pytest.raises(error, match=r"^paco\.Rate: burst must be an int of 1 or more, got "):
        paco.Rate(1, burst=wrong)


def test_cost_must_be_a_function():
    with pytest.raises(TypeError, match=r"^paco\.Rate: cost must be a plain function, not an async one, got 1$"):
        paco.Rate(1, cost=1)


def test_its_repr_shows_the_rate():
    assert repr(paco.Rate(300, per=60)) == "<paco.Rate 300 per 60 s, 0 waiting>"


# ---- cancellation


async def test_a_cancelled_waiter_loses_no_start_for_the_others():
    limit, starts = paco.Rate(1), []
    tasks = await queued(limit, 5, starts)
    tasks[3].cancel()
    await nap(0.5)
    tasks[1].cancel()  # the first in line
    await nap(0.5)
    await asyncio.gather(*tasks, return_exceptions=True)
    assert starts == [(0, 0), (2, 1), (4, 2)]


async def test_a_waiter_cancelled_while_it_is_woken_passes_its_turn_on():
    limit, starts = paco.Rate(1), []
    tasks = await queued(limit, 3, starts)
    asyncio.get_running_loop().call_at(1, tasks[1].cancel)  # after the timer of the line, in the same step
    await asyncio.gather(*tasks, return_exceptions=True)
    assert starts == [(0, 0), (2, 1)]


def test_cancelled_at_every_step_no_start_is_lost_or_made_twice(cancel_at_every_step):
    """Whoever of those in line is cancelled, and when: there is a start each second for as long as one is left."""

    async def main():
        limit, starts, tasks = paco.Rate(1, burst=2), [], []

        async def enter():
            async with limit.slot():
                starts.append(now())
                await nap(0.25)

        try:
            tasks += [asyncio.ensure_future(enter()) for _ in range(3)]
            await nap()
            tasks += [asyncio.ensure_future(enter()) for _ in range(2)]
            await enter()
            await enter()
        finally:
            await asyncio.gather(*tasks)
            assert starts == [max(number - 1, 0) for number in range(len(starts))]
            assert limit.waiting == 0

    assert cancel_at_every_step(main) > 20


@pytest.mark.parametrize("again", [None, 0, 1])
@pytest.mark.parametrize("cost", [None, lambda item: 1.5])
def test_runs_cancelled_at_every_step_leave_the_rate_consistent(again, cost, cancel_at_every_step):
    async def main():
        limit = paco.Rate(4, burst=2, cost=cost) & paco.Rate(2) & paco.Limit(2)
        probe = Probe(lambda item: item, takes=0.3)
        try:
            await paco.map(probe, range(4), limit=limit)
        finally:
            assert probe.running == 0
            rates = [part for part in limit.parts if isinstance(part, paco.Rate)]
            assert [rate.waiting for rate in rates] == [0, 0]
            assert [len(rate._bucket.booked) for rate in rates] == [0, 0]
            assert most_in_a_window(probe.started_at, 1) <= 2

    assert cancel_at_every_step(main, again=again) > 10


# ---- the line and the loops


class EarlyLoop(VirtualLoop):
    """A loop whose timers fire up to half a millisecond early."""

    def _set_time(self, when):
        super()._set_time(max(when - 0.0005, getattr(self, "_now", 0)))
        self._clock_resolution = 0.001


@pytest.mark.parametrize("burst", [1, 2])
def test_a_timer_that_fires_early_starts_nothing_early(burst):
    with asyncio.Runner(loop_factory=EarlyLoop) as runner:
        starts = runner.run(starts_of(paco.Rate(100, burst=burst), 500))
    assert most_in_a_window(starts, 1) <= 100 + burst - 1
    assert starts[-1] <= (5.5 if burst == 1 else 5)


def test_in_a_loop_with_another_clock_a_rate_starts_anew():
    limit = paco.Rate(1, per=60)
    assert testing.run(starts_of(limit, 2)) == [0, 60]

    async def pausing():
        limit.pause(100)
        return now()

    assert testing.run(pausing()) == 0
    assert testing.run(starts_of(limit, 2)) == [0, 60]


def test_between_loops_with_the_system_clock_a_rate_keeps_its_state(monkeypatch):
    monkeypatch.setattr("paco._base.deadline.own_clock", lambda loop: False)
    limit = paco.Rate(1, per=60)
    assert testing.run(starts_of(limit, 1)) == [0]
    assert testing.run(starts_of(limit, 2)) == [60, 120]


def test_waiters_of_a_closed_loop_do_not_block_others():
    limit = paco.Rate(1, per=60)
    loop = VirtualLoop()
    permit, tasks = loop.run_until_complete(limit.reserve()), []

    async def wait():
        tasks.extend(await queued(limit, 2, []))

    loop.run_until_complete(wait())
    assert limit.waiting == 2
    stuck = [task.get_coro() for task in tasks]
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    assert testing.run(starts_of(limit, 2)) == [0, 60]
    for coro in stuck:
        coro.close()
    limit.begin(permit)
    limit.release(permit)
    assert limit.waiting == 0


def test_waiters_left_in_a_closed_loop_end_silently():
    limit = paco.Rate(1, per=60)
    loop, tasks = VirtualLoop(), []

    async def wait():
        tasks.extend(await queued(limit, 3, []))

    loop.run_until_complete(wait())
    loop.close()
    for task in tasks[1:]:
        task._log_destroy_pending = False
        task.get_coro().close()
    assert limit.waiting == 0


def test_two_loops_at_once_are_refused():
    limit = paco.Rate(1, per=60)
    loop, tasks = VirtualLoop(), []

    async def wait():
        tasks.extend(await queued(limit, 2, []))

    loop.run_until_complete(wait())
    with pytest.raises(
        RuntimeError, match=r"^paco\.Rate: must be used in one event loop at a time, .*; make one Rate for each loop$"
    ):
        testing.run(limit.acquire())
    tasks[1].cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()
    testing.run(limit.acquire())


@pytest.mark.realtime
async def test_on_a_real_clock_no_window_exceeds_the_rate():
    """By the moments at which the rate lets go: until an item reads the clock itself, the system may run others."""
    limit, starts = paco.Rate(40, per=0.1, burst=3), []

    async def note(_):
        starts.append(Fraction(limit._bucket._last, 1 << 64))

    await paco.map(note, range(120), limit=limit)
    assert most_in_a_window(starts, 0.1) <= 42
    assert starts == sorted(starts)


# ---- laws

#: Numbers that are exact and numbers that are not.
RATES = st.sampled_from([1, 2, 3, 7, 10, 300, 0.3, 2.5, 1 / 3])
SPANS = st.sampled_from([1, 60, 0.1, 0.7, 1 / 3])
MOMENTS = st.integers(0, 80).map(lambda number: number / 8)
COSTS = st.sampled_from([0, 1, 1, 1, 2, 0.1, 0.5, 3, 17])
CALLERS = st.lists(st.tuples(MOMENTS, COSTS, st.none() | MOMENTS), max_size=25)
PAUSES = st.lists(st.tuples(MOMENTS, MOMENTS), max_size=3)


def schedule(n, per, burst, callers, pauses):
    """Return when each caller starts, or ``None``, by a model that looks ahead: exact, and nothing is simulated."""
    leak = Fraction(n) / Fraction(per)
    level = last = left = Fraction(0)
    starts = []
    for arrival, cost, cancelled in callers:
        weight = Fraction(cost)
        excess = level - max(burst - weight, 0)
        start = max(Fraction(arrival), left, last + excess / leak if excess > 0 else 0)
        for since, until in pauses:
            if since <= start < until:
                start = Fraction(until)
        if cancelled is not None and start > cancelled:
            starts.append(None)
            left = max(left, Fraction(cancelled))
            continue
        level = max(level - (start - last) * leak, 0) + weight
        last = left = start
        starts.append(start)
    return starts


def apart(callers, pauses):
    """Sort what shall happen, and move it apart: callers that give up at a time, and pauses from and until a time.

    What happens from outside does so between the moments, and no two at once: ties have no order to be foretold.
    """
    callers = [
        (arrival, cost, None if patience is None else arrival + patience + (number + 2) / 32768)
        for number, (arrival, cost, patience) in enumerate(sorted(callers, key=lambda caller: caller[0]))
    ]
    spans = []
    for number, (moment, seconds) in enumerate(sorted(pauses)):
        since = moment + (number + 2) / 1024
        if spans and since < spans[-1][1]:  # a pause is extended, never shortened
            spans[-1] = (spans[-1][0], max(spans[-1][1], since + seconds))
        else:
            spans.append((since, since + seconds))
    return callers, spans


async def play(limit, callers, pauses):
    """Return when each caller starts, or ``None``."""
    loop, starts, tasks = asyncio.get_running_loop(), [None] * len(callers), []

    async def one(number, cost):
        async with limit.slot(cost):
            starts[number] = now()

    for since, until in pauses:
        loop.call_at(since, lambda seconds=until - since: limit.pause(seconds))
    for number, (arrival, cost, cancelled) in enumerate(callers):
        await nap(max(arrival - now(), 0))
        tasks.append(asyncio.ensure_future(one(number, cost)))
        if cancelled is not None:
            loop.call_at(cancelled, tasks[-1].cancel)
        await nap()
    await asyncio.gather(*tasks, return_exceptions=True)
    return starts


@given(RATES, SPANS, st.integers(1, 5), CALLERS, PAUSES)
async def test_starts_are_those_of_the_model_and_no_window_exceeds_the_rate(n, per, burst, callers, pauses):
    callers, pauses = apart(callers, pauses)
    limit = paco.Rate(n, per, burst, cost=lambda cost: cost)
    starts = await play(limit, callers, pauses)
    assert limit.waiting == 0

    expected = schedule(n, per, burst, callers, pauses)
    assert [start is None for start in starts] == [start is None for start in expected]
    started = [(start, cost) for start, (_, cost, _) in zip(starts, callers, strict=True) if start is not None]
    assert [start for start, _ in started] == pytest.approx([float(start) for start in expected if start is not None])

    for first, (since, _) in enumerate(started):
        weight = Fraction(0)
        for start, cost in started[first:]:
            weight += Fraction(cost)
            assert Fraction(start) - Fraction(since) >= Fraction(per) or weight < Fraction(n) + max(burst, cost)
        assert not any(begin <= since < end for begin, end in pauses)


@given(
    st.lists(st.tuples(MOMENTS, st.sampled_from([1, 2, 3, 0.5, 10, 1 / 3])), max_size=6),
    st.integers(1, 4),
    st.lists(MOMENTS, min_size=1, max_size=40),
)
async def test_a_window_with_changes_of_n_sees_no_more_than_its_highest_rate_allows(changes, burst, arrivals):
    limit, loop, starts = paco.Rate(1, burst=burst), asyncio.get_running_loop(), []
    rates = [(0.0, 1), *sorted(changes)]
    for moment, n in rates[1:]:
        loop.call_at(moment, setattr, limit, "n", n)

    async def one(arrival):
        await nap(arrival)
        async with limit.slot():
            starts.append(now())

    await asyncio.gather(*map(one, arrivals))
    assert len(starts) == len(arrivals)
    for first, since in enumerate(starts):
        inside = [start for start in starts[first:] if Fraction(start) - Fraction(since) < 1]
        before = [n for moment, n in rates if moment <= since]
        highest = max(before[-1], *(n for moment, n in rates if since <= moment <= inside[-1]), 0)
        assert len(inside) < highest + burst


@given(RATES, SPANS, st.integers(1, 4), st.lists(st.sampled_from([0, 1, 0.5, 0.999, 1.001, 2, 1 / 3, 7]), max_size=40))
async def test_a_start_is_renewed_exactly_when_a_new_one_is_allowed(n, per, burst, gaps):
    limit, other = paco.Rate(n, per, burst), paco.Rate(n, per, burst)
    permit = limit.try_acquire()
    other.try_acquire()
    for gap in gaps:
        await nap(gap * per / n)
        assert (limit.renew(permit) is None) == (other.try_acquire() is None)


# ---- corrections


async def test_a_charge_delays_later_starts_and_a_negative_one_gives_back():
    rate, starts = paco.Rate(1, burst=10, cost=lambda item: 5), []

    async def note(item):
        starts.append(now())
        if item == 1:
            rate.charge(2)
        if item == 2:
            rate.charge(-4)

    await paco.map(note, range(5), limit=rate)
    assert starts == [0, 0, 7, 8, 13]


async def test_a_charge_reaches_callers_that_wait_already():
    rate, starts = paco.Rate(1), []
    tasks = await queued(rate, 4, starts)
    await nap(0.5)
    rate.charge(1.5)
    await nap(2)
    rate.charge(-100)
    await asyncio.gather(*tasks)
    assert starts == [(0, 0), (1, 2.5), (2, 2.5), (3, 3.5)]


@given(
    weights=st.lists(st.tuples(st.integers(0, 6), st.integers(-6, 6), st.integers(0, 3)), min_size=1, max_size=25),
    n=st.integers(1, 5),
    burst=st.integers(1, 8),
)
def test_what_is_charged_counts_as_if_it_had_been_estimated(weights, n, burst):
    """The levels of a bucket that is charged and of one that knew the weights are equal, as long as none is empty."""

    def level(corrected):
        bucket = Bucket(n, 1, burst)
        for at, (weight, correction, _) in enumerate(weights):
            more = max(correction, -weight)
            booking = Booking(weight if corrected else weight + more)
            bucket.book(booking)
            bucket.start(booking, at / 8)
            if corrected:
                bucket.charge(more, at / 8)
        return bucket.earliest(burst)

    assert level(corrected=True) == level(corrected=False)


async def test_what_a_charge_refuses():
    for wrong, error in ((math.inf, ValueError), (math.nan, ValueError), ("1", TypeError), (True, TypeError)):
        with pytest.raises(error, match=r"^paco\.Rate\.charge: weight must be a finite number, got"):
            paco.Rate(1).charge(wrong)


async def test_a_combination_pauses_what_can_be_paused():
    starts = []

    async def note(item):
        starts.append(now())
        if item == 1:
            both.pause(10)

    both = paco.Rate(1) & 5 & paco.Gate() & paco.Rate(2)
    await paco.map(note, range(3), limit=both)
    assert starts == [0, 1, 11]
    with pytest.raises(TypeError, match=r"^paco: no part of .* can be paused for a time; add a paco\.Rate$"):
        (paco.Limit(1) & paco.Gate()).pause(1)
    with pytest.raises(ValueError, match=r"^paco\.Rate\.pause: seconds must be"):
        both.pause(-1)


async def test_a_rate_paused_for_good_holds_nothing_while_others_use_the_rest():
    rate, count = paco.Rate(1, burst=5), paco.Limit(1)
    await paco.map(nap, [0], limit=rate)
    waits = asyncio.ensure_future(paco.map(nap, range(3), limit=count & rate))
    await nap()
    rate.pause(math.inf)
    await nap(5)
    assert await asyncio.wait_for(paco.map(nap, [0], limit=2), 10) == [None]
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
