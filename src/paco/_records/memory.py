"""The memory of a run with records: the key of each item, and its record from an earlier run."""

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

#: Passed as a version, accepts records of every version.
ANY_VERSION: Final = object()


class Memory:
    """Finds the records of earlier runs by the keys of this run's items. `Keys` says how much memory that takes.

    Args:
        file: The file of the records.
        maker: The function of the run. Records of another function are refused.
        key: What identifies an item, if not its content: the name of a field, or a function of the item.
        version: Records of another version are ignored.
        strict: Whether a torn record in the middle of the file is refused. If not, it is skipped.
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
        #: The keys of the items and the records. A position is twice the offset of the record, plus 1 if it is ok.
        self.keys = Keys()
        #: Whether the source of the function has changed since the last record.
        self.changed: bool = False
        #: Whether any record has a result.
        self.succeeded: bool = False

    def load(self) -> None:
        """Read the open file. Cut off a torn last line, or add its missing line end. Any thread may call this.

        Raises:
            OSError: The file cannot be read or written.
            JournalError: The file cannot be used; the message says what to do.
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
                    f"{record.fields['function']}, and this is {self._maker.name}; use another file"
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
                    f"{file.title} is damaged: line {number} is not a record ({error}); delete that line to run its "
                    f"item again (sed -i.bak {number}d {quote(file.path)}), or move the file away to start afresh"
                ) from None
            return None

    def recall(self, item: Any) -> tuple[bytes, Record | None]:
        """Return the key of the next item, and the last record with that key, if there is one.

        Raises:
            TypeError: What identifies the item has no JSON form.
            JournalError: The file was changed after `load` read it.
        """
        known_by = item if self._known_by is None else self._known_by(item)
        try:
            content = canonical(known_by)
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{self._file.title} must recognize {shorten(item)} on a later run, but {shorten(known_by)} has no "
                f"JSON form ({error}); say what identifies an item: key='id', or key=lambda item: item.id"
            ) from None
        key, position = self.keys.next(content)
        if position == NOWHERE:
            return key, None
        try:
            record = parse(self._file.line(position // 2))
        except ValueError as error:
            raise JournalError(
                f"{self._file.title} was changed by another program during this run: the record at byte "
                f"{position // 2} is gone ({error}); start the run again"
            ) from None
        return key, record if record.key == key else None


def _field(name: str) -> Callable[[Any], object]:
    """Return a function that returns a field of an item: a value of a mapping, or an attribute."""
    attribute = attrgetter(name)

    def field(item: Any) -> object:
        return cast("Mapping[str, object]", item)[name] if isinstance(item, Mapping) else attribute(item)

    return field
