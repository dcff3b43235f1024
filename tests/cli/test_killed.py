"""`paco map` killed at random moments and resumed: at the end exactly what an undisturbed run has."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time

import pytest

from tests.patience import wait_until
from tests.programs import popen

pytestmark = [pytest.mark.realtime, pytest.mark.posix, pytest.mark.slow, pytest.mark.timeout(900)]

#: Kills in all, and items: a few in the suite, 50 and 4,000 by PACO_KILLS=50.
KILLS = int(os.environ.get("PACO_KILLS", "2"))
ITEMS = 4000 if KILLS >= 10 else 1000

JOBS = """
import asyncio, pathlib, time, zlib

async def work(item):
    number = zlib.crc32(item.encode())
    while item == "last" and not pathlib.Path("release").exists():
        await asyncio.sleep(0.005)
    await asyncio.sleep(number % 20 / 1000)
    if number % 10 == 0:
        raise ValueError(item)
    return {"length": len(item), "text": "日" * (number % 200)}

async def stuck(item):
    while int(item) >= 3:
        time.sleep(0.001)
    return item
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    prepare(folder)
    assert start(folder).wait() == 1
    return finals(folder)


def prepare(folder):
    (folder / "jobs.py").write_text(JOBS)
    lines = [f"item {number % (ITEMS - 41)}" for number in range(ITEMS - 1)]  # 40 are equal to others
    lines.append("last")
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in lines))
    (folder / "release").touch()


def start(folder, *words, output="out.jsonl", **more):
    words = ["-m", "paco", "map", "jobs:work", "items.txt", "-l", "50", "-o", output, *words]
    streams = {"stdin": None, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **more}
    return popen(*words, cwd=folder, **streams)


def finals(folder, name="out.jsonl"):
    """Return the last record of each item without what differs from run to run; each line must be whole."""
    text = (folder / name).read_text()
    assert not text or text.endswith("\n")
    last = {}
    for line in text.splitlines():
        record = json.loads(line)
        assert set(record) >= {"id", "key", "input", "ok", "attempts", "slot", "start", "ms"}
        last[record["key"]] = record
    stable = ("id", "key", "input", "ok", "result", "error")
    return sorted([tuple(map(repr, map(record.get, stable))) for record in last.values()])


def disturb(folder, send, kills):
    """Start runs and end them at random moments, while they write or before, then let one come to its end.

    Each is there when it is ended: the last item is released only afterwards.
    """
    dice = random.Random(kills)  # noqa: S311 - dice, not secrets
    release = folder / "release"
    for number in range(kills):
        release.unlink()
        process = start(folder, "--resume")
        if number % 5 < 4:
            enough = 200 * ITEMS * (number + dice.random()) / kills
            wait_until(lambda: size(folder / "out.jsonl") > enough)  # noqa: B023 - it is called here
        else:
            time.sleep(dice.uniform(0, 0.3))
        assert process.poll() is None
        send(process)
        release.touch()
        process.wait()
    assert start(folder, "--resume").wait() == 1


def size(path):
    return path.stat().st_size if path.exists() else 0


def interrupt_twice(process):
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)


@pytest.mark.parametrize(
    ("send", "kills"),
    [
        (subprocess.Popen.kill, KILLS),
        (subprocess.Popen.terminate, max(KILLS // 5, 1)),
        (lambda process: process.send_signal(signal.SIGINT), max(KILLS // 5, 1)),
        (interrupt_twice, max(KILLS // 5, 1)),
    ],
    ids=["SIGKILL", "SIGTERM", "SIGINT", "SIGINT twice"],
)
def test_runs_killed_at_random_and_resumed_give_the_records_of_an_undisturbed_run(tmp_path, undisturbed, send, kills):
    prepare(tmp_path)
    disturb(tmp_path, send, kills)
    assert finals(tmp_path) == undisturbed
    assert len(undisturbed) == ITEMS


def test_a_full_disk_leaves_whole_records_and_the_run_resumes_when_there_is_space(tmp_path, undisturbed):
    prepare(tmp_path)
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={ITEMS // 16}k", "tmpfs", str(disk)]
    try:
        mounted = subprocess.run(mount, check=False, capture_output=True).returncode == 0
    except OSError:
        mounted = False
    if not mounted:
        pytest.skip("a small disk can be mounted by root only")
    try:
        process = start(tmp_path, output="disk/out.jsonl", stderr=subprocess.PIPE)
        assert (
            "cannot write the output, so the run was cancelled: disk/out.jsonl: No space left on device"
            in process.communicate()[1]
        )
        assert process.returncode == 1
        some = finals(tmp_path, "disk/out.jsonl")
        assert 0 < len(some) < ITEMS
        subprocess.run([shutil.which("mount"), "-o", "remount,size=16m", str(disk)], check=True)
        assert start(tmp_path, "--resume", output="disk/out.jsonl").wait() == 1
        assert finals(tmp_path, "disk/out.jsonl") == undisturbed
    finally:
        subprocess.run([shutil.which("umount"), str(disk)], check=True)


def test_a_file_size_limit_leaves_whole_records(tmp_path, undisturbed):
    prepare(tmp_path)

    import resource

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (25 * ITEMS, 25 * ITEMS))

    assert start(tmp_path, preexec_fn=limit).wait() == 1
    assert 0 < len(finals(tmp_path)) < ITEMS
    assert start(tmp_path, "--resume").wait() == 1
    assert finals(tmp_path) == undisturbed


def test_a_reader_that_closes_the_pipe_gets_whole_records_and_ends_the_run(tmp_path, undisturbed):
    prepare(tmp_path)
    process = start(tmp_path, output="-", stdout=subprocess.PIPE)
    lines = [process.stdout.readline() for _ in range(100)]
    process.stdout.close()
    assert process.wait() == 141
    assert all(json.loads(line)["key"] for line in lines)


def test_a_busy_loop_holds_back_no_record_from_a_kill(tmp_path):
    prepare(tmp_path)
    (tmp_path / "numbers").write_text("".join(f"{number}\n" for number in range(10)))
    out = tmp_path / "out.jsonl"
    with popen("-m", "paco", "map", "jobs:stuck", "numbers", "-o", out, cwd=tmp_path, stdin=None) as process:
        wait_until(lambda: out.exists() and out.read_text().count("\n") == 3)
        process.kill()
        process.communicate()
    assert [json.loads(line)["result"] for line in out.read_text().splitlines()] == ["0", "1", "2"]
