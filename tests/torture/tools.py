"""Tools of the scenarios: recording functions, units of time, checks, cancellation at every step."""

from __future__ import annotations

import asyncio
import gc
import itertools
from collections import Counter
from contextlib import asynccontextmanager

from paco.testing import VirtualLoop
from tests.torture.kit import GRACE

#: The unit of time in seconds: 1 on virtual time, where it takes no time; in real time the least that keeps the order.
VIRTUAL, REAL = 1.0, 0.005
MOST_STEPS = 3000


def unit():
    return VIRTUAL if virtual() else REAL


def virtual():
    return isinstance(asyncio.get_running_loop(), VirtualLoop)


async def nap(units):
    await asyncio.sleep(units * unit())


async def turns(count):
    """Wait for a number of turns of the event loop, without a timer."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    """Wait until ``condition()`` is true, for at most 1,000 turns of the event loop, without a timer."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)


def clock():
    """Return the time in units."""
    return asyncio.get_running_loop().time() / unit()


def took(units, since=0.0):
    """Check that this many units of time have passed: exactly on virtual time, at least about as many in real time."""
    passed = clock() - since
    assert passed == units if virtual() else passed > 0.8 * units, f"took {passed:g} units of time instead of {units}"


def same(results, expected):
    """Check that the results are the expected ones, in any order."""
    assert Counter(map(repr, results)) == Counter(map(repr, expected)), f"{shown(results)} instead of {shown(expected)}"


def equal(results, expected):
    assert results == expected, f"{shown(results)} instead of {shown(expected)}"


def shown(value):
    text = repr(value)
    return text if len(text) < 120 else text[:117] + "..."


class Work:
    """An async function of an item, `run`, that records which items have started, finished or been cancelled.

    Args:
        takes: Units of time per item, or a function of the item that returns them. With ``None`` an item takes 0, 1 or
            2 turns of the loop.
        cleanup: Turns of the loop that an item needs to end after it is cancelled.
        raises: The exceptions to raise, by item.
        at: The turn of the loop at which to raise them; by default at the end of the item.
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
            await turns(self.cleanup)  # a second cancellation would interrupt it
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
        """Check that no item runs any more, and that each cancelled item has completed its cleanup."""
        assert not self.running, f"{self.running} items still run"
        lost = len(self.cancelled) - len(self.cleaned)
        assert not lost, f"the cleanup of {lost} items was interrupted"


async def identity(item):
    await asyncio.sleep(0)
    return item


async def caught(awaitable):
    """Return the exception that an awaitable raises; fail if it raises none."""
    try:
        results = await awaitable
    except BaseException as error:
        return error
    raise AssertionError(f"no error was raised, but {shown(results)} returned")


def is_it(error, expected):
    """Check that ``error`` is the object ``expected``, or an exception group with only this object."""
    while isinstance(error, BaseExceptionGroup) and error is not expected and len(error.exceptions) == 1:
        error = error.exceptions[0]
    assert error is expected, f"{describe(error)} instead of {type(expected).__name__}"


def leaves(error):
    """Return the exceptions in an exception group, nested ones included, or the exception itself in a list."""
    if isinstance(error, BaseExceptionGroup):
        return [leaf for member in error.exceptions for leaf in leaves(member)]
    return [error]


def are(error, kinds):
    """Check that the error is of these kinds, or a group of such errors."""
    assert all(isinstance(leaf, kinds) for leaf in leaves(error)), f"{describe(error)} instead of {kinds}"


def describe(error):
    try:
        return shown(error)
    except Exception:
        return type(error).__name__


async def complete_or_error(awaitable, expected):
    """Check that the awaitable returns all expected results or raises an error."""
    try:
        results = await awaitable
    except BaseException:
        return
    same(results, expected)


@asynccontextmanager
async def ending(task):
    """Cancel a task at the end of the block, and wait for it."""
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
    """A callback that cancels a task in the given turns of the loop."""

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
    """Run ``work``, cancelled by the ticker, and check that no task is left."""
    loop, left = asyncio.get_running_loop(), set()
    before = asyncio.all_tasks()
    # If a cancellation arrives after an error but before it is raised, the error may be reported to the loop.
    loop.set_exception_handler(lambda loop, context: None)

    async def caller():
        try:
            await work()
        except Exception:
            await asyncio.sleep(0)  # a group that raises an error may deliver the cancellation at the next await
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
    """Check that the task ended cancelled if and only if it was cancelled."""
    if not task.cancelled():
        task.result()
        assert not hits, "the cancellation was swallowed"
    elif not hits:
        raise AssertionError("it ended with CancelledError, but it was not cancelled")
    if counted:
        assert task.cancelling() == hits, f"Task.cancelling() must be {hits}, got {task.cancelling()}"


_attempts = itertools.count(1)


class Points:
    """A count of attempts, and the places of those that failed."""

    def __init__(self):
        self.count, self.bad = 0, []

    def attempt(self, fn, where):
        self.count += 1
        if next(_attempts) % 500 == 0:
            gc.collect()  # closed loops are reference cycles, and `all_tasks` iterates over their tasks too
        try:
            fn()
        except (Exception, asyncio.CancelledError) as error:
            self.bad.append(f"{where}: {first_line(error)}")

    def judge(self):
        assert not self.bad, f"wrong at {len(self.bad)} of {self.count} points; {self.bad[0]}"
        return self.count


def at_every_step(lane, make, *, gaps=(None,), counted=False, joined=True):
    """Run repeatedly, cancelled at turn 0, 1, 2, … of the loop, until the run ends before the cancellation.

    Each turn is tried twice: with the cancellation as its first callback, and as its last.

    Args:
        lane: The lane to run on.
        make: Returns, for each run, an async function to run and a function that checks the outcome. The async function
            may wait for turns of the loop but not for time, which stands still until the cancellation.
        gaps: Turns after which to cancel again, one series of runs for each; ``None`` cancels once.
        counted: Whether to check ``Task.cancelling()`` afterwards.
        joined: Whether all tasks must have ended when the run ends; otherwise they must end soon after.
    """
    points = Points()

    def one(ticker, first):
        work, demand = make()
        try:
            lane.run(lambda: cancelled_by(ticker, work, first=first, joined=joined))
            judge_end(ticker.task, ticker.hits, counted=counted)
        finally:
            ticker.task = None  # break the reference cycle through the traceback of its error
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
