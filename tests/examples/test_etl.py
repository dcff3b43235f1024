"""The ETL copies each row of a real PostgreSQL once, goes on after an error, and streams."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.patience import wait_until

asyncpg = pytest.importorskip("asyncpg", reason="needs asyncpg")

#: Debian has the programs of the server outside of the path.
SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda one: int(one.parents[1].name))
INITDB = SERVERS[-1] if SERVERS else shutil.which("initdb")

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.posix,
    pytest.mark.skipif(INITDB is None, reason="needs PostgreSQL: apt-get install postgresql"),
]

SETUP = [
    """CREATE FUNCTION event(n bigint) RETURNS text LANGUAGE sql AS
       $$ SELECT json_build_object('kind', 'k' || n, 'amount', n / 4.0) $$""",
    "CREATE TABLE raw (id bigint, event text)",
    "INSERT INTO raw SELECT n, event(n) FROM generate_series(1, 10000) AS n",
    "UPDATE raw SET event = 'broken' WHERE id = 7500",
    # The first row is slow, so that other batches overtake it if they can.
    "CREATE TABLE clean (id bigint PRIMARY KEY, kind text, amount numeric)",
    """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
       $$ BEGIN PERFORM pg_sleep(0.5); RETURN NEW; END $$""",
    "CREATE TRIGGER slow BEFORE INSERT ON clean FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION slow()",
]


@pytest.fixture
def dsn():
    """Start a server of its own on a socket in a new folder, not as root, which PostgreSQL refuses."""
    folder = Path(tempfile.mkdtemp(prefix="pg"))  # a short path: that of a socket has at most 107 bytes
    options = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    if os.getuid() == 0:
        shutil.chown(folder, "nobody")
        options |= {"user": "nobody", "extra_groups": []}
    data, bin_ = folder / "data", Path(INITDB).parent
    try:
        made = [INITDB, "--no-sync", "--auth=trust", "--username=paco", "--encoding=UTF8", "--locale=C", data]
        subprocess.run(made, check=True, **options)
        settings = ["--listen_addresses=", "--fsync=off", "--track_commit_timestamp=on", "-k", folder, "-D", data]
        with subprocess.Popen([bin_ / "postgres", *settings], **options) as server:
            try:
                ready = [bin_ / "pg_isready", "-q", "-h", folder]
                wait_until(lambda: subprocess.run(ready, check=False).returncode == 0)
                yield f"postgresql://paco@/postgres?host={folder}"
            finally:
                server.terminate()
    finally:
        shutil.rmtree(folder)


def query(dsn, *statements):
    """Run statements, and return the rows of the last one."""

    async def main():
        connection = await asyncpg.connect(dsn)
        try:
            return [await connection.fetch(statement) for statement in statements][-1]
        finally:
            await connection.close()

    return asyncio.run(main())


def test_it_copies_each_row_once_in_order_and_goes_on_after_an_error(dsn, program, finished):
    query(dsn, *SETUP)
    process = program("etl.py", dsn, "--batch", 1000)
    _, err = process.communicate()
    assert process.returncode == 1
    assert "JSONDecodeError" in err
    copied = [row["id"] for row in query(dsn, "SELECT id FROM clean ORDER BY id")]
    assert copied == list(range(1, len(copied) + 1))
    assert 5000 <= len(copied) < 7500  # one batch was being copied, another one was full

    query(dsn, "UPDATE raw SET event = event(7500) WHERE id = 7500")
    assert finished("etl.py", dsn, "--batch", 1000) == f"{10_000 - len(copied)} events copied\n"
    assert finished("etl.py", dsn) == "0 events copied\n"
    rows = query(dsn, "SELECT id, kind, amount, pg_xact_commit_timestamp(xmin) FROM clean ORDER BY id")
    times = [row[3] for row in rows]
    assert times == sorted(times)
    assert [tuple(row)[:3] for row in rows] == [(n, f"k{n}", n / 4) for n in range(1, 10_001)]
