"""A run with a journal: recorded results are handed on again, the rest is run, and recorded.

It stands on both sides of the engine. The function of the run becomes one that asks the journal first, and leaves a
line there; what it returns is stored as ever, and its slot is free. The store is a `Keeper`, which holds the result
back until the line has been written.
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paco._check import shorten
from paco._errors import as_item_error, trim
from paco._records._errors import RecordedError
from paco._records._file import RecordFile
from paco._records._function import made_by
from paco._records._keeper import Keeper
from paco._records._lines import Slots, Span, failure, line, message, opening, success
from paco._records._memory import Memory
from paco._records._values import NotJSONError, decode, encode
from paco._stage import named_as

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from paco._engine import Run
    from paco._records._memory import Record
    from paco._sinks import InOrder


#: Types whose values come back from JSON as they were. (A float may be NaN, which comes back as None.)
_SAME: Final = frozenset({str, int, bool, type(None)})


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
        catch: Whether an item's ``Exception`` is its result.
    """

    def __init__(
        self, settings: Settings, name: str, fn: Callable[[Any], Awaitable[Any]], sink: InOrder, *, catch: bool
    ) -> None:
        self._title = f"paco.{name}: the journal {settings.path}"
        self._maker = maker = made_by(fn)
        file = RecordFile(settings.path, self._title, power=settings.power)
        self._memory = Memory(file, maker, key=settings.key, version=settings.version)
        self._keeper = Keeper(file, self._memory.load, self._loaded, sink)
        self._settings = settings
        self._replaces = catch and not settings.retry_errors
        made_by_this = {"function": maker.name, "source": maker.source, "version": settings.version}
        self._more = "".join(f',"{name}":{encode(value)}' for name, value in made_by_this.items() if value is not None)
        self._slots = Slots()
        self._items = 0
        #: The function that the run calls.
        self.fn: Callable[[Any], Awaitable[Any]] = named_as(fn, self._recorded(fn))
        #: Hears that all other tasks of the run have ended.
        self.alone: Callable[[], None] = self._keeper.alone

    async def keep(self, run: Run) -> None:
        """Do all that is done with the file: a task of the run, which outlives the others."""
        self._run = run
        self._clock = asyncio.get_running_loop().time
        await self._keeper.keep(run)

    def _loaded(self) -> None:
        if self._memory.changed:
            warnings.warn(
                f"{self._title}: {self._maker.name} has changed since the last record was made; what is recorded is "
                "handed on as it is, the rest runs as it is now (to run all of it again, give a new version=)",
                stacklevel=2,
            )

    # ---- an item

    def _recorded(self, fn: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[Any]]:
        take, give, wall = self._slots.take, self._slots.give, time.time

        async def recorded(item: Any) -> Any:
            head, record = self._known(item)
            if record is not None:
                return self._replayed(record)
            slot, start, began = take(), wall(), self._clock()
            failed: BaseException | None = None
            value = None
            try:
                outcome, value = self._succeeded(await fn(item))
            except BaseException as error:
                if not self._is_of_the_item(error):
                    raise
                failed = as_item_error(error)
                outcome = failure(type(failed).__name__, message(failed))
            finally:
                give(slot)
            span = Span(1, slot, start, 1000 * (self._clock() - began))
            self._keeper.add(line(head, outcome, span, self._more))
            if failed is None:
                return value
            try:
                raise self._raised(failed)
            finally:
                del failed  # it leads back here

        return recorded

    def _known(self, item: Any) -> tuple[str, Record | None]:
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
        return success(text), self._decoded(value if type(value) in _SAME else decode(text.encode()))

    def _decoded(self, value: Any) -> Any:
        return value if self._settings.decode is None else self._settings.decode(value)

    def _replayed(self, record: Record) -> Any:
        if record.ok:
            return self._decoded(record.outcome)
        raise RecordedError(str(record.outcome.get("type")), str(record.outcome.get("message")))

    def _is_of_the_item(self, error: BaseException) -> bool:
        """Say whether an error is one to remember: not one that came because the run was ending."""
        own = isinstance(error, Exception | asyncio.CancelledError)
        return own and not (self._run.ending() or self._run.was_let_go())

    def _raised(self, error: BaseException) -> BaseException:
        """Return the error as it is handed on: if its record will be handed on later, in the same words as then."""
        if not self._replaces:
            return error
        trim(error)
        recorded = RecordedError(type(error).__name__, message(error))
        recorded.__cause__ = error
        return recorded
