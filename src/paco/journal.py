"""Journals: a run records its finished items in a file, and skips them when it runs again.

Use `Stream.journal`. The file is in JSON Lines, with one record for each item, as ``paco map`` writes it:

    {"id":0,"key":"5f0a...","input":"https://e.org/a","ok":true,"result":{"status":200},"attempts":1,"slot":0,
    "start":"2026-11-22T12:04:10.115Z","ms":181.0,"function":"fetch","source":"77ab0c8e6f3d2b14"}

A result may contain every value that JSON can hold. It may also contain dataclasses, which become objects; tuples and
sets (lists); enums (their values); ``datetime``, ``date`` and ``time`` (ISO 8601); ``timedelta`` (seconds); ``Path``,
``UUID`` and ``Decimal`` (strings); and ``bytes`` (base64). NaN and the infinities become ``None``. A value of any other
type fails its item, with an error that names the type. Nothing is pickled, so opening another person's journal runs
none of their code.
"""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from dataclasses import dataclass, replace
from functools import partial
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any, Final, cast

from paco import events
from paco._base import check
from paco._base.deadline import clock
from paco._base.errors import as_item_error, trim
from paco._engine.outcomes import Err, Ok, Outcome, err_of, is_outcome
from paco._records.earlier import EarlierRecords, ItemKey
from paco._records.file import JournalError, RecordFile
from paco._records.group_commit import GroupCommit
from paco._records.lines import SAME, decode, encode, failure, scalar
from paco._records.maker import made_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.item import Ran, WorkerTask
    from paco._base.types import LookUp, OnError
    from paco._engine.sinks import Drop, InOrder
    from paco._records.earlier import Entry
    from paco._records.lines import Record

__all__ = ["Journal", "JournalError", "RecordedError"]

#: The bytes of a record besides its result, roughly.
_SIZE: Final = 240
#: The permit of an item that needs none.
_FREE: Final = object()


class RecordedError(Exception):
    """Raised for an item that failed in an earlier run. A record holds only the name and the message of an exception.

    Attributes:
        type: The name of the exception's type, such as ``HTTPError``.
        message: The message of the exception.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type: str = type
        self.message: str = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type


@dataclass(eq=False)
class Journal:
    """The checked arguments of `Stream.journal`, which describes them. The file is not open yet."""

    name: str  # of the operation, for messages
    path: Any
    key: ItemKey
    encode: Callable[[Any], object] | None
    decode: Callable[[Any], Any] | None
    durable: str
    version: int | str | None
    retry_errors: bool

    def __post_init__(self) -> None:
        name = self.name
        check.one_of(name, "durable", self.durable, ("process", "power"))
        check.flag(name, "retry_errors", self.retry_errors)
        check.version(name, self.version)
        key = None if isinstance(self.key, str) else self.key
        for parameter, fn in (("key", key), ("encode", self.encode), ("decode", self.decode)):
            if fn is not None:
                check.plain_function(name, fn, parameter)
        self.path = check.path(name, "path", self.path)
        self._place = _place_of_caller()

    def warn(self, text: str) -> None:
        """Warn as if at the line that called `Stream.journal`: that of the run is deep inside asyncio."""
        warnings.warn_explicit(text, UserWarning, *self._place)

    def begin(
        self, name: str, fn: ItemFunction, sink: InOrder | Drop, *, on_error: OnError
    ) -> tuple[GroupCommit, ItemFunction, LookUp]:
        """Return the service that writes the journal, the function that replaces that of a run, and its records."""
        recorder = _ItemRecorder(self, name, fn, sink, on_error=on_error)
        recorded = recorder.outcomes(fn) if on_error == "settle" else recorder.results(fn)
        return recorder.commit, check.named_as(fn, recorded), recorder.look_up


def _place_of_caller() -> tuple[str, int]:
    """Return the file and the line of the innermost call that is not in paco."""
    frame = sys._getframe()  # noqa: SLF001 - as logging does
    while frame.f_globals.get("__name__", "").startswith("paco.") and frame.f_back is not None:
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


class _ItemRecorder:
    """Delivers the recorded results of a run again, and records its other items.

    It wraps the function of the run: the wrapper returns the recorded result, or calls the function and adds a line to
    the file. The run stores the result of the wrapper as usual, which frees the slot. But its store, a `Delivery`,
    holds the result back until the line is written. The arguments are those of `Journal.begin`.
    """

    def __init__(
        self, journal: Journal, name: str, fn: ItemFunction, sink: InOrder | Drop, *, on_error: OnError
    ) -> None:
        self._journal = journal
        title = f"paco.{name}: the journal {journal.path}"
        self._file = RecordFile(journal.path, title, power=journal.durable == "power")
        self._maker = made_by(fn)._replace(by=journal.key if isinstance(journal.key, str) else None)
        self._earlier = EarlierRecords(self._file, self._maker, key=journal.key, version=journal.version)
        more = self._maker.fields(journal.version)
        #: Writes the lines: a service of the run.
        make = partial(self._earlier.lines, more)
        self.commit: GroupCommit = GroupCommit(self._file, self._load, sink, make=make, tell=journal.warn)
        self._on_error = on_error
        self._free: list[int] = []  # the free slots, as a heap: an item takes the lowest one
        self._new = count().__next__  # returns a slot that was never taken
        self._items = 0

    def _load(self) -> str:
        self._file.open()
        self._earlier.load()
        changed = (
            f"{self._file.title}: {self._maker.name} has changed since the last record was written; recorded results "
            "stay as they are, and the other items run with the new code (to run all items again, change version=)"
        )
        others = (
            f"{self._file.title} has records of another key: they know their items by "
            f"{', '.join(sorted(self._earlier.others))}, not by {self._earlier.by}, and are not used"
        )
        told = [
            self._file.warning,
            changed if self._earlier.changed else "",
            others if self._earlier.others else "",
        ]
        return "\n".join(filter(None, told))

    # ---- an item

    def results(self, fn: ItemFunction) -> ItemFunction:
        """Return a function that returns the recorded result of an item, or calls ``fn`` and records what it does."""
        free, new, now, wall = self._free, self._new, clock(), time.time
        current_task, look_up, known, through = asyncio.current_task, self.look_up, self._known, self._through
        add, plain = self.commit.take, self._journal.encode is self._journal.decode is None

        async def recorded(item: Any) -> Any:
            worker: Any = current_task()
            entry, record = look_up(item) if worker.item is None else known(worker, item)
            if record is not None:
                return self._replayed(record)
            entry.slot = slot = heappop(free) if free else new()
            entry.start, began = wall(), now()
            failed: BaseException | None = None
            value = None
            try:
                value = await fn(item)
                text = scalar(value) if plain else None
                if text is None:
                    text, value = through(value)
            except BaseException as error:
                failed = self._of_the_item(error)
                if failed is None:
                    raise
                text = _failure(failed)
            finally:
                heappush(free, slot)
            entry.seconds = now() - began
            entry.succeeded, entry.outcome = failed is None, text
            entry.attempts, entry.worker = 1, None
            if worker.item is not None:
                entry.noted(worker.item, began)
            add(entry, _SIZE + len(text))
            if failed is None:
                return value
            try:
                raise self._as_recorded(failed) if self._on_error == "return" else failed
            finally:
                del failed  # its traceback refers to this frame: break the cycle

        return recorded

    def outcomes(self, fn: ItemFunction) -> ItemFunction:
        """Return such a function for a settled one: the record is made from the outcome."""
        free, new = self._free, self._new

        async def recorded(item: Any) -> Outcome[Any, Any]:
            task: Any = asyncio.current_task()
            entry, record = self._known(task, item)
            if record is not None:
                return self._replayed_outcome(item, record)
            entry.slot = slot = heappop(free) if free else new()
            try:
                outcome = await fn(item)
            except BaseException as error:  # it has cancelled itself, or was lost on a worker
                failed = self._of_the_item(error)
                if failed is None or not is_outcome(failed):
                    raise
                outcome = err_of(item, failed)
                events.failed(failed)
            finally:
                heappush(free, slot)
            entry.outcome, outcome = self._settled(outcome)
            self._add_outcome(entry, outcome, None if task.item is None else task.item.ran)
            return outcome

        return recorded

    def _of_the_item(self, error: BaseException) -> Exception | None:
        """Return the error to record for an item that raised ``error``; ``None`` if it raised because the run ends."""
        run = self.commit.run
        if not isinstance(error, Exception | asyncio.CancelledError) or run.is_ending or run.was_let_go():
            self.commit.stored()
            return None
        return cast("Exception", as_item_error(error))

    def _add_outcome(self, entry: Entry, outcome: Outcome[Any, Any], ran: Ran | None) -> None:
        # Not inside the coroutine: coverage does not see its lines after a cancellation that was caught below it.
        if isinstance(outcome, Err) and self.commit.run.is_ending:
            return  # the item failed because the run is ending
        entry.succeeded, entry.worker = isinstance(outcome, Ok), None if ran is None else ran.worker
        entry.attempts, entry.start, entry.seconds = outcome.attempts, outcome.start, outcome.elapsed
        self.commit.take(entry, _SIZE + len(entry.outcome))

    def _known(self, worker: WorkerTask, item: Any) -> tuple[Entry, Record | None]:
        """Return what `look_up` returns for the item that a worker runs."""
        if worker.item is not None and worker.item.known is not None:  # an `Admission` has looked it up
            known: tuple[Entry, Record | None] = worker.item.known
            return known
        worker.item = None  # a note left there belongs to an earlier item
        return self.look_up(item)

    def look_up(self, item: Any) -> tuple[Entry, Record | None]:
        """Return the start of a new record for the next item, and its earlier record if that is used again."""
        position = self._items
        self._items += 1
        try:
            head, record = self._earlier.recall(position, item)
        except Exception as error:
            if not self.commit.run.is_ending:
                self.commit.run.fail(error, f"item {position}: {check.shorten(item)}")
            raise
        return head, record if record is not None and (record.ok or not self._journal.retry_errors) else None

    def _through(self, value: Any) -> tuple[bytes, Any]:
        """Return a result as JSON, and as reading its record will return it."""
        journal = self._journal
        text, value = _through_json(value if journal.encode is None else journal.encode(value))
        return text, value if journal.decode is None else journal.decode(value)

    def _settled(self, outcome: Outcome[Any, Any]) -> tuple[bytes, Outcome[Any, Any]]:
        """Return the part of a record for an outcome, and the outcome as reading the record will return it."""
        if isinstance(outcome, Ok):
            try:
                text, value = self._through(outcome.value)
                return text, replace(outcome, value=value)
            except Exception as error:
                trim(error)
                outcome = Err(outcome.item, error, outcome.attempts, outcome.start, outcome.elapsed)
        return _failure(outcome.error), replace(outcome, error=self._as_recorded(outcome.error))

    def _replayed(self, record: Record) -> Any:
        """Return the recorded result of an item, or raise its recorded error."""
        self.commit.stored()
        if not record.ok:
            events.skipped()
            raise RecordedError(*record.error())
        result = record.outcome if self._journal.decode is None else self._journal.decode(record.outcome)
        events.skipped()
        return result

    def _replayed_outcome(self, item: Any, record: Record) -> Outcome[Any, Any]:
        span = record.span()
        began = span.attempts, span.start, span.ms / 1000
        try:
            return Ok(item, self._replayed(record), *began)
        except Exception as error:
            trim(error)
            events.failed(error)
            return Err(item, error, *began)

    def _as_recorded(self, error: Any) -> Any:
        """Return the error to deliver: with ``retry_errors=False``, what later runs will deliver from the record."""
        if self._journal.retry_errors:
            return error
        trim(error)
        recorded = RecordedError(type(error).__name__, check.message(error))
        recorded.__cause__ = error
        return recorded


#: The beginning of a lone surrogate in JSON: two lone surrogates in a row come back as one character.
_SURROGATE: Final = b"\\ud"
#: Return whether all of these types are text, and whether JSON returns values of all of them unchanged.
_ALL_TEXT, _ALL_SAME = frozenset({str}).issuperset, SAME.issuperset


def _through_json(value: Any) -> tuple[bytes, Any]:
    """Return a value as JSON, and the value that reading this JSON returns.

    Raises:
        NotJSONError: JSON cannot hold the value.
    """
    text, kind = encode(value), cast("Any", type(value))
    if kind is str:
        same = value.isascii() or text.find(_SURROGATE) < 0
    elif kind is dict:  # whose values cannot be changed: a copy takes a fifth of the time
        same = _ALL_TEXT(map(type, value)) and _ALL_SAME(map(type, value.values())) and text.find(_SURROGATE) < 0
        value = value.copy() if same else value
    else:
        same = kind in SAME
    return text, value if same else decode(text)


def _failure(error: BaseException) -> bytes:
    return failure(type(error).__name__, check.message(error))
