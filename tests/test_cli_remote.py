"""`paco map --workers` and `--dask`: the items run elsewhere, all else is as before."""

from __future__ import annotations

import asyncio
import json
import os

import pytest

from paco._cli import main
from paco.remote._calls import Calling

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio, os, threading
from contextlib import asynccontextmanager

async def where(item):
    await asyncio.sleep(0.001)
    if item == "7":
        raise ValueError(item)
    return os.getpid()

@asynccontextmanager
async def locked():
    lock = threading.Lock()

    async def get(item):
        return str(lock)

    yield get
"""
FILES = {"distant_jobs.py": JOBS, "in.txt": "".join(f"{number}\n" for number in range(100))}


@pytest.mark.parametrize("more", [[], ["--retries", "1"], ["--rate", "2000/s"], ["--limit", "0"]], ids=" ".join)
def test_the_items_run_in_processes_and_the_records_are_as_ever(folder, more, capfd):
    words = ["map", "distant_jobs:where", "in.txt", "--workers", "2", "--limit", "10", *more, "--output", "out.jsonl"]
    assert main(words) == 1
    records = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert sorted(record["id"] for record in records) == list(range(100))
    [failed] = [record for record in records if not record["ok"]]
    assert (failed["input"], failed["error"]["type"], failed["attempts"]) == (
        "7",
        "ValueError",
        1 + ("--retries" in more),
    )
    pids = {record["result"] for record in records if record["ok"]}
    assert 1 <= len(pids) <= 2
    assert os.getpid() not in pids
    assert "99 ok   1 failed" in capfd.readouterr().err


def test_what_cannot_run_elsewhere_is_said_before_anything_runs(capfd):
    for words, told in (
        (
            ["distant_jobs:locked", "--workers", "2"],
            "map --workers: get cannot be sent to other processes: its lock is",
        ),
        (
            ["distant_jobs:where", "--dask", "tcp://host"],
            "map --dask: engine must be an address such as 'dask://host:8786'",
        ),
        (["distant_jobs:where", "--dask", "dask://a:1", "--workers", "2"], "--dask on a cluster; give one of them"),
        (["distant_jobs:where", "--workers", "0"], "must be a whole number of 1 or more"),
    ):
        assert main(["map", *words, "in.txt"]) == 2
        assert told in capfd.readouterr().err


async def quick(number):
    return number


class Refuses:
    slots = processes = apart = 1
    flag = ""

    async def open(self):
        await asyncio.sleep(0.05)
        raise OSError("no such cluster")

    async def close(self):
        pass


async def test_when_the_place_is_not_there_all_calls_say_so():
    async with Calling("map", quick, Refuses, 2, 10, 2) as calls:
        first = asyncio.ensure_future(calls.function(1))
        for call in (first, calls.function(2)):
            with pytest.raises(OSError, match="no such cluster"):
                await call
            await asyncio.sleep(0.1)
