"""What is known of the items of a run: the key of each, and the record that an earlier run has left of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from shlex import quote
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import shorten
from paco._records.errors import JournalError
from paco._records.keys import NOWHERE, Keys, canonical
from paco._records.lines import BEGINNING, is_torn, parse

if TYPE_CHECKING:
    from paco._records.file import RecordFile
    from paco._records.function import Maker
    from paco._records.lines import Record

#: Stands for a version that is not looked at.
ANY_VERSION: Final = object()


class Memory:
    """The records of earlier runs, and the keys of this one's items: see `Keys` for what it takes.

    Args:
        file: The file of the records.
        maker: The function that runs; the records of another one are refused.
        key: What an item is known by, if not by its content: the name of a field, or a function.
        version: Records of another version do not count.
        strict: Whether a line that was torn once, and has others after it, is refused; otherwise it is passed over.
    """

    def __init__(
        self,
        file: RecordFile,
        maker: Maker,
        *,
        key: Callable[[Any], object] | str | None = None,
        version: object = ANY_VERSION,
        strict: bool = True,
    ) -> None:
        self._file = file
        self._maker = maker
        self._known_by = _field(key) if isinstance(key, str) else key
        self._version = version
        self._strict = strict
        #: Those of the items, and of the records; the position of a record is twice its offset, and 1 if it is ok.
        self.keys = Keys()
        #: Whether the last record was made by another source of the function.
        self.changed: bool = False
        #: Whether any record is ok.
        self.succeeded: bool = False

    def load(self) -> None:
        """Read the file, which is open, in any thread; cut off a last line that is torn.

        Raises:
            OSError: It cannot be read or written.
            JournalError: It cannot be used; the message says what to do.
        """
        source = None
        for number, (offset, line) in enumerate(self._file.read(), 1):
            record = None if line.isspace() else self._parsed(number, offset, line)
            if record is None:
                continue
            if not line.endswith(b"\n"):
                self._file.append([b"\n"])
            if not self._maker.has_made(record.fields):
                raise JournalError(
                    f"{self._file.title} has the results of another function: line {number} was made by "
                    f"{record.fields['function']}, and this is {self._maker.name}; name another file"
                )
            source = record.fields.get("source")
            if self._version is ANY_VERSION or record.fields.get("version") == self._version:
                self.keys.put(record.key, 2 * offset + record.ok)
                self.succeeded = self.succeeded or record.ok
        self.changed = self._maker.has_changed(source)

    def _parsed(self, number: int, offset: int, line: bytes) -> Record | None:
        """Return the record in a line, or ``None`` if it is torn."""
        try:
            return parse(line)
        except ValueError as error:
            if is_torn(line):
                self._file.cut(offset)
            elif self._strict or not line.startswith(BEGINNING):
                file = self._file
                raise JournalError(
                    f"{file.title} is damaged: line {number} is not a record ({error}); delete that line, and its item "
                    f"runs again (sed -i.bak {number}d {quote(file.path)}), or move the file away to begin anew"
                ) from None
            return None

    def recall(self, item: Any) -> tuple[bytes, Record | None]:
        """Return the key of the next item, and the last record of that key, if there is one.

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
        key, position = self.keys.next(content)
        if position == NOWHERE:
            return key, None
        try:
            record = parse(self._file.line(position // 2))
        except ValueError as error:
            raise JournalError(
                f"{self._file.title} has been changed by someone else while this run uses it: no record is at byte "
                f"{position // 2} any more ({error}); run it again"
            ) from None
        return key, record if record.key == key else None


def _field(name: str) -> Callable[[Any], object]:
    """Return a function that gives a field of an item: the value of a mapping, or an attribute."""
    attribute = attrgetter(name)

    def field(item: Any) -> object:
        return cast("Mapping[str, object]", item)[name] if isinstance(item, Mapping) else attribute(item)

    return field
