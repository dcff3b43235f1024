"""Writes reports and traces. New files are private; links are not followed, files of another kind not replaced."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from paco._base.system import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Iterable

#: How each kind of file begins. A file that begins otherwise is not replaced.
REPORT: Final = '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><meta name="generator" content="paco">'
TRACE: Final = '{"otherData":{"producer":"paco '

_FLAGS: Final[int] = getattr(os, "O_BINARY", 0)
_NO_LINK: Final[int] = getattr(os, "O_NOFOLLOW", 0)


def write(path: str, begins: str, pieces: Iterable[str]) -> None:
    """Write a report or a trace. Each file of its kind starts with the text ``begins``.

    An earlier file is replaced only if it is of the same kind, or empty. A new file has mode 0600.

    Raises:
        FileExistsError: There is another file at this path, or a link to a file.
        OSError: The file cannot be written.
    """
    with open(_opened(path, begins), "w", encoding="utf-8", newline="\n") as file:
        file.writelines(pieces)


def check(path: str, begins: str) -> None:
    """Raise the error that `write` would raise, and leave everything as it is."""
    new = not os.path.lexists(path)
    if new or _is_regular(path):
        os.close(_opened(path, begins, keep=True))
    elif Path(path).is_dir() or not os.access(path, os.W_OK):  # to open a pipe could wait, and would end its reader
        number = errno.EISDIR if Path(path).is_dir() else errno.EACCES
        raise OSError(number, os.strerror(number), path)
    if new:
        Path(path).unlink()


def _is_regular(path: str) -> bool:
    """Return whether ``path`` leads to a regular file, or to nothing: a new name, or a link to a missing file."""
    with suppress(FileNotFoundError):
        return stat.S_ISREG(Path(path).stat().st_mode)
    return True


def _opened(path: str, begins: str, *, keep: bool = False) -> int:
    """Return the descriptor of the file, emptied unless ``keep``."""
    if not _is_regular(path):  # a pipe or a device, which links of the system such as /dev/stdout lead to
        return os.open(path, os.O_WRONLY | _FLAGS)
    if Path(path).is_symlink():
        raise FileExistsError(errno.EEXIST, "it is a link, which is not followed; give the name of a file", path)
    # These flags follow no link that takes the place of the file meanwhile.
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, PRIVATE)
    except FileExistsError:
        descriptor = os.open(path, os.O_RDWR | _NO_LINK | _FLAGS)
    if os.read(descriptor, len(begins)) not in {b"", begins.encode()}:
        os.close(descriptor)
        what = "a report" if begins == REPORT else "a trace"
        raise FileExistsError(errno.EEXIST, f"it exists and is not {what} of paco; give another name", path)
    os.lseek(descriptor, 0, os.SEEK_SET)
    if not keep:
        os.ftruncate(descriptor, 0)
    return descriptor
