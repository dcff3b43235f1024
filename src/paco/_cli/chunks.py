"""Bytes of an input: straight from a file, or by way of a thread from what may keep us waiting."""

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
#: A line may have this many bytes: more is an error of that item, and never a machine without memory.
LONGEST_LINE = 16 << 20


class BrokenInputError(OSError):
    """An input that cannot be read on: the text says why."""

    def __init__(self, text: str) -> None:
        super().__init__(errno.EINVAL, text)


class Splitter:
    r"""Cuts chunks into lines at ``\n``; of a line over the longest, one byte too many is kept, which tells it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self._first = True

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the lines that ``chunk`` ends."""
        *lines, tail = chunk.split(b"\n")
        if lines:
            self._keep(lines[0])
            lines[0] = self._take()
        self._keep(tail)
        return lines

    def end(self) -> list[bytes]:
        """Return the last line if it came without a line end."""
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
            line = line.removeprefix(b"\xef\xbb\xbf")  # the byte order mark that some Windows editors put there
        return line


async def read_file(path: str, *, gzip: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a regular file, read in place: the system reads ahead, a thread would only cost."""
    with contextlib.closing(chunks_of(path, gzip=gzip)) as chunks:
        for chunk in chunks:
            yield chunk
            await asyncio.sleep(0)  # of millions of items that are passed over, none lets the loop go on


async def read_live(path: str | int, stop: Stop, *, gzip: bool) -> AsyncGenerator[bytes]:
    """Yield the chunks of a pipe, a terminal or a device as they come; the loop runs on while none comes."""
    loop = asyncio.get_running_loop()
    wanted: SimpleQueue[asyncio.Future[bytes] | None] = SimpleQueue()
    # A daemon, and os.read instead of a file object: a blocked read must keep neither the process nor a lock at exit.
    threading.Thread(target=_serve, args=(path, gzip, wanted, loop), name="paco-reader", daemon=True).start()
    try:
        while True:
            # One chunk is read when one is asked for, so a slow run holds the pipe's writer back.
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
            if descriptor < 0:  # a named pipe: opening it waits for its writer
                descriptor = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
                read = _reading(_Descriptor(descriptor), gzip=gzip)
            answer = read()
        except OSError as error:
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
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
    """A file by its descriptor, read without a buffer or a lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        """Return what there is, at most so many bytes; wait for the first of them."""
        while True:
            try:
                return system.read(self._descriptor, size)
            except BlockingIOError:  # another process has made the shared pipe non-blocking
                system.wait(self._descriptor)


def _reading(file: Any, *, gzip: bool) -> Callable[[], bytes]:
    """Return a function that reads the next chunk of a file, unpacked if it is gzip; none at the end."""
    if not gzip:
        return partial(file.read, _CHUNK)
    unpacked = GzipFile(fileobj=file, mode="rb")

    def read() -> bytes:
        try:
            return unpacked.read1(_CHUNK)  # a small file that holds gigabytes fills no memory
        except EOFError:
            raise BrokenInputError("it is cut off: the gzip data has no end") from None
        except (BadGzipFile, zlib.error):
            raise BrokenInputError("it is damaged, or not gzip") from None

    return read


def chunks_of(path: str, *, gzip: bool) -> Generator[bytes]:
    """Yield the chunks of a regular file, unpacked if it is gzip.

    Raises:
        BrokenInputError: It is not gzip, damaged, or cut off.
    """
    with Path(path).open("rb", buffering=0) as file:
        yield from iter(_reading(file, gzip=gzip), b"")
