"""What differs between operating systems: the library and the command on a Python that lacks what Windows lacks."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import signal
import time
import types
from functools import partial
from pathlib import Path

import pytest

from paco._base import system
from paco._records.file import write_whole
from paco._view.console import Console
from tests.patience import wait_until
from tests.programs import SOURCE

windows = pytest.importorskip("tests.project.windows", reason="pretends on what is no Windows", exc_type=ImportError)

pytestmark = pytest.mark.realtime

HERE = Path(__file__).parent
JOBS = """
import asyncio, os, sys, pathlib
import paco

async def echo(item):
    return item

async def where(item):
    await asyncio.sleep(0.001)
    return os.getpid()

async def gate(item):
    while item == "waits" and not pathlib.Path("release").exists():
        if not pathlib.Path("started").exists():
            pathlib.Path("started").touch()
        await asyncio.sleep(0.01)
    return item

async def stays(item):
    print("started", flush=True)
    await asyncio.sleep(3600)

async def large(item):
    return "x" * 100_000

async def dies(item):
    os._exit(7)
"""
FILES = {
    "jobs.py": JOBS,
    "sitecustomize.py": f"import sys\nsys.path.append({str(HERE)!r})\nimport windows\nwindows.pretend()\n",
}


@pytest.fixture
def start(folder, start):
    """Return a function that starts Python on what is nearly Windows."""
    return partial(start, "-W", "error", environ={"PYTHONPATH": os.pathsep.join([str(folder), SOURCE])})


def items(folder, *lines):
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in lines))
    return "items.txt"


def records(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def line_with(stream, word):
    """Read lines until one has ``word``: on a busy machine, one about the progress may come before."""
    return next(line for line in stream if word in line)


# ---- the library


@pytest.mark.measured_processes
def test_the_library_runs_and_journals(start, folder):
    code = """
import asyncio, importlib.util, itertools, signal, sys, warnings
import jobs, paco

async def main():
    assert type(asyncio.get_running_loop()).__module__ == "windows"
    first = paco.map(jobs.echo, itertools.count(), limit=2).journal("run.jsonl", durable="power")
    other = paco.map(jobs.echo, range(10)).journal("run.jsonl")
    async with first as results:
        await anext(results)
        try:
            await other
        except paco.journal.JournalError as error:
            print(error)
    print(await paco.map(jobs.echo, range(-200, 1000)).journal("run.jsonl"))

import paco.journal
assert sys.modules["fcntl"] is None and not hasattr(signal, "SIGKILL")
paco.run(main())
"""
    out, err = start("-c", code).communicate()
    assert err == ""
    assert out.splitlines()[1] == str([*range(-200, 1000)])
    assert out.startswith("paco.map: the journal run.jsonl is in use by another run")
    assert {record["result"] for record in records(folder / "run.jsonl")} >= {*range(-200, 1000)}


@pytest.mark.measured_processes
def test_the_library_uses_workers(start):
    code = """
import os, jobs, paco

async def main():
    async with paco.map(jobs.where, range(100)).on(2) as results:
        pids = {pid async for pid in results}
    print(len(pids), os.getpid() in pids)
    try:
        await paco.map(jobs.dies, [1]).on(1)
    except paco.remote.WorkerLost as error:
        print("exit code 7" in str(error.__cause__))

paco.run(main())
"""
    assert start("-c", code).communicate() == ("2 False\nTrue\n", "")


# ---- the command


@pytest.mark.parametrize("more", [[], ["--workers", "2"]], ids=["here", "elsewhere"])
def test_the_command_runs(start, folder, more):
    process = start("-m", "paco", "map", "jobs:where", items(folder, *range(50)), *more)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert len(out.splitlines()) == 50


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (windows.BREAK, 128 + windows.BREAK)])
def test_the_command_can_be_stopped_and_resumed(start, folder, number, code):
    words = ["-m", "paco", "map", "jobs:gate", items(folder, "first", "waits", "later"), "-l", 1, "-o", "out.jsonl"]
    process = start(*words)
    wait_until((folder / "started").exists)
    process.send_signal(number)
    assert line_with(process.stderr, "draining 1 running item")
    (folder / "release").touch()
    process.communicate()
    assert process.returncode == code
    assert [record["input"] for record in records(folder / "out.jsonl")] == ["first", "waits"]
    start(*words, "--resume").communicate()
    assert [record["input"] for record in records(folder / "out.jsonl")] == ["first", "waits", "later"]


def test_a_second_ctrl_c_cancels_items_on_workers(start, folder):
    process = start("-m", "paco", "map", "jobs:stays", items(folder, "1"), "--workers", 1)
    assert line_with(process.stderr, "started") == "started\n"
    for said in ("draining", "cancelling"):
        process.send_signal(signal.SIGINT)
        assert line_with(process.stderr, said)
    process.communicate()
    assert process.returncode == 130


def test_a_second_run_with_the_same_output_is_refused(start, folder):
    words = ["-m", "paco", "map", "jobs:gate", items(folder, "waits"), "-o", "out.jsonl"]
    first = start(*words)
    wait_until((folder / "started").exists)
    second = start(*words)
    assert "is in use by another run" in second.communicate()[1]
    assert second.returncode == 2
    (folder / "release").touch()
    first.communicate()
    assert first.returncode == 0


def test_a_reader_that_closes_the_pipe_ends_the_run_quietly(start, folder):
    process = start("-m", "paco", "map", "jobs:large", items(folder, *range(1000)), "--progress", "off")
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() == 141
    process = start("-m", "paco", "map", "--help")
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait() in {0, 141}  # 0: it was written before


def test_a_live_pipe_is_read_to_its_end(start):
    out, _ = start("-m", "paco", "map", "jobs:echo").communicate("1\n2\n")
    assert [json.loads(line)["result"] for line in out.splitlines()] == ["1", "2"]


def test_characters_that_a_terminal_cannot_show_are_escaped(start, folder):
    (folder / "items.txt").write_text("日本\n", "utf-8")
    words = ["-m", "paco", "map", "jobs:echo", "items.txt", "--dry-run"]
    out, _ = start(*words, environ={"PYTHONIOENCODING": "cp1252:strict"}, text=False).communicate()
    assert rb"first    \u65e5\u672c" in out


def test_the_error_for_a_target_with_a_drive_but_no_function_says_what_to_write():
    from paco._cli import target
    from paco._cli.ending import CommandError

    with pytest.raises(CommandError, match=r"TARGET must be module:function or path\.py:function, got 'C:"):
        target.find_target("C:\\jobs\\jobs.py")


# ---- each part


@pytest.fixture
def msvcrt(monkeypatch):
    """Have the calls of this process take it for Windows."""
    module = types.SimpleNamespace(get_osfhandle=lambda descriptor: descriptor + 1000)
    monkeypatch.setattr(system, "_msvcrt", module)
    return module


@pytest.fixture
def pipe():
    ends = os.pipe()
    with contextlib.ExitStack() as stack:
        for end in ends:
            stack.callback(os.close, end)
        yield ends


@pytest.mark.usefixtures("msvcrt")
def test_a_console_is_read_and_written_through_python(pipe, monkeypatch):
    monkeypatch.setattr(os, "isatty", lambda _: True)
    monkeypatch.setattr(os, "read", pytest.fail)
    monkeypatch.setattr(os, "write", pytest.fail)
    assert system.write(pipe[1], memoryview("é\n".encode())) == 3
    assert system.read(pipe[0], 100) == "é\n".encode()


@pytest.mark.usefixtures("msvcrt")
def test_a_file_that_is_no_console_is_read_and_written_directly(pipe):
    assert system.write(pipe[1], memoryview(b"1\n")) == 2
    assert system.read(pipe[0], 100) == b"1\n"


class Kernel:
    """A console that is able to do so much, or none."""

    def __init__(self, able):
        self.able, self.modes = able, []

    def GetConsoleMode(self, handle, mode):  # noqa: N802 - its name there
        assert handle == 1099
        mode._obj.value = 3
        return self.able != "none"

    def SetConsoleMode(self, handle, mode):  # noqa: N802 - its name there
        self.modes.append((handle, mode))
        return self.able == "new"


class Screen:
    def isatty(self):
        return True

    def fileno(self):
        return 99  # which is closed


@pytest.mark.parametrize(("able", "live"), [("new", True), ("old", False), ("none", True)])
@pytest.mark.usefixtures("msvcrt")
def test_escape_sequences_are_enabled_on_a_console(able, live, monkeypatch):
    kernel = Kernel(able)
    monkeypatch.setattr(ctypes, "windll", types.SimpleNamespace(kernel32=kernel), raising=False)
    assert Console(Screen(), {}).live is live
    assert kernel.modes == ([] if able == "none" else [(1099, 3 | 4)])


def test_a_terminal_controlled_by_another_program_is_left_alone(msvcrt, monkeypatch):
    monkeypatch.setattr(msvcrt, "get_osfhandle", os.fstat)
    assert Console(Screen(), {}).live


def test_an_error_other_than_a_broken_pipe_is_raised_unchanged(pipe, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "write", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        write_whole(pipe[1], b"1\n", regular=False)


@pytest.mark.parametrize("works", [True, False])
def test_on_macos_a_sync_flushes_the_cache_of_the_drive(works, monkeypatch, tmp_path):
    asked = []

    def control(descriptor, command):
        asked.append(command)
        if not works:
            raise OSError(45, "Operation not supported")

    monkeypatch.setattr(system, "_fcntl", types.SimpleNamespace(F_FULLFSYNC=51, fcntl=control))
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", lambda _: asked.append("fsync"))
    with (tmp_path / "file").open("w") as file:
        system.sync(file.fileno())
    assert asked == ([51] if works else [51, "fsync"])


def test_a_system_whose_pipes_send_no_signal_is_not_asked_for_one(pipe, monkeypatch):
    monkeypatch.setattr(system, "_fcntl", types.SimpleNamespace())  # whose `fcntl` is missing
    system.kill_after(pipe[0])


@pytest.mark.parametrize("error", [OSError(10038, "not a socket"), ValueError("descriptor out of range in select()")])
def test_a_pipe_that_select_refuses_is_polled(error, pipe, monkeypatch):
    def refuse(*_):
        raise error

    monkeypatch.setattr("select.select", refuse)
    monkeypatch.setattr(time, "sleep", lambda _: os.set_blocking(pipe[1], True) or os.read(pipe[0], 1 << 20))
    os.set_blocking(pipe[1], False)
    write_whole(pipe[1], b"x" * 100_000, regular=False)
    assert set(os.read(pipe[0], 1 << 20)) == {ord("x")}


@pytest.mark.usefixtures("msvcrt")
def test_the_printed_command_is_quoted_for_its_shell():
    assert system.command_line(["paco", "map", "a b.txt"]) == 'paco map "a b.txt"'


@pytest.mark.parametrize(
    ("code", "how"),
    [(0, "with exit code 0"), (-9, "by SIGKILL"), (-40, "by signal 40"), (3221225477, "with exit code 3221225477")],
)
def test_the_end_of_a_process_is_described_in_words(code, how):
    assert system.how_ended(code) == how
