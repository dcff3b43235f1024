"""The journal of a run: it delivers recorded results again, runs the other items, and records them.

The recorder wraps the function of the run: the wrapper returns the recorded result, or calls the function and adds a
line to the file. Its result is stored as in any run, which frees the slot. The store is a `Delivery`, which holds the
result back until the line is written.
"""

from __future__ import annotations

import asyncio
import time
import warnings
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias, cast

from paco._base.check import given, named_as, shorten
from paco._base.errors import as_item_error, trim
from paco._base.item import Slots, item_here
from paco._engine.outcomes import Err, Ok, is_settled
from paco._records.file import Memory, RecordedError, RecordFile
from paco._records.group_commit import Delivery, GroupCommit
from paco._records.lines import Span, failure, line, made_by, opening, span_of, success
from paco._records.values import NotJSONError, decode, encode
from paco._view.console import message
from paco.events import clock
from paco.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._base.check import ItemFunction
    from paco._base.item import Item, Ran
    from paco._base.types import OnError
    from paco._engine.outcomes import Outcome
    from paco._engine.run import Scheduler
    from paco._engine.sinks import InOrder
    from paco._records.lines import Record

#: The permit of an item that needs none.
_FREE: Final = object()


class Unrecorded(Limiter):
    """A limit that applies only to items without a record. It looks each item up before it asks the limit of the run.

    Args:
        limit: The limit of the run.
        look_up: Called once for each item, in their order; returns a pair whose second part is the record or ``None``.
    """

    __slots__ = ("_limit", "_look_up")

    def __init__(self, limit: Limiter, look_up: Callable[[Any], tuple[str, Record | None]]) -> None:
        self._limit = limit
        self._look_up = look_up

    @property
    def most(self) -> int:
        return self._limit.most

    @property
    def free(self) -> int:
        return max(self._limit.free, 1)

    @property
    def lookahead(self) -> int:
        return max(self._limit.lookahead, 1)

    def try_acquire(self, item: Any = None) -> Any:
        here = cast("Item", item_here())
        if here.known is None:  # otherwise this is a further attempt
            here.known = self._look_up(item)
        return self._limit.try_acquire(item) if here.known[1] is None else _FREE

    async def acquire(self, item: Any = None) -> Any:
        return await self._limit.acquire(item)

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        return None if permit is _FREE else self._limit.release(permit, error)

    def found(self, _: Any) -> tuple[str, Record | None]:
        """Return what ``look_up`` returned for the item that the calling worker runs."""
        known: tuple[str, Record | None] = cast("Item", item_here()).known
        return known


#: Types whose values JSON returns unchanged. Not float: NaN comes back as None.
_SAME: Final = frozenset({str, int, bool, type(None)})
#: The beginning of a lone surrogate in JSON: two lone surrogates in a row come back as one character.
_SURROGATE: Final = "\\ud"


#: Returns the start of a new record for an item, or the record that the item has.
_Known: TypeAlias = "Callable[[Any], tuple[str, Record | None]]"


class Settings(NamedTuple):
    """The arguments of `Stream.journal`; ``power`` is true for ``durable="power"``."""

    path: str
    key: Callable[[Any], object] | str | None
    encode: Callable[[Any], object] | None
    decode: Callable[[Any], Any] | None
    power: bool
    version: int | str | None
    retry_errors: bool


class Recorder:
    """The journal of one run.

    Args:
        settings: The arguments of `Stream.journal`.
        name: The operation, for messages, such as ``map``.
        fn: The function of the run.
        sink: Receives the results.
        on_error: Whether an item's ``Exception`` is raised or returned.
        ran: Returns when and where the item ran whose call has just returned; ``None`` for this process.
    """

    def __init__(
        self,
        settings: Settings,
        name: str,
        fn: ItemFunction,
        sink: InOrder,
        *,
        on_error: OnError,
        ran: Callable[[], Ran | None],
    ) -> None:
        self._title = f"paco.{name}: the journal {settings.path}"
        self._maker = maker = made_by(fn)
        self._file = RecordFile(settings.path, self._title, power=settings.power)
        self._memory = Memory(self._file, maker, key=settings.key, version=settings.version)
        self._delivery = Delivery(sink)
        self._commit = GroupCommit(self._file, self._load, self._loaded, self._delivery.deliver)
        self._settings = settings
        self._on_error = on_error
        self._ran = ran
        self._more = maker.fields(settings.version)
        self._slots = Slots()
        self._items = 0
        self.role = "journal"
        #: Called when all other tasks of the run have ended.
        self.finish: Callable[[], None] = self._commit.finish

    def instead_of(self, fn: ItemFunction, limit: int | Limiter) -> tuple[ItemFunction, int | Limiter]:
        """Return the function and the limit that replace those of the run."""
        make = self._recorded_outcomes if is_settled(given(fn)) else self._recorded
        if isinstance(limit, int):
            return named_as(fn, make(fn, self._look_up)), limit
        unrecorded = Unrecorded(limit, self._look_up)
        return named_as(fn, make(fn, unrecorded.found)), unrecorded

    def prepare(self, run: Scheduler) -> None:
        """Prepare for a run. It calls this before it creates tasks, in the context that they will have."""
        # A weak reference, so that the keys of a million items are freed with the run, not by a later collection.
        self._run: Scheduler = weakref.proxy(run)
        self._delivery.begin(self._run, self._commit)
        self._clock = clock()

    async def serve(self) -> None:
        """Read and write the file. This is the task of the run that ends last."""
        try:
            await self._commit.serve(self._run)
        finally:
            self._delivery.end()

    def _load(self) -> None:
        self._file.open()
        self._memory.load()

    def _loaded(self) -> None:
        self._delivery.widen()
        if self._memory.changed:
            warnings.warn(
                f"{self._title}: {self._maker.name} has changed since the last record was written; recorded results "
                "stay as they are, and the other items run with the new code (to run all items again, change version=)",
                stacklevel=2,
            )

    # ---- an item

    def _recorded(self, fn: ItemFunction, known: _Known) -> ItemFunction:
        """Return a function that returns the recorded result of an item, or calls ``fn`` and records what it does."""
        take, give, wall = self._slots.take, self._slots.give, time.time

        async def recorded(item: Any) -> Any:
            head, record = known(item)
            if record is not None:
                return self._replayed(record)
            worker: Any = asyncio.current_task()
            tried = 0 if worker.item is None else worker.item.attempts - 1
            slot, start, began = take(), wall(), self._clock()
            failed: BaseException | None = None
            value = None
            try:
                outcome, value = self._succeeded(await fn(item))
            except BaseException as error:
                if not self._is_of_the_item(error):
                    raise
                failed = as_item_error(error)
                outcome = _told(failed)
            finally:
                give(slot)
            attempts = 1 if worker.item is None else worker.item.attempts - tried
            span = span_of(attempts, slot, start, began, self._clock(), self._ran())
            self._commit.add(line(head, outcome, span, self._more))
            if failed is None:
                return value
            try:
                raise self._as_recorded(failed) if self._on_error == "return" else failed
            finally:
                del failed  # its traceback refers to this frame: break the cycle

        return recorded

    def _recorded_outcomes(self, fn: ItemFunction, known: _Known) -> ItemFunction:
        """Return such a function for a settled one: the record is made from the outcome."""
        take, give = self._slots.take, self._slots.give

        async def recorded(item: Any) -> Outcome[Any, Any]:
            head, record = known(item)
            if record is not None:
                return self._replayed_outcome(item, record)
            slot = take()
            try:
                text, outcome = self._settled(await fn(item))
            finally:
                give(slot)
            self._add_outcome(head, text, outcome, slot)
            return outcome

        return recorded

    def _add_outcome(self, head: str, text: str, outcome: Outcome[Any, Any], slot: int) -> None:
        if isinstance(outcome, Err) and self._run.ending():
            return  # the item failed because the run is ending
        ran = self._ran()
        worker = None if ran is None else ran.worker
        span = Span(outcome.attempts, slot, outcome.start, 1000 * outcome.elapsed, worker)
        self._commit.add(line(head, text, span, self._more))

    def _look_up(self, item: Any) -> tuple[str, Record | None]:
        """Return the start of a new record for an item; or the record that it has, if that is used again."""
        position = self._items
        self._items += 1
        try:
            key, record = self._memory.recall(item)
        except Exception as error:
            if not self._run.ending():
                self._run.fail(error, f"item {position}: {shorten(item)}")
            raise
        if record is not None and (record.ok or not self._settings.retry_errors):
            return "", record
        try:
            return opening(position, key.hex(), item), None
        except NotJSONError:  # the item has a key; without one, recall() would have raised
            return opening(position, key.hex(), shorten(item)), None

    def _succeeded(self, value: Any) -> tuple[str, Any]:
        """Return the part of a record for a result, and the result as reading the record will return it."""
        if self._settings.encode is not None:
            value = self._settings.encode(value)
        text = encode(value)
        same = type(value) in _SAME and _SURROGATE not in text
        return success(text), self._decoded(value if same else decode(text.encode()))

    def _decoded(self, value: Any) -> Any:
        return value if self._settings.decode is None else self._settings.decode(value)

    def _replayed(self, record: Record) -> Any:
        if record.ok:
            return self._decoded(record.outcome)
        raise RecordedError(*record.error())

    def _settled(self, outcome: Outcome[Any, Any]) -> tuple[str, Outcome[Any, Any]]:
        """Return the part of a record for an outcome, and the outcome as reading the record will return it."""
        if isinstance(outcome, Ok):
            try:
                text, value = self._succeeded(outcome.value)
                return text, replace(outcome, value=value)
            except Exception as error:
                trim(error)
                outcome = Err(outcome.item, error, outcome.attempts, outcome.start, outcome.elapsed)
        return _told(outcome.error), replace(outcome, error=self._as_recorded(outcome.error))

    def _replayed_outcome(self, item: Any, record: Record) -> Outcome[Any, Any]:
        span = record.span()
        began = span.attempts, span.start, span.ms / 1000
        try:
            return Ok(item, self._replayed(record), *began)
        except Exception as error:
            trim(error)
            return Err(item, error, *began)

    def _is_of_the_item(self, error: BaseException) -> bool:
        """Return whether to record an error: not if it came because the run is ending."""
        own = isinstance(error, Exception | asyncio.CancelledError)
        return own and not (self._run.ending() or self._run.was_let_go())

    def _as_recorded(self, error: Any) -> Any:
        """Return the error to deliver: with ``retry_errors=False``, what later runs will deliver from the record."""
        if self._settings.retry_errors:
            return error
        trim(error)
        recorded = RecordedError(type(error).__name__, message(error))
        recorded.__cause__ = error
        return recorded


def _told(error: BaseException) -> str:
    return failure(type(error).__name__, message(error))
