"""`paco map --workers` and `--dask`: the items run elsewhere, all else is as before."""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import time
from datetime import datetime

import pytest

from paco.remote._worker import host

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio, os, pathlib, re, threading, time
from contextlib import asynccontextmanager

loaded = os.getpid(), time.time()

async def where(item):
    await asyncio.sleep(0.001)
    if item == "7":
        raise ValueError(item)
    return os.getpid()

async def times(item):
    began = time.time()
    await asyncio.sleep(0.05)
    assert loaded[0] == os.getpid()
    return loaded[1], began, time.time()

async def forever(item):
    open(f"began-{item}", "w").close()
    while item != "1" or len(list(pathlib.Path().glob("began-*"))) < 3:
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)  # in which more might begin
    raise ValueError(item)

class Refused(Exception):
    def __init__(self, text, *, response):
        super().__init__(text)

class Vanishing:
    def __reduce__(self):
        return int, ("not here",)

async def harms(item):
    if item == "3":
        raise Refused("503", response=None)
    if item == "4":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    return {"5": threading.Lock, "6": Vanishing, "7": lambda: Refused("503", response=1)}.get(item, lambda: item)()

async def says(item):
    print("said in", os.getpid(), flush=True)
    return os.getpid()

async def holds(item):
    if item == "3":
        re.fullmatch("(a+)+b", "a" * 100)  # takes years, and holds the GIL
    await asyncio.sleep(30 if item == "5" else 0)
    return item

def hangs(item):
    time.sleep({"3": 3600, "9": 0.5}.get(item, 0))
    return item

barrier = threading.Barrier(40, timeout=60)

async def meets(item):
    return await asyncio.to_thread(barrier.wait)

def meets_too(item):
    return barrier.wait(), os.getpid()

@asynccontextmanager
async def locked():
    lock = threading.Lock()

    async def get(item):
        return str(lock)

    yield get
"""
FILES = {"distant_jobs.py": JOBS, "in.txt": "".join(f"{number}\n" for number in range(100))}


@pytest.mark.parametrize("more", [[], ["--retries", "1"]], ids=" ".join)
def test_a_value_that_cannot_be_sent_fails_its_item_alone(folder, more, run):
    words = ["distant_jobs:harms", "in.txt", "--workers", "2", "--limit", "10", *more, "--output", "out.jsonl"]
    assert run(*words)[0] == 1
    records = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    errors = {record["input"]: record["error"]["type"] for record in records if not record["ok"]}
    harm = ["RemoteError", "CancelledError", "TypeError", "TypeError", "RemoteError"]
    assert (len(records), errors) == (100, dict(zip("34567", harm, strict=True)))


@pytest.mark.usefixtures("without_cloudpickle")
def test_without_cloudpickle_errors_are_those_of_the_items(folder, run):
    words = ["distant_jobs:where", "in.txt", "--workers", "1", "--head", "10", "--output", "out.jsonl"]
    assert run(*words)[0] == 1
    records = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [record["error"] for record in records if not record["ok"]] == [{"type": "ValueError", "message": "7"}]


@pytest.mark.parametrize("more", [[], ["--retries", "1"], ["--rate", "2000/s"], ["--limit", "0"]], ids=" ".join)
def test_items_run_in_processes_and_give_the_same_records(folder, more, run):
    words = ["distant_jobs:where", "in.txt", "--workers", "2", "--limit", "10", *more, "--output", "out.jsonl"]
    code, _, err = run(*words)
    assert code == 1
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
    here = platform.node()
    assert all(record["worker"] == f"process {record['result']} on {here}" for record in records if record["ok"])
    assert failed["worker"] in {f"process {pid} on {here}" for pid in pids}
    assert "99 ok   1 failed" in err


@pytest.mark.parametrize("limit", ["40", "0"])
@pytest.mark.parametrize("workers", [[], ["--workers", "1"]], ids=" ".join)
def test_as_many_blocking_functions_run_in_threads_as_items_may(run, workers, limit):
    code, out, _ = run("distant_jobs:meets", "in.txt", "--head", 40, "--limit", limit, *workers, "--values")
    assert code == 0
    assert sorted(map(int, out.split())) == list(range(40))


def test_output_of_workers_goes_to_stderr_too(run):
    code, out, err = run("distant_jobs:says", "in.txt", "--workers", "1", "--head", "1")
    assert code == 0
    pid = json.loads(out)["result"]
    assert f"said in {pid}\n" in err


def test_report_and_trace_have_rows_for_each_worker_also_when_made_from_records(folder, run, report):
    more = ["--limit", "10", "--output", "out.jsonl", "--report", "r.html", "--trace", "t.json", "--progress", "json"]
    code, _, err = run("distant_jobs:where", "in.txt", "--workers", "2", *more)
    assert code == 1
    said = json.loads(err.splitlines()[-1])
    assert (said["limit"], sum(worker["ok"] for worker in said["workers"])) == (10, 99)
    assert report("out.jsonl", "--output", "s.html", "--trace", "u.json")[0] == 0
    for page, trace, limit in (("r.html", "t.json", ", limit 10"), ("s.html", "u.json", None)):
        records = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
        workers = {record["worker"] for record in records}
        text = (folder / page).read_text()
        assert f"slots of {len(workers)} worker" in text
        assert all(f"<td>{worker}</td>" in text for worker in workers)
        found = json.loads((folder / trace).read_text())["traceEvents"]
        names = [event["args"]["name"] for event in found if event["name"] == "process_name"]
        assert {name.rpartition(": ")[2] for name in names[1:]} == workers
        assert limit is None or names[0].endswith(f"{limit})")
        spans, last = [event for event in found if event["ph"] == "X"], {}
        assert {event["pid"] for event in spans} == set(range(2, 2 + len(workers)))
        for span in sorted(spans, key=lambda span: span["ts"]):
            assert last.get((span["pid"], span["tid"]), 0) <= span["ts"] + 0.001
            last[span["pid"], span["tid"]] = span["ts"] + span["dur"]


def test_the_times_of_a_record_are_those_of_the_worker(folder, run):
    assert run("distant_jobs:times", "in.txt", "--workers", "1", "--head", "1", "--output", "out.jsonl")[0] == 0
    record = json.loads((folder / "out.jsonl").read_text())
    loaded, began, ended = record["result"]
    start = datetime.fromisoformat(record["start"]).timestamp()
    assert loaded - 0.001 <= start <= began  # before it was loaded, the item waited for the worker
    assert ended - began - 0.001 <= record["ms"] / 1000 <= time.time() - loaded


def test_no_more_items_are_sent_than_may_run(folder, run):
    more = ["--workers", "2", "--limit", "3", "--halt", "now,fail=1", "--output", "out.jsonl", "--progress", "json"]
    assert run("distant_jobs:forever", "in.txt", *more)[0] == 3
    assert len((folder / "out.jsonl").read_text().splitlines()) == 1
    assert len(list(folder.glob("began-*"))) == 3


def test_options_that_cannot_work_with_workers_are_refused_before_anything_runs(run):
    for words, told in (
        (
            ["distant_jobs:locked", "--workers", "2"],
            "map --workers: get cannot be sent to other processes: its lock is",
        ),
        (
            ["distant_jobs:where", "--dask", "tcp://host"],
            "map --dask: engine must be an address such as 'dask://host:8786'",
        ),
        (
            ["distant_jobs:where", "--dask", "dask://a:1", "--workers", "2"],
            "--dask on a cluster; give only one of them",
        ),
        (["distant_jobs:where", "--workers", "0"], "must be a whole number of 1 or more"),
    ):
        code, _, err = run(*words, "in.txt")
        assert code == 2
        assert told in err


class Refuses:
    slots = processes = 1
    flag = ""
    ours = True

    async def open(self):
        await asyncio.sleep(0.05)
        raise OSError("no such cluster")

    async def close(self):
        pass


class Breaks(Refuses):
    """Runs one chunk, then no other."""

    sent = 0

    async def open(self):
        pass

    def submit(self, order, function, items):
        self.sent += 1
        if self.sent > 1:
            raise OSError("no such cluster")
        return host().start(order, function, items)

    def cancel(self, run, futures):
        host().cancel(run)


def test_a_missing_engine_is_an_error_of_use(folder, monkeypatch, run):
    monkeypatch.setattr("paco.remote._engines.engine_of", lambda *_: Refuses)
    code, _, told = run("distant_jobs:where", "in.txt", "--workers", "1", "--output", "out.jsonl")
    assert code == 2
    assert (folder / "out.jsonl").read_text() == ""
    assert "paco: the workers cannot run the items: OSError: no such cluster\n" in told


def test_an_engine_that_breaks_ends_the_run_and_is_reported(folder, monkeypatch, run):
    monkeypatch.setattr("paco.remote._engines.engine_of", lambda *_: Breaks)
    code, _, told = run("distant_jobs:where", "in.txt", "--workers", "1", "--output", "out.jsonl", "--limit", "1")
    assert code == 1
    assert (folder / "out.jsonl").read_text().count("\n") == 1
    assert "paco: the workers cannot run the items, so the run was cancelled: OSError: no such cluster\n" in told
    assert "  again     paco map distant_jobs:where in.txt --workers 1 --output out.jsonl --limit 1 --resume\n" in told


def test_a_cluster_that_does_not_answer_is_wrong_use(folder, run):
    pytest.importorskip("distributed")
    import dask

    with dask.config.set({"distributed.comm.timeouts.connect": "0.5s"}):
        code, _, err = run("distant_jobs:where", "in.txt", "--dask", "dask://127.0.0.1:9", "--output", "out.jsonl")
    assert code == 2
    assert err.startswith("paco: --dask dask://127.0.0.1:9 cannot run the items: ")
    assert (folder / "out.jsonl").read_text() == ""


@pytest.mark.parametrize("more", [[], ["--retries", 2]], ids=["", "retries"])
def test_a_timeout_ends_an_item_that_holds_its_worker(run, more):
    """It takes a second, although the timeout is shorter. For an item that awaits, nothing changes."""
    code, out, _ = run("distant_jobs:holds", "in.txt", "--head", 10, "--timeout", "0.2s", "--workers", 2, *more)
    assert code == 1
    records = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert [key for key, record in sorted(records.items()) if record["ok"]] == list("01246789")
    assert records["3"]["error"]["type"] == "WorkerLost"
    assert re.search(r"the item held process \d+ on .+ for more than 1\.0 s", records["3"]["error"]["message"])
    assert records["5"]["error"]["type"] == "TimeoutError"


def test_a_timeout_ends_a_plain_function_that_hangs_in_its_thread(run):
    code, out, _ = run("distant_jobs:hangs", "in.txt", "--head", 10, "--timeout", "0.2s", "--workers", 2)
    assert code == 1
    records = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert [key for key, record in sorted(records.items()) if record["ok"]] == list("01245678")
    assert records["3"]["error"]["type"] == "WorkerLost"
    assert records["9"]["error"]["type"] == "TimeoutError"


@pytest.mark.parametrize("more", [[], ["--workers", 1]], ids=["here", "worker"])
def test_as_many_calls_of_a_plain_function_run_at_once_as_the_limit_says(run, folder, more):
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(40)))
    code, out, err = run("distant_jobs:meets_too", "items.txt", "--limit", 40, *more)
    assert code == 0, err
    found = [json.loads(line)["result"] for line in out.splitlines()]
    assert sorted(number for number, _ in found) == list(range(40))
    assert ({pid for _, pid in found} == {os.getpid()}) == (not more)
