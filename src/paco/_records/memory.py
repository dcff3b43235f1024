"""What is known of the items of a run: the key of each, and the record that an earlier run has left of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base.check import shorten
from paco._records.errors import JournalError
from paco._records.keys import NOWHERE, Index, canonical, digest
from paco._records.values import decode

if TYPE_CHECKING:
    from paco._records.file import RecordFile
    from paco._records.function import Maker

#: Bytes of a key, which is twice as many hex digits in a record.
KEY_SIZE: Final = 16
_LEAST_KEY: Final = 8  # bytes: what the index goes by
BEGINNING: Final = b'{"id":'


class Record(NamedTuple):
    """A record that has been read: its key, what became of the item (the result, or the error), and all its fields."""

    key: bytes
    ok: bool
    outcome: Any
    fields: dict[str, Any]


class Memory:
    """The records of earlier runs, and what this one has come by.

    It takes 21 to 32 bytes for each record and each item, some 200 for one that is equal to an earlier one.

    Args:
        file: The file of the records.
        maker: The function that runs; the records of another one are refused.
        key: What an item is known by, if not by its content: the name of a field, or a function.
        version: Records of another version do not count.
    """

    def __init__(
        self, file: RecordFile, maker: Maker, *, key: Callable[[Any], object] | str | None, version: int | str | None
    ) -> None:
        self._file = file
        self._maker = maker
        self._known_by = _field(key) if isinstance(key, str) else key
        self._version = version
        self._index = Index()
        self._repeats: dict[bytes, int] = {}
        #: Whether the last record was made by another source of the function.
        self.changed: bool = False

    def load(self) -> None:
        """Open the file and read it, in whichever thread; a last line that is torn is cut off.

        Raises:
            OSError: It cannot be read and written.
            JournalError: It cannot be used; the message says what to do.
        """
        file, maker = self._file, self._maker
        file.open()
        source = None
        for number, (offset, line) in enumerate(file.read(), 1):
            if line.isspace():
                continue
            try:
                record = _parse(line)
            except ValueError as error:
                if is_torn(line):
                    file.cut(offset)
                    break
                raise JournalError(
                    f"{file.title} is damaged: line {number} is not a record ({error}); delete that line, and its item "
                    f"runs again (sed -i.bak {number}d {quote(file.path)}), or move the file away to begin anew"
                ) from None
            if not line.endswith(b"\n"):
                file.append([b"\n"])
            if not maker.has_made(record.fields):
                raise JournalError(
                    f"{file.title} has the results of another function: line {number} was made by "
                    f"{record.fields['function']}, and this is {maker.name}; name another file"
                )
            source = record.fields.get("source")
            if record.fields.get("version") == self._version:
                self._index.put(record.key, offset)
        self.changed = maker.has_changed(source)

    def recall(self, item: Any) -> tuple[bytes, Record | None]:
        """Return the key of the next item, and the last record of that key, if there is one.

        An item that is equal to an earlier one has another key than that.

        Raises:
            TypeError: The item, or what it is known by, has no JSON form.
            JournalError: The file is no longer what was read in the beginning.
        """
        known_by = item if self._known_by is None else self._known_by(item)
        try:
            content = canonical(known_by)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{self._file.title} has to know {shorten(item)} again, but {shorten(known_by)} has no JSON form "
                f"({error}); say what to know an item by: key='id', or key=lambda item: item.id"
            ) from None
        key = digest(content, 0, KEY_SIZE)
        again, offset = self._index.ask(key)
        if again:
            occurrence = self._repeats[key] = self._repeats.get(key, 0) + 1
            key = digest(content, occurrence, KEY_SIZE)
            offset = self._index.get(key)
        if offset == NOWHERE:
            return key, None
        try:
            record = _parse(self._file.line(offset))
        except ValueError as error:
            raise JournalError(
                f"{self._file.title} has been changed by someone else while this run uses it: no record is at byte "
                f"{offset} any more ({error}); run it again"
            ) from None
        return key, record if record.key == key else None


def _field(name: str) -> Callable[[Any], object]:
    """Return a function that gives a field of an item: the value of a mapping, or an attribute."""
    attribute = attrgetter(name)

    def field(item: Any) -> object:
        return cast("Mapping[str, object]", item)[name] if isinstance(item, Mapping) else attribute(item)

    return field


def _parse(line: bytes) -> Record:
    """Return what a line tells.

    Raises:
        ValueError: It is not a record.
    """
    value: object = decode(line)
    if not isinstance(value, dict):
        raise ValueError("it is not an object")  # noqa: TRY004 - of JSON; whoever reads lines catches one kind
    fields = cast("dict[str, Any]", value)
    digits, ok = fields.get("key"), fields.get("ok")
    key = bytes.fromhex(digits) if isinstance(digits, str) else b""
    if len(key) < _LEAST_KEY:
        raise ValueError(f"its key is {shorten(digits)}")
    if ok is True and "result" in fields:
        outcome = fields["result"]
    elif ok is False and isinstance(fields.get("error"), dict):
        outcome = fields["error"]
    else:
        raise ValueError("it has neither a result nor an error")
    return Record(key, ok, outcome, fields)


def is_torn(line: bytes) -> bool:
    """Say whether a line is the beginning of a record, in whose middle the process or the machine has ended.

    What else has no end of line is left alone: it may be the only line of some other file.
    """
    begun = line.rstrip(b"\0")  # which is what a file system may leave of what it had not written yet
    if line.endswith(b"\n") or not (begun.startswith(BEGINNING) or BEGINNING.startswith(begun)):
        return False
    try:
        decode(line)
    except ValueError:
        return True
    return False
