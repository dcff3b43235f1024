"""A run with a journal: recorded results are handed on again, the rest is run, and recorded.

It stands on both sides of the engine. The function of the run becomes one that asks the journal first, and leaves a
line there; what it returns is stored as ever, and its slot is free. The store is a `Delivery`, which holds the result
back until the line has been written.
"""

from __future__ import annotations

import asyncio
import time
import warnings
import weakref
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from paco._base.check import shorten
from paco._base.errors import as_item_error, trim
from paco._base.item_function import given, named_as
from paco._base.worker_info import Slots
from paco._engine.outcomes import Err, Ok, is_settled
from paco._records.delivery import Delivery
from paco._records.errors import RecordedError
from paco._records.file import RecordFile
from paco._records.function import made_by
from paco._records.group_commit import GroupCommit
from paco._records.limit import Unrecorded
from paco._records.lines import Span, failure, line, opening, span_of, success
from paco._records.memory import Memory
from paco._records.values import NotJSONError, decode, encode
from paco._view.console import message
from paco.events import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item_function import ItemFunction
    from paco._base.types import OnError
    from paco._base.worker_info import Ran
    from paco._engine.outcomes import Outcome
    from paco._engine.run import Run
    from paco._engine.sinks import InOrder
    from paco._records.lines import Record
    from paco.limits import Limiter


#: Types whose values come back from JSON as they were. (A float may be NaN, which comes back as None.)
_SAME: Final = frozenset({str, int, bool, type(None)})
#: How a lone surrogate begins in JSON: two of them come back as one character.
_SURROGATE: Final = "\\ud"


#: How the record of an item begins, or the one that it has.
_Known: TypeAlias = "Callable[[Any], tuple[str, Record | None]]"


class Settings(NamedTuple):
    """What `Stream.journal` was given."""

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
        settings: How it is kept.
        name: The operation, for messages: ``map``.
        fn: The function over the items.
        sink: Where the results go.
        on_error: What becomes of an item's ``Exception``.
        ran: Returns where and when the item ran whose call has just returned; ``None`` for this process.
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
        self._commit = GroupCommit(self._file, self._load, self._loaded, self._delivery.hand_on)
        self._settings = settings
        self._on_error = on_error
        self._ran = ran
        self._more = maker.fields(settings.version)
        self._slots = Slots()
        self._items = 0
        self.role = "journal"
        #: Hears that all other tasks of the run have ended.
        self.alone: Callable[[], None] = self._commit.alone

    def instead_of(self, fn: ItemFunction, limit: int | Limiter) -> tuple[ItemFunction, int | Limiter]:
        """Return the function, and the limit, that the run is to have instead of those that were given."""
        make = self._recorded_outcomes if is_settled(given(fn)) else self._recorded
        if isinstance(limit, int):
            return named_as(fn, make(fn, self._look_up)), limit
        unrecorded = Unrecorded(limit, self._look_up)
        return named_as(fn, make(fn, unrecorded.found)), unrecorded

    def prepare(self, run: Run) -> None:
        """Be called before the run has any tasks, in the context that they will have."""
        # Weakly, since the records of a million items are to go with their run, and not when the collector comes.
        self._run: Run = weakref.proxy(run)
        self._delivery.begin(self._run, self._commit)
        self._clock = clock()

    async def keep(self) -> None:
        """Do all that is done with the file: a task of the run, which outlives the others."""
        try:
            await self._commit.keep(self._run)
        finally:
            self._delivery.end()

    def _load(self) -> None:
        self._file.open()
        self._memory.load()

    def _loaded(self) -> None:
        self._delivery.widen()
        if self._memory.changed:
            warnings.warn(
                f"{self._title}: {self._maker.name} has changed since the last record was made; what is recorded is "
                "handed on as it is, the rest runs as it is now (to run all of it again, give a new version=)",
                stacklevel=2,
            )

    # ---- an item

    def _recorded(self, fn: ItemFunction, known: _Known) -> ItemFunction:
        """Make the function that asks the journal first, and leaves a record there."""
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
                del failed  # it leads back here

        return recorded

    def _recorded_outcomes(self, fn: ItemFunction, known: _Known) -> ItemFunction:
        """Do the same for a function that is settled: the record says what its outcome does."""
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
            return  # it came because the run was ending
        ran = self._ran()
        worker = None if ran is None else ran.worker
        span = Span(outcome.attempts, slot, outcome.start, 1000 * outcome.elapsed, worker)
        self._commit.add(line(head, text, span, self._more))

    def _look_up(self, item: Any) -> tuple[str, Record | None]:
        """Return how the record of an item begins, or the one that it has, if that is to be handed on."""
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
        except NotJSONError:  # it is known by something else, or it would have been refused
            return opening(position, key.hex(), shorten(item)), None

    def _succeeded(self, value: Any) -> tuple[str, Any]:
        """Return what the record says of a result, and the result as it will come back from the record."""
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
        """Return what the record says of an outcome, and the outcome as it will come back from the record."""
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
        """Say whether an error is one to remember: not one that came because the run was ending."""
        own = isinstance(error, Exception | asyncio.CancelledError)
        return own and not (self._run.ending() or self._run.was_let_go())

    def _as_recorded(self, error: Any) -> Any:
        """Return the error as it is handed on: if its record will be handed on later, in the same words as then."""
        if self._settings.retry_errors:
            return error
        trim(error)
        recorded = RecordedError(type(error).__name__, message(error))
        recorded.__cause__ = error
        return recorded


def _told(error: BaseException) -> str:
    return failure(type(error).__name__, message(error))
