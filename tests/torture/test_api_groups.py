"""Functions over several calls, for every mix of outcomes and durations: which call decides, when, and how others end.

Durations are whole seconds of virtual time, so that the outcome and the end are exact in every case, ties included.
"""

from __future__ import annotations

import asyncio
import itertools

import pytest

import paco
from paco.testing import now

#: Each order in which three calls can end, ties included.
DURATIONS = [each for each in itertools.product((1, 2, 3), repeat=3) if {*each} == {*range(1, max(each) + 1)}]
OUTCOMES = list(itertools.product(("true", "false", "error", "cancelled"), repeat=3))
CLEANUP = 5


class Calls:
    """Three calls with given durations and outcomes.

    Args:
        durations: The seconds that each call takes.
        outcomes: The way in which each call ends.
        cleanup_fails: Whether the cleanup of a cancelled call raises.
    """

    def __init__(self, durations, outcomes, *, cleanup_fails=False):
        self.durations, self.outcomes, self.cleanup_fails = durations, outcomes, cleanup_fails
        self.began = now()
        self.errors = [ValueError(index) for index in range(3)]
        self.started, self.ended, self.cancelled = [], [], []

    async def __call__(self, index):
        self.started.append(index)
        try:
            await asyncio.sleep(self.durations[index])
        except asyncio.CancelledError:
            await asyncio.sleep(CLEANUP)
            self.cancelled.append(index)
            if self.cleanup_fails:
                raise KeyError(index) from None
            raise
        self.ended.append(index)
        return self.end(index)

    def end(self, index):
        outcome = self.outcomes[index]
        if outcome == "error":
            raise self.errors[index]
        if outcome == "cancelled":
            raise asyncio.CancelledError
        return outcome == "true"

    def in_order_of_end(self):
        """Return the calls in the order in which they end; the loop decides between timers of the same time."""
        order = [*self.ended, *(index for index in range(3) if index not in self.ended)]
        return sorted(order, key=self.durations.__getitem__)

    def after(self, decisive):
        """Return the calls that still run when this one ends; those of the same time may end in the same step."""
        ends = self.in_order_of_end()
        others = [] if decisive is None else ends[ends.index(decisive) + 1 :]
        return sorted(one for one in others if self.durations[one] > self.durations[decisive] or one in self.cancelled)

    def value(self, index):
        """Return the form of a call's outcome that `outcome_of` returns."""
        return {"true": True, "false": False, "error": self.errors[index], "cancelled": paco.ItemCancelled}[
            self.outcomes[index]
        ]

    def values(self):
        return [self.value(index) for index in range(3)]

    def first(self, *outcomes):
        """Return the first call to end with this outcome."""
        return next((index for index in self.in_order_of_end() if self.outcomes[index] in outcomes), None)


async def outcome_of(awaitable):
    """Return the result or the error; for an `ItemCancelled`, check its cause and return its type."""
    try:
        result = await awaitable
    except Exception as error:
        return simple(error), getattr(error, "__notes__", [])
    return ([simple(one) for one in result] if isinstance(result, list) else result), []


def simple(outcome):
    if isinstance(outcome, paco.ItemCancelled):
        assert isinstance(outcome.__cause__, asyncio.CancelledError)
        return paco.ItemCancelled
    return outcome


async def waited(awaitable):
    done, pending = await awaitable
    assert not pending
    return len(done)


def judged(wanted, other):
    """Return the deciding call and the expected result of a function that looks for one verdict."""

    def expect(calls):
        decisive = calls.first(wanted, "error", "cancelled")
        if decisive is None:
            return None, wanted == "false"
        found = calls.outcomes[decisive] == wanted
        return decisive, (other if found else calls.value(decisive))

    return expect


def first_error_or(result):
    def expect(calls):
        decisive = calls.first("error", "cancelled")
        return decisive, (result(calls) if decisive is None else calls.value(decisive))

    return expect


def first_of_all(calls):
    decisive = calls.in_order_of_end()[0]
    return decisive, calls.value(decisive)


def all_results(calls):
    return None, calls.values()


FUNCTIONS = {
    "gather": (lambda calls: paco.gather(*map(calls, range(3))), first_error_or(Calls.values)),
    "gather with exceptions as results": (
        lambda calls: paco.gather(*map(calls, range(3)), return_exceptions=True),
        all_results,
    ),
    "flat_map": (lambda calls: paco.flat_map(calls, [[0, [1]], [], [[[2]]]]), first_error_or(Calls.values)),
    "wait": (lambda calls: waited(paco.wait(*map(calls, range(3)))), first_error_or(lambda calls: 3)),
    "race": (lambda calls: paco.race([paco.partial(calls, 0), calls(1), calls(2)]), first_of_all),
    "some": (lambda calls: paco.some(calls, range(3)), judged("true", other=True)),
    "every": (lambda calls: paco.every(calls, range(3), limit=0), judged("false", other=False)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("cleanup_fails", [False, pytest.param(True, marks=pytest.mark.slow)])
async def test_for_every_mix_of_outcomes_the_first_decides_and_the_others_have_cleaned_up(name, cleanup_fails):
    function, expect = FUNCTIONS[name]
    for durations, outcomes in itertools.product(DURATIONS, OUTCOMES):
        calls = Calls(durations, outcomes, cleanup_fails=cleanup_fails)
        result, notes = await outcome_of(tolerant(name, function, calls))
        decisive, expected = expect(calls)
        others = calls.after(decisive)
        seen = (result, sorted(calls.cancelled), now() - calls.began)
        takes = max(durations) if decisive is None else durations[decisive] + CLEANUP * bool(others)
        assert seen == (expected, others, takes), (durations, outcomes)
        late = [note for note in notes if "more failed while stopping" in note]
        failed = isinstance(result, Exception) or result is paco.ItemCancelled
        assert len(late) == (failed and cleanup_fails and bool(others)), (durations, outcomes, notes)


async def tolerant(name, function, calls):
    """Accept a report of errors that came after a decision: no raised error can mention them."""
    loop = asyncio.get_running_loop()
    told = []
    loop.set_exception_handler(lambda _, context: told.append(context["message"]))
    try:
        return await function(calls)
    finally:
        loop.set_exception_handler(None)
        ties = len(set(calls.durations)) < 3  # a loser may fail in the step in which the winner ends
        assert len(told) <= (calls.cleanup_fails or ties)
        assert all(message.startswith(f"paco.{name}: ") for message in told)


@pytest.mark.parametrize("catch", [False, True])
async def test_a_series_ends_with_the_first_error_in_order_for_all_durations(catch):
    for durations, outcomes in itertools.product(DURATIONS, OUTCOMES):
        calls = Calls(durations, outcomes)
        values = calls.values()
        failing = [index for index in range(3) if outcomes[index] in {"error", "cancelled"} and not catch]
        run = range(3) if not failing else range(failing[0] + 1)
        result, _ = await outcome_of(paco.series(*map(calls, range(3)), return_exceptions=catch))
        seen = (result, calls.started, now() - calls.began)
        assert seen == (values[failing[0]] if failing else values, [*run], sum(durations[index] for index in run))
        assert calls.cancelled == []


# ---- an error at each await of each item, alone and colliding with a cancellation


class Failing:
    """An async function that takes three steps for each item, and fails in one step of one item."""

    def __init__(self, item, step):
        self.item, self.step, self.error = item, step, ValueError(item, step)
        self.running = 0

    async def __call__(self, item):
        self.running += 1
        try:
            for step in range(3):
                if (item, step) == (self.item, self.step):
                    raise self.error
                await asyncio.sleep(0)
            return False
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                self.running -= 1

    async def truly(self, item):
        return not await self(item)

    async def add(self, total, item):
        return total + await self(item)


async def entered(stream):
    async with stream as results:
        return [result async for result in results]


STEPPED = {
    "gather": lambda work: paco.gather(*map(work, range(3))),
    "gather with a limit": lambda work: paco.gather(*(paco.partial(work, item) for item in range(3)), limit=2),
    "series": lambda work: paco.series(*map(work, range(3))),
    "wait": lambda work: paco.wait(*map(work, range(3)), limit=2),
    "flat_map": lambda work: paco.flat_map(work, [[0], [[1, 2]]], limit=2),
    "flat_map as a stream": lambda work: entered(paco.flat_map(work, [[0], [[1, 2]]], limit=2)),
    "some": lambda work: paco.some(work, range(3), limit=2),
    "every": lambda work: paco.every(work.truly, range(3), limit=2),
    "reduce": lambda work: paco.reduce(work.add, range(3), initializer=0),
    "dropwhile": lambda work: paco.dropwhile(work.truly, range(3)),
    "filter": lambda work: paco.filter(work, range(3), limit=2),
    "repeat": lambda work: paco.repeat(lambda number: work(number - 1), 3, limit=2),
}


@pytest.mark.parametrize("name", STEPPED)
async def test_an_error_at_any_await_of_any_item_is_raised_unchanged_and_nothing_is_left(name):
    for item, step in itertools.product(range(3), range(3)):
        work = Failing(item, step)
        with pytest.raises(ValueError, match=rf"\({item}, {step}\)") as caught:
            await STEPPED[name](work)
        assert caught.value is work.error
        assert work.running == 0
        assert len(caught.value.__notes__) == 1


@pytest.mark.parametrize("name", STEPPED)
def test_a_cancellation_that_collides_with_an_error_wins_and_mentions_it(name, cancel_at_every_step):
    colliding = []
    for item, step in itertools.product((0, 2), (0, 2)):

        async def main(place=(item, step)):
            work = Failing(*place)
            try:
                await STEPPED[name](work)
            except ValueError:
                pass
            except asyncio.CancelledError as cancelled:
                notes = "".join(getattr(cancelled, "__notes__", []))
                colliding.append("failing with " + repr(work.error) in notes)
                raise
            finally:
                assert work.running == 0

        assert cancel_at_every_step(main) > 4
    assert any(colliding)
    assert not all(colliding)


# ---- a timeout in the step in which something else happens


TIMED = {
    "gather": lambda probe, timeout: paco.gather(probe(0), probe(1), timeout=timeout),
    "series": lambda probe, timeout: paco.series(probe(0), timeout=timeout),
    "flat_map": lambda probe, timeout: paco.flat_map(probe, [[0], [1]], timeout=timeout),
    "race": lambda probe, timeout: paco.race([probe(0), probe(1)], None, timeout),
    "some": lambda probe, timeout: paco.some(probe, range(2), timeout=timeout),
    "each": lambda probe, timeout: paco.each(probe, range(2), timeout=timeout),
}


@pytest.mark.parametrize("ending", ["true", "error", "cancelled"])
@pytest.mark.parametrize("name", TIMED)
async def test_a_timeout_as_the_items_end_raises_or_returns_after_all_have_finished(name, ending):
    calls = Calls([1, 1, 1], [ending] * 3)
    result, _ = await outcome_of(TIMED[name](calls, 1))
    if isinstance(result, TimeoutError):
        assert (calls.ended, sorted(calls.cancelled)) == ([], [0, 1][: len(calls.started)])
    else:
        assert calls.ended
    assert sorted(calls.ended + calls.cancelled) == sorted(calls.started)


@pytest.mark.parametrize("ending", ["true", "error"])
@pytest.mark.parametrize("name", TIMED)
def test_a_cancellation_that_collides_with_a_timeout_is_not_swallowed(name, ending, cancel_at_every_step):
    async def main():
        calls = Calls([1, 1, 1], [ending] * 3)
        try:
            await TIMED[name](calls, 1)
        except (ValueError, TimeoutError):
            pass
        finally:
            assert sorted(calls.ended + calls.cancelled) == sorted(calls.started)

    assert cancel_at_every_step(main) > 4
    assert cancel_at_every_step(main, again=1) > 4


@pytest.mark.parametrize("name", ["gather", "series", "flat_map", "race", "some", "each"])
async def test_an_error_in_the_cleanup_after_a_timeout_is_a_note_of_the_timeout(name):
    calls = Calls([9, 9, 9], ["true"] * 3, cleanup_fails=True)
    result, notes = await outcome_of(TIMED[name](calls, 1))
    assert isinstance(result, TimeoutError)
    assert now() == 1 + CLEANUP
    assert f"{len(calls.started)} more failed while stopping: " in notes[-1]
    assert all(f"item {index}: KeyError({index})" in notes[-1] for index in calls.started)
    assert sorted(calls.cancelled) == calls.started


async def test_an_item_that_fails_at_the_timeout_of_wait_is_raised_and_none_is_left_pending():
    calls = Calls([1, 9, 9], ["error", "true", "true"])

    async def fails():
        await asyncio.sleep(0)  # one step, in which a timeout of 0 expires too
        raise calls.errors[0]

    with pytest.raises(ValueError, match="0") as caught:
        await paco.wait(fails(), calls(1), calls(2), limit=1, timeout=0)
    assert caught.value is calls.errors[0]
    assert calls.started == []


async def test_a_cancelled_pending_future_closes_its_coroutine_when_the_run_ends():
    calls = Calls([1, 9, 9], ["true"] * 3)
    executor = paco.ConcurrentExecutor(limit=1)
    first, second = executor.add(calls(0)), executor.add(calls(1))
    running = asyncio.ensure_future(executor.run())
    await asyncio.sleep(0.5)
    second.cancel()
    executor.cancel()
    await running
    assert first.cancelled()
    assert calls.started == [0]


# ---- coroutine objects that are never started


@pytest.mark.parametrize("name", ["gather", "series", "race", "wait"])
async def test_if_the_iterable_of_coroutines_fails_earlier_coroutines_are_closed(name):
    calls = Calls([1, 1, 1], ["true"] * 3)

    def broken():
        yield calls(0)
        yield calls(1)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await getattr(paco, name)(broken())
    assert calls.started == []


@pytest.mark.parametrize("ending", ["true", "error"])
async def test_runners_that_lose_before_their_first_step_are_closed(ending):
    calls = Calls([0, 9, 9], [ending, "true", "true"])
    calls.durations = [0, *[9] * 99]
    calls.outcomes = [ending, *["true"] * 99]

    async def runners():
        for index in range(100):
            yield calls(index)

    result, _ = await outcome_of(paco.race(runners()))
    assert result == (True if ending == "true" else calls.errors[0])
    assert len(calls.started) < 100
