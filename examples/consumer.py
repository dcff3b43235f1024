"""Work through a Redis queue, twenty jobs at a time. SIGTERM or Ctrl-C finishes what it has taken, and takes no more.

    python examples/consumer.py redis://localhost:6379

A job is on the list `jobs`, then on `taken` while it runs, then its result is on `done`. So even `kill -9` loses
nothing: a start begins with what is on `taken`. Start one consumer only, or give each a `taken` of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

from redis.asyncio import Redis

import paco

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


async def main(args: argparse.Namespace) -> None:
    gate = paco.Gate()

    async with Redis.from_url(args.url, decode_responses=True) as redis:

        async def jobs() -> AsyncIterator[str]:
            for job in await redis.lrange("taken", 0, -1):
                yield job
            while True:
                if job := await redis.blmove("jobs", "taken", timeout=1):
                    yield job

        @paco.settle
        @paco.retry(attempts=3)
        async def work(job: str) -> None:
            result = await compute(job)
            async with redis.pipeline(transaction=True) as both:
                await both.rpush("done", result).lrem("taken", 1, job).execute()

        with gate.closes_on(signal.SIGTERM, signal.SIGINT):
            async for outcome in paco.map(work, jobs(), limit=20 & gate).as_completed():
                if isinstance(outcome, paco.Err):
                    print(f"{outcome.item} stays on `taken`: {outcome.error!r}", file=sys.stderr)
    print("drained")


async def compute(job: str) -> str:
    await asyncio.sleep(0.05)
    return job.upper()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="the address of the Redis server")
    asyncio.run(main(parser.parse_args()))
