"""The dispatcher of a run: it sends chunks, takes in their reports, and resends the items of lost workers."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from paco._base import check
from paco._base.deadline import remaining
from paco._base.errors import trim
from paco._engine.nursery import background
from paco.remote import _pickles
from paco.remote._feedback import SECONDS, Shape, Sizes, WorkerStats
from paco.remote._messages import Order, Report, WorkerLost, received
from paco.remote._processes import ProcessHeld

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.item import Ran, Worker
    from paco._base.types import Future, OnError
    from paco._engine.run import Scheduler
    from paco._engine.watch import Watch
    from paco.remote._engines import Engine

#: An item fails if its worker has died this often, at least so often of that with no other item in the worker.
_DEATHS: Final = 3
_DEATHS_ALONE: Final = 2
#: A lost chunk is divided into this many pieces, to find the item that kills its worker.
_PIECES: Final = 8
#: The run fails if more than this many chunks in a row are lost before they begin: no worker will ever begin one.
_FUTILE: Final = 100

#: An item, preceded by the key by which its sender identifies it.
Entry: TypeAlias = tuple[Any, Any]
#: The results of the items of a chunk, their errors, and where and when they ran, each by the number of the item.
Outcomes: TypeAlias = "tuple[dict[int, Any], dict[int, BaseException], dict[int, Ran]]"


class RunOptions(NamedTuple):
    """The settings of a run on an engine."""

    name: str  # of the operation, for messages: ``map``
    engine: Callable[[], Engine]  # opens the engine
    limit: int  # the maximum number of items in flight, in all workers together
    lead: int  # the maximum number of items that wait at the workers, in addition to those in flight
    on_error: OnError  # whether an item's error ends its chunk (raise) or not (return)
    watched: bool  # whether to report where and when the items ran
    paced: bool = False  # whether each item must start as soon as it is available


@dataclass(eq=False, slots=True)
class SentChunk:
    """A chunk in flight."""

    entries: list[Entry]  # its items
    limit: int  # its share of the limit
    size: int  # the size of its pickled items in bytes
    alone: bool  # whether it was sent so that no other chunk is in its process
    single: bool  # whether it has been the only chunk in flight all the time
    worker: Worker | None  # its worker, if known

    def count(self, items: int) -> None:
        """Add to the number of items in flight on its worker."""
        if self.worker is not None:
            self.worker.in_flight = (self.worker.in_flight or 0) + items


class Dispatcher:
    """Sends the items of a run to an engine.

    Args:
        run: The run, which fails if items can no longer be sent.
        fn: The function over the items.
        options: The settings of the run.
        workers: The workers that have received chunks, by name; the dispatcher adds them.
        landed: Called in the loop of the run when a chunk has come back: there may be room for another one then.
    """

    def __init__(
        self,
        run: Scheduler,
        fn: ItemFunction,
        options: RunOptions,
        workers: dict[str, Worker],
        landed: Callable[[list[Entry], Outcomes], None],
    ) -> None:
        self._run = run
        self._loop = run.loop
        self._fn = fn
        self._options = options
        self._landed = landed
        self._id = uuid.uuid4().hex
        self._workers = workers
        self._engine: Any = None
        self._chunks: dict[Future, SentChunk] = {}  # by their future reports, in the order in which they were sent
        #: The maximum number of items that run now. Workers hold further items, which wait there.
        self.in_flight: int = 0
        #: Items to send, among them those that workers returned without starting them.
        self.queue: deque[Entry] = deque()
        self._pieces: deque[list[Entry]] = deque()  # pieces of lost chunks
        self._suspects: deque[Entry] = deque()  # items lost as the only item of a chunk; they need a process each
        self._deaths: Counter[Any] = Counter()  # how often the worker of an item has died, by key
        self._deaths_alone: Counter[Any] = Counter()  # the same with no other item in the worker
        self._futile = 0  # how many chunks in a row were lost before they began
        self._stopped = False
        self._all_back = asyncio.Event()  # set when no chunk is in flight any more

    async def open(self) -> None:
        """Pickle the function, and open the engine. If that fails, the run fails."""
        options = self._options
        try:
            self._function: bytes = _pickles.dump_function(options.name, self._fn)
            self._engine = engine = options.engine()
            #: Measures the items and sets the sizes of chunks.
            self.sizes: Sizes = Sizes(engine, options.limit, options.lead, paced=options.paced)
            self._stats = WorkerStats(self._workers, here=engine.ours)
            await engine.open()
        except Exception as error:
            self.broken(error)

    def broken(self, error: BaseException) -> None:
        """Fail the run: no items can be sent."""
        self.stop()
        trim(error)
        self._run.fail(error, "its workers")

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and nothing waits to be sent again."""
        return not (self._chunks or self.queue or self._pieces or self._suspects)

    # ---- sending

    def send(self, left: float, take: Callable[[int], list[Entry]] | None = None) -> bool:
        """Send one more chunk if possible now, and return whether one was sent.

        Args:
            left: The number of items that are not in the queue yet; infinity if unknown.
            take: Returns at most the given number of these items; ``None`` if items come only through the queue.
        """
        if self._stopped or not (take or self.queue or self._pieces or self._suspects):
            return False
        if self._suspects:
            return self._send_suspect()
        if any(chunk.alone for chunk in self._chunks.values()):
            return False
        shape = self.sizes.next(len(self._chunks), self.in_flight, left + len(self.queue))
        if shape is None:
            return False
        if self._pieces:
            entries = self._pieces.popleft()
        elif self.queue or take is None:
            entries = [self.queue.popleft() for _ in range(min(shape.items, len(self.queue)))]
        else:
            entries = take(shape.items)
        if entries:
            self._send(entries, shape)
        return bool(entries)

    def _send_suspect(self) -> bool:
        """Send a suspect: an item that may kill its worker. Each needs a process in which no other item runs.

        Only in processes of ours can several be sent at once: elsewhere, two can wait for the same worker.
        """
        alone = [chunk.alone for chunk in self._chunks.values()]
        most = self._engine.processes if self._engine.ours else 1
        if not all(alone) or len(alone) >= min(most, self._options.limit):
            return False
        self._send([self._suspects.popleft()], Shape(1, 1, 2 * SECONDS), alone=True)
        return True

    def _send(self, entries: list[Entry], shape: Shape, *, alone: bool = False) -> None:
        items, entries = self._pickled(entries)
        if not entries or self._stopped:
            return
        options, engine, limit = self._options, self._engine, min(shape.limit, len(entries))
        how = options.on_error, options.watched, remaining(), engine.flag
        watch = self._run.watch
        retries = watch is not None and bool(watch.on_retry)
        order = Order(self._id, options.name, limit, shape.seconds, *how, retries)
        try:
            future = engine.submit(order.dump(), self._function, items)
        except Exception as error:
            self.broken(error)
            return
        name = getattr(future, "worker", "")
        worker = self._stats.worker(name) if name else None
        for other in self._chunks.values():
            other.single = False
        self._all_back.clear()
        self._chunks[future] = chunk = SentChunk(entries, limit, len(items), alone, not self._chunks, worker)
        self.in_flight += limit
        chunk.count(limit)
        future.add_done_callback(self._done)

    def _pickled(self, entries: list[Entry]) -> tuple[bytes, list[Entry]]:
        """Return the pickled items, and their entries. Items that cannot be pickled fail and are left out."""
        data, unfit = _pickles.dump_all({number: item for number, (_, item) in enumerate(entries)})
        if not unfit:
            return data, entries
        self._landed(
            entries, ({}, self._unfit(unfit, lambda number: f"the item {check.shorten(entries[number][1])}"), {})
        )
        return self._pickled([entry for number, entry in enumerate(entries) if number not in unfit])

    def _unfit(self, errors: dict[int, Exception], what: Callable[[int], str]) -> dict[int, BaseException]:
        return {number: _pickles.unfit(self._options.name, what(number), error) for number, error in errors.items()}

    # ---- coming back

    def _done(self, future: Future) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nothing waits for the chunk
            self._loop.call_soon_threadsafe(self._land, future)

    def _land(self, future: Future) -> None:
        try:
            chunk = self._chunks.pop(future)
            self.in_flight -= chunk.limit
            chunk.count(-chunk.limit)
            if not self._chunks:
                self._all_back.set()
            values, errors, ran = self._outcomes(chunk, future)
            whole = errors.pop(-1, None)
            self._landed(chunk.entries, (values, errors, ran))
            if whole is not None:
                self.broken(whole)
        except BaseException as error:  # includes a KeyboardInterrupt, which the run raises
            self.broken(error)

    def _outcomes(self, chunk: SentChunk, future: Future) -> Outcomes:
        """Return the outcomes of a chunk that is back. After `stop`, its results are dropped."""
        try:
            report = Report.load(future.result())
        except BaseException as error:
            return {}, self._lose(chunk, error), {}
        if report.refusal is not None:
            return {}, self._lose(chunk, report.refusal.error(report.where)), {}
        values, unfit, ran = ({}, {}, {}) if self._stopped else self._taken(chunk, report)
        errors = {} if self._stopped and self._options.on_error != "raise" else dict(report.errors or {})
        errors |= report.late or {}
        return values, unfit | {number: error.error(report.where) for number, error in errors.items()}, ran

    def _taken(self, chunk: SentChunk, report: Report) -> Outcomes:
        """Return the outcomes of a chunk except what its items raised. Queue the items that it has not started."""
        self._futile = 0
        values, unfit = _pickles.load_all(report.values)
        for number in values.keys() & report.outcomes:
            values[number] = received(values[number], chunk.entries[number][1], report.where)
        errors = self._unfit(unfit, lambda _: f"the result from {report.where}") if unfit else {}
        self._tell_retries(chunk, report)
        started = max(report.started, 1)
        size = max(chunk.size * started // len(chunk.entries), len(report.values))
        self.sizes.learn(report, chunk.limit, size)
        self.queue.extendleft(reversed(chunk.entries[report.started :]))
        return values, errors, self._stats.ran(report, len(values) + len(errors) + len(report.errors or ()))

    def _tell_retries(self, chunk: SentChunk, report: Report) -> None:
        """Send the events of the retries in a chunk."""
        for number, attempt, packed, pause in report.retries or ():
            item = chunk.entries[number][1] if number >= 0 else None
            error = None if packed is None else packed.error(report.where)
            cast("Watch", self._run.watch).retried(item, attempt, error, pause)

    def _lose(self, chunk: SentChunk, error: BaseException) -> dict[int, BaseException]:
        """Queue the items of a lost chunk to be sent again, in smaller pieces if their worker died with them.

        Returns:
            The error of its only item, by number, if the item must not run again.
        """
        if self._stopped:
            return {}
        too_large = isinstance(error, MemoryError)  # the report of the chunk; those of its pieces may not be
        deaths = 1 if too_large else self._engine.lost(error)
        if deaths is None:
            self.broken(error)
            return {}
        if chunk.worker is not None:
            chunk.worker.lost = True
        entries = chunk.entries
        if isinstance(error, ProcessHeld):
            return self._lose_held(entries, error)
        if not deaths:
            self._futile += 1
            if self._futile > _FUTILE:
                self.broken(error)
            self.queue.extendleft(reversed(entries))
            return {}
        return self._lose_begun(chunk, error, too_large=too_large)

    def _lose_begun(self, chunk: SentChunk, error: BaseException, *, too_large: bool) -> dict[int, BaseException]:
        """Count a death for each item of a chunk, and divide it."""
        entries = chunk.entries
        alone = len(entries) == 1 and (chunk.alone or chunk.single)
        for key, _ in entries:
            self._deaths[key] += 1
            self._deaths_alone[key] += alone
        if len(entries) == 1:
            return {0: error} if too_large else self._lose_one(entries[0], error)
        size = -(-len(entries) // _PIECES)
        self._pieces.extend(entries[start : start + size] for start in range(0, len(entries), size))
        return {}

    def _lose_held(self, entries: list[Entry], error: ProcessHeld) -> dict[int, BaseException]:
        """Fail the item that held the process, if it is in this chunk, and queue the others, which are not to blame."""
        self.queue.extendleft(entry for number, entry in reversed([*enumerate(entries)]) if number != error.item)
        if error.item is None:
            return {}
        return {error.item: WorkerLost(f"paco.{self._options.name}: {error}")}

    def _lose_one(self, entry: Entry, error: BaseException) -> dict[int, BaseException]:
        """Queue a lost item again, or fail it. If other items were in its worker, one of them may have killed it."""
        deaths = self._deaths[entry[0]]
        if deaths == 1:
            self._pieces.append([entry])
        elif deaths < _DEATHS or self._deaths_alone[entry[0]] < _DEATHS_ALONE:
            self._suspects.append(entry)
        else:
            lost = WorkerLost(f"paco.{self._options.name}: the worker of this item has died {deaths} times")
            lost.__cause__ = error
            return {0: lost}
        return {}

    # ---- ending

    def stop(self) -> None:
        """Send nothing more, and cancel the chunks in flight; their results are dropped. Does not wait."""
        if not self._stopped:
            self._stopped = True
            if self._chunks:
                self._engine.cancel(self._id, list(self._chunks))

    async def all_back(self) -> None:
        """Wait until no chunk is in flight. Cancellations do not end the wait."""
        while self._chunks:
            with suppress(asyncio.CancelledError):
                await self._all_back.wait()

    async def close(self) -> None:
        """Stop, wait until no chunk is in flight, and close the engine. Cancellations do not end the wait."""
        if self._loop.is_closed():  # the coroutine that calls this is being garbage-collected
            return
        self.stop()
        await self.all_back()
        if self._engine is None:
            return
        closing = background(self._engine.close(), "paco.remote.close")
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        closing.result()
