"""Group commit: whole lines, in groups, whatever the file or the reader does."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sys
import threading
import time

import pytest

from paco._records import group_commit
from paco._records.file import RecordFile
from tests.patience import until, wait_until

pytestmark = pytest.mark.realtime


@pytest.fixture
def file(path):
    file = RecordFile(str(path), "out.jsonl")
    file.open()
    yield file
    file.close()


@pytest.fixture
def pipe():
    """Give the end that is read, and a file of records that is the other end."""
    out, into = os.pipe()
    file = RecordFile("out", "out")
    file.share(into)
    yield out, file
    file.close()
    with contextlib.suppress(OSError):
        os.close(out)


class Run:
    """Has lines written as a run does."""

    def __init__(self, file, **how):
        self.commit = group_commit.GroupCommit(file, **how)
        self.errors = []
        self.is_ending = False
        self.commit.prepare(self)
        self.task = asyncio.ensure_future(self.commit.serve())

    def fail(self, error, _):
        self.errors.append(error)

    async def end(self):
        self.commit.finish()
        await self.task


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_all_lines_are_written_at_the_end_in_order(file, path):
    run = Run(file)
    for number in range(1000):
        run.commit.add(b"%d\n" % number)
    await run.end()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(1000))
    assert run.errors == []


async def test_a_single_line_is_written_soon(file, path):
    run = Run(file)
    run.commit.add(b"1\n")
    await until(path.read_bytes)
    await run.end()


async def test_lines_are_written_in_groups(file, monkeypatch):
    sizes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda to, data: sizes.append(len(data)) or write(to, data))
    monkeypatch.setattr(group_commit, "_GROUP_SECONDS", 3600)
    run = Run(file)
    for _ in range(100):
        run.commit.add(b"1\n")
    await run.end()
    assert sizes == [200]


async def test_a_large_group_does_not_wait(file, path, monkeypatch):
    monkeypatch.setattr(group_commit, "_GROUP_SECONDS", 3600)
    run = Run(file)
    run.commit.add(b"1\n")
    await until(path.read_bytes)
    run.commit.add(b"x" * group_commit._GROUP_BYTES)
    await until(lambda: path.stat().st_size > group_commit._GROUP_BYTES)
    await run.end()


async def test_lines_are_written_while_the_loop_is_busy(file, path):
    run = Run(file)
    for number in range(3):
        run.commit.add(b"%d\n" % number)
        wait_until(lambda: path.read_bytes().endswith(b"%d\n" % number))  # noqa: B023 - blocks the loop
    await asyncio.sleep(0)
    run.commit.add(b"3\n")
    wait_until(lambda: path.read_bytes() == b"0\n1\n2\n3\n")
    await run.end()
    assert path.read_bytes() == b"0\n1\n2\n3\n"
    assert run.errors == []


async def test_a_busy_loop_hands_the_gil_over_to_the_thread_when_a_line_is_late(file, path):
    """No thread gets the GIL by itself here, as in a loop that often releases it for a moment."""
    run, interval, added = Run(file), sys.getswitchinterval(), 0
    sys.setswitchinterval(3600)
    try:
        while len(run.commit._lines) == added < 200:  # the system may let the thread run late
            run.commit.add(b"%d\n" % added)
            added += 1
            end = time.monotonic() + 0.025
            while time.monotonic() < end:
                pass
        left = len(run.commit._lines)
    finally:
        sys.setswitchinterval(interval)
    await run.end()
    assert left < added
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(added))


async def test_an_idle_loop_does_not_wait_for_a_slow_disk(file, monkeypatch):
    run, writes, goes_on = Run(file), threading.Event(), threading.Event()

    def append(lines, real=file.append):
        writes.set()
        goes_on.wait()
        return real(lines)

    monkeypatch.setattr(file, "append", append)
    run.commit.add(b"1\n")
    await until(writes.is_set)
    run.commit.add(b"2\n")
    asked = run.commit._asked
    waits = asked.result

    def result(timeout):
        assert threading.current_thread() is not threading.main_thread()
        return waits(timeout)

    monkeypatch.setattr(asked, "result", result)
    run.commit._due = 0.0
    try:
        run.commit.add(b"3\n")
    finally:
        goes_on.set()
        await run.end()


async def test_the_loss_of_the_file_that_is_found_while_the_loop_is_busy_is_told_at_once(file, path):
    told = []
    run = Run(file, tell=told.append)
    path.unlink()
    run.commit.add(b"1\n")
    wait_until(lambda: run.commit._lost)  # blocks the loop
    run.commit.add(b"2\n")
    await until(lambda: told)
    await run.end()
    assert len(told) == len(run.errors) == 1


async def test_a_disk_that_fails_while_the_loop_is_busy_is_reported(file, path, monkeypatch):
    monkeypatch.setattr(os, "write", full)
    run = Run(file)
    run.commit.add(b"1\n")
    failed = wait_until(lambda: run.commit.error)
    run.commit.add(b"2\n")
    await run.end()
    assert run.errors == [failed]
    assert (failed.filename, path.read_bytes()) == (str(path), b"")


async def test_items_wait_for_a_slow_reader(pipe, monkeypatch):
    monkeypatch.setattr(group_commit, "_FULL_BYTES", 100_000)
    out, file = pipe
    run = Run(file)
    await run.commit.room()
    run.commit.add(b"x" * 200_000)
    waiting = [asyncio.ensure_future(run.commit.room()) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in waiting)
    waiting.pop().cancel()
    taken = 0
    while taken < 200_000:
        taken += len(await asyncio.to_thread(os.read, out, 65536))
    await waiting[0]
    await run.end()


async def test_a_closed_pipe_is_reported_once(pipe):
    out, file = pipe
    os.close(out)
    run = Run(file)
    run.commit.add(b"1\n")
    await until(lambda: run.errors)
    run.commit.add(b"2\n")
    await run.end()
    assert [type(error) for error in run.errors] == [BrokenPipeError]
    assert run.commit.error is run.errors[0]
    await run.commit.room()


async def test_a_full_disk_leaves_whole_lines(file, path, monkeypatch):
    parts = iter([lambda to, data: os.pwrite(to, data[:5], 0), full])

    def write(to, data):
        return next(parts)(to, data)

    monkeypatch.setattr(os, "write", write)
    monkeypatch.setattr(group_commit, "_GROUP_SECONDS", 3600)
    run = Run(file)
    run.commit.add(b"1\n")
    run.commit.add(b"23456\n")
    await run.end()
    assert path.read_bytes() == b"1\n"
    assert (run.errors[0].errno, run.errors[0].filename) == (errno.ENOSPC, str(path))


async def test_a_non_blocking_pipe_is_waited_for(pipe):
    out, file = pipe
    os.set_blocking(file._descriptor, False)
    run = Run(file)
    run.commit.add(b"x" * 300_000 + b"\n")
    await asyncio.sleep(0.03)
    data = b""
    while not data.endswith(b"\n"):
        data += await asyncio.to_thread(os.read, out, 65536)
    await run.end()
    assert len(data) == 300_001


@pytest.mark.parametrize("begun", [True, False])
async def test_exiting_at_once_writes_the_buffered_lines(file, path, begun):
    run = Run(file)
    await asyncio.sleep(0.05 if begun else 0)
    run.commit.add(b"1\n")
    run.commit.abandon()
    assert path.read_bytes() == b"1\n"
    await run.end()
    assert path.read_bytes() == b"1\n"


async def test_exiting_at_once_does_not_wait_for_an_idle_reader(pipe):
    out, file = pipe
    run = Run(file)
    run.commit.add(b"x" * 1_000_000)
    run.commit.abandon()
    os.close(out)
    await run.end()


# ---- in order


async def test_ordered_output_holds_lines_until_their_turn(file, path):
    run = Run(file, keep_order=True)
    for number, line in [(2, b"c\n"), (1, b""), (0, b"a\n"), (4, b"e\n")]:
        run.commit.add(line, number)
    await until(lambda: path.read_bytes() == b"a\nc\n")
    await run.end()  # 3 was cancelled
    assert path.read_bytes() == b"a\nc\ne\n"


async def test_items_wait_while_too_many_records_wait_for_a_slow_one(file, path, monkeypatch):
    monkeypatch.setattr(group_commit, "_FULL_BYTES", 2)
    run = Run(file, keep_order=True)
    run.commit.add(b"b\n", 1)
    await run.commit.room()
    run.commit.add(b"c\n", 2)
    waiting = asyncio.ensure_future(run.commit.room())
    await asyncio.sleep(0.05)
    assert not waiting.done()
    run.commit.add(b"a\n", 0)
    await waiting
    assert path.read_bytes() == b"a\nb\nc\n"
    await run.end()
