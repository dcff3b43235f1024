"""Measure how close `paco.Adaptive` comes to the best fixed limit, against a real HTTP server with a capacity.

The server (`benchmarks.servers.Busy`) runs in its own process, answers 429 beyond its capacity, and keeps a log. A
refused request is sent again after its Retry-After, until it is served. Two more runs measure whether the server ever
refuses a `paco.Rate` below its own rate, and whether `paco.retry` completes all items. Run all of it with `./dev bench
--only busy`, or a part of it with, for example, `--only busy/line`.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp

import paco
from benchmarks import servers
from benchmarks.demands import Demand

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Requests that the server works on at once: a smaller and a larger capacity.
CAPACITY, LARGER = 20, 50
#: The required share of the throughput of the best fixed limit.
LEAST = 0.85
SECONDS = 10.0

HEADING = f"""
busy: requests per second served by an HTTP server with a capacity, {SECONDS:g} s each; settled: in the second half
  {"":48}{"all":>8}{"settled":>10}{"of best":>9}{"refused":>9}"""


@dataclass(frozen=True)
class Kind:
    """A behavior of the server beyond its capacity."""

    name: str
    waits: bool = False
    rate: float = 0.0  # requests per second for each request that it works on at once; 0 for no rate

    def capacity(self, most: int) -> dict[str, Any]:
        """Return the settings of the server for ``most`` requests at once."""
        return {"most": most, "rate": self.rate * most, "burst": self.rate * most, "waits": self.waits}


KINDS = (
    Kind("refuses excess requests"),
    Kind("queues excess requests in line", waits=True),
    Kind("refuses, with a rate of 6 for each", rate=6.0),
)


@dataclass(frozen=True)
class Errand:
    """A fixed number of requests, all of which the server must finally serve."""

    name: str
    make_limit: Callable[[], paco.Limiter]
    count: int
    capacity: dict[str, Any]
    may_be_refused: bool = True


ERRANDS = (
    # The server is strict: after a stall of 80 ms it would refuse the requests that catch up.
    Errand(
        "Rate(95), 100 a second allowed",
        lambda: paco.Rate(95, burst=2),
        950,
        {"most": LARGER, "rate": 100, "burst": 10, "waits": False},
        may_be_refused=False,
    ),
    Errand(
        "Adaptive and retry, 20 and 120 a second", lambda: paco.Adaptive(drop_on=Refused), 1500, KINDS[-1].capacity(20)
    ),
)
#: The largest number of attempts per request in an errand.
ATTEMPTS = 20

#: The parts that can be measured alone, by name.
PARTS = {one.name: one for one in (*KINDS, *ERRANDS)}


@dataclass(frozen=True)
class Figures:
    """Figures from the server's log: requests served per second, and requests refused for each one served."""

    all: float
    settled: float
    refused: float


class Refused(Exception):
    """The server answered 429."""

    def __init__(self, retry_after: float) -> None:
        self.retry_after = retry_after


class Gradient2(paco.Limiter):
    """The Gradient2 limit of Netflix's concurrency-limits as published, with its defaults, for comparison.

    Each sample moves the limit a fifth of the way to a new value: the old limit times a gradient, plus 4 for a queue.
    The gradient is 1.5 times the long latency, divided by the sample, and clipped to 0.5 .. 1. The long latency is an
    exponential average over 600 samples.
    """

    def __init__(self, start: int) -> None:
        self._count, self._limit = paco.Limit(start), float(start)
        self._long, self._samples = 0.0, 0

    async def acquire(self, item: object = None) -> tuple[Any, float]:
        """Wait for a permit, and return it with the time of the start."""
        return await self._count.acquire(), asyncio.get_running_loop().time()

    def release(self, permit: tuple[Any, float], error: BaseException | None = None) -> None:
        """Take a sample if the item has succeeded."""
        holder, began = permit
        used = 2 * self._count.in_flight >= self._limit
        self._count.release(holder)
        if error is not None:
            return
        latency = asyncio.get_running_loop().time() - began
        self._samples += 1
        self._long += (latency - self._long) / (self._samples if self._samples <= 10 else 300)
        if self._long > 2 * latency:
            self._long *= 0.95
        if used:
            gradient = max(0.5, min(1.0, 1.5 * self._long / latency))
            self._limit = max(1.0, min(0.8 * self._limit + 0.2 * (self._limit * gradient + 4), 1000.0))
            self._count.limit = int(self._limit)


class Trial:
    """Send the server as many requests as a limit allows.

    Args:
        session: The session for the requests.
        url: The URL of the server.
        limit: The limit on trial.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, limit: paco.Limiter) -> None:
        self._session, self._url, self._limit = session, url, limit

    async def run(self, *capacities: dict[str, Any], seconds: float = SECONDS) -> list[Figures]:
        """Give the server one capacity after the other, each for ``seconds``, and return the figures of each."""
        call = paco.retry(self._fetch, attempts=10**9, on=_retry_after)
        found: list[Figures] = []
        running = None
        try:
            for capacity in capacities:
                await self._change(capacity)
                running = running or asyncio.ensure_future(paco.each(call, itertools.count(), limit=self._limit))
                found.append(await self._figures(seconds))
        finally:
            if running is not None:
                running.cancel()
                await asyncio.wait([running])
        if running is not None and not running.cancelled():
            await running  # raises the error with which it failed
        await asyncio.sleep(1)  # until the server has ended the requests that were cancelled here
        return found

    async def errand(self, errand: Errand) -> Demand:
        """Send the requests of an errand, and judge by the answers and the server's log."""
        await self._change(errand.capacity)
        begun = time.monotonic()
        call = paco.retry(self._fetch, attempts=ATTEMPTS, on=_retry_after)
        answers = await paco.map(call, range(errand.count), limit=self._limit)
        speed, log = errand.count / (time.monotonic() - begun), await self._log()
        _print(f"{errand.count} requests", Figures(speed, speed, log["refused"] / errand.count))
        once = answers == [str(number) for number in range(errand.count)]
        once = once and log["served"] == log["different"] == errand.count
        none = "" if errand.may_be_refused else ", and none is refused"
        return Demand(
            f"busy, {errand.name}: each of {errand.count} requests is served once{none}",
            f"{log['different']} served, {log['refused']} refused",
            once and (errand.may_be_refused or not log["refused"]),
        )

    async def _change(self, capacity: dict[str, Any]) -> None:
        async with self._session.post(f"{self._url}/change", json=capacity):
            pass

    async def _fetch(self, number: int) -> str:
        async with self._session.get(f"{self._url}/{number}") as response:
            if response.status == 429:
                raise Refused(float(response.headers["Retry-After"]))
            return await response.text()

    async def _figures(self, seconds: float) -> Figures:
        await asyncio.sleep(seconds / 2)
        half = await self._log()
        await asyncio.sleep(seconds / 2)
        log = await self._log()
        return Figures(
            log["served"] / seconds,
            (log["served"] - half["served"]) / (seconds / 2),
            log["refused"] / max(log["served"], 1),
        )

    async def _log(self) -> dict[str, int]:
        async with self._session.get(f"{self._url}/log") as response:
            log: dict[str, int] = await response.json()
            return log


def _retry_after(error: Exception) -> float | bool:
    return error.retry_after if isinstance(error, Refused) else False


def measure(wanted: Callable[[str], bool]) -> Iterator[Demand]:
    """Measure the parts whose names are wanted, print the figures line by line, and yield the demands."""
    with servers.serving(servers.busy) as port, asyncio.Runner() as runner:
        url = f"http://{servers.HOST}:{port}"
        session = runner.run(_session())
        print(HEADING)

        def tried(limit: paco.Limiter, *capacities: dict[str, Any]) -> list[Figures]:
            return runner.run(Trial(session, url, limit).run(*capacities))

        try:
            for part in (part for name, part in PARTS.items() if wanted(name)):
                print(f"  {part.name}", flush=True)
                if isinstance(part, Kind):
                    yield from _of(part, tried)
                else:
                    yield runner.run(Trial(session, url, part.make_limit()).errand(part))
        finally:
            runner.run(session.close())


async def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))


def _of(kind: Kind, tried: Callable[..., list[Figures]]) -> Iterator[Demand]:
    small, large = kind.capacity(CAPACITY), kind.capacity(LARGER)
    best: dict[int, float] = {}
    for most, capacity in ((CAPACITY, small), (LARGER, large)):
        for limit in (most * 6 // 10, most, most * 3 // 2):
            [figures] = tried(paco.Limit(limit), capacity)
            _print(f"fixed at {limit}, capacity {most}", figures)
            best[most] = max(best.get(most, 0.0), figures.settled)
    if kind.waits:
        _print(f"Gradient2 from 10, capacity {CAPACITY}", tried(Gradient2(10), small)[0], best[CAPACITY])
    for start in (1, 500):
        [figures] = tried(paco.Adaptive(start=start, drop_on=Refused), small)
        yield _demand(kind, f"Adaptive from {start}, capacity {CAPACITY}", figures, best[CAPACITY])
    for before, after in ((CAPACITY, LARGER), (LARGER, CAPACITY)):
        limit = paco.Adaptive(drop_on=Refused)
        first, then = tried(limit, kind.capacity(before), kind.capacity(after))
        yield _demand(kind, f"Adaptive, capacity {before}", first, best[before])
        yield _demand(kind, f"the same, then capacity {after}", then, best[after])


def _demand(kind: Kind, what: str, figures: Figures, best: float) -> Demand:
    _print(what, figures, best)
    share = figures.settled / best
    text = f"busy, {kind.name}: {what}: at least {LEAST:.0%} of the best fixed limit"
    return Demand(text, f"{share:.0%}", share >= LEAST)


def _print(what: str, figures: Figures, best: float = 0.0) -> None:
    share = f"{figures.settled / best:.0%}" if best else ""
    print(f"    {what:46}{figures.all:8.0f}{figures.settled:10.0f}{share:>9}{figures.refused:9.2f}", flush=True)
