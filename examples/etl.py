"""Copy the events of a PostgreSQL table into another one, parsed: from a cursor, in batches, in constant memory.

    python examples/etl.py postgresql://user@host/database

The target always holds the first part of the source. So run it again to go on, after an error or for new events. It
reads `raw (id bigint, event text)`, where an event is JSON, and makes `clean (id, kind, amount)`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import TYPE_CHECKING

import asyncpg

import paco

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TABLE = "CREATE TABLE IF NOT EXISTS clean (id bigint PRIMARY KEY, kind text, amount numeric)"
NEW = "SELECT id, event FROM raw WHERE id > (SELECT coalesce(max(id), 0) FROM clean) ORDER BY id"

Row = tuple[int, str, float]


@paco.wraps
def parse(raw: asyncpg.Record) -> Row:
    event = json.loads(raw["event"])
    return raw["id"], event["kind"], event["amount"]


async def main(args: argparse.Namespace) -> None:
    async with asyncpg.create_pool(args.dsn, min_size=2) as pool:
        await pool.execute(TABLE)

        async def events() -> AsyncIterator[asyncpg.Record]:
            async with pool.acquire() as connection, connection.transaction():
                async for record in connection.cursor(NEW, prefetch=1000):
                    yield record

        async def copy(rows: list[Row]) -> int:
            await pool.copy_records_to_table("clean", records=rows)
            return len(rows)

        with paco.progress():
            rows = events() | paco.map(parse, limit=1)
            copied = await (rows | paco.batch(args.batch) | paco.map(copy, limit=1))
    print(f"{sum(copied)} events copied")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn", help="the address of the database")
    parser.add_argument("--batch", type=int, default=5000, help="rows in one transaction")
    asyncio.run(main(parser.parse_args()))
