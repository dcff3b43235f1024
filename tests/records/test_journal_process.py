"""The journal under what happens to processes, disks and folders. ``PACO_KILLS=50``: so many kills, of 40,000 items."""

from __future__ import annotations

import contextlib
import errno
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess

import pytest

import paco
from paco.journal import JournalError
from tests.patience import until, wait_until

pytestmark = [pytest.mark.realtime, pytest.mark.posix]

KILLS = int(os.environ.get("PACO_KILLS", "2"))
ITEMS = 40_000 if KILLS >= 10 else 10_000

JOB = '''
import asyncio, itertools, os, pathlib, resource, sys, time, paco

async def work(item):
    """Return, or raise, what is another thing each time that it runs; the last item ends when it is released."""
    await asyncio.sleep(0)
    while item == LAST and not pathlib.Path("release").exists():
        await asyncio.sleep(0.005)
    if item % 97 == 0:
        raise ValueError(f"{item} {time.time_ns()}")
    return [item, time.time_ns()]

async def slow(item):
    await asyncio.sleep(0.01)
    return item

async def stuck(item):
    """Return at once, but block the event loop from the fourth item on."""
    while item >= 3:
        time.sleep(0.001)
    return item

async def run(fn, journal, handed, items, limit=100):
    """Write down what is handed on, at once and in the file of this run; errors are not run again."""
    into = os.open(handed, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    results = paco.map(fn, items, limit=limit, return_exceptions=True).journal(journal, retry_errors=False)
    async with results:
        async for result in results:
            os.write(into, f"{result}\\n".encode())

async def fork(journal):
    """Leave a child behind that outlives this process, until its stdin ends."""
    async with paco.map(slow, itertools.count(), limit=2).journal(journal) as results:
        await anext(results)
        if os.fork() == 0:
            print(os.getpid(), flush=True)
            os.read(0, 1)
            os._exit(0)
        async for _ in results:
            pass
'''


@pytest.fixture
def start(tmp_path, start):
    """Return a function that starts Python code beside the job."""
    (tmp_path / "job.py").write_text(f"{JOB}\nLAST = {ITEMS - 1}\n")

    def run(code, *options):
        code = f"import asyncio, sys; sys.path.insert(0, '.'); from job import *; {code}"
        return start(*options, "-c", code, cwd=tmp_path)

    return run


def ended(process):
    out, err = process.communicate()
    assert (process.returncode, err) == (0, "")
    return out


def whole_lines(path):
    """Return the lines that a process has written, without the last one if it was killed in the middle of it."""
    return path.read_text().split("\n")[:-1] if path.exists() else []


def the_same_in_all(folder, name, runs):
    """Demand of a run that has come to its end that each one before it was handed on the beginning of the same."""
    last = whole_lines(folder / f"{name}.{runs}")
    items = [int(line.removeprefix("ValueError: ").removeprefix("[").split()[0].rstrip(",")) for line in last]
    assert items == list(range(ITEMS))
    for number in range(runs):
        lines = whole_lines(folder / f"{name}.{number}")
        assert lines == last[: len(lines)]
    records = [json.loads(line) for line in whole_lines(folder / name)]
    assert sorted(record["input"] for record in records) == items


@pytest.mark.slow
@pytest.mark.timeout(300 + 60 * KILLS)
def test_a_run_killed_at_random_completes_on_resume_and_no_delivered_result_changes(start, tmp_path):
    draw = secrets.SystemRandom()
    for number in range(KILLS):
        process = start(f"asyncio.run(run(work, 'killed', 'killed.{number}', range({ITEMS})))")
        enough = ITEMS * (number + draw.uniform(0, 0.9)) / KILLS
        wait_until(lambda: len(whole_lines(tmp_path / f"killed.{number}")) >= enough)  # noqa: B023 - it is called here
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    (tmp_path / "release").touch()
    ended(start(f"asyncio.run(run(work, 'killed', 'killed.{KILLS}', range({ITEMS})))"))
    the_same_in_all(tmp_path, "killed", KILLS)


def test_a_busy_loop_holds_back_no_record_from_a_kill(start, tmp_path):
    process = start("asyncio.run(run(stuck, 'run.jsonl', 'handed', range(10)))")
    wait_until(lambda: (tmp_path / "run.jsonl").exists() and len(whole_lines(tmp_path / "run.jsonl")) == 3)
    process.kill()
    process.communicate()
    assert [json.loads(line)["result"] for line in whole_lines(tmp_path / "run.jsonl")] == [0, 1, 2]
    assert whole_lines(tmp_path / "handed") == []


def test_after_ctrl_c_all_delivered_results_are_in_the_file(start, tmp_path):
    process = start("asyncio.run(run(slow, 'run.jsonl', 'handed', itertools.count(), 10))")
    wait_until(lambda: len(whole_lines(tmp_path / "handed")) >= 20)
    process.send_signal(signal.SIGINT)
    process.communicate()
    handed = [int(line) for line in whole_lines(tmp_path / "handed")]
    known = [json.loads(line)["result"] for line in whole_lines(tmp_path / "run.jsonl")]
    assert handed == list(range(len(handed)))
    assert set(handed) <= set(known)
    assert (tmp_path / "run.jsonl").read_bytes().endswith(b"\n")


def test_another_process_is_refused_until_the_first_has_ended_or_was_killed(start, tmp_path):
    first = start("asyncio.run(run(slow, 'run.jsonl', 'first', itertools.count(), 10))")
    wait_until(lambda: whole_lines(tmp_path / "first"))
    second = start("asyncio.run(run(slow, 'run.jsonl', 'second', range(10)))")
    _, err = second.communicate()
    assert "paco.map: the journal run.jsonl is in use by another run" in err
    first.kill()
    first.communicate()
    ended(start("asyncio.run(run(slow, 'run.jsonl', 'third', range(10)))"))
    assert whole_lines(tmp_path / "third") == [str(number) for number in range(10)]


def test_a_child_that_outlives_its_killed_parent_does_not_lock_the_file(start, tmp_path):
    process = start("asyncio.run(fork('run.jsonl'))", "-W", "ignore")
    child = int(process.stdout.readline())
    with pytest.raises(JournalError, match="in use"):
        paco.run(paco.map(paco.identity, []).journal(tmp_path / "run.jsonl"))
    process.kill()
    process.wait()
    with pytest.raises(JournalError, match="made by slow, and this is letters"):  # it was read, so it is not locked
        paco.run(paco.map(letters, []).journal(tmp_path / "run.jsonl"))
    os.kill(child, signal.SIGKILL)  # it was there all the time


def mount(*words):
    program = shutil.which("mount")
    return program is not None and subprocess.run([program, *words], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def mounted(folder, options):
    folder.mkdir()
    if not mount("-t", "tmpfs", "-o", options, "tmpfs", folder):
        pytest.skip("to mount a file system needs the rights of root")
    try:
        yield folder
    finally:
        subprocess.run([shutil.which("umount"), folder], check=True)


async def letters(item):
    return "x" * 500


async def handed_on(stream, into):
    async with stream:
        async for result in stream:
            into.append(result)


async def endless(handed):
    """Yield numbers, the most of them only after a result has been handed on: a loaded machine writes it late."""
    for number in itertools.count():
        if number == 10:
            await until(lambda: handed)
        yield number


def test_a_full_disk_fails_the_run_and_the_next_run_resumes_when_there_is_space(tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as folder:
        path, handed = folder / "run.jsonl", []
        with pytest.raises(OSError, match=r"No space left on device: '.*run\.jsonl'") as told:
            paco.run(handed_on(paco.map(letters, endless(handed), limit=10).journal(path), handed))
        assert told.value.errno == errno.ENOSPC
        known = whole_lines(path)
        assert path.read_bytes().endswith(b"\n")
        assert 0 < len(handed) <= len(known)
        assert all(json.loads(line)["ok"] for line in known)
        assert mount("-o", "remount,size=1m", folder)
        assert len(paco.run(paco.map(letters, range(len(known) + 50), limit=10).journal(path))) == len(known) + 50
        assert len(whole_lines(path)) == len(known) + 50


def test_a_read_only_folder_is_reported(tmp_path):
    with mounted(tmp_path / "disk", "size=256k") as folder:
        paco.run(paco.map(letters, range(3)).journal(folder / "run.jsonl"))
        assert mount("-o", "remount,ro", folder)
        for name in ("run.jsonl", "new.jsonl"):
            with pytest.raises(OSError, match=rf"Read-only file system: '.*{name}'"):
                paco.run(paco.map(letters, range(3)).journal(folder / name))


def test_a_file_size_limit_is_reported_and_the_file_has_all_delivered_results(start, tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))"
    _, err = start(f"{limit}; asyncio.run(run(slow, 'run.jsonl', 'handed', itertools.count()))").communicate()
    assert "OSError: [Errno 27] File too large: 'run.jsonl'" in err
    known = [json.loads(line)["result"] for line in whole_lines(tmp_path / "run.jsonl")]
    handed = [int(line) for line in whole_lines(tmp_path / "handed")]
    assert (tmp_path / "run.jsonl").read_bytes().endswith(b"\n")
    assert 0 < len(handed) <= len(known)
    assert set(handed) <= set(known)


async def test_a_run_resumes_after_the_loss_of_any_part_of_the_end_of_its_file(tmp_path):
    path, draw = tmp_path / "run.jsonl", secrets.SystemRandom()
    for _ in range(30):
        assert await paco.map(letters, range(20)).journal(path) == ["x" * 500] * 20
        os.truncate(path, draw.randrange(path.stat().st_size))
