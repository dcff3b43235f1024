"""Unpack compressed inputs as they are read."""

from __future__ import annotations

import importlib
import sys
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.errors import install
from paco._cli.beginning import BrokenInputError
from paco._cli.ending import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable

#: What each ending means, the modules that may unpack it, the class in them, and the name of its error.
_UNPACKERS: Final = {
    ".gz": ("gzip", ("gzip",), "GzipFile", "BadGzipFile"),
    ".bz2": ("bzip2", ("bz2",), "BZ2File", ""),
    ".xz": ("xz", ("lzma",), "LZMAFile", "LZMAError"),
    ".zst": ("zstd", ("compression.zstd", "backports.zstd"), "ZstdFile", "ZstdError"),
}
#: The endings of packed files.
ENDINGS: Final = tuple(_UNPACKERS)


def packed_as(name: str) -> str:
    """Return the ending of a name if it is one of a packed file, otherwise an empty text."""
    return next((ending for ending in ENDINGS if name.endswith(ending)), "")


def check_unpacker(ending: str, name: str) -> None:
    """Check that files with this ending can be unpacked; ``name`` is that of the input.

    Raises:
        CommandError: This Python cannot.
    """
    if ending and _module(ending) is None:
        what = _UNPACKERS[ending][0]
        remedy = f"{install('zst')}, " if ending == ".zst" and sys.version_info < (3, 14) else ""
        raise CommandError(f"cannot read {name}: this Python cannot unpack {what}; {remedy}or use: {what} -dc")


def _module(ending: str) -> Any:
    for name in _UNPACKERS[ending][1]:
        with suppress(ImportError):
            return importlib.import_module(name)
    return None


def unpacked(file: Any, ending: str, size: int) -> Callable[[], bytes]:
    """Return a function that returns the next bytes of a packed file, ``size`` at most; nothing at the end."""
    what, _, name, failure = _UNPACKERS[ending]
    module = _module(ending)
    new = getattr(module, name)
    packed: Any = new(fileobj=file, mode="rb") if name == "GzipFile" else new(file, "rb")
    damage = cast("tuple[type[Exception], ...]", (OSError, zlib.error, getattr(module, failure, zlib.error)))

    def read() -> bytes:
        try:
            data: bytes = packed.read1(size)  # limited, since a small file may unpack to gigabytes
        except EOFError:
            raise BrokenInputError(f"the file is cut off: the {what} data has no end") from None
        except damage as error:
            if getattr(error, "errno", None) is not None:  # the file cannot be read
                raise
            raise BrokenInputError(f"the file is damaged, or is not {what}") from None
        return data

    return read
