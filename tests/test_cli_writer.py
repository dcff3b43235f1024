"""The writer: whole lines, in groups, whatever the file or the reader does."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
import time

import pytest

from paco._cli import writer as _writer
from paco._cli.writer import Writer
from tests.patience import until

pytestmark = pytest.mark.realtime


@pytest.fixture
def path(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def file(path):
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def pipe():
    ends = list(os.pipe())
    yield ends
    for end in ends:
        if end is not None:
            os.close(end)


def full(*_):
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_all_lines_are_written_at_the_end_in_order(file, path):
    writer = Writer(file, pytest.fail)
    for number in range(1000):
        writer.add(b"%d\n" % number)
    await writer.aclose()
    assert path.read_bytes() == b"".join(b"%d\n" % number for number in range(1000))
    assert not writer._thread.is_alive()


async def test_a_single_line_is_written_soon(file, path):
    writer = Writer(file, pytest.fail)
    writer.add(b"1\n")
    await until(path.read_bytes)
    await writer.aclose()


async def test_lines_are_written_in_groups(file, monkeypatch):
    sizes = []
    write = os.write
    monkeypatch.setattr(_writer.os, "write", lambda to, data: sizes.append(len(data)) or write(to, data))
    monkeypatch.setattr(_writer, "_GROUP_SECONDS", 3600)
    writer = Writer(file, pytest.fail)
    for _ in range(100):
        writer.add(b"1\n")
    await writer.aclose()
    assert sizes == [200]


async def test_a_large_group_does_not_wait(file, path, monkeypatch):
    monkeypatch.setattr(_writer, "_GROUP_SECONDS", 3600)
    writer = Writer(file, pytest.fail)
    writer.add(b"x" * _writer._GROUP_BYTES)
    await until(lambda: path.stat().st_size == _writer._GROUP_BYTES)
    await writer.aclose()


async def test_items_wait_for_a_slow_reader(pipe, monkeypatch):
    monkeypatch.setattr(_writer, "_FULL_BYTES", 100_000)
    writer = Writer(pipe[1], pytest.fail)
    await writer.room()
    writer.add(b"x" * 200_000)
    waiting = [asyncio.ensure_future(writer.room()) for _ in range(2)]
    await asyncio.sleep(0.05)
    assert not any(one.done() for one in waiting)
    waiting.pop().cancel()
    taken = 0
    while taken < 200_000:
        taken += len(await asyncio.to_thread(os.read, pipe[0], 65536))
    await waiting[0]
    await writer.aclose()


class Unseen(list):
    """A list that looks empty to other threads: without a GIL, they may not see yet what has just been put there."""

    def __init__(self):
        super().__init__()
        self.thread = threading.get_ident()

    def __bool__(self):
        return threading.get_ident() == self.thread and len(self) > 0


async def test_waiting_items_are_woken_even_if_the_thread_has_not_noticed_them(file, monkeypatch):
    monkeypatch.setattr(_writer, "_FULL_BYTES", 10)
    writer = Writer(file, pytest.fail)
    writer._waiting = Unseen()
    writer.add(b"x" * 20)
    await writer.room()
    await writer.aclose()


async def test_a_line_is_written_soon_even_if_the_loop_has_not_noticed_the_waiting_thread(file, path, monkeypatch):
    writer = Writer(file, pytest.fail)
    write = os.write

    def late(to, data):
        if data == b"1\n":
            writer._rung = True  # which it is no more, but the loop sees that only later
            loop.call_soon_threadsafe(writer.add, b"2\n")
            while len(writer._lines) == 0:
                time.sleep(0.001)
            writer._rung = False
        return write(to, data)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(_writer.os, "write", late)
    writer.add(b"1\n")
    while path.read_bytes() != b"1\n2\n":
        await asyncio.to_thread(time.sleep, 0.001)
    await writer.aclose()


async def test_a_closed_pipe_is_reported_once(pipe):
    told = []
    os.close(pipe[0])
    pipe[0] = None
    writer = Writer(pipe[1], told.append)
    writer.add(b"1\n")
    await until(lambda: told)
    writer.add(b"2\n")
    await writer.aclose()
    assert [type(error) for error in told] == [BrokenPipeError]


async def test_a_full_disk_leaves_whole_lines(file, path, monkeypatch):
    told = []
    parts = iter([lambda to, data: os.pwrite(to, data[:5], 0), full])

    def write(to, data):
        return next(parts)(to, data)

    monkeypatch.setattr(_writer.os, "write", write)
    monkeypatch.setattr(_writer, "_GROUP_SECONDS", 3600)
    writer = Writer(file, told.append)
    writer.add(b"1\n")
    writer.add(b"23456\n")
    await writer.aclose()
    await asyncio.sleep(0)
    assert path.read_bytes() == b"1\n"
    assert told[0].errno == errno.ENOSPC


async def test_a_non_blocking_pipe_is_waited_for(pipe):
    os.set_blocking(pipe[1], False)
    writer = Writer(pipe[1], pytest.fail)
    writer.add(b"x" * 300_000 + b"\n")
    await asyncio.sleep(0.03)
    data = b""
    while not data.endswith(b"\n"):
        data += await asyncio.to_thread(os.read, pipe[0], 65536)
    await writer.aclose()
    assert len(data) == 300_001


async def test_exiting_at_once_writes_the_buffered_lines(file, path):
    writer = Writer(file, pytest.fail)
    writer.add(b"1\n")
    writer.abandon()
    assert path.read_bytes() == b"1\n"
    await asyncio.sleep(0)
    await writer.aclose()
    await asyncio.sleep(0)


async def test_exiting_at_once_does_not_wait_for_an_idle_reader(pipe):
    writer = Writer(pipe[1], lambda _: None)
    writer.add(b"x" * 1_000_000)
    writer.abandon()
    os.close(pipe[0])
    pipe[0] = None
    await writer.aclose()


def test_a_writer_ends_with_its_loop(file, path):
    writers = []

    async def forget():
        writers.append(Writer(file, pytest.fail))
        writers[0].add(b"1\n")

    asyncio.run(forget())
    writers[0].abandon()
    assert path.read_bytes() == b"1\n"
    assert "paco-writer" not in {thread.name for thread in threading.enumerate()}


def test_futures_that_are_done_already_are_not_set_again(file):
    async def settle():
        writer = Writer(file, pytest.fail)
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        writer._waiting = [future]
        writer._wake()
        await writer.aclose()
        writer._settle()

    asyncio.run(settle())
