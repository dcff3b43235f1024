"""By hand, as separate programs: what `paco map` and `paco report` do with lines and records, for `benchmarks.ring`.

``map SOURCE OUTPUT`` runs an async function on each line, 100 at once, and writes a record of each with the same fields
as the command. ``report RECORDS`` reads them, and prints counts and latencies.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import sys
import time
from array import array
from hashlib import blake2b
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import Any

import orjson
import uvloop

#: Items in flight, as in the other programs.
LIMIT = 100


async def measure(line: str) -> int:
    """Wait for the next turn of the loop, as a request that is answered at once."""
    await asyncio.sleep(0)
    return len(line)


async def run(source: str, output: str) -> None:
    """Write a record for each line."""
    free, new = list[int](), count()
    with Path(source).open("rb") as lines, Path(output).open("wb") as records:  # noqa: ASYNC230 - nothing else runs
        items = enumerate(lines)

        async def work() -> None:
            for number, raw in items:
                item = raw.decode().rstrip("\r\n")
                key = blake2b(orjson.dumps(item), digest_size=16).hexdigest()
                slot = heappop(free) if free else next(new)
                start, began = dt.datetime.now(dt.UTC), time.perf_counter()
                outcome: dict[str, Any]
                try:
                    outcome = {"ok": True, "result": await measure(item)}
                except Exception as error:
                    outcome = {"ok": False, "error": {"type": type(error).__name__, "message": str(error)}}
                heappush(free, slot)
                record = {
                    "id": number,
                    "key": key,
                    "input": item,
                    **outcome,
                    "attempts": 1,
                    "slot": slot,
                    "start": start.isoformat(timespec="milliseconds"),
                    "ms": round(1000 * (time.perf_counter() - began), 1),
                    "function": measure.__name__,
                    "source": "0123456789abcdef",
                }
                records.write(orjson.dumps(record) + b"\n")

        async with asyncio.TaskGroup() as group:
            for _ in range(LIMIT):
                group.create_task(work())


def report(path: str) -> None:
    """Print the counts and the latencies of the last records of all items."""
    last: dict[str, int] = {}
    starts, ends, states = array("d"), array("d"), array("B")
    with Path(path).open("rb") as file:
        for row, line in enumerate(file):
            record = orjson.loads(line)
            start = dt.datetime.fromisoformat(record["start"]).timestamp()
            last[record["key"]] = row
            starts.append(start)
            ends.append(start + record["ms"] / 1000)
            states.append(record["ok"])
    rows = last.values()
    took = sorted(ends[row] - starts[row] for row in rows)
    ok = sum(states[row] for row in rows)
    print(f"{ok:,} ok, {len(took) - ok:,} failed, {max(ends) - min(starts):.1f} s")
    print([took[int(share * (len(took) - 1))] for share in (0.5, 0.95, 0.99, 1)])


def main() -> None:
    what, *paths = sys.argv[1:]
    if what == "report":
        report(*paths)
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(*paths))


if __name__ == "__main__":
    main()
