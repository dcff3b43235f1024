"""What an earlier run has left: the items that have ended, found by their keys in the records of the output."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from paco._base.system import command_line
from paco._cli.errors import CommandError, describe
from paco._records.keys import NOWHERE, Index
from paco._records.memory import BEGINNING, is_torn
from paco._records.values import decode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._records.function import Maker

RESUME = "--resume"
RETRY = "--retry-failed"
_FAILED, _OK = 0, 1


class Earlier:
    """The items of earlier runs, as their records tell: the last record of a key counts.

    Memory: 21 to 32 bytes for each. A last line that is torn is cut off. One in the middle, which only another tool or
    a run without ``--resume`` can have left, is passed over: its item is run again.

    Args:
        path: The output.
        maker: The function that is run; the records of another one are refused.
        failed_only: Whether only items that have failed are to be run, and not those that have no record.
    """

    def __init__(self, path: str, maker: Maker, *, failed_only: bool) -> None:
        self._path = path
        self._maker = maker
        self._source: str | None = None
        self._index = Index()
        self._wanted = {_FAILED} if failed_only else {_FAILED, NOWHERE}
        #: The records that have been read.
        self.records = 0
        #: Whether any item went well.
        self.succeeded = False
        #: The items that were not run for what is known of them.
        self.skipped = 0

    def load(self) -> None:
        """Read the records.

        Raises:
            CommandError: The file cannot be read, or holds something else, or the results of another function.
        """
        size = 0
        try:
            with Path(self._path).open("rb") as file:
                for number, line in enumerate(file, 1):
                    size += len(line)
                    if (record := self._take(line)) is None:
                        self._judge(number, line, size)
                    elif not self._maker.has_made(record):
                        raise CommandError(
                            f"cannot resume from {self._path}: line {number} was made by {record['function']}, and "
                            f"TARGET is {self._maker.name}; name another --output"
                        )
        except OSError as error:
            raise CommandError(f"cannot resume from {describe(error)}") from None

    @property
    def changed(self) -> bool:
        """Whether the last record was made by another source of the function."""
        return self._maker.has_changed(self._source)

    def _take(self, line: bytes) -> dict[str, Any] | None:
        try:
            record: Any = decode(line)
            self._index.put(bytes.fromhex(record["key"]), _OK if record["ok"] else _FAILED)
            self.succeeded = self.succeeded or bool(record["ok"])
            self._source = record.get("source")
        except (ValueError, TypeError, LookupError, AttributeError):
            return None
        self.records += 1
        return cast("dict[str, Any]", record)

    def _judge(self, number: int, line: bytes, size: int) -> None:
        """Cut off what is no record if it is the end that was being written, pass it over if it was once."""
        if is_torn(line):
            os.truncate(self._path, size - len(line))
        elif line.strip() and not line.startswith(BEGINNING):
            raise CommandError(
                f"cannot resume from {self._path}: line {number} is not a record. Was it written with --values, or by "
                "something else? Name another --output"
            )

    def skips(self, key: str) -> bool:
        """Say whether an item is not to be run, and count it then."""
        skipped = self._index.get(bytes.fromhex(key)) not in self._wanted
        self.skipped += skipped
        return skipped


def again(words: Sequence[str], option: str) -> str:
    """Return the command line that runs what is left: with ``option``, and without what it replaces."""
    kept = [word for word in words if word not in {RESUME, RETRY}]
    place = kept.index("--") if "--" in kept else len(kept)
    return command_line(["paco", "map", *kept[:place], option, *kept[place:]])
