"""What is written to a terminal or a pipe that nobody reads waits in a thread, and nothing else does."""

from __future__ import annotations

import io
import os
import threading

import pytest

from paco._view import writer
from paco._view.console import Console
from paco._view.writer import Writer

pytestmark = pytest.mark.realtime


@pytest.fixture
def pipe():
    """Return both ends of a pipe, and close what is left of them."""
    before = set(threading.enumerate())
    out, into = os.pipe()
    with os.fdopen(out, "rb", buffering=0) as reader, os.fdopen(into, "w", encoding="utf-8") as stream:
        yield reader, stream
        reader.close()
        for thread in set(threading.enumerate()) - before:
            thread.join()


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(writer, "_PATIENCE", 0.01)
    monkeypatch.setattr(writer, "_GIVE_UP", 0.05)


def read(reader, size):
    data = b""
    while len(data) < size:
        data += reader.read(size - len(data))
    return data


def test_a_text_is_written_when_the_call_returns(pipe):
    reader, stream = pipe
    console = Console(stream, {})
    for number in range(100):
        console.say(f"{number} ✓")
        assert reader.read(100) == f"{number} ✓\n".encode()
    console.close()


def test_a_pipe_that_nobody_reads_holds_nothing_up_and_gets_everything_later(pipe, impatient):
    reader, stream = pipe
    console = Console(stream, {})
    text = "x" * 999
    for _ in range(200):
        console.say(text)
    console.close()
    assert read(reader, 200_000) == f"{text}\n".encode() * 200


def test_messages_beyond_16_mib_are_left_out_and_counted(pipe, impatient, monkeypatch):
    monkeypatch.setattr(writer, "_MOST", 1000)
    reader, stream = pipe
    out = Writer(stream.fileno())
    out.write(b"x" * 1_000_000)
    assert out.stuck
    for _ in range(3):
        out.write(b"never\n")
    read(reader, 1_000_000)
    out._last.wait()
    out.write(b"last\n")
    assert reader.read(1000) == b"(3 messages are left out, since nobody read them)\nlast\n"
    out.close()
    out.write(b"after the end\n")  # of a function that runs at exit
    assert reader.read(1000) == b"after the end\n"
    out.close()


def test_lines_are_not_repainted_while_the_terminal_is_not_read(pipe, impatient):
    reader, stream = pipe
    console = Console(stream, {}, live=True)
    console.paint([[("0%", "")]])
    assert b"0%" in reader.read(1000)
    console.say("x" * 100_000)
    assert console._writer.stuck
    for _ in range(100):
        console.paint([[("50%", "")]])
    console.paint([])
    seen = b""
    while seen.count(b"x") < 100_000:
        seen += reader.read(200_000)
    console.close()
    stream.close()
    assert b"50%" not in seen + reader.readall()


def test_a_pipe_that_does_not_block_is_waited_for(pipe):
    reader, stream = pipe
    os.set_blocking(stream.fileno(), False)
    console = Console(stream, {})
    console.say("x" * 200_000)
    assert read(reader, 200_001)[-1:] == b"\n"
    console.close()


def test_after_the_reader_has_gone_nothing_is_written(pipe):
    reader, stream = pipe
    console = Console(stream, {})
    reader.close()
    console.say("nobody reads this")
    console.say("nor this")
    console.close()


FORKS = """
import os, sys
from paco._view.console import Console
console = Console(sys.stderr, {})
console.say("parent")
if not (child := os.fork()):
    console.say("child")
    os._exit(0)
os.waitpid(child, 0)
console.close()
"""


@pytest.mark.posix
@pytest.mark.measured_processes
def test_a_forked_child_writes_too(start):
    assert start("-W", "ignore", "-c", FORKS).communicate()[1] == "parent\nchild\n"


def test_an_object_in_place_of_a_stream_writes_itself():
    stream = io.StringIO()
    console = Console(stream, {})
    console.say("here")
    console.close()
    assert stream.getvalue() == "here\n"
