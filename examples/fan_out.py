"""Serve the price of a product in many shops: ask all of them at once, and answer in a second with what has come.

    SHOPS="http://one.example http://two.example" python examples/fan_out.py --port 8000
    curl http://127.0.0.1:8000/prices/lamp

All requests together ask at most 20 shops at once. When a client goes away, its questions are cancelled.
"""

from __future__ import annotations

import argparse
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NoReturn

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException, Request

import paco

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

SHOPS = os.environ.get("SHOPS", "").split()
SECONDS = float(os.environ.get("SECONDS", "1"))
AT_ONCE = paco.Limit(20)


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[dict[str, httpx.AsyncClient]]:
    async with httpx.AsyncClient(timeout=httpx.Timeout(None)) as client:  # the deadline is enough
        yield {"client": client}


app = FastAPI(lifespan=lifespan)


@app.get("/prices/{product}")
async def prices(product: str, request: Request) -> dict[str, float]:
    @paco.settle
    async def ask(shop: str) -> float:
        answer = await request.state.client.get(f"{shop}/{product}")
        return float(answer.raise_for_status().text)

    async def ask_all() -> Iterable[paco.Ok[str, float] | paco.Err[str]]:
        try:
            with paco.deadline(SECONDS):
                return await paco.map(ask, SHOPS, limit=AT_ONCE)
        except paco.RunTimeout as late:
            return late.outcomes

    found, _ = paco.partition(await paco.race([ask_all(), client_has_gone(request)]))
    return {outcome.item: outcome.value for outcome in found}


async def client_has_gone(request: Request) -> NoReturn:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    raise HTTPException(499)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8000)
    uvicorn.run(app, port=parser.parse_args().port)
