"""The records of earlier runs: finding the record of an item."""

from __future__ import annotations

import re
import warnings
from binascii import hexlify
from collections.abc import Callable, Mapping
from operator import attrgetter
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from paco._base.check import called, shorten
from paco._base.errors import add_note
from paco._records.file import JournalError, RecordFile, begins_as_record, is_torn
from paco._records.keys import NOWHERE, Keys, canonical, digest, distinct
from paco._records.lines import (
    ENDING,
    HALF,
    OPENING,
    SUCCESS,
    NotJSONError,
    Record,
    encode,
    moment_of,
    parse,
    scalar,
    worker_of,
)

if TYPE_CHECKING:
    from paco._base.item import Item
    from paco._records.maker import Maker

#: The line of an item with the JSON of its result, or with what `failure` returns.
_SUCCEEDED: Final = OPENING + b"," + SUCCESS + b"%b" + ENDING
_FAILED: Final = OPENING + b",%b" + ENDING
#: Passed as a version, accepts records of every version.
ANY_VERSION: Final = object()
#: Matches the names of functions that mean nothing else to sed and a shell.
_SAFE: Final = re.compile(r"[\w.<>]+").fullmatch
#: What identifies items without a key, in a message.
CONTENT: Final = "their whole content"
#: What identifies an item: the name of a field, or a function of the item; ``None`` for its content.
ItemKey: TypeAlias = Callable[[Any], object] | str | None


# ---- the records


class Entry:
    """What becomes the record of an item, from its start on."""

    __slots__ = (
        "attempts",
        "content",
        "key",
        "outcome",
        "position",
        "seconds",
        "slot",
        "start",
        "succeeded",
        "text",
        "worker",
    )

    position: int
    content: bytes  # the canonical form of what identifies the item
    text: bytes  # the item as JSON, made at its start, since its function may change it
    key: bytes
    slot: int
    start: float  # in seconds since 1970
    seconds: float
    attempts: int
    worker: str | None  # the name of the worker that ran it; None for this process
    succeeded: bool
    outcome: bytes  # the result as JSON, or what `failure` returns

    def noted(self, item: Item, began: float) -> None:
        """Take over the attempts of the item, and when and where it ran, if that was on a worker.

        Its start here was at ``began`` on the clock of the run.
        """
        self.attempts, ran = item.attempts, item.ran
        if ran is not None:
            self.start += ran.start - began
            self.seconds, self.worker = ran.end - ran.start, ran.worker


class EarlierRecords:
    """Finds the records of earlier runs by the keys of this run's items. `Keys` says how much memory that takes.

    Args:
        file: The file of the records.
        maker: The function of the run. Results of another function are refused, and its failures are ignored.
        key: What identifies an item.
        version: Records of another version are ignored, and so are those that know their items by something else.
        strict: Whether a torn record in the middle of the file is refused. If not, it is skipped.
    """

    def __init__(
        self, file: RecordFile, maker: Maker, *, key: ItemKey = None, version: object = ANY_VERSION, strict: bool = True
    ) -> None:
        self._file = file
        self._maker = maker
        self._known_by = _field(key) if isinstance(key, str) else key
        #: What a message calls what identifies an item; ``None`` if a function says it.
        self.by: str | None = shorten(maker.by) if maker.by is not None else CONTENT if key is None else None
        self._unique = key is not None  # whether to warn of an item that equals an earlier one
        self._version = version
        self._strict = strict
        self._waiting: list[Entry] = []  # items that have no key yet, in the order of their starts
        #: The keys of the items and the records. A position is twice the offset of the record, plus 1 if it is ok.
        self.keys = Keys()
        #: Whether there are results, and the source of the function has changed since the last record.
        self.changed: bool = False
        #: Whether any record has a result.
        self.succeeded: bool = False
        #: The names of the arguments that a recorded result was made with other values of.
        self.differing: set[str] = set()
        #: The same for records that know their items by something else, which are not used.
        self.others: set[str] = set()

    def load(self) -> None:
        """Read the open file. Cut off a torn last line, or add its missing line end. Any thread may call this.

        Raises:
            OSError: The file cannot be read or written.
            JournalError: The file cannot be used; the message says what to do.
        """
        maker, source = self._maker, None
        known = False  # whether a record came before
        for number, (offset, line) in enumerate(self._file.read(), 1):
            record = None if line.isspace() else self._parsed(number, offset, line, after_record=known)
            if record is None:
                continue
            known = True
            if not line.endswith(b"\n"):
                self._file.append([b"\n"])
            function = record.fields.get("function")
            if function not in (None, maker.name):  # not a set: the field may hold any JSON, even a list
                if record.ok:
                    raise JournalError(self._of_another(number, function))
                continue
            source = record.fields.get("source")
            if self._version is ANY_VERSION or record.fields.get("version") == self._version:
                self._put(record, offset)
        self.changed = self.succeeded and None not in (source, maker.source) and source != maker.source

    def _put(self, record: Record, offset: int) -> None:
        """Have a record found by its key, unless it knows its item by something else: two fields may have one value."""
        maker, by = self._maker, self._by_of(record)
        if None not in (self.by, by) and by != self.by:
            self.others.add(by)
            return
        self.keys.put(record.key, 2 * offset + record.ok)
        self.succeeded = self.succeeded or record.ok
        if record.ok and maker.arguments is not None:
            recorded, given = record.fields.get("arguments"), maker.arguments
            known = cast("dict[str, object]", recorded if isinstance(recorded, dict) else {})
            self.differing |= {name for name in {*known, *given} if known.get(name) != given.get(name)}

    def _of_another(self, number: int, function: object) -> str:
        """Return the message for a result of another function, with the command that renames it in all records."""
        file, name = self._file, self._maker.name
        text = (
            f"{file.title} has the results of another function: line {number} was made by {function}, and this is "
            f"{name}; use another file"
        )
        if not (isinstance(function, str) and _SAFE(function) and _SAFE(name)):
            return text
        rename = rf's/\(.*\)"function":"{function}"/\1"function":"{name}"/'
        return f"{text}, or if it was only renamed, rename it there: sed -i.bak {quote(rename)} {quote(file.path)}"

    def _by_of(self, record: Record) -> Any:
        """Return what a record knows its item by; ``None`` if that is unknown. Earlier versions recorded no field."""
        by, item = record.fields.get("by"), record.fields.get("input")
        if by is None and isinstance(item, dict) and self.by not in {None, CONTENT}:
            return CONTENT if record.key == digest(canonical(item), 0, len(record.key)) else None
        return None if by is None else shorten(by)

    def _parsed(self, number: int, offset: int, line: bytes, *, after_record: bool) -> Record | None:
        """Return the record in a line, or ``None`` if it is torn."""
        try:
            return parse(line)
        except ValueError as error:
            torn, last = is_torn(line, after_record=after_record), not line.endswith(b"\n")
            if torn and last:
                self._file.cut(offset)
            elif self._strict or not torn:
                raise JournalError(self._no_record(number, line, error, after_record=after_record)) from None
            return None

    def _no_record(self, number: int, line: bytes, error: ValueError, *, after_record: bool) -> str:
        """Return the message for a line that is not a record: damage, or a file of another kind."""
        file, why = self._file, f"line {number} is not a record ({error})"
        if not after_record and not begins_as_record(line):
            return f"{file.title} is not a file of records: {why}; use another file"
        return (
            f"{file.title} is damaged: {why}; delete that line to run its item again "
            f"(sed -i.bak {number}d {quote(file.path)}), or move the file away to start afresh"
        )

    def recall(self, position: int, item: Any) -> tuple[Entry, Record | None]:
        """Return the start of a new record for the item at a position, and the last record of its key, if there is one.

        If there are no records, the key is not needed before the line is written: `lines` makes many at once.

        Raises:
            TypeError: What identifies the item has no JSON form.
            JournalError: The file was changed after `load` read it.
        """
        entry = Entry()
        entry.position = position
        text = scalar(item)
        entry.content = text if text is not None and self._known_by is None else self._identity(item)
        entry.text = self._shown(item) if text is None else text
        if not (self.keys.any or self._unique):
            self._waiting.append(entry)
            return entry, None
        entry.key, place = self.keys.next(entry.content)
        if self.keys.repeats and self._unique:
            self._warn(item)
        record = None if place == NOWHERE else self._record(place // 2)
        return entry, record if record is not None and record.key == entry.key else None

    def lines(self, more: bytes, entries: list[Entry]) -> list[bytes]:
        """Return the lines of a group of items that have ended; ``more`` are further fields, with a leading comma.

        First, give all items that have started their keys, in the order of their starts.
        """
        waiting = self._waiting[:]
        del self._waiting[: len(waiting)]  # in place, since the loop may add one meanwhile
        for one, key in zip(waiting, self.keys.many([one.content for one in waiting]), strict=True):
            one.key = key
        lines, last, moment = list[bytes](), -1, b""
        for one in entries:
            milliseconds = int(1e3 * one.start + HALF)
            if milliseconds != last:  # many items start in the same millisecond
                last, moment = milliseconds, moment_of(milliseconds)
            where = more if one.worker is None else worker_of(one.worker) + more
            values = (
                one.position,
                hexlify(one.key),
                one.text,
                one.outcome,
                one.attempts,
                one.slot,
                moment,
                1000 * one.seconds,
                where,
            )
            lines.append((_SUCCEEDED if one.succeeded else _FAILED) % values)
        return lines

    def _shown(self, item: Any) -> bytes:
        try:
            return encode(item)
        except NotJSONError:
            return encode(shorten(item))

    def _identity(self, item: Any) -> bytes:
        """Return the canonical form of what identifies an item."""
        known_by = item if self._known_by is None else self._known(self._known_by, item)
        try:
            return canonical(distinct(known_by))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{self._file.title} must recognize {shorten(item)} on a later run, but {shorten(known_by)} has no "
                f"JSON form ({error}); say what identifies an item: key='id', or key=lambda item: item.id"
            ) from None

    def _known(self, by: Callable[[Any], object], item: Any) -> object:
        try:
            return by(item)
        except Exception as error:
            said = (
                f"its key= function, {called(by)}" if self.by is None else f"key={self.by}: each item needs this field"
            )
            add_note(error, f"{self._file.title}: raised by {said}")
            raise

    def _warn(self, item: Any) -> None:
        self._unique = False
        known_by = item if self._known_by is None else self._known_by(item)
        warnings.warn(
            f"{self._file.title} gets a key twice: it is {shorten(known_by)} for an earlier item and for "
            f"{shorten(item)}; a later run tells such items apart by their order alone, so give a unique key",
            stacklevel=2,
        )

    def _record(self, offset: int) -> Record:
        try:
            return parse(self._file.line(offset))
        except ValueError as error:
            raise JournalError(
                f"{self._file.title} was changed by another program during this run: the record at byte "
                f"{offset} is gone ({error}); start the run again"
            ) from None


def _field(name: str) -> Callable[[Any], object]:
    """Return a function that returns a field of an item: a value of a mapping, or an attribute."""
    attribute = attrgetter(name)

    def field(item: Any) -> object:
        return cast("Mapping[str, object]", item)[name] if isinstance(item, Mapping) else attribute(item)

    return field
