"""Bytes of an input: straight from a file, or by way of a thread from what may keep us waiting."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
import zlib
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

from paco._base import system

if TYPE_CHECKING:
    import io
    from collections.abc import AsyncGenerator, Generator

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


def _opened(path: str) -> io.FileIO:
    return Path(path).open("rb", buffering=0)


async def read_file(path: str, stop: Stop) -> AsyncGenerator[bytes]:
    """Yield the chunks of a regular file, read in place: the system reads ahead, a thread would only cost."""
    with _opened(path) as file:
        while not stop.wanted and (chunk := file.read(_CHUNK)):
            yield chunk
            await asyncio.sleep(0)  # of millions of items that are passed over, none lets the loop go on


async def read_live(path: str | int, stop: Stop) -> AsyncGenerator[bytes]:
    """Yield the chunks of a pipe, a terminal or a device as they come; the loop runs on while none comes."""
    loop = asyncio.get_running_loop()
    wanted: SimpleQueue[asyncio.Future[bytes] | None] = SimpleQueue()
    # A daemon, and os.read instead of a file object: a blocked read must keep neither the process nor a lock at exit.
    threading.Thread(target=_serve, args=(path, wanted, loop), name="paco-reader", daemon=True).start()
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


def _serve(path: str | int, wanted: SimpleQueue[asyncio.Future[bytes] | None], loop: asyncio.AbstractEventLoop) -> None:
    descriptor = -1
    while (future := wanted.get()) is not None:
        answer: bytes | OSError
        try:
            if descriptor < 0:  # a named pipe: opening it waits for its writer
                descriptor = path if isinstance(path, int) else os.open(path, os.O_RDONLY)
            answer = _read(descriptor)
        except OSError as error:
            answer = error
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(_settle, future, answer)
    if descriptor >= 0 and descriptor != path:
        os.close(descriptor)


def _read(descriptor: int) -> bytes:
    while True:
        try:
            return system.read(descriptor, _CHUNK)
        except BlockingIOError:  # another process has made the shared pipe non-blocking
            system.wait(descriptor)


def _settle(future: asyncio.Future[bytes], answer: bytes | OSError) -> None:
    if future.done():
        return
    if isinstance(answer, OSError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class Unzip:
    """Unpacks the chunks of a gzip file, piece by piece: a small file that holds gigabytes fills no memory."""

    def __init__(self) -> None:
        self._member: zlib._Decompress | None = None

    def feed(self, chunk: bytes) -> Generator[bytes]:
        """Yield what is in ``chunk``, in pieces of 64 KiB at most.

        Raises:
            BrokenInputError: It is not gzip, or damaged.
        """
        full = False
        while full or (chunk := self._begun(chunk)):
            member = self._member = self._member or zlib.decompressobj(wbits=31)  # 31: with the header of gzip
            try:
                piece = member.decompress(chunk, _CHUNK)
            except zlib.error:
                raise BrokenInputError("it is damaged, or not gzip") from None
            chunk = member.unconsumed_tail
            full = len(piece) == _CHUNK  # then there may be more, though all of the chunk has been consumed
            if member.eof:
                self._member, chunk, full = None, member.unused_data, False
            if piece:
                yield piece

    def _begun(self, chunk: bytes) -> bytes:
        """Return ``chunk`` from where there is data: between members, as logs may have them, zeros are padding."""
        return chunk if self._member else chunk.lstrip(b"\0")

    def end(self) -> None:
        """Hear that there are no more chunks.

        Raises:
            BrokenInputError: There should be.
        """
        if self._member is not None:
            raise BrokenInputError("it is cut off: the gzip data has no end")


async def unzipped(chunks: AsyncGenerator[bytes]) -> AsyncGenerator[bytes]:
    """Yield what is in the chunks of a gzip file."""
    unzip = Unzip()
    async with contextlib.aclosing(chunks):
        async for chunk in chunks:
            for piece in unzip.feed(chunk):
                yield piece
    unzip.end()


def chunks_of(path: str, *, gzip: bool) -> Generator[bytes]:
    """Yield the chunks of a regular file; for a thread."""
    with _opened(path) as file:
        unzip = Unzip()
        while chunk := file.read(_CHUNK):
            if gzip:
                yield from unzip.feed(chunk)
            else:
                yield chunk
