"""The program that `paco map` is compared with: the same requests through the library, one line of JSON for each.

It uses uvloop and orjson, as the command does if they are installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import aiohttp
import orjson
import uvloop

import paco

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable


@contextlib.asynccontextmanager
async def client(url: str) -> AsyncIterator[Callable[[str], Awaitable[dict[str, object]]]]:
    """Open a session and yield the function that makes a request: the TARGET of the command."""
    async with aiohttp.ClientSession(url, connector=aiohttp.TCPConnector(limit=0)) as session:

        async def fetch(item: str) -> dict[str, object]:
            async with session.get(f"/{item}") as response:
                return {"status": response.status, "text": await response.text()}

        yield fetch


async def fetch_all(url: str, lines: Iterable[str], results: BinaryIO, limit: int) -> None:
    """Make a request for each line, and write a record of each."""
    async with client(url) as fetch:
        stream = paco.map(paco.settle(fetch), (line.rstrip("\n") for line in lines), limit=limit)
        async for one in stream.as_completed():
            record: dict[str, object] = {"input": one.item, "ok": isinstance(one, paco.Ok)}
            if isinstance(one, paco.Ok):
                record["result"] = one.value
            else:
                record["error"] = {"type": type(one.error).__name__, "message": str(one.error)}
            results.write(orjson.dumps(record) + b"\n")


def main(url: str, source: str, results: str, limit: str) -> None:
    """Run the program."""
    with (
        Path(source).open(encoding="utf-8") as lines,
        Path(results).open("wb") as file,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        runner.run(fetch_all(url, lines, file, int(limit)))


if __name__ == "__main__":
    main(*sys.argv[1:])
