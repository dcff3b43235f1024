"""Read the bytes of an input: a regular file directly, and a pipe, a terminal or a device in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import zlib
from functools import partial
from gzip import BadGzipFile, GzipFile
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from paco._base import system

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator

    from paco._cli.stop import Stop

_CHUNK = 1 << 16
#: The most bytes of an item. A longer one fails, so that no input can exhaust the memory.
LONGEST_LINE = 16 << 20


class BrokenInputError(OSError):
    """Raised if an input cannot be read any further. The text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


class Splitter:
    r"""Splits chunks into lines at ``\n``. A line that is too long is cut to one byte above `LONGEST_LINE`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that end in ``chunk``."""
        *lines, tail = chunk.split(b"\n")
        if lines:
            self._keep(lines[0])
            lines[0] = self._take()
        self._keep(tail)
        return lines

    def end(self) -> list[bytes]:
        """Return the last line, if the input does not end in a line end."""
        return [self._take()] if self._size else []

    def _keep(self, part: bytes) -> None:
        if part := part[: LONGEST_LINE + 1 - self._size]:
            self._parts.append(part)
            self._size += len(part)

    def _take(self) -> bytes:
        line = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        if self._first:
            self._first = False
            line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark of some Windows editors
        return line


async def read_file(path: str, *, gzip: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a regular file. No thread reads it, since the system reads ahead."""
    with contextlib.closing(chunks_of(path, gzip=gzip)) as chunks:
        for chunk in chunks:
            yield chunk
            await asyncio.sleep(0)  # millions of skipped items, none of which awaits, must not block the loop


async def read_live(path: str | int, stop: Stop, *, gzip: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a pipe, a terminal or a device as they arrive. Waiting does not block the loop."""
    loop = asyncio.get_running_loop()
    wanted: SimpleQueue[asyncio.Future[bytes] | None] = SimpleQueue()
    # A daemon thread that calls os.read, not a file object: at exit, a blocked read must hold neither process nor lock.
    threading.Thread(target=_serve, args=(path, gzip, wanted, loop), name="paco-reader", daemon=True).start()
    try:
        while True:
            # Read one chunk at a time, on request, so that a slow run holds back the writer of the pipe.
            future: asyncio.Future[bytes] = loop.create_future()
            wanted.put(future)
            chunk = await stop.ends(future)
            if not chunk:
                return
            yield chunk
    finally:
        wanted.put(None)


def _serve(
    path: str | int, gzip: bool, wanted: SimpleQueue[asyncio.Future[bytes] | None], loop: asyncio.AbstractEventLoop
) -> None:
    descriptor = -1
    read: Callable[[], bytes] = bytes
    while (future := wanted.get()) is not None:
        answer: bytes | OSError
        try:
            if descriptor < 0:  # here, since opening a named pipe waits for its writer
                descriptor = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
                read = _reading(_Descriptor(descriptor), gzip=gzip)
            answer = read()
        except OSError as error:
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(_settle, future, answer)
    if descriptor >= 0 and descriptor != path:
        os.close(descriptor)


def _settle(future: asyncio.Future[bytes], answer: bytes | OSError) -> None:
    if future.done():
        return
    if isinstance(answer, OSError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class _Descriptor:
    """A file object for a descriptor, without a buffer or a lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        """Wait for data, and return at most ``size`` bytes; nothing at the end of the file."""
        while True:
            try:
                return system.read(self._descriptor, size)
            except BlockingIOError:  # another process made the shared pipe non-blocking
                system.wait(self._descriptor)


def _reading(file: Any, *, gzip: bool) -> Callable[[], bytes]:
    """Return a function that returns the next chunk of a file, decompressed if ``gzip``; nothing at the end."""
    if not gzip:
        return partial(file.read, _CHUNK)
    unpacked = GzipFile(fileobj=file, mode="rb")

    def read() -> bytes:
        try:
            return unpacked.read1(_CHUNK)  # limited, since a small file may decompress to gigabytes
        except EOFError:
            raise BrokenInputError("the file is cut off: the gzip data has no end") from None
        except (BadGzipFile, zlib.error):
            raise BrokenInputError("the file is damaged, or is not gzip") from None

    return read


def chunks_of(path: str, *, gzip: bool) -> Generator[bytes]:
    """Yield the chunks of a regular file, decompressed if ``gzip``.

    Raises:
        BrokenInputError: With ``gzip``, the file is not gzip, is damaged, or is cut off.
    """
    with Path(path).open("rb", buffering=0) as file:
        yield from iter(_reading(file, gzip=gzip), b"")
