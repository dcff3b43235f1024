"""The dispatcher of a run: it sends chunks, takes in their reports, and resends the items of lost workers."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol, TypeAlias

from paco._base import check
from paco._base.deadline import remaining
from paco._engine.nursery import background
from paco.remote import _pickles
from paco.remote._host import digest
from paco.remote._in_flight import Flight, Flights, Roster
from paco.remote._messages import Order, Report, WorkerLost
from paco.remote._sizes import SECONDS, Shape, Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item import Ran, Worker
    from paco._base.types import Future, OnError
    from paco.remote._engines import Engine
    from paco.remote._messages import PackedError

#: An item fails if its worker has died this often, at least so often of that with no other item in the worker.
_DEATHS: Final = 3
_DEATHS_ALONE: Final = 2
#: A lost chunk is divided into this many pieces, to find the item that kills its worker.
_PIECES: Final = 8

#: The run fails if more than this many chunks in a row are lost before they begin: no worker will ever begin one.
_FUTILE: Final = 100

#: An item, preceded by the key by which its owner identifies it.
Entry: TypeAlias = tuple[Any, Any]


class Owner(Protocol):
    """Provides the items, and receives their outcomes, in the event loop of the dispatcher."""

    def left(self) -> float:
        """Return the number of items not yet taken; infinity if unknown."""
        ...

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        """Take the results of a chunk, by number, and where and when its items ran, if known."""
        ...

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        """Take the error of an item."""
        ...

    def broken(self, error: BaseException) -> None:
        """Fail the run: no items can be sent."""
        ...

    def landed(self) -> None:
        """Send more if there is room: a chunk has come back, and its outcomes were taken."""
        ...


class RunOptions(NamedTuple):
    """The settings that all chunks of a run share."""

    name: str
    function: bytes
    limit: int
    lead: int
    on_error: OnError
    watched: bool
    paced: bool = False  # whether each item must start as soon as it is available


class Dispatcher:
    """Sends the items of one run to an engine. Use it in the loop in which it was created.

    Args:
        engine: The engine, which `close` closes.
        job: The settings of the run.
        owner: Provides the items, and receives their outcomes.
        workers: The workers that have received chunks, by name; the dispatcher adds them.
    """

    def __init__(self, engine: Engine, job: RunOptions, owner: Owner, workers: dict[str, Worker]) -> None:
        self._engine = engine
        self._job = job
        self._owner = owner
        self.loop = asyncio.get_running_loop()
        self._run = uuid.uuid4().hex
        self._digest = digest(job.function)
        self.sizes = Sizes(job.limit, job.lead, paced=job.paced)
        self._roster = Roster(workers, one_clock=engine.one_clock)
        self._flights = Flights(job.limit, self._roster)
        self._again: deque[Entry] = deque()  # items that workers returned without starting them
        self._pieces: deque[list[Entry]] = deque()  # pieces of lost chunks
        self._suspects: deque[Entry] = deque()  # items lost as the only item of a chunk; they need a process each
        self._deaths: Counter[Any] = Counter()  # how often the worker of an item has died, by key
        self._deaths_alone: Counter[Any] = Counter()  # the same with no other item in the worker
        self._futile = 0  # how many chunks in a row were lost before they began
        self._stopped = False
        self._home: asyncio.Future[None] | None = None

    @property
    def in_flight(self) -> int:
        """The maximum number of items that run now. Workers hold further items, which wait there."""
        return self._flights.used

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and nothing waits to be sent again."""
        return not (self._flights or self._again or self._pieces or self._suspects)

    def spread(self) -> int:
        """Return the number of chunks that should be in flight."""
        return self.sizes.spread(self._engine.slots, self._engine.processes)

    async def open(self) -> None:
        """Open the engine."""
        await self._engine.open()

    # ---- sending

    def send(self, take: Callable[[int], list[Entry]]) -> bool:
        """Send one more chunk if possible now, and return whether one was sent.

        Args:
            take: Returns at most the given number of new items.
        """
        if self._stopped:
            return False
        if self._suspects:
            return self._send_suspect()
        if any(flight.alone for flight in self._flights):
            return False
        spread, flights, free = self.spread(), len(self._flights), self._flights.free
        if flights >= self._engine.slots or self.sizes.is_full(spread, flights, free):
            return False
        shape = self.sizes.shape(spread, free)
        count = self.sizes.fair(shape, self._owner.left(), max(spread - flights, 1), self._flights.used)
        entries = self._again_or(take, count)
        if entries:
            self._send(entries, shape)
        return bool(entries)

    def wanted(self) -> int:
        """Return the number of new items that the next chunk would have."""
        return self.sizes.shape(self.spread(), max(self._flights.free, 1)).items

    def _again_or(self, take: Callable[[int], list[Entry]], count: int) -> list[Entry]:
        if self._pieces:
            return self._pieces.popleft()
        if self._again:
            return [self._again.popleft() for _ in range(min(count, len(self._again)))]
        return take(count)

    def _send_suspect(self) -> bool:
        """Send a suspect: an item that may kill its worker. Each needs a process in which no other item runs."""
        alone = [flight.alone for flight in self._flights]
        if not all(alone) or len(alone) >= min(self._engine.apart, self._job.limit):
            return False
        self._send([self._suspects.popleft()], Shape(1, 1, 2 * SECONDS), alone=True)
        return True

    def _send(self, entries: list[Entry], shape: Shape, *, alone: bool = False) -> None:
        items, entries = self._pickled(entries)
        if not entries or self._stopped:
            return
        limit = min(shape.limit, len(entries))
        shape = shape._replace(limit=limit)
        flight = Flight(entries, shape, len(items), alone=alone)
        job = self._job
        order = Order(
            self._run,
            job.name,
            self._digest,
            limit,
            shape.seconds,
            job.on_error,
            job.watched,
            remaining(),
            self._engine.flag,
        )
        try:
            future = self._engine.submit(order.dump(), job.function, items)
        except Exception as error:
            self._owner.broken(error)
            return
        self._flights.add(flight, future)
        future.add_done_callback(lambda future: self._done(flight, future))

    def _pickled(self, entries: list[Entry]) -> tuple[bytes, list[Entry]]:
        """Return the pickled items, and their entries. Items that cannot be pickled fail and are left out."""
        try:
            return _pickles.dumps([item for _, item in entries]), entries
        except Exception:
            fit = [entry for entry in entries if self._is_fit(entry)]
        return _pickles.dumps([item for _, item in fit]), fit

    def _is_fit(self, entry: Entry) -> bool:
        try:
            _pickles.dumps(entry[1])
        except Exception as error:
            what = f"the item {check.shorten(entry[1])}"
            self._owner.failed(entry, _pickles.unfit(self._job.name, what, error))
            return False
        return True

    # ---- coming back

    def _done(self, flight: Flight, future: Future) -> None:
        with suppress(RuntimeError):  # the loop is closed, so nothing waits for the chunk
            self.loop.call_soon_threadsafe(self._land, flight, future)

    def _land(self, flight: Flight, future: Future) -> None:
        self._flights.remove(flight)
        try:
            self._take_in(flight, future)
        except Exception as error:
            self._owner.broken(error)
        if self._home is not None and not self._flights and not self._home.done():
            self._home.set_result(None)
        self._owner.landed()

    def _take_in(self, flight: Flight, future: Future) -> None:
        try:
            report = Report.load(future.result())
        except (Exception, asyncio.CancelledError) as error:
            if not self._stopped:
                self._lose(flight, error)
            return
        if not self._stopped:
            self._deliver(flight, report)
        elif self._job.on_error == "raise":
            self._fail(flight, report, report.errors)
        self._fail(flight, report, report.late)

    def _deliver(self, flight: Flight, report: Report) -> None:
        entries, owner = flight.entries, self._owner
        self._futile = 0
        if report.refusal is not None:
            owner.broken(report.refusal.error(report.where))
            return
        try:
            values: dict[int, Any] = _pickles.loads(report.values)
        except Exception as error:
            owner.broken(_pickles.unfit(self._job.name, f"the results from {report.where}", error))
            return
        started = max(report.started, 1)
        size = max(flight.size * started // len(entries), len(report.values))
        self.sizes.learn(flight.shape, started, report.seconds, report.busy, report.tail, size)
        self._again.extendleft(reversed(entries[report.started :]))
        flight.ran = self._roster.back(report, len(values) + len(report.errors or ()))
        owner.arrived(entries, values, flight.ran)
        self._fail(flight, report, report.errors)

    def _fail(self, flight: Flight, report: Report, errors: dict[int, PackedError] | None) -> None:
        if not errors:
            return
        for number, failure in errors.items():
            raised = failure.error(report.where)
            if number < 0:
                self._owner.broken(raised)
            else:
                self._owner.failed(flight.entries[number], raised, flight.ran.get(number))

    def _lose(self, flight: Flight, error: BaseException) -> None:
        """Queue the items of a lost chunk to be sent again, in smaller pieces if their worker died with them."""
        deaths = self._engine.lost(error)
        if deaths is None:
            self._owner.broken(error)
            return
        self._roster.lost(flight.worker)
        entries = flight.entries
        if not deaths:
            self._futile += 1
            if self._futile > _FUTILE:
                self._owner.broken(error)
            self._again.extendleft(reversed(entries))
            return
        alone = len(entries) == 1 and (flight.alone or flight.single)
        for key, _ in entries:
            self._deaths[key] += 1
            self._deaths_alone[key] += alone
        if len(entries) > 1:
            size = -(-len(entries) // _PIECES)
            self._pieces.extend(entries[start : start + size] for start in range(0, len(entries), size))
        else:
            self._lose_one(entries[0], error)

    def _lose_one(self, entry: Entry, error: BaseException) -> None:
        """Queue a lost item again, or fail it. If other items were in its worker, one of them may have killed it."""
        deaths = self._deaths[entry[0]]
        if deaths == 1:
            self._pieces.append([entry])
        elif deaths < _DEATHS or self._deaths_alone[entry[0]] < _DEATHS_ALONE:
            self._suspects.append(entry)
        else:
            lost = WorkerLost(f"paco.{self._job.name}: the worker of this item has died {deaths} times")
            lost.__cause__ = error
            self._owner.failed(entry, lost)

    # ---- ending

    def stop(self) -> None:
        """Send nothing more, and cancel the chunks in flight; their results are dropped. Does not wait."""
        if self._stopped:
            return
        self._stopped = True
        if self._flights:
            self._engine.cancel(self._run, [flight.future for flight in self._flights if flight.future is not None])

    async def home(self) -> None:
        """Wait until no chunk is in flight. Cancellations do not end the wait."""
        while self._flights:
            if self._home is None or self._home.done():
                self._home = self.loop.create_future()  # shared by all waiters; if one is cancelled, all check again
            with suppress(asyncio.CancelledError):
                await self._home

    async def close(self) -> None:
        """Stop, wait until no chunk is in flight, and close the engine. Cancellations do not end the wait."""
        self.stop()
        await self.home()
        closing = background(self._engine.close(), "paco.remote.close")
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        closing.result()
