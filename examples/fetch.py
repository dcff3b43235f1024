"""Fetch every line of a file over HTTP, through one shared client session.

    paco map examples/fetch.py:fetch examples/urls.txt --limit 100 --output out.jsonl

Lines are paths or whole URLs. Paths are asked from BASE_URL (the environment, or --arg base_url=...). Without one, from
a small server that is started here on the loopback, so that the example needs no network.
"""

from __future__ import annotations

import asyncio
import os
import zlib
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable


@asynccontextmanager
async def fetch(base_url: str | None = None) -> AsyncIterator[Callable[[str], Awaitable[dict[str, int]]]]:
    async with AsyncExitStack() as stack:
        base_url = base_url or os.environ.get("BASE_URL") or await stack.enter_async_context(small_server())
        # paco sets the limit: the pool of the session must not set a lower one (its default is 100).
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(base_url, connector=connector))

        async def get(item: str) -> dict[str, int]:
            async with session.get(item) as response:
                body = await response.read()
                return {"status": response.status, "bytes": len(body)}

        yield get


@asynccontextmanager
async def small_server() -> AsyncIterator[str]:
    """Serve /item/N on a free port of 127.0.0.1, after 5 to 50 ms: what each takes depends on its name alone."""

    async def answer(request: web.Request) -> web.Response:
        name = request.match_info["name"]
        number = zlib.crc32(name.encode())
        await asyncio.sleep(0.005 + number % 45 / 1000)
        return web.json_response({"name": name, "text": "x" * (number % 2000)})

    app = web.Application()
    app.router.add_get("/item/{name}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
