"""The file that the records are in: locked, read, appended to in whole lines."""

from __future__ import annotations

import errno
import io
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from weakref import WeakSet

from paco._base import system
from paco._records.errors import JournalError
from paco._records.lines import is_torn

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

#: Only the owner may read a new file: it holds what the items hold.
PRIVATE: Final = 0o600
#: How a file is opened whose earlier records nothing may destroy.
APPENDING: Final[int] = os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def write_whole(descriptor: int, group: bytes, *, regular: bool) -> None:
    """Write whole lines. After an error a regular file holds no torn one, as far as the system lets it be taken back.

    Raises:
        OSError: A full disk, or a pipe whose reader has gone.
    """
    done = 0
    try:
        while done < len(group):
            try:
                done += system.write(descriptor, memoryview(group)[done:])
            except BlockingIOError:  # another process has made the shared pipe non-blocking
                system.wait(descriptor, to_write=True)
    except OSError as error:
        if regular:
            torn = done - (group.rfind(b"\n", 0, done) + 1)
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - torn)
        elif system.reader_has_gone(error):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        raise


class RecordFile:
    """A file of records that one run has for itself.

    `open`, then `read` to the end, then `append` from one thread and `line` from another.

    Args:
        path: The file; a new one is made if it is not there.
        title: What messages call it.
        power: Whether what has been appended is to survive a loss of power, and not only the end of the process.
    """

    def __init__(self, path: str, title: str, *, power: bool = False) -> None:
        self.path = path
        self.title = title
        #: Whether it is a regular file, and no pipe, terminal or device.
        self.regular: bool = False
        self._power = power
        self._descriptor = -1
        self._lines: BinaryIO | None = None
        # Reentrant: the collector may end a run, and close its file, in the very thread that is writing to it.
        self._busy = threading.RLock()
        #: Set from another thread to have `read` end early.
        self.stopped: bool = False

    def open(self) -> None:
        """Open the file and lock it.

        Raises:
            OSError: It cannot be read and written.
            JournalError: It is no regular file, or another run has it.
        """
        self.take(os.open(self.path, APPENDING | os.O_RDWR, PRIVATE))
        if not self.regular:
            raise JournalError(f"{self.title} is not a regular file; name one, or one that is to be made")
        if self._power:  # of the records that are there, too: they will be handed on
            system.sync(self._descriptor)
            _sync_folder(self.path)

    def take(self, descriptor: int) -> None:
        """Write to an open file, and lock it if it is a regular one.

        Raises:
            JournalError: Another run has it.
        """
        self.share(descriptor)
        if self.regular and not system.locked(descriptor):
            raise JournalError(f"{self.title} is in use by another run; wait for that one to end, or name another file")

    def share(self, descriptor: int) -> None:
        """Write to an open file that is not this run's alone."""
        self._descriptor = descriptor
        self.regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
        _open.add(self)

    def is_terminal(self) -> bool:
        """Say whether somebody reads along."""
        return os.isatty(self._descriptor)

    def read(self) -> Generator[tuple[int, bytes]]:
        """Yield the offset and the text of each line, without its end. A last one without an end is given as it is.

        Raises:
            OSError: It cannot be read.
        """
        if self._descriptor >= 0:
            self._lines = io.BufferedReader(io.FileIO(self.path), 1 << 16)
        offset = 0
        for line in self._lines or ():
            if self.stopped:
                return
            yield offset, line
            offset += len(line)

    def mend(self) -> None:
        """Have the file end in a whole line: cut off a torn record, end any other line, if it is readable."""
        with suppress(OSError), Path(self.path).open("rb") as file:
            size, block = file.seek(0, os.SEEK_END), 1 << 16
            while True:
                file.seek(max(size - block, 0))
                _, begins, last = file.read().rpartition(b"\n")
                if begins or block >= size:
                    break
                block *= 4
            if is_torn(last):
                self.cut(size - len(last))  # of nothing, where the file ends in a whole line
            else:
                self.append([b"\n"])

    def cut(self, offset: int) -> None:
        """Remove what is behind an offset."""
        os.ftruncate(self._descriptor, offset)

    def line(self, offset: int) -> bytes:
        """Return the line that begins at an offset."""
        if self._lines is None:
            return b""
        self._lines.seek(offset)
        return self._lines.readline()

    def append(self, lines: Iterable[bytes]) -> None:
        """Write lines; when this returns they survive as long as was asked for.

        Raises:
            OSError: They have not been written, or not all of them. The file ends in a whole line if possible.
        """
        with self._busy:
            try:
                write_whole(self._descriptor, b"".join(lines), regular=self.regular)
                if self._power:
                    system.sync(self._descriptor)
            except OSError as error:
                error.filename = self.path
                raise

    def close(self) -> None:
        """Close the file, which unlocks it; waits for what is being written."""
        with self._busy:
            self.leave()

    def leave(self) -> None:
        """Close the file, whatever is going on."""
        descriptor, self._descriptor = self._descriptor, -1
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()
        if descriptor >= 0:
            os.close(descriptor)


def _sync_folder(path: str) -> None:
    """Have the name of a new file survive as well; a system that cannot do that for a folder does it by itself."""
    with suppress(OSError):
        descriptor = os.open(Path(path).parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


_open: Final[WeakSet[RecordFile]] = WeakSet()


def _leave_all() -> None:
    for file in list(_open):
        file.leave()


# A child that is forked (a worker of a process pool) shares the lock, and may outlive a parent that is killed: then the
# file would be in use for as long as the child lives.
_on_fork: Any = getattr(os, "register_at_fork", dict)  # Windows does not fork
_on_fork(after_in_child=_leave_all)
