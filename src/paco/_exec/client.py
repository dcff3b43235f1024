"""Run programs through the process that starts them."""

from __future__ import annotations

import asyncio
import marshal
import os
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._exec import server

if TYPE_CHECKING:
    from collections.abc import Sequence


class Ended(NamedTuple):
    """How a program ended, and the end of what it wrote."""

    code: int  # the exit code, or the negative number of the signal
    stdout: bytes
    dropped: int  # the bytes of stdout that are not kept, from its beginning
    stderr: bytes


class Programs:
    """Runs programs, each in a session of its own, until it is closed.

    The process that starts them is started with the first program, and again if something has killed it.
    """

    def __init__(self) -> None:
        self._link: _Link | None = None
        self._starting = asyncio.Lock()
        self._count = 0

    async def close(self) -> None:
        """End the programs that still run, and wait until they are gone."""
        if self._link is not None:
            await self._link.close()

    async def run(self, argv: Sequence[str], stdin: bytes | None = None) -> Ended:
        """Run a program to its end; ``stdin`` is empty with ``None``.

        A call that is cancelled ends the program and its process group, by SIGTERM and a second later by SIGKILL, and
        waits for that.

        Raises:
            OSError: The program cannot be started, or the process that started it was killed.
            ValueError: An argument contains a NUL or has no encoding.
        """
        words = [os.fsencode(word) for word in argv]
        for word in words:
            if b"\0" in word:
                raise ValueError(f"no program can receive a NUL (\\0) in an argument, got {os.fsdecode(word)!r}")
        link = await self._connected()
        self._count += 1
        reply = await link.ask(self._count, words, stdin)
        if len(reply) == 1:
            raise OSError(reply[0], os.strerror(reply[0]), argv[0])
        return Ended(*reply)

    async def _connected(self) -> _Link:
        async with self._starting:
            if self._link is None or self._link.lost.done():
                self._link = await _start()
            return self._link


async def _start() -> _Link:
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        process = _run_server(theirs.fileno())
    try:
        _, link = await loop.create_unix_connection(lambda: _Link(process), sock=ours)
    except BaseException:  # the process ends when the connection does, and `connection_lost` waits for it before that
        with suppress(OSError):  # it is closed already
            ours.shutdown(socket.SHUT_RDWR)
        process.wait()
        raise
    return link


def _run_server(connection: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - the interpreter that runs this
        [sys.executable, "-I", "-S", str(Path(server.__file__)), str(connection)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[connection],
        start_new_session=True,  # Ctrl-C in the terminal is for this process, which decides what ends
    )


class _Link(asyncio.Protocol):
    """The connection to the process that starts programs."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._received = bytearray()
        self._asked: dict[int, asyncio.Future[tuple[Any, ...]]] = {}
        #: Done when the process is gone.
        self.lost: asyncio.Future[None] = self._loop.create_future()

    async def ask(self, number: int, argv: list[bytes], stdin: bytes | None) -> tuple[Any, ...]:
        """Have a program run, and return the reply without its number."""
        reply: asyncio.Future[tuple[Any, ...]] = self._loop.create_future()
        self._asked[number] = reply
        self._send(number, argv, stdin)
        try:
            return await reply
        except asyncio.CancelledError:
            if number in self._asked:
                self._asked[number] = ended = self._loop.create_future()
                self._send(number)
                await ended
            raise

    async def close(self) -> None:
        """Have all programs end, and wait until the process has ended."""
        self._transport.write_eof()
        await asyncio.shield(self.lost)

    def _send(self, *values: Any) -> None:
        data = marshal.dumps(values)
        self._transport.write(len(data).to_bytes(server.HEAD) + data)

    # ---- the interface of a protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        received = self._received
        received += data
        while len(received) >= server.HEAD:
            end = server.HEAD + int.from_bytes(received[: server.HEAD])
            if len(received) < end:
                return
            number, *reply = marshal.loads(received[server.HEAD : end])  # noqa: S302 - from the process started here
            del received[:end]
            if not (future := self._asked.pop(number)).done():
                future.set_result(tuple(reply))

    def connection_lost(self, exc: Exception | None) -> None:
        self._process.wait()
        self.lost.set_result(None)
        for future in self._asked.values():
            if not future.done():
                future.set_exception(ConnectionResetError("the process that started the program was killed"))
        self._asked.clear()
