"""The files of a run: where they are, whatever folder TARGET changes to, and that no file is used for two things."""

from __future__ import annotations

import inspect
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._base.check import innermost
from paco._cli.ending import CommandError, reason

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def current_folder() -> str:
    """Return the current folder; an empty text if it was deleted, so that relative names lead nowhere."""
    with suppress(OSError):
        return os.getcwd()  # noqa: PTH109 - text, for `placed`
    return ""


def placed(name: str, folder: str) -> str:
    """Return the path of the file that has this name in ``folder``. The system resolves links and ``..`` in it."""
    return os.path.join(folder, name)  # noqa: PTH118 - Path drops a slash at the end, which means a folder


class Use(NamedTuple):
    """What a run uses a file for."""

    role: str
    name: str  # for messages
    place: str | int  # its path, or a descriptor


def check_apart(read: Iterable[Use], written: Iterable[Use]) -> None:
    """Check that each file that is written is used for nothing else.

    Raises:
        CommandError: A file is used for two things.
    """
    known = {_identity(use.place): use for use in read}
    for use in written:
        other = known.setdefault(_identity(use.place), use)
        if other is not use:
            raise CommandError(f"{use.name} is both {other.role} and {use.role}; give each a file of its own")


def _identity(place: str | int) -> object:
    """Return a value that is equal for two names of one file.

    For a terminal or a device it is new each time, since they may be used for two things.
    """
    try:
        found = os.stat(place)  # noqa: PTH116 - or a descriptor
    except OSError:
        return os.path.realpath(place) if isinstance(place, str) else object()
    except ValueError:  # a NUL in the name
        return object()
    is_pipe = stat.S_ISFIFO(found.st_mode) and found.st_ino  # Windows does not number pipes
    return (found.st_dev, found.st_ino) if is_pipe or stat.S_ISREG(found.st_mode) else object()


def check_pictures(pictures: Iterable[Use]) -> None:
    """Check that reports and traces can be written.

    Raises:
        CommandError: One cannot, or would replace another file.
    """
    from paco._pictures.file import REPORT, TRACE, check

    for use in pictures:
        try:
            check(str(use.place), REPORT if use.role == "report" else TRACE)
        except (OSError, ValueError) as error:  # ValueError: a NUL in the name
            raise CommandError(f"cannot write {use.name}: {reason(error)}") from None


def sources(role: str, name: str, folder: str, found: Any = None) -> Iterator[Use]:
    """Yield the source files of what ``name`` names: that of the module, and that of ``found``, the object itself."""
    place = name.rpartition(":")[0]
    fn: Any = inspect.unwrap(innermost(found))
    written: Any = fn if hasattr(fn, "__qualname__") else fn.__class__
    files = [getattr(sys.modules.get(place), "__file__", placed(place, folder))]
    with suppress(TypeError, OSError):  # written in C
        files.append(inspect.getsourcefile(written))
    for file in filter(None, files):
        yield Use(role, Path(file).name, file)
