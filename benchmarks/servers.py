"""Servers on 127.0.0.1, each in a process of its own, for the workloads that use a network."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    Serve = Callable[[Connection], None]

HOST = "127.0.0.1"


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[int]:
    """Run a server in a process of its own: give its port, and end it."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def echo(tell: Connection) -> None:
    """Send back whatever comes, on every TCP connection."""
    asyncio.run(_echo(tell))


async def _echo(tell: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, HOST, 0, backlog=1024)
    tell.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(data)


def http(tell: Connection) -> None:
    """Answer ``GET /7`` with ``7``."""
    asyncio.run(_http(tell))


async def _answer(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["number"])


async def _http(tell: Connection) -> None:
    app = web.Application()
    app.router.add_get("/{number}", _answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, 0, backlog=1024).start()
    tell.send(runner.addresses[0][1])
    await asyncio.Event().wait()
