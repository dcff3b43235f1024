"""Servers on 127.0.0.1, each in its own process, for the workloads that use a network."""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    Serve = Callable[[Connection], None]

HOST = "127.0.0.1"


@contextlib.contextmanager
def serving(serve: Serve) -> Iterator[Any]:
    """Run a server in a new process inside the block, and yield its port, or what else it sends."""
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()  # so that `recv` raises if the server does not start
    try:
        yield ours.recv()
    finally:
        process.terminate()
        process.join()


def echo(parent: Connection) -> None:
    """Run a TCP server that echoes all data."""
    asyncio.run(_echo(parent))


async def _echo(parent: Connection) -> None:
    server = await asyncio.get_running_loop().create_server(_Echo, HOST, 0, backlog=1024)
    parent.send(server.sockets[0].getsockname()[1])
    await server.serve_forever()


class _Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.WriteTransport)
        self._transport.write(data)


def http(parent: Connection) -> None:
    """Run an HTTP server that answers ``GET /7`` with ``7``."""
    asyncio.run(_http(parent))


async def _answer(request: web.Request) -> web.Response:
    return web.Response(text=request.match_info["number"])


async def _http(parent: Connection) -> None:
    app = web.Application()
    app.router.add_get("/{number}", _answer)
    await _serve(app, parent)


class Busy:
    """A server with a capacity and a log: ``GET /7``, ``GET /log``, ``POST /change``.

    It answers excess requests with 429 and ``Retry-After: 1``. A request is in excess if it comes beyond ``rate``
    requests per second (a token bucket with a ``burst``), or while the server works on ``most`` requests. If it
    ``waits``, the latter requests queue instead. A request takes 100 ms on average, exponentially distributed.
    """

    def __init__(self) -> None:
        self._most, self._rate, self._burst, self._waits = 20, math.inf, 0.0, False
        self._working, self._level, self._filled = 0, 0.0, 0.0
        self._freed = asyncio.Condition()
        self._dice = random.Random(1)  # noqa: S311 - repeatable, not secret
        self._served: Counter[str] = Counter()
        self._refused = 0

    def app(self) -> web.Application:
        """Return the web application."""
        app = web.Application()
        app.router.add_get("/log", self._log)
        app.router.add_post("/change", self._change)
        app.router.add_get("/{number}", self._answer)
        return app

    async def _log(self, _: web.Request) -> web.Response:
        """Answer with the numbers of served, different and refused requests."""
        served = {"served": self._served.total(), "different": len(self._served)}
        return web.json_response({**served, "refused": self._refused})

    async def _change(self, request: web.Request) -> web.Response:
        """Set a new capacity, and clear the log."""
        new: dict[str, Any] = await request.json()
        self._most, self._rate, self._waits = new["most"], new["rate"] or math.inf, new["waits"]
        self._burst, self._level = new["burst"], 0.0
        self._served.clear()
        self._refused = 0
        await self._notify_queued()
        return web.Response()

    async def _answer(self, request: web.Request) -> web.Response:
        if self._is_in_excess():
            self._refused += 1
            return web.Response(status=429, headers={"Retry-After": "1"})
        if self._waits:
            async with self._freed:
                await self._freed.wait_for(lambda: self._working < self._most)
        self._working += 1
        await asyncio.sleep(self._dice.expovariate(10))
        self._working -= 1
        number = request.match_info["number"]
        self._served[number] += 1
        await self._notify_queued()
        return web.Response(text=number)

    def _is_in_excess(self) -> bool:
        if not self._waits and self._working >= self._most:
            return True
        if self._rate < math.inf:
            now = asyncio.get_running_loop().time()
            self._level = max(self._level - (now - self._filled) * self._rate, 0.0)
            self._filled = now
            if self._level + 1 > self._burst:
                return True
            self._level += 1
        return False

    async def _notify_queued(self) -> None:
        async with self._freed:
            self._freed.notify(max(self._most - self._working, 0))


def busy(parent: Connection) -> None:
    """Run a `Busy` server."""
    asyncio.run(_busy(parent))


async def _busy(parent: Connection) -> None:
    await _serve(Busy().app(), parent)


async def _serve(app: web.Application, parent: Connection, ports: int = 1) -> None:
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    for _ in range(ports):
        await web.TCPSite(runner, HOST, 0, backlog=1024).start()
    found = [address[1] for address in runner.addresses]
    parent.send(found if ports > 1 else found[0])
    await asyncio.Event().wait()


def flaky(parent: Connection) -> None:
    """Run an HTTP server with ten ports that refuses one page in fifty with 503 at first, and sends its ports."""
    asyncio.run(_flaky(parent))


async def _flaky(parent: Connection) -> None:
    refused: set[str] = set()

    async def answer(request: web.Request) -> web.Response:
        number = request.match_info["number"]
        if int(number) % 50 == 0 and number not in refused:
            refused.add(number)
            return web.Response(status=503)
        refused.discard(number)  # so that the next run is refused too
        return web.Response(text=f"page {number}")

    app = web.Application()
    app.router.add_get("/{number}", answer)
    await _serve(app, parent, 10)


class NoServer(Exception):
    """Raised if a server is not installed; the message says what to do."""


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL server in a new folder inside the block, and yield its address. Nothing of it is kept."""
    # Debian has the programs of the server outside of the path. They refuse to run as root.
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parents[1].name))
    initdb = shutil.which("initdb") or (found and found[-1])
    if not initdb:
        raise NoServer("it needs PostgreSQL: apt-get install postgresql")
    programs, folder = Path(initdb).resolve().parent, Path(tempfile.mkdtemp(prefix="pg"))
    how: dict[str, Any] = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.name == "posix" and os.getuid() == 0:
        shutil.chown(folder, "nobody")
        how |= {"user": "nobody", "extra_groups": []}
    try:
        with socket.create_server((HOST, 0)) as reserved:
            port = str(reserved.getsockname()[1])
        made = ["--no-sync", "--auth=trust", "--username=paco", "--encoding=UTF8", "--locale=C"]
        subprocess.run([programs / "initdb", *made, folder / "data"], check=True, **how)  # noqa: S603 - own command
        settings = [f"--listen_addresses={HOST}", f"--port={port}", "--fsync=off", "-k", "", "-D", folder / "data"]
        with subprocess.Popen([programs / "postgres", *settings], **how) as server:  # noqa: S603 - own command
            try:
                ready = [programs / "pg_isready", "-q", "-h", HOST, "-p", port]
                while subprocess.run(ready, check=False).returncode:  # noqa: S603 - own command
                    if server.poll() is not None:
                        raise NoServer("PostgreSQL does not start here")
                    time.sleep(0.01)
                yield f"postgresql://paco@{HOST}:{port}/postgres"
            finally:
                server.send_signal(signal.SIGINT)
    finally:
        shutil.rmtree(folder)
