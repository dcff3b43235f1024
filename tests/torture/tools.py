"""What scenarios are made of: functions that record, units of time, cancellation at every step, demands."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import Counter
from contextlib import asynccontextmanager

from paco.testing import VirtualLoop
from tests.torture.kit import GRACE

#: Seconds of a unit of time: 1 on virtual time, where it costs nothing, and as little as still keeps the order else.
VIRTUAL, REAL = 1.0, 0.005
MOST_STEPS = 3000


def unit():
    return VIRTUAL if virtual() else REAL


def virtual():
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


async def nap(units):
    await asyncio.sleep(units * unit())


async def turns(count):
    """Let the loop go round, without a timer."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Let the loop go round until something is so, without a timer; not for ever."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)


def clock():
    """Return the time in units."""
    return asyncio.get_running_loop().time() / unit()


def took(units, since=0.0):
    """Demand that so much time has passed: exactly on virtual time; on the real clock, at least about as much."""
    passed = clock() - since
    assert passed == units if virtual() else passed > 0.8 * units, f"took {passed:g} units of time instead of {units}"


def same(results, expected):
    """Demand the same results in whatever order."""
    assert Counter(map(repr, results)) == Counter(map(repr, expected)), f"{shown(results)} instead of {shown(expected)}"


def equal(results, expected):
    assert results == expected, f"{shown(results)} instead of {shown(expected)}"


def shown(value):
    text = repr(value)
    return text if len(text) < 120 else text[:117] + "..."


class Work:
    """An async function of items, `run`, that records when they run and whether they came to their end.

    Args:
        takes: Units of time for an item, or a function that tells them; ``None``: turns of the loop by the item.
        cleanup: Turns of the loop that an item takes to end when it is cancelled.
        raises: The exceptions of items, by item.
        at: The turn of the loop at which they raise; default: at the end.
    """

    def __init__(self, takes=None, *, cleanup=0, raises=None, at=None):
        self.takes, self.cleanup, self.raises, self.at = takes, cleanup, raises or {}, at
        self.started, self.finished, self.cancelled, self.cleaned = [], [], [], []
        self.running = self.peak = 0

    async def run(self, item):
        self.started.append(item)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await self.body(item)
            self.finished.append(item)
        except asyncio.CancelledError:
            self.cancelled.append(item)
            await turns(self.cleanup)  # a second cancellation would cut it short
            self.cleaned.append(item)
            raise
        finally:
            self.running -= 1
        return item

    async def body(self, item):
        error = self.raises.get(item)
        if error is not None and self.at is not None:
            await turns(self.at)
            raise error
        if self.takes is None:
            await turns(item % 3)
        else:
            await nap(self.takes(item) if callable(self.takes) else self.takes)
        if error is not None:
            raise error

    def settled(self):
        """Demand that no item runs any more, and that each came to the end of its cleanup."""
        assert not self.running, f"{self.running} items still run"
        lost = len(self.cancelled) - len(self.cleaned)
        assert not lost, f"the cleanup of {lost} items was cut short"


async def identity(item):
    await asyncio.sleep(0)
    return item


async def caught(awaitable):
    """Return the exception that something raises, whichever."""
    try:
        results = await awaitable
    except BaseException as error:
        return error
    raise AssertionError(f"no error, but {shown(results)}")


def is_it(error, expected):
    """Demand that it is this very exception; a group of nothing else counts."""
    while isinstance(error, BaseExceptionGroup) and error is not expected and len(error.exceptions) == 1:
        error = error.exceptions[0]
    assert error is expected, f"{describe(error)} instead of {type(expected).__name__}"


def leaves(error):
    """Return what a group of exceptions holds in the end, or the one exception that it is."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves(member)]
    return [error]


def are(error, kinds):
    """Demand an error of these kinds, or a group of such."""
    assert all(isinstance(leaf, kinds) for leaf in leaves(error)), f"{describe(error)} instead of {kinds}"


def describe(error):
    try:
        return shown(error)
    except Exception:
        return type(error).__name__


async def complete_or_error(awaitable, expected):
    """Demand that everything is there, or that an error tells that it is not."""
    try:
        results = await awaitable
    except BaseException:
        return
    same(results, expected)


@asynccontextmanager
async def ending(task):
    """Have a task end with the block."""
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait([task])


# ---- cancellation at every step


def first_line(error):
    lines = str(error).splitlines() or [""]
    notes = [f" ({note.splitlines()[0]})" for note in getattr(error, "__notes__", [])[:1]]
    text = " ".join(line.strip() for line in lines[:2])
    return f"{type(error).__name__}: {text}{''.join(notes)}"


class Ticker:
    """Cancels a task in the given turns of the loop: the first callback of the turn, or the last."""

    def __init__(self, steps):
        self.steps, self.turn, self.hits = steps, 0, 0
        self.task = None

    def __call__(self):
        for _ in range(self.steps.count(self.turn)):
            self.hits += self.task is not None and self.task.cancel()
        self.turn += 1
        if self.turn <= max(self.steps) and (self.task is None or not self.task.done()):
            asyncio.get_running_loop().call_soon(self)


async def cancelled_by(ticker, work, *, first, joined):
    """Run it, cancelled by the ticker, and demand that no task is left."""
    loop, left = asyncio.get_running_loop(), set()
    before = asyncio.all_tasks()
    # An error that a cancellation has overtaken may be told to the loop, since nobody is there who could receive it.
    loop.set_exception_handler(lambda loop, told: None)

    async def caller():
        try:
            await work()
        except Exception:
            await asyncio.sleep(0)  # a group that reports an error may leave the cancellation to the next wait
        finally:
            left.update(asyncio.all_tasks() - before - {asyncio.current_task()})

    if first:
        loop.call_soon(ticker)
    ticker.task = loop.create_task(caller())
    if not first:
        loop.call_soon(ticker)
    await asyncio.wait([ticker.task])
    if not joined:
        await turns(20)
        left.intersection_update(asyncio.all_tasks())
    await turns(GRACE)
    assert not left, f"{len(left)} tasks were left running"


def judge_end(task, hits, *, counted):
    """Demand that it ended cancelled if it was cancelled, and only then."""
    if not task.cancelled():
        task.result()
        assert not hits, "the cancellation was swallowed"
    elif not hits:
        raise AssertionError("it ended cancelled though nobody had cancelled it")
    if counted:
        assert task.cancelling() == hits, f"cancelling() is {task.cancelling()} after {hits} cancellations"


_attempts = itertools.count(1)


class Points:
    """The points at which something was tried, and those at which it went wrong."""

    def __init__(self):
        self.count, self.bad = 0, []

    def attempt(self, fn, where):
        self.count += 1
        if next(_attempts) % 500 == 0:
            gc.collect()  # loops that have ended are cycles, and `all_tasks` walks over their tasks too
        try:
            fn()
        except (Exception, asyncio.CancelledError) as error:
            self.bad.append(f"{where}: {first_line(error)}")

    def judge(self):
        assert not self.bad, f"wrong at {len(self.bad)} of {self.count} points; {self.bad[0]}"
        return self.count


def at_every_step(lane, make, *, gaps=(None,), counted=False, joined=True):
    """Cancel at each turn of the loop until the run ends by itself, as the first callback of the turn and as the last.

    Args:
        lane: Where to run.
        make: Returns what to run and what to demand afterwards, afresh for each run. It may wait for turns of the loop,
            not for time, which stands still until it is cancelled.
        gaps: How many turns later to cancel again; ``None``: not at all.
        counted: Whether ``cancelling()`` has to be right afterwards.
        joined: Whether everything has to be over when the run ends; else, soon after.
    """
    points = Points()

    def one(ticker, first):
        work, demand = make()
        try:
            lane.run(lambda: cancelled_by(ticker, work, first=first, joined=joined))
            judge_end(ticker.task, ticker.hits, counted=counted)
        finally:
            ticker.task = None  # its error has the frames that lead back to it
        demand()

    for gap, first in itertools.product(gaps, [True, False]):
        for step in range(MOST_STEPS):
            ticker = Ticker([step] if gap is None else [step, step + gap])
            where = f"cancelled {'once' if gap is None else 'twice'} at step {step}"
            points.attempt(lambda ticker=ticker, first=first: one(ticker, first), where)
            if not ticker.hits:
                break
        else:
            raise AssertionError("the run never ends")
    return points.judge()
