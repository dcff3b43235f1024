"""Measure whole jobs with paco against the same jobs by hand, two of them with real servers on loopback.

Both do the same work with the same client library, on the same loop, and run alternately in one process, in swapped
order each round. The servers are other processes. So what counts is the CPU time of the client, threads included. Of
calls that block in threads, the real time counts: the threads wait together.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self
from urllib.parse import urlsplit

import aiohttp
import orjson

import paco
from benchmarks import servers
from benchmarks.ring import shown
from benchmarks.workloads import LIMIT

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
    from contextlib import AbstractAsyncContextManager

    from benchmarks.demands import Demand


class Job(Protocol):
    """The same job twice, and what surrounds each run of it."""

    async def with_paco(self) -> None:
        """Do the job with paco."""

    async def by_hand(self) -> None:
        """Do the job with asyncio alone."""

    async def reset(self) -> None:
        """Undo the last run."""

    async def check(self) -> None:
        """Check the results of the last run."""


# ---- rows of a PostgreSQL cursor through three stages into COPY

ROWS, CUSTOMERS = 200_000, 500
#: Rows of a page of the cursor, of a queue, and of a COPY; and queries at once.
PAGE, QUEUE, BATCH, QUERIES = 1000, 100, 5000, 10
SETUP = f"""
    CREATE TABLE customer (id int PRIMARY KEY, name text);
    INSERT INTO customer SELECT n, 'customer ' || n FROM generate_series(0, {CUSTOMERS - 1}) AS n;
    CREATE TABLE raw (id bigint, event text);
    INSERT INTO raw SELECT n, json_build_object('customer', n % {CUSTOMERS}, 'currency', 'EUR', 'amount', n / 4.0)
        FROM generate_series(1, {ROWS}) AS n;
    CREATE TABLE clean (id bigint, name text, cents bigint);
"""  # noqa: S608 - own numbers
RATES = {"EUR": 1.1, "USD": 1.0}


class Etl:
    """Copy events into another table: parsed, with the name of the customer, in another currency."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool
        self._names: dict[int, str] = {}

    async def events(self) -> AsyncGenerator[Any]:
        """Yield the rows of a cursor."""
        async with self._pool.acquire() as connection, connection.transaction():
            async for record in connection.cursor("SELECT id, event FROM raw", prefetch=PAGE):
                yield record

    async def parse(self, record: Any) -> tuple[int, dict[str, Any]]:
        """Return the number and the fields of an event."""
        return record["id"], orjson.loads(record["event"])

    async def locate(self, row: tuple[int, dict[str, Any]]) -> tuple[int, str, dict[str, Any]]:
        """Add the name of the customer, which is in the database or in a cache."""
        number, event = row
        customer = event["customer"]
        name = self._names.get(customer)
        if name is None:
            name = await self._pool.fetchval("SELECT name FROM customer WHERE id = $1", customer)
            self._names[customer] = name
        return number, name, event

    async def convert(self, row: tuple[int, str, dict[str, Any]]) -> tuple[int, str, int]:
        """Return the row of the target."""
        number, name, event = row
        return number, name, round(100 * event["amount"] * RATES[event["currency"]])

    async def copy(self, rows: list[tuple[int, str, int]]) -> None:
        """Append rows to the target."""
        await self._pool.copy_records_to_table("clean", records=rows)

    async def with_paco(self) -> None:
        """Run each stage under its own limit."""
        events = self.events() | paco.map(self.parse, limit=QUEUE)
        located = (events | paco.map(self.locate, limit=QUERIES)).buffer(QUEUE)
        rows = located | paco.map(self.convert, limit=QUEUE)
        await (rows | paco.batch(BATCH) | paco.each(self.copy, limit=1))

    async def by_hand(self) -> None:
        """Run each stage as workers between two queues."""
        records, events, located, rows = (asyncio.Queue[Any](QUEUE) for _ in range(4))
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(records))
            group.create_task(_stage(self.parse, 1, records, events))
            group.create_task(_stage(self.locate, QUERIES, events, located))
            group.create_task(_stage(self.convert, 1, located, rows))
            group.create_task(self._copy_all(rows))

    async def _read(self, after: asyncio.Queue[Any]) -> None:
        async for record in self.events():
            await after.put(record)
        await after.put(None)

    async def _copy_all(self, before: asyncio.Queue[Any]) -> None:
        batch: list[tuple[int, str, int]] = []
        while (row := await before.get()) is not None:
            batch.append(row)
            if len(batch) == BATCH:
                await self.copy(batch)
                batch = []
        if batch:
            await self.copy(batch)

    async def reset(self) -> None:
        """Empty the target and the cache."""
        self._names.clear()
        await self._pool.execute("TRUNCATE clean")

    async def check(self) -> None:
        """Check that each event was copied once."""
        found = await self._pool.fetchrow("SELECT count(*), count(DISTINCT id), sum(cents) FROM clean")
        assert tuple(found[:2]) == (ROWS, ROWS), found


async def _stage(
    fn: Callable[[Any], Awaitable[Any]], workers: int, before: asyncio.Queue[Any], after: asyncio.Queue[Any]
) -> None:
    """Run a stage with that many workers. ``None`` is the end: a worker puts it back for the others."""

    async def work() -> None:
        while (item := await before.get()) is not None:
            await after.put(await fn(item))
        before.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        for _ in range(workers):
            group.create_task(work())
    await after.put(None)


@contextlib.asynccontextmanager
async def etl() -> AsyncGenerator[Etl]:
    """Start a PostgreSQL server, fill its tables, and yield the job."""
    import asyncpg

    with servers.postgres() as dsn:
        async with asyncpg.create_pool(dsn, min_size=QUERIES + 2, max_size=QUERIES + 2) as pool:
            await pool.execute(SETUP)
            yield Etl(pool)


# ---- HTTP requests under a limit per host, with retries and a journal

REQUESTS, HOSTS, PER_HOST, ATTEMPTS = 20_000, 10, 10, 3
#: Lines of a write by hand.
GROUP = 100


def host(url: str) -> str:
    return urlsplit(url).netloc


class Records:
    """Lines of JSON by hand: those of an earlier run, and new ones that are written in groups."""

    def __init__(self, path: Path) -> None:
        lines = path.read_bytes().splitlines() if path.exists() else []
        #: The items that have a record.
        self.done: set[str] = {orjson.loads(line)["input"] for line in lines}
        self._file = path.open("ab", buffering=0)
        self._lines: list[bytes] = []

    def add(self, item: str, result: dict[str, Any]) -> None:
        """Add a record, and write those that wait if they are enough."""
        self._lines.append(orjson.dumps({"input": item, "ok": True, "result": result}) + b"\n")
        if len(self._lines) >= GROUP:
            self._write()

    def _write(self) -> None:
        self._file.write(b"".join(self._lines))
        self._lines.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self._file.close()


class Crawl:
    """Get pages of several hosts, at most ten at once of each, and record the results; one in fifty fails at first."""

    def __init__(self, session: aiohttp.ClientSession, ports: list[int], path: Path) -> None:
        self._session, self._path = session, path
        self._urls = [f"http://{servers.HOST}:{ports[n % HOSTS]}/{n}" for n in range(REQUESTS)]

    async def fetch(self, url: str) -> dict[str, Any]:
        """Return what is to be recorded of a page."""
        async with self._session.get(url) as response:
            response.raise_for_status()
            return {"status": response.status, "text": await response.text()}

    async def with_paco(self) -> None:
        """Fetch all pages."""
        fetch = paco.retry(self.fetch, attempts=ATTEMPTS, on=aiohttp.ClientError)
        polite = paco.PerKey(host, lambda: PER_HOST)
        await paco.map(fetch, self._urls, limit=polite).journal(self._path).drain()

    async def by_hand(self) -> None:
        """Fetch all pages."""
        semaphores: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(PER_HOST))
        with Records(self._path) as records:
            rest = (url for url in self._urls if url not in records.done)

            async def work() -> None:
                for url in rest:
                    records.add(url, await self._attempts(url, semaphores[host(url)]))

            async with asyncio.TaskGroup() as group:
                for _ in range(HOSTS * PER_HOST):
                    group.create_task(work())

    async def _attempts(self, url: str, semaphore: asyncio.Semaphore) -> dict[str, Any]:
        for attempt in range(1, ATTEMPTS):
            try:
                async with semaphore:
                    return await self.fetch(url)
            except aiohttp.ClientError:
                await asyncio.sleep(random.uniform(0, 0.1 * 2 ** (attempt - 1)))  # noqa: S311 - no secret
        async with semaphore:
            return await self.fetch(url)

    async def reset(self) -> None:
        """Delete the records."""
        self._path.unlink(missing_ok=True)

    async def check(self) -> None:
        """Check that each page was recorded once."""
        records = [orjson.loads(line) for line in self._path.read_bytes().splitlines()]
        assert {one["input"] for one in records} == set(self._urls)
        assert all(one["result"]["status"] == 200 for one in records)


@contextlib.asynccontextmanager
async def crawl() -> AsyncGenerator[Crawl]:
    """Start a server with ten ports, and yield the job."""
    with servers.serving(servers.flaky) as ports, tempfile.TemporaryDirectory() as folder:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            yield Crawl(session, ports, Path(folder, "records.jsonl"))


# ---- calls that block, in threads

CALLS, BLOCKED = 20_000, 0.02


def block(number: int) -> int:
    """Return the number after a while, as a client does that knows no async."""
    time.sleep(BLOCKED)
    return number


class Threads:
    """Call a blocking function in a hundred threads."""

    def __init__(self) -> None:
        self._found: list[int] = []

    async def with_paco(self) -> None:
        """Call it by `paco.threaded`."""
        self._found = await paco.map(paco.threaded(block), range(CALLS), limit=LIMIT)

    async def by_hand(self) -> None:
        """Call it by `ThreadPoolExecutor.map`."""
        self._found = await asyncio.to_thread(self._mapped)

    def _mapped(self) -> list[int]:
        with ThreadPoolExecutor(LIMIT) as pool:
            return list(pool.map(block, range(CALLS)))

    async def reset(self) -> None:
        """Forget the results."""
        self._found = []

    async def check(self) -> None:
        """Check that each call returned its number."""
        assert self._found == list(range(CALLS))


@contextlib.asynccontextmanager
async def threads() -> AsyncGenerator[Threads]:
    """Yield the job."""
    yield Threads()


# ---- measuring


@dataclass(frozen=True)
class Part:
    """A job, what is measured of it, and the largest allowed ratio of paco to the same by hand."""

    name: str
    opened: Callable[[], AbstractAsyncContextManager[Job]]
    clock: Callable[[], float] = time.process_time
    most: float = 1.15


PARTS: dict[str, Part] = {
    "etl": Part(f"{ROWS:,} rows of a cursor, three stages, COPY / the same", etl),
    "crawl": Part(f"{REQUESTS:,} GETs, a limit per host, retries, journal / the same", crawl),
    "threads": Part(f"{CALLS:,} calls that block, time / ThreadPoolExecutor.map", threads, time.perf_counter, 1.05),
}


async def spent(job: Job, run: Callable[[], Awaitable[None]], clock: Callable[[], float]) -> float:
    """Return the seconds of one run by the clock, and check its results."""
    await job.reset()
    gc.collect()
    began = clock()
    await run()
    seconds = clock() - began
    await job.check()
    return seconds


async def ratios(part: Part, rounds: int) -> list[float]:
    """Return the ratio of paco to the same by hand for each round after a warm-up, sorted."""
    times: list[float] = []
    async with part.opened() as job:
        both = (job.with_paco, job.by_hand)
        for number in range(rounds + 1):
            took = {run: await spent(job, run, part.clock) for run in (both if number % 2 else reversed(both))}
            times.append(took[job.with_paco] / took[job.by_hand])
    return sorted(times[1:])


def measure(
    rounds: int, new_loop: Callable[[], asyncio.AbstractEventLoop], wanted: Callable[[str], bool]
) -> Iterator[Demand]:
    """Measure each job, print a line for it, and yield its demand. Skip a job whose server or package is missing."""
    print(f"\nwhole jobs and the same by hand: CPU of the client, median of {rounds} rounds")
    for part in (PARTS[name] for name in PARTS if wanted(name)):
        try:
            with asyncio.Runner(loop_factory=new_loop) as runner:
                times = runner.run(ratios(part, rounds))
        except (ImportError, servers.NoServer) as error:
            print(f"  {part.name}: skipped: {error}")
        else:
            yield shown(part.name, times, part.most, "the CPU" if part.clock is time.process_time else "the time")
