"""Chunks in flight: what is sent, what comes back, and what is sent again because its worker is gone."""

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
from paco.remote._engines import Following
from paco.remote._errors import WorkerLost
from paco.remote._host import digest
from paco.remote._in_flight import Flight, Flights
from paco.remote._messages import Order, Report
from paco.remote._sizes import SECONDS, Shape, Sizes
from paco.remote._worker_stats import Roster

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.types import Future, OnError
    from paco._base.worker_info import Ran, Worker
    from paco.remote._engines import Engine
    from paco.remote._errors import PackedError

#: So many times the worker of an item dies until that is its error; in all, and with nothing else in it.
_DEATHS: Final = 3
_DEATHS_ALONE: Final = 2
#: Into so many pieces is cut what was lost, to find the item that kills.
_PIECES: Final = 8

#: Chunks that may be lost before they have begun, one after the other: then there is nobody who ever will.
_FUTILE: Final = 100

#: An item, after what its owner knows it by.
Entry: TypeAlias = tuple[Any, Any]


class Owner(Protocol):
    """Who sends the items, and gets what becomes of them; all in the event loop."""

    def left(self) -> float:
        """Return how many items are still to be taken, as far as that is known; infinity else."""
        ...

    def arrived(self, entries: list[Entry], values: dict[int, Any], ran: dict[int, Ran]) -> None:
        """Get the results of a chunk by the numbers in it, and where and when the items ran if that is known."""
        ...

    def failed(self, entry: Entry, error: BaseException, ran: Ran | None = None) -> None:
        """Get the error of an item."""
        ...

    def broken(self, error: BaseException) -> None:
        """Hear that nothing can be sent at all."""
        ...

    def landed(self) -> None:
        """Hear that one more chunk has come back, and been dealt with: there may be room for another."""
        ...


class RunOptions(NamedTuple):
    """What is the same for all chunks of a run."""

    name: str
    function: bytes
    limit: int
    lead: int
    on_error: OnError
    watched: bool
    paced: bool = False  # whether an item is to start as soon as it is there


class Dispatcher:
    """Sends the items of one run to an engine. It belongs to the loop in which it is made.

    Args:
        engine: Where the chunks go.
        job: What is to be done.
        owner: Who has the items.
        workers: Where those are to be found who have had chunks, by their names.
    """

    def __init__(self, engine: Engine, job: RunOptions, owner: Owner, workers: dict[str, Worker]) -> None:
        self._engine = engine
        self._job = job
        self._owner = owner
        self.loop = asyncio.get_running_loop()
        self._run = uuid.uuid4().hex
        self._digest = digest(job.function)
        self._following = engine if isinstance(engine, Following) and not job.paced else None
        self.sizes = Sizes(job.limit, job.lead, paced=job.paced, follow=self._following is not None)
        self._roster = Roster(workers, here=isinstance(engine, Following))
        self._flights = Flights(job.limit, self._roster)
        self._again: deque[Entry] = deque()  # what workers have given back
        self._pieces: deque[list[Entry]] = deque()  # what was lost
        self._suspects: deque[Entry] = deque()  # what was lost by itself, and is to be alone in its process
        self._deaths: Counter[Any] = Counter()  # of the workers of an item; in all, and with nothing else in them
        self._deaths_alone: Counter[Any] = Counter()
        self._futile = 0  # chunks that were lost before they had begun, one after the other
        self._stopped = False
        self._home: asyncio.Future[None] | None = None

    @property
    def in_flight(self) -> int:
        """How many items run, at most: workers hold more, which wait there."""
        return self._flights.used

    @property
    def quiet(self) -> bool:
        """Whether nothing is in flight, and nothing waits to be sent again."""
        return not (self._flights or self._again or self._pieces or self._suspects)

    def spread(self) -> int:
        """Return how many chunks are to be in flight."""
        return self.sizes.spread(self._engine.slots, self._engine.processes)

    async def open(self) -> None:
        """Open the engine."""
        await self._engine.open()

    # ---- sending

    def send(self, take: Callable[[int], list[Entry]]) -> bool:
        """Send one more chunk, if there can be one now; true if there was.

        Args:
            take: Returns so many new items at most.
        """
        if self._stopped:
            return False
        if self._suspects:
            return self._send_suspect()
        if any(flight.alone for flight in self._flights):
            return False
        spread = self.spread()
        limit, before = self._part(spread)
        if not limit:
            return False
        shape = self.sizes.shape(spread, limit)
        chunks = max(spread - self._flights.running, 1)
        count = self.sizes.fair(shape, self._owner.left(), chunks, self._flights.used)
        entries = self._again_or(take, count)
        if entries:
            self._send(entries, shape, before=before)
        return bool(entries)

    def _part(self, spread: int) -> tuple[int, Flight | None]:
        """Return how much of the limit the next chunk can have, and who has some of it until then; 0 for no chunk."""
        running, free = self._flights.running, self._flights.free
        if not free or running >= spread:
            left = self._owner.left()
            for flight in self._flights:
                if flight.can_lead and self.sizes.leads(flight.shape, len(flight.entries), left, spread):
                    return flight.shape.limit + free, flight
        if running < self._engine.slots and not self.sizes.is_full(spread, running, free):
            return free, None
        return 0, None

    def wanted(self) -> int:
        """Return how many new items the next chunk would have."""
        spread = self.spread()
        limit, _ = self._part(spread)
        return self.sizes.shape(spread, limit or max(self._flights.free, 1)).items

    def _again_or(self, take: Callable[[int], list[Entry]], count: int) -> list[Entry]:
        if self._pieces:
            return self._pieces.popleft()
        if self._again:
            return [self._again.popleft() for _ in range(min(count, len(self._again)))]
        return take(count)

    def _send_suspect(self) -> bool:
        """Send an item that may kill: where every chunk has a process of its own, as many at once as there are."""
        alone = [flight.alone for flight in self._flights]
        if not all(alone) or len(alone) >= min(self._engine.apart, self._job.limit):
            return False
        self._send([self._suspects.popleft()], Shape(1, 1, 2 * SECONDS), alone=True)
        return True

    def _send(self, entries: list[Entry], shape: Shape, *, alone: bool = False, before: Flight | None = None) -> None:
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
            flight.number,
            0 if before is None else before.number,
        )
        try:
            future = self._submitted(before, order.dump(), job.function, items)
        except Exception as error:
            self._owner.broken(error)
            return
        self._flights.add(flight, future, before)
        future.add_done_callback(lambda future: self._done(flight, future))

    def _submitted(self, before: Flight | None, *chunk: bytes) -> Future:
        if self._following is None or before is None or before.future is None:
            return self._engine.submit(*chunk)
        return self._following.submit_after(before.future, *chunk)

    def _pickled(self, entries: list[Entry]) -> tuple[bytes, list[Entry]]:
        """Return the items as bytes, and the entries without those that cannot be: these have failed."""
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
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
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
            owner.broken(_pickles.unfit(self._job.name, f"what came back from {report.where}", error))
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
        """Have everything sent again that was in a chunk whose worker is gone, in smaller pieces."""
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
        """Sort out whether it was the item by itself; what was with it in a process may have died of another."""
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
        """Cancel what is in flight, and send nothing more. Results that come now are dropped. Does not wait."""
        if self._stopped:
            return
        self._stopped = True
        if self._flights:
            self._engine.cancel(self._run, [flight.future for flight in self._flights if flight.future is not None])

    async def home(self) -> None:
        """Wait until nothing is in flight, through all cancellations."""
        while self._flights:
            if self._home is None or self._home.done():
                self._home = self.loop.create_future()  # for all who wait; if one is cancelled, all look again
            with suppress(asyncio.CancelledError):
                await self._home

    async def close(self) -> None:
        """End it, and let go of the engine, through all cancellations."""
        self.stop()
        await self.home()
        closing = background(self._engine.close(), "paco.remote.close")
        while not closing.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(closing)
        closing.result()
