"""Inputs: checked before anything starts, read as needed, and never a reason for the loop to wait."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from contextlib import aclosing

import pytest

from paco._cli import inputs as _inputs
from paco._cli.ending import CommandError, Tally
from paco._cli.formats import Splitter
from paco._cli.inputs import Input, ItemReader, find_inputs
from paco._cli.options import parse_map
from tests.patience import until

pytestmark = pytest.mark.realtime


@pytest.fixture
def pipe():
    out, into = os.pipe()
    yield out, into
    with contextlib.suppress(OSError):  # the test has closed it
        os.close(into)
    join_readers()  # at the end of the pipe, before its number belongs to another file
    os.close(out)


@pytest.fixture
def short_lines(monkeypatch):
    monkeypatch.setattr("paco._cli.formats.LONGEST", 1000)


def join_readers():
    for thread in threading.enumerate():
        if thread.name == "paco-reader":
            thread.join()


def written(folder, data, name="items.txt"):
    path = folder / name
    path.write_bytes(data)
    return str(path)


def reader_of(*words):
    """Return a reader of the inputs that these words name, as on the command line."""
    options = parse_map(["jobs:f", *map(str, words)])
    return ItemReader(options, find_inputs(options, 0), Tally())


def live_reader(*inputs):
    return ItemReader(parse_map(["jobs:f"]), inputs, Tally())


def chunks_of(pipe):
    live = Input(pipe, "lines", gzip=False, regular=False)
    return live_reader(live).chunks(live)


async def values(reader):
    async with aclosing(reader.live_items()) as items:
        return [item.value async for item in items]


async def counted(reader):
    await until(lambda: reader._total is not None)
    return reader.total()


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_split_correctly_wherever_the_chunks_end(size):
    data = b"\xef\xbb\xbfone\r\n\ntwo\nlast"
    splitter = Splitter()
    lines = []
    for start in range(0, len(data), size):
        lines += splitter.feed(data[start : start + size])
    assert lines + splitter.feed(b"") == [b"one\r", b"", b"two", b"last"]
    assert splitter.feed(b"") == []


async def test_an_item_is_a_line_without_its_end_and_blank_lines_are_skipped(tmp_path):
    path = written(tmp_path, "\ufeff one\r\n\n \t\r\nzwei 日本\nlast".encode())
    reader = reader_of(path)
    assert await values(reader) == [" one", "zwei 日本", "last"]
    assert reader.total() == 3


async def test_several_inputs_are_read_one_after_the_other(tmp_path):
    reader = reader_of(written(tmp_path, b"1\n2", "a"), written(tmp_path, b"3\n", "b"), written(tmp_path, b"", "c"))
    async with aclosing(reader.live_items()) as items:
        assert [(item.id, item.value) async for item in items] == [(0, "1"), (1, "2"), (2, "3")]


async def test_lines_with_unusual_bytes_are_items_like_others(tmp_path):
    path = written(tmp_path, b"\xff\xfe\na\0b\n\x1b[2J\n")
    assert await values(reader_of(path)) == ["\\xff\\xfe", "a\0b", "\x1b[2J"]


@pytest.mark.usefixtures("short_lines")
async def test_a_line_above_the_size_limit_is_an_error_of_its_item_and_does_not_fill_the_memory(tmp_path):
    path = written(tmp_path, b"x" * 1000 + b"\n" + b"y" * 300_000 + b"\nz\n")
    async with aclosing(reader_of(path).live_items()) as items:
        first, long, last = [item async for item in items]
    assert first.problem is None
    assert long.problem.type == "LineTooLong"
    assert long.value == "y" * 200 + "..."
    assert last.value == "z"


async def test_an_item_of_json_lines_is_the_value_of_its_line(tmp_path):
    path = written(tmp_path, b'{"a": [1, null]}\n\n"text"\n12\n', "a.jsonl")
    assert await values(reader_of(path)) == [{"a": [1, None]}, "text", 12]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops", "Expecting property name"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b"9" * 5000, "integer string conversion"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"\xff"', "escape"),
        (b"1 2", "Extra data at column 3"),
    ],
)
async def test_a_line_that_is_not_json_is_an_error_of_that_item(tmp_path, line, reason):
    path = written(tmp_path, line + b"\n1\n", "a.jsonl")
    async with aclosing(reader_of(path).live_items()) as items:
        bad, good = [item async for item in items]
    assert bad.problem.type == "JSONDecodeError"
    assert reason in bad.problem.message
    assert bad.value == line.decode(errors="backslashreplace")
    assert (good.value, good.problem) == (1, None)


async def test_the_format_can_be_given(tmp_path):
    path = written(tmp_path, b"[1]\n", "a.csv")
    assert await values(reader_of(path, "--format", "lines")) == ["[1]"]
    assert await values(reader_of(path, "--format", "jsonl")) == [[1]]


async def test_head_reads_only_the_first_items(tmp_path):
    reader = reader_of(written(tmp_path, b"1\n2\n3\n"), "--head", 2)
    assert await values(reader) == ["1", "2"]
    assert reader.total() == 2


async def test_the_total_is_counted_during_the_run(tmp_path):
    reader = reader_of(written(tmp_path, b"1\n\n2\n3"), written(tmp_path, b"4\n", "b"))
    assert await counted(reader) == 4  # a blank line is none
    assert await counted(reader_of(written(tmp_path, b"1\n2\n3"), "--head", 2)) == 2
    assert await counted(reader_of(written(tmp_path, b""))) == 0


async def test_the_total_is_none_until_it_is_known(tmp_path, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: None)
    assert reader_of(written(tmp_path, b"1\n")).total() is None


def test_counting_lines_ignores_an_unreadable_file():
    threads = set(threading.enumerate())
    reader = live_reader(Input("no such file", "lines", gzip=False, regular=True))
    for thread in set(threading.enumerate()) - threads:
        thread.join()
    assert reader.total() is None


def test_items_that_nobody_asks_for_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("no thread is needed"))
    assert reader_of(written(tmp_path, b"1\n"), "--progress", "off", "--total", 7).total() == 7


@pytest.mark.parametrize("lines", [b"1\n2\n3\n", b"1\n2"])
def test_a_stop_ends_the_items_of_a_file_read_in_the_loop(tmp_path, lines):
    reader = reader_of(written(tmp_path, lines))
    items = reader.items
    assert next(items).value == "1"
    reader.stop()
    assert list(items) == []
    assert not reader.ended


def test_head_applies_to_files_read_in_the_loop(tmp_path):
    reader = reader_of(written(tmp_path, b"1\n2\n"), written(tmp_path, b"3\n4\n", "b"), "--head", 3)
    assert [item.value for item in reader.items] == ["1", "2", "3"]
    assert reader.total() == 3


async def test_a_stop_ends_the_items(tmp_path):
    reader = reader_of(written(tmp_path, b"1\n2\n"))
    async with aclosing(reader.live_items()) as items:
        await anext(items)
        reader.stop()
        assert [item async for item in items] == []
    assert reader._read == 1


async def test_an_input_that_fails_ends_the_items_and_keeps_its_error(tmp_path):
    good, bad = written(tmp_path, b"1\n"), written(tmp_path, b"2\n", "b")
    reader = reader_of(good, bad, good)
    (tmp_path / "b").unlink()
    assert await values(reader) == ["1"]
    assert isinstance(reader.error, FileNotFoundError)


@pytest.mark.parametrize("count", [0, 2, 32, 100])
def test_lines_before_a_failure_in_the_same_chunk_are_read(tmp_path, count):
    reader = reader_of(written(tmp_path, json.dumps(list(range(count))).encode() + b" 1", "a.json"))
    assert [item.value for item in reader.items] == list(range(count))
    assert "something follows the end" in reader.error.strerror


def test_inputs_are_checked_before_anything_starts(tmp_path):
    for names, told in [
        (["-", "-"], "given twice"),
        ([str(tmp_path / "none")], "cannot read .*none: No such file"),
        ([str(tmp_path)], "it is a folder"),
        (["a\0b"], "cannot read"),
    ]:
        with pytest.raises(CommandError, match=told):
            reader_of(*names)


def test_an_input_that_may_not_be_read_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(CommandError, match="permission denied"):
        reader_of(written(tmp_path, b""))


async def test_a_pipe_delivers_its_lines_while_its_writer_is_idle(pipe):
    out, into = pipe
    reader = live_reader(Input(out, "lines", gzip=False, regular=False))
    async with aclosing(reader.live_items()) as items:
        os.write(into, b"1\n2\n")
        assert [(await anext(items)).value for _ in range(2)] == ["1", "2"]
        waiting = asyncio.ensure_future(anext(items))
        await asyncio.sleep(0.01)
        assert not waiting.done()
        os.write(into, b"3")
        os.close(into)
        assert (await waiting).value == "3"
        assert reader.total() is None
        assert [item async for item in items] == []
    assert reader.total() == 3


async def test_a_stop_ends_the_wait_for_a_pipe(pipe):
    reader = live_reader(Input(pipe[0], "lines", gzip=False, regular=False))
    async with aclosing(reader.live_items()) as items:
        waiting = asyncio.ensure_future(anext(items, None))
        await asyncio.sleep(0.01)
        reader.stop()
        reader.stop()
        assert await waiting is None
    assert reader.total() is None


async def test_a_stop_before_the_first_read_ends_a_pipe_at_once(pipe):
    reader = live_reader(Input(pipe[0], "lines", gzip=False, regular=False))
    reader.stop()
    async with aclosing(reader.live_items()) as items:
        assert [item async for item in items] == []


async def test_a_non_blocking_pipe_is_waited_for(pipe):
    out, into = pipe
    os.set_blocking(out, False)
    async with aclosing(chunks_of(out)) as chunks:
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0.01)
        os.write(into, b"1")
        assert await waiting == b"1"


@pytest.mark.posix
async def test_opening_a_named_pipe_does_not_block_the_loop(tmp_path):
    path = str(tmp_path / "pipe")
    os.mkfifo(path)
    reader = reader_of(path)
    (found,) = reader._inputs
    assert not found.regular
    reading = asyncio.ensure_future(values(reader))
    await asyncio.sleep(0.01)
    into = os.open(path, os.O_WRONLY)
    os.write(into, b"1\n")
    os.close(into)
    assert await reading == ["1"]


async def test_a_pipe_that_fails_ends_the_items():
    reader = live_reader(Input(1_000_000, "lines", gzip=False, regular=False))  # no such descriptor
    assert await values(reader) == []
    assert isinstance(reader.error, OSError)


def test_a_reader_ends_with_its_loop(pipe):
    async def give_up():
        chunks = chunks_of(pipe[0])
        waiting = asyncio.ensure_future(anext(chunks))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait([waiting])
        await chunks.aclose()

    asyncio.run(give_up())
    os.write(pipe[1], b"late")
    join_readers()


def test_a_pipe_that_another_process_has_made_non_blocking_is_waited_for(pipe, monkeypatch):
    os.set_blocking(pipe[0], False)
    monkeypatch.setattr("select.select", lambda waiting, *_: os.write(pipe[1], b"at last"))
    assert _inputs._Descriptor(pipe[0]).read(100) == b"at last"


def test_an_answer_after_the_wait_was_cancelled_is_dropped():
    async def drop():
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        _inputs._settle(future, b"late")

    asyncio.run(drop())


async def test_json_lines_of_a_million_digits_do_not_stop_the_run(tmp_path):
    path = written(tmp_path, b"1" * 1_000_000 + b"\n" + json.dumps("ok").encode(), "a.jsonl")
    assert (await values(reader_of(path)))[1] == "ok"
