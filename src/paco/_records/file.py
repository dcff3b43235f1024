"""The file of the records: lock it, read it, append to it."""

from __future__ import annotations

import errno
import io
import os
import re
import stat
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from weakref import WeakSet

from paco._base import system
from paco._base.check import shorten
from paco._records.lines import decode, parse

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable


class JournalError(RuntimeError):
    """Raised if a journal cannot be used: it is in use, is damaged, or holds the results of another function.

    The message says what to do. No item has run, unless the file was changed during the run.
    """


#: The flags for opening a file so that no write can overwrite earlier records.
APPENDING: Final[int] = os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


def write_whole(descriptor: int, group: bytes, *, regular: bool) -> None:
    """Write all lines of ``group``. If that fails, truncate a regular file to its last whole line.

    Raises:
        OSError: The disk is full, or the reader of the pipe is gone; or the truncation failed.
    """
    done = 0
    try:
        while done < len(group):
            try:
                done += system.write(descriptor, memoryview(group)[done:])
            except BlockingIOError:  # another process made the shared pipe non-blocking
                system.wait(descriptor, to_write=True)
    except OSError as error:
        if regular:
            torn = done - (group.rfind(b"\n", 0, done) + 1)
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - torn)
        elif system.reader_has_gone(error):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) from None
        raise


#: Errors of file systems without locks: some network file systems, and some that a program provides.
_LOCKLESS: Final = {errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP}


class RecordFile:
    """A file of records, locked for one run. Its errors have its name.

    Call `open`, then `read` to the end. After that, one thread may call `append` while another one calls `line`.

    Args:
        path: The file. It is created if it does not exist.
        title: The name of the file in messages.
        power: Whether appended lines must survive a power failure, not only the end of the process.
    """

    def __init__(self, path: str, title: str, *, power: bool = False) -> None:
        self.path = path
        self.title = title
        self._place = Path(path).absolute()  # since an item may change the working directory
        #: Whether this is a regular file: not a pipe, a terminal or a device.
        self.regular: bool = False
        #: What to tell the user about the open file; empty if there is nothing to tell.
        self.warning: str = ""
        self._power = power
        self._owned = False  # whether it is a regular file, locked and at the path
        self._end = 0  # the size that the file must have at least
        self._descriptor = -1
        self._lines: BinaryIO | None = None
        # Reentrant: the garbage collector may end a run, and so close its file, in the thread that writes to it.
        self._busy = threading.RLock()
        #: Set from another thread to make `read` end early.
        self.stopped: bool = False

    def open(self) -> None:
        """Open the file and lock it.

        Raises:
            OSError: The file cannot be opened for reading and writing.
            JournalError: It is not a regular file, or another run uses it.
        """
        with self._named():
            self.take(os.open(self._place, APPENDING | os.O_RDWR, system.PRIVATE))
            if not self.regular:
                raise JournalError(f"{self.title} is not a regular file; give the path of one, or of a new file")
            if self._power:  # sync the earlier records too: their results are about to be delivered
                system.sync(self._descriptor)
                _sync_folder(str(self._place))

    @contextmanager
    def _named(self) -> Generator[None]:
        try:
            yield
        except OSError as error:
            error.filename = self.path
            raise

    def take(self, descriptor: int) -> None:
        """Use a file that is open for writing, and lock it if it is a regular file.

        Raises:
            JournalError: Another run uses it.
        """
        self.share(descriptor)
        try:
            free = not self.regular or system.locked(descriptor)
        except OSError as error:
            if error.errno not in _LOCKLESS:
                raise
            free = True
            self.warning = (
                f"{self.title} cannot be locked, since its file system has no locks ({error.strerror}); "
                "make sure that only one run at a time writes it"
            )
        if not free:
            raise JournalError(f"{self.title} is in use by another run; wait until that run ends, or use another file")
        self._owned = self.regular

    def share(self, descriptor: int) -> None:
        """Use a file that is open for writing, without a lock: others may write to it too."""
        self._descriptor = descriptor
        _open.add(self)
        status = os.fstat(descriptor)
        self.regular = stat.S_ISREG(status.st_mode)
        self._end = status.st_size

    def is_terminal(self) -> bool:
        """Return whether the records go to a terminal."""
        return os.isatty(self._descriptor)

    def read(self) -> Generator[tuple[int, bytes]]:
        """Yield the offset and the bytes of each line, with its line end. The last line may lack one.

        Raises:
            OSError: The file cannot be read.
        """
        with self._named():
            if self._descriptor >= 0:
                self._lines = io.BufferedReader(io.FileIO(self._place), 1 << 16)
            offset = 0
            for line in self._lines or ():
                if self.stopped:
                    return
                yield offset, line
                offset += len(line)

    def mend(self, belongs: Callable[[bytes], bool]) -> None:
        """Make the file end in a whole line: cut off a torn record, or add a missing line end.

        Do nothing if the file cannot be read. ``belongs`` says whether a line is of this kind of file.

        Raises:
            JournalError: The last line is of another kind of file.
        """
        with suppress(OSError), self._place.open("rb") as file:
            size, block = file.seek(0, os.SEEK_END), 1 << 16
            while True:
                file.seek(max(size - block, 0))
                whole, end, last = (text := file.read()).rpartition(b"\n")
                before = whole.rstrip().rpartition(b"\n")
                if before[1] or block >= size:
                    break
                block *= 4
            if is_torn(last, after_record=is_record(before[2])):
                self.cut(size - len(last))
                text = whole + end
            last_line = text.rstrip().rpartition(b"\n")[2]
            if last_line and not belongs(last_line):
                raise JournalError(
                    f"{self.title} is a file of another kind, which ends in {shorten(last_line)}: "
                    "nothing is added to it; give another name"
                )
            if not text.endswith(b"\n"):
                self.append([b"\n"])

    def cut(self, offset: int) -> None:
        """Remove everything from ``offset`` on."""
        with self._named():
            os.ftruncate(self._descriptor, offset)
            self._end = offset

    def line(self, offset: int) -> bytes:
        """Return the line that begins at ``offset``, or nothing if the file was never read."""
        if self._lines is None:
            return b""
        with self._named():
            self._lines.seek(offset)
            return self._lines.readline()

    def append(self, lines: Iterable[bytes]) -> str:
        """Write lines. When this returns, they survive the end of the process, and with ``power`` a power failure.

        Return what to tell the user if they are not at the path, or an empty text.

        Raises:
            OSError: Not all lines were written. The file ends in a whole line if possible.
        """
        group = b"".join(lines)
        with self._busy, self._named():
            write_whole(self._descriptor, group, regular=self.regular)
            self._end += len(group)
            if self._power:
                system.sync(self._descriptor)
            return self._lost()

    def _lost(self) -> str:
        """Return what to tell the user if written records are no longer at the path, or an empty text."""
        if not self._owned:
            return ""
        here = os.fstat(self._descriptor)
        try:
            intact = os.path.samestat(self._place.stat(), here) and here.st_size >= self._end
        except (FileNotFoundError, NotADirectoryError):
            intact = False
        except OSError:  # the path cannot be looked at any more, which says nothing about the file
            intact = True
        if intact:
            return ""
        return (
            f"{self.title} was deleted, renamed, replaced or truncated by another program during this run, so records "
            "are missing there; leave the file alone while a run writes it, and run again what is missing"
        )

    def close(self) -> str:
        """Wait for a write in progress, then close the file, which unlocks it. Return the same as `append`."""
        with self._busy:
            lost = self._lost() if self._descriptor >= 0 else ""
            self.leave()
            return lost

    def leave(self) -> None:
        """Close the file without waiting for a write in progress."""
        descriptor, self._descriptor = self._descriptor, -1
        lines, self._lines = self._lines, None
        if lines is not None:
            lines.close()
        if descriptor >= 0:
            os.close(descriptor)


def is_record(line: bytes) -> bool:
    """Return whether a line is a record."""
    return _is(parse, line)


def is_json(line: bytes) -> bool:
    """Return whether a line is JSON."""
    return _is(decode, line)


def _is(read: Callable[[bytes], object], line: bytes) -> bool:
    try:
        read(line)
    except ValueError:
        return False
    return True


#: The id of a record at its beginning, and what a record with the id 0 begins with.
_ID: Final = re.compile(rb'\{"id":\d+')
_BEGINNING: Final = b'{"id":0,"key":"'


def begins_as_record(line: bytes) -> bool:
    """Return whether a line begins as every record does."""
    return _ID.sub(b'{"id":0', line, count=1).startswith(_BEGINNING)


def is_torn(line: bytes, *, after_record: bool) -> bool:
    """Return whether a line is the beginning of a record that a killed process or a crashed machine left incomplete.

    Any other line is not torn: it may be part of an unrelated file. So zeros, with which a file system fills what it
    had not written yet, are torn only after a record.
    """
    begun = line.rstrip(b"\0\n")
    known = _ID.sub(b'{"id":0', begun, count=1)
    if not (known.startswith(_BEGINNING) or _BEGINNING.startswith(known)) or not (begun or after_record):
        return False
    try:
        decode(line)
    except ValueError:
        return True
    return False


def _sync_folder(path: str) -> None:
    """Make the name of a new file survive a power failure. A system that cannot sync a folder does that by itself."""
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


# A forked child, such as a worker of a process pool, shares the lock. A child that outlives a killed parent would keep
# the file in use.
_on_fork: Any = getattr(os, "register_at_fork", dict)  # Windows does not fork
_on_fork(after_in_child=_leave_all)
