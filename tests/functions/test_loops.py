"""`paco.whilst`, `paco.until` and `paco.interval`, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import inspect
import math
import sys

import pytest

from paco import deadline, interval, timeout, until, whilst
from paco._base.deadline import remaining
from paco.testing import now


class Counter:
    """Counts its calls; ``below`` and ``reached`` are tests of the count."""

    def __init__(self):
        self.count = 0

    async def __call__(self, step=1, *, more=0):
        self.count += step + more
        return self.count

    async def below_3(self):
        return self.count < 3

    async def reached_3(self):
        return self.count >= 3

    async def value(self):
        return self.count


# ---- whilst and until


async def test_whilst_calls_as_long_as_the_test_passes_and_returns_the_results():
    counter = Counter()
    assert await whilst(counter, counter.below_3) == [1, 2, 3]


async def test_until_calls_until_the_test_passes_and_returns_the_results():
    counter = Counter()
    assert await until(counter, counter.reached_3) == [1, 2, 3]


async def test_the_test_comes_first_so_there_may_be_no_call_at_all():
    counter = Counter()
    assert await whilst(counter, counter.reached_3) == []
    assert await until(counter, counter.below_3) == []
    assert counter.count == 0


def sync_below_4(count):
    return count < 4


async def async_below_4(count):
    await asyncio.sleep(0)
    return count < 4


@pytest.mark.parametrize("judge", [sync_below_4, async_below_4])
async def test_assert_coro_may_be_sync_or_async_and_gets_the_result_of_the_test(judge):
    counter = Counter()
    assert await whilst(counter, counter.value, judge) == [1, 2, 3, 4]
    counter = Counter()
    assert await until(counter, counter.value, lambda count: not sync_below_4(count)) == [1, 2, 3, 4]


async def test_the_arguments_go_to_coro_and_not_to_the_test():
    counter = Counter()
    assert await whilst(counter, counter.below_3, None, 1, more=1) == [2, 4]
    counter = Counter()
    assert await until(counter, counter.reached_3, None, 1, more=1) == [2, 4]


@pytest.mark.parametrize("repeat", [whilst, until])
@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("wrong", [5, "text"])
def test_what_cannot_be_called_is_an_error_at_the_call(repeat, position, wrong):
    functions = [Counter(), Counter(), Counter()]
    functions[position] = wrong
    with pytest.raises(
        TypeError, match=rf"^paco\.{repeat.__name__}: {['coro', 'coro_test', 'assert_coro'][position]} "
    ):
        repeat(*functions)


@pytest.mark.parametrize("repeat", [whilst, until])
def test_none_instead_of_a_function_is_an_error_at_the_call(repeat):
    with pytest.raises(TypeError, match="coro must be a coroutine function, got None"):
        repeat(None, None)


async def test_a_function_that_returns_no_awaitable_is_an_error_that_names_it_and_says_what_to_do():
    def plain():
        return 1

    with pytest.raises(
        TypeError, match=r"^paco\.whilst: plain must be .*paco\.wraps\(plain\).*paco\.threaded\(plain\)"
    ):
        await whilst(plain, Counter().below_3)
    with pytest.raises(TypeError, match=r"^paco\.until: plain must be "):
        await until(Counter(), plain)


async def test_an_exception_of_any_of_the_functions_ends_the_loop():
    async def fail():
        raise ValueError("no")

    def judge(_):
        raise ValueError("no")

    counter = Counter()
    for call in (whilst(fail, counter.below_3), until(counter, fail), whilst(counter, counter.value, judge)):
        with pytest.raises(ValueError, match=r"^no$"):
            await call
    assert counter.count == 0


@pytest.mark.parametrize("repeat", [whilst, until])
async def test_calls_that_never_suspend_do_not_starve_the_loop(repeat):
    counter = Counter()
    stop = False

    async def stopped():
        return stop is (repeat is until)

    def end():
        nonlocal stop
        stop = True

    loop = asyncio.get_running_loop()
    loop.call_soon(loop.call_soon, loop.call_soon, end)  # three turns of the loop from now
    await repeat(counter, stopped)
    assert counter.count > 0


async def test_a_loop_yields_to_the_event_loop_at_least_once():
    turned = []
    asyncio.get_running_loop().call_soon(turned.append, True)
    assert await whilst(Counter(), Counter().reached_3) == []
    assert turned == [True]


def test_a_cancellation_at_any_step_is_raised_and_leaves_nothing_running(cancel_at_every_step):
    async def main():
        counter = Counter()

        async def slow():
            await asyncio.sleep(1)
            return await counter()

        await whilst(slow, counter.value, async_below_4)

    assert cancel_at_every_step(main) > 10


@pytest.mark.parametrize("repeat", [until, whilst])
async def test_calls_that_never_suspend_yield_even_if_the_clock_is_frozen(monkeypatch, repeat):
    monkeypatch.setattr("paco._functions.loops.perf_counter", lambda: 7.0)
    turns = calls = 0

    async def count_turns():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def call():
        nonlocal calls
        calls += 1

    async def more():
        return (calls < 50_000) is (repeat is whilst)

    counting = asyncio.ensure_future(count_turns())
    await repeat(call, more)
    counting.cancel()
    await asyncio.wait([counting])
    assert turns >= 5


# ---- interval


async def starts(takes=0.0, **options):
    """Return when the calls of an interval started."""
    times = []

    async def call():
        times.append(now())
        await asyncio.sleep(takes(len(times)) if callable(takes) else takes)

    await interval(call, **options)()
    return times


async def test_interval_calls_on_a_fixed_grid_starting_at_once():
    assert await starts(interval=10, times=4) == [0, 10, 20, 30]
    assert now() == 30


async def test_interval_does_not_drift():
    times = await starts(takes=lambda call: (call % 7) / 100, interval=0.1, times=1000)
    assert times == [tick * 0.1 for tick in range(1000)]


async def test_a_tick_is_exact_where_a_delay_is_not():
    assert 0.03 + (0.3 - 0.03) != 0.3
    assert await starts(takes=0.03, interval=0.3, times=2) == [0, 0.3]


async def test_the_grid_starts_with_the_first_call():
    await asyncio.sleep(0.3)
    assert await starts(interval=0.1, times=4) == [0.3 + tick * 0.1 for tick in range(4)]


async def test_ticks_missed_by_a_slow_call_are_skipped_and_calls_never_overlap():
    assert await starts(takes=lambda call: 25 if call == 2 else 1, interval=10, times=4) == [0, 10, 40, 50]


async def test_a_call_that_takes_exactly_the_interval_misses_no_tick():
    assert await starts(takes=10, interval=10, times=3) == [0, 10, 20]
    assert await starts(takes=lambda call: 20 if call == 1 else 0, interval=10, times=3) == [30, 50, 60]


async def test_an_interval_of_0_calls_again_at_once_and_yields_to_the_event_loop():
    turns = []

    async def call():
        turns.append(len(turns))

    task = interval(call, 0, 3)()
    await asyncio.sleep(0)
    assert turns == [0]
    await task
    assert (turns, now()) == ([0, 1, 2], 0)


async def test_without_times_interval_runs_until_it_is_cancelled():
    calls = []

    async def call():
        calls.append(now())

    task = interval(call, 1)()
    await asyncio.sleep(100.5)
    assert calls == list(range(101))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_task_is_returned_at_once_that_ends_with_none_after_that_many_calls():
    task = interval(Counter(), 1, 2)()
    assert isinstance(task, asyncio.Task)
    assert not task.done()
    assert await task is None


async def test_each_call_gets_the_arguments():
    counter = Counter()
    await interval(counter, 1, 2)(2, more=1)
    assert counter.count == 6


async def test_an_exception_ends_interval_and_is_the_exception_of_its_task():
    error = ValueError("no")

    async def fail():
        if now() == 2:
            raise error

    task = interval(fail, 1)()
    with pytest.raises(ValueError, match="no") as caught:
        await task
    assert caught.value is error
    assert now() == 2


async def test_the_task_of_interval_needs_no_reference():
    counter = Counter()
    interval(counter, 1, 3)()
    await asyncio.sleep(0.5)
    gc.collect()
    await asyncio.sleep(2)
    assert counter.count == 3


@pytest.mark.parametrize("first", ["cancellation", "tick"])
async def test_a_cancellation_in_the_same_step_as_the_tick_is_not_lost(first):
    counter = Counter()
    task = interval(counter, 1)()
    if first == "tick":
        await asyncio.sleep(0)  # sets its timer
    asyncio.get_running_loop().call_at(1, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert counter.count == 1


async def test_an_infinite_interval_calls_once():
    counter = Counter()
    task = interval(counter, float("inf"))()
    await asyncio.sleep(1e9)
    assert counter.count == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@interval
async def bare():
    """Bare."""


@interval(interval=2, times=2)
async def with_options(number: int) -> int:
    """With options."""
    return number


async def test_it_is_a_decorator_bare_and_with_options():
    await with_options(1)
    assert now() == 2
    await interval(2, 2)(with_options.__wrapped__)(1)
    assert now() == 4
    task = bare()
    await asyncio.sleep(1.5)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_decorated_function_keeps_its_metadata_and_is_no_coroutine_function():
    assert (with_options.__name__, with_options.__doc__) == ("with_options", "With options.")
    assert list(inspect.signature(with_options).parameters) == ["number"]
    assert inspect.iscoroutinefunction(with_options.__wrapped__)
    assert not inspect.iscoroutinefunction(with_options)


def test_interval_outside_a_loop_is_an_error_that_says_what_to_do():
    with pytest.raises(
        RuntimeError, match=r"^paco\.interval: no event loop is running .*; call bare in an `async def`$"
    ):
        bare()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"interval": -1}, ValueError),
        ({"interval": float("nan")}, ValueError),
        ({"interval": None}, TypeError),
        ({"interval": True}, TypeError),
        ({"interval": "1"}, TypeError),
        ({"times": 0}, ValueError),
        ({"times": 1.5}, TypeError),
        ({"times": True}, TypeError),
        ({"loop": 5}, TypeError),
        ({"unknown": 5}, TypeError),
    ],
)
def test_wrong_options_are_errors_in_both_forms_before_anything_is_wrapped(options, error):
    for make in (lambda: interval(Counter(), **options), lambda: interval(**options)):
        with pytest.raises(error, match=next(iter(options))):
            make()


@pytest.mark.parametrize("wrong", [None, "text", [1]])
def test_an_argument_that_is_no_function_is_an_error_at_once(wrong):
    with pytest.raises(TypeError, match=r"^paco\.interval: coro must be a coroutine function, got "):
        interval(wrong)


async def test_another_loop_is_an_error_as_soon_as_it_is_known():
    other = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match="got another loop"):
            interval(Counter(), loop=other)
        await interval(Counter(), times=1, loop=asyncio.get_running_loop())()
    finally:
        other.close()


async def test_a_function_that_returns_no_awaitable_fails_the_task():
    with pytest.raises(TypeError, match=r"^paco\.interval: <lambda> must be a coroutine function"):
        await interval(lambda: None)()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
def test_interval_can_be_cancelled_at_every_step_through_its_task(cancel_at_every_step):
    async def main():
        await interval(Counter(), 1, 3)()

    assert cancel_at_every_step(main) > 5
    assert cancel_at_every_step(main, eager=True) > 3


async def test_an_interval_outlives_the_deadline_of_the_caller_that_starts_it():
    times = []

    @interval(1, times=3)
    async def tick():
        await timeout(asyncio.sleep, 9)(0.5)
        times.append((now(), remaining()))

    with deadline(1.2):
        task = tick()
    await task
    assert times == [(0.5, math.inf), (1.5, math.inf), (2.5, math.inf)]
