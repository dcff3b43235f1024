"""paco with its items on workers: simulated workers on virtual time, and real ones.

A simulated worker is a runner of chunks, as in each worker process, but inside the loop of the scenario. Values are
not copied on the way, so that a scenario can observe its items. Everything else is as with processes: chunks, orders
and reports, shares of the limit, cancellation, errors. Only the real workers test the pickling.
"""

from __future__ import annotations

import asyncio
import itertools
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import paco
from paco.remote import _pickles
from paco.remote._chunk import ChunkRunner
from paco.remote._messages import Order, Report
from tests.torture.ours import PACO

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

    from tests.torture.kit import Library

NUMBERS = itertools.count()


class Held(bytes):
    """Bytes that carry a value itself instead of a copy."""

    value: Any


def hold(value: Any) -> Held:
    held = Held(next(NUMBERS).to_bytes(8))
    held.value = value
    return held


def copy_nothing(patch: pytest.MonkeyPatch) -> None:
    """Replace pickling: functions, items, results and errors are passed as they are."""
    patch.setattr(_pickles, "dump_error", hold)
    patch.setattr(_pickles, "dump_all", lambda values: (hold(values), {}))
    patch.setattr(_pickles, "load_all", lambda held: (held.value, {}))
    patch.setattr(_pickles, "dump_function", lambda name, fn: hold(fn))
    patch.setattr(_pickles, "loads", lambda held: held.value)
    patch.setattr(Report, "dump", lambda report: report)
    patch.setattr(Report, "load", lambda report: report)


#: The simulated process in which the code runs.
process: ContextVar[Process] = ContextVar("process")


class Died(Exception):
    """Raised for the chunks of a process that has died."""


class Process:
    """A simulated process: a runner of chunks inside the current event loop."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.futures: set[Future[Any]] = set()
        engine.started += 1
        self.name = f"process {engine.started} on here"
        self.runner = ChunkRunner(self.name)
        self.tasks: set[asyncio.Task[None]] = set()

    def submit(self, *chunk: bytes) -> Future[Any]:
        future: Any = Future()
        future.worker = self.name
        future.set_running_or_notify_cancel()
        self.futures.add(future)
        token = process.set(self)
        task = asyncio.get_running_loop().create_task(self.work(future, chunk))
        process.reset(token)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return future

    async def work(self, future: Future[Any], chunk: Any) -> None:
        report = await self.runner.work(*chunk)
        if future in self.futures:
            self.futures.discard(future)
            future.set_result(report)

    def die(self) -> None:
        """End all that runs here, without a report, and have another process in its place."""
        self.engine.deaths += 1
        self.engine.all[self.engine.all.index(self)] = Process(self.engine)
        dead, self.futures = self.futures, set()
        for run, chunks in list(self.runner._working.items()):
            for chunk in list(chunks):
                chunk.run.cancel()
            self.runner.cancel(run)
        for future in dead:
            future.set_exception(Died("it has died"))


class Engine:
    """Simulated processes inside the current event loop."""

    flag = ""
    ours = True

    def __init__(self, processes: int = 2, slots: int = 0) -> None:
        self.started = self.deaths = 0
        self.closed = False
        self.all = [Process(self) for _ in range(processes)]
        self.processes = processes
        self.slots = slots or processes
        #: The order and the number of items of each chunk.
        self.chunks: list[tuple[Order, int]] = []
        #: The runs that were cancelled.
        self.cancelled: list[str] = []

    async def open(self) -> None:
        await asyncio.sleep(0)

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future[Any]:
        future = min(self.all, key=lambda one: len(one.futures)).submit(order, function, items)
        with suppress(OSError):  # of items that cannot be unpickled
            self.chunks.append((Order.load(order), len(_pickles.load_all(items)[0])))
        return future

    def lost(self, error: BaseException) -> int | None:
        return 1 if isinstance(error, Died) else None

    def cancel(self, run: str, futures: list[Any]) -> None:
        self.cancelled.append(run)
        for one in self.all:
            one.runner.cancel(run)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.closed = True


def on(stream: Any, engine: Engine | None = None) -> Any:
    """Move a stream to simulated workers, as `Stream.on` does with an engine."""
    return stream._become(engine=lambda: engine or Engine(2, 128))


def remote(name: str, on: Callable[[Any], Any], limit: Callable[[Any], Any] = lambda number: number) -> Library:
    """Return paco with each stream moved to workers.

    Args:
        name: The name on the scorecard.
        on: Moves a stream to workers.
        limit: Returns the limit to use in place of a number.
    """

    def stream(fn: Any, source: Any, number: Any, **options: Any) -> Any:
        return on(paco.map(fn, source, limit(number), **options))

    async def collect(fn: Any, source: Any, number: Any) -> list[Any]:
        return await stream(fn, source, number)

    async def outcomes(fn: Any, source: Any, number: Any) -> list[Any]:
        return await stream(fn, source, number, return_exceptions=True)

    async def within(fn: Any, source: Any, number: Any, seconds: float) -> list[Any]:
        return await stream(fn, source, number, timeout=seconds)

    return replace(
        PACO,
        name=f"paco, {name}",
        collect=collect,
        ordered=stream,
        completed=lambda *given: stream(*given).as_completed(),
        plain=stream,
        outcomes=outcomes,
        within=within,
    )


def counted(number: Any) -> Any:
    """Return a limit object in place of a number, so that items are sent one by one."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 10**6:
        return number
    return paco.Limit(number)


IN_CHUNKS = remote("in chunks", on)
ONE_BY_ONE = remote("one by one", on, counted)


#: The titles of the scenarios whose items share no objects with the test. They check results, kinds of errors, the
#: source, the consumer, and leaks in this process. The other scenarios would check nothing on real workers, or check
#: what cannot hold there: the identity of an error, a source that is not read ahead, a context variable of the caller.
APART = {
    "results come in the order of the items",
    "no items give no results",
    "one item gives one result",
    "six naps of ten at a limit of two take thirty",
    "none is a result",
    "falsy items and results are kept",
    "equal and unhashable items are kept apart",
    "coroutine functions may be methods partials and objects",
    "items that never suspend give their results",
    "the same function runs in one loop after another",
    "a run in debug mode gives its results without warnings",
    "the source may be any iterable",
    "the source may be async",
    "an infinite source is left after enough results",
    "an infinite async source is left after enough results",
    "the order holds for random durations",
    # errors
    "an item that raises cancelled error is never a missing result",
    "an item that cancels its task is never a missing result",
    "an item that cancels its task and returns does not affect other items",
    "an item that awaits a cancelled task is never a missing result",
    "a caller that was not cancelled is not marked as cancelled",
    "in a task group a cancelled item is not lost",
    "after an error a stream has ended",
    "an exception that ends iteration is never a missing result",
    "an interrupt is raised after all has ended",
    "stop iteration as a value is an exception",
    "a cancelled item among exceptions as values is not missing",
    # consumers
    "a stream may be left before its first result",
    "a stream may be left after its last result",
    "a stream that is asked again after its end has ended",
    "the error of an item while the consumer leaves is no leak",
    "a generator is closed when the consumer leaves",
    "an async generator has ended when the consumer has left",
    "two concurrent readers share the results or one is refused",
    "without async with a stream gives its results",
    "a consumer that leaves at random leaves nothing",
    # sources
    "an error of the source arrives",
    "an error of an async source arrives",
    "a frozen error of an async source arrives",
    "an error of iter arrives",
    "an iterator that is no generator is left open",
    "a generator is closed when the run ends with an error",
    "an async generator ends its cleanup before the error arrives",
    "a result is not held back by an idle source",
    "a timeout inside an async generator belongs to it",
    "a slow async source does not lose items",
    "a cancelled run waits for the cleanup of its async source",
    "a base exception of the source arrives",
    "stop iteration raised by iter is never a missing result",
    "an async source of random pace loses nothing",
    # timeouts
    "a run within its timeout gives its results",
    "a timeout of zero expires at once",
    "a negative timeout is an error",
    "a timeout that meets the last result ends with one of them",
    "a timeout around a run joins it",
    "timeouts of items affect only their items",
    # arguments
    "an invalid limit is refused",
    "an argument that is not a function is refused",
    "a sync function is refused or used",
    "a source that is not iterable is refused",
}
