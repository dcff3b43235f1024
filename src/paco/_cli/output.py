"""The file that the records go to, and the records of earlier runs in it."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paco._cli.errors import CommandError, describe
from paco._records.earlier import NOWHERE, EarlierRecords, Keys
from paco._records.file import APPENDING, PRIVATE, JournalError, RecordFile

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from paco._cli.stop import Interrupts
    from paco._records.earlier import Maker

STDOUT: Final = "-"


@contextlib.contextmanager
def open_output(name: str, stdout: int, inputs: Sequence[str], interrupts: Interrupts) -> Generator[RecordFile]:
    """Open the file that the records go to, and close it after the block.

    Args:
        name: The file, or ``-`` for standard output.
        stdout: The descriptor of standard output; -1 if it is closed.
        inputs: The regular files that the run reads, none of which may be the output.
        interrupts: Lets a signal end the wait for the reader of a named pipe.

    Raises:
        CommandError: The file cannot be written, is an input too, or is in use by another run.
    """
    file = RecordFile(name, name)
    with contextlib.closing(file):
        if name == STDOUT:
            if stdout < 0:
                raise CommandError("standard output is closed; give a file with --output")
            _refuse_input(stdout, "standard output", inputs)
            file.share(os.dup(stdout))
        else:
            try:
                with interrupts.raising():  # opening a named pipe waits for its reader
                    descriptor = os.open(name, APPENDING | os.O_WRONLY, PRIVATE)
            except (OSError, ValueError) as error:  # ValueError: a NUL in the name
                raise CommandError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from None
            try:
                file.take(descriptor)
            except JournalError as error:
                raise CommandError(str(error)) from None
            _refuse_input(descriptor, name, inputs)
        yield file


def _refuse_input(output: int, name: str, inputs: Sequence[str]) -> None:
    written = os.fstat(output)
    if any(os.path.samestat(written, Path(one).stat()) for one in inputs):
        raise CommandError(f"{name} is both input and output: the run would read its own records")


class Earlier:
    """The records of earlier runs, which decide which items a resumed run skips, and the keys of its items.

    Args:
        keys: The keys of the records.
        skips: Whether items are skipped that have no record; whose last record is a failure; whose last record is ok.
        succeeded: Whether any record is ok.
        changed: Whether the source of the function has changed since the last record.
    """

    def __init__(
        self,
        keys: Keys | None = None,
        skips: tuple[bool, bool, bool] = (False, False, False),
        *,
        succeeded: bool = False,
        changed: bool = False,
    ) -> None:
        #: The keys of the records, and of this run's items.
        self.keys = keys or Keys()
        self._skips = skips
        self.succeeded = succeeded
        self.changed = changed
        #: The number of items skipped so far.
        self.skipped = 0

    @property
    def skips_any(self) -> bool:
        """Whether any item may be skipped."""
        return any(self._skips)

    def skips(self, position: int) -> bool:
        """Return whether to skip an item with its record at this position, and count it if so."""
        unrecorded, failed, ok = self._skips
        skipped = unrecorded if position == NOWHERE else ok if position % 2 else failed
        self.skipped += skipped
        return skipped


def earlier(file: RecordFile, maker: Maker, interrupts: Interrupts, *, resume: bool, retry_failed: bool) -> Earlier:
    """Return the records of earlier runs if this run resumes; and make the file end in a whole line.

    Raises:
        CommandError: The file cannot be read, is not a file of records, or holds the results of another function.
    """
    if not (resume or retry_failed):
        if file.regular and file.path != STDOUT:
            file.mend()
        return Earlier()
    if not file.regular:
        raise CommandError(f"cannot resume from {file.path}: it is not a regular file")
    records = EarlierRecords(file, maker, strict=False)
    try:
        with interrupts.raising():
            records.load()
    except JournalError as error:
        raise CommandError(f"cannot resume: {error}") from None
    except OSError as error:
        raise CommandError(f"cannot resume from {describe(error)}") from None
    skips = (retry_failed, False, True)
    return Earlier(records.keys, skips, succeeded=records.succeeded, changed=records.changed)
