"""`paco map` from its words to its exit code, within this process."""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import errno
import importlib
import io
import json
import os
import re
import runpy
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

import paco
from paco._base.check import message

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio, signal
from contextlib import asynccontextmanager

class Response: ...

async def echo(item):
    return item

async def odd(item):
    print("working on", item)
    match item:
        case "bad": raise ValueError("503 \\x1b[2J")
        case "response": return Response()
        case "exit": raise SystemExit(3)
        case "cancelled": raise asyncio.CancelledError("by itself")
        case "silent": raise TimeoutError
    return item

async def mutate(item):
    item["seen"] = True
    return item

async def interrupt(item):
    if item == "2":
        signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(0.01)

async def wakes(item):
    wakeup = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(wakeup)
    return wakeup >= 0

async def terminate(item):
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(0.01)

async def interrupt_twice(item):
    if item != "0":
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(3600)

async def interrupt_thrice(item):
    for _ in range(3):
        signal.raise_signal(signal.SIGINT)

async def hang(item):
    await asyncio.sleep(3600)

async def cancel(item):
    asyncio.current_task().cancel()
    await asyncio.sleep(0)

async def cancel_all(item):
    for task in asyncio.all_tasks():
        task.cancel()

@asynccontextmanager
async def interrupted_set_up():
    signal.raise_signal(signal.SIGINT)
    await asyncio.sleep(3600)
    yield echo

@asynccontextmanager
async def bad_end():
    yield echo
    raise ValueError("still in use")

@asynccontextmanager
async def cancelled_end():
    yield echo
    raise asyncio.CancelledError

@asynccontextmanager
async def late():
    yield echo
    for _ in range(2):
        signal.raise_signal(signal.SIGINT)
        await asyncio.sleep(0)
    await asyncio.sleep(3600)
"""
FILES = {"jobs.py": JOBS, "three.txt": "1\n2\n3\n", "-dash.txt": "", "semicolons.csv": "id;name\n1;a\n"}


HANDLED = ["SIGINT", "SIGBREAK", "SIGHUP", "SIGTERM", "SIGUSR1"]
HANDLED = [getattr(signal, name) for name in HANDLED if hasattr(signal, name)]


def records(text):
    return sorted(map(json.loads, text.splitlines()), key=lambda record: record["id"])


def test_each_item_has_a_record_on_stdout_and_the_summary_goes_to_stderr(run):
    code, out, err = run("jobs:echo", "three.txt")
    assert code == 0
    assert [(record["id"], record["input"], record["ok"], record["result"]) for record in records(out)] == [
        (number, str(number + 1), True, str(number + 1)) for number in range(3)
    ]
    fields = ["id", "key", "input", "ok", "result", "attempts", "slot", "start", "ms", "function", "source"]
    assert list(records(out)[0]) == fields
    assert re.match(r"done in [\d.]+s ", err)
    assert "3 items   3 ok   0 failed" in err


def test_a_given_format_counts_and_not_the_name_of_the_file(run):
    code, out, _ = run("jobs:echo", "three.txt", "--format", "jsonl")
    assert code == 0
    assert [record["input"] for record in records(out)] == [1, 2, 3]


def test_a_number_of_any_size_is_unchanged(run, folder):
    items = [1 - 10**19, [1.0, {"n": -(2**63) - 1}], {str(-(2**70)): [10**30]}]
    (folder / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    assert run("jobs:echo", "items.jsonl", "-o", "out.jsonl")[0] == 0
    lines = (folder / "out.jsonl").read_bytes().splitlines()
    found = sorted(map(json.loads, lines), key=lambda record: record["id"])
    assert repr([(record["input"], record["result"]) for record in found]) == repr([(item, item) for item in items])
    code, _, err = run("jobs:echo", "items.jsonl", "-o", "out.jsonl", "--resume")
    assert code == 0
    assert "3 skipped" in err


def test_records_are_appended_to_a_file_that_only_its_owner_reads(run, folder):
    for _ in range(2):
        code, out, _ = run("jobs:echo", "three.txt", "-o", "out.jsonl")
        assert code == 0
    assert len(records((folder / "out.jsonl").read_text())) == 6
    assert (folder / "out.jsonl").stat().st_mode & 0o777 == 0o600
    assert out == ""


@pytest.mark.parametrize("torn", ['{"id":1,"ke', '{"id":1,"key":"' + 100_000 * "k"], ids=["short", "long"])
@pytest.mark.parametrize("size", [9, 200_000])
def test_a_partial_line_of_a_killed_run_does_not_damage_the_next_record(run, folder, torn, size):
    (folder / "one.txt").write_text("x" * size)
    assert run("jobs:echo", "one.txt", "-o", "out.jsonl")[0] == 0
    before = (folder / "out.jsonl").read_text()
    (folder / "out.jsonl").write_text(before + torn)
    assert run("jobs:echo", "three.txt", "--head", 1, "-o", "out.jsonl")[0] == 0
    whole, _, new = (folder / "out.jsonl").read_text()[:-1].rpartition("\n")
    assert f"{whole}\n" == before
    assert json.loads(new)["input"] == "1"


def test_an_output_that_cannot_be_read_back_is_written(run, folder, monkeypatch):
    (folder / "out.jsonl").write_text("{}")

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(sys, "stdin", None)
    with contextlib.ExitStack() as stack:
        out, into = os.pipe()
        stack.callback(os.close, out)
        os.close(into)
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: out))
        assert run("jobs:echo", "-o", "out.jsonl")[0] == 0


def test_an_error_of_an_item_is_recorded_and_the_other_items_run(run, folder):
    items = ["good", "bad", "response", "exit", "cancelled", "silent", "end"]
    (folder / "items.txt").write_text("\n".join(items))
    code, out, err = run("jobs:odd", "items.txt")
    assert code == 1
    found = records(out)
    assert [record["ok"] for record in found] == [True, False, False, False, False, False, True]
    assert [record["error"]["type"] for record in found[1:6]] == [
        "ValueError",
        "NotJSONError",
        "SystemExit",
        "CancelledError",
        "TimeoutError",
    ]
    assert found[1]["error"]["message"] == "503 \x1b[2J"
    assert "jobs.Response" in found[2]["error"]["message"]
    assert found[4]["error"]["message"] == "by itself"
    assert "\x1b" not in out + err
    assert "✗ #1 bad  ValueError: 503 \\x1b[2J\n" in err
    assert "✗ #5 silent  TimeoutError\n" in err
    assert "failures  1 ValueError: 503 \\x1b[2J" in err
    assert "working on good" in err  # what the target prints does not mix with the records


HOSTILE = """
import asyncio, builtins

class Panic(BaseException): ...

async def child(error):
    await asyncio.sleep(0)
    raise error

async def grouped(error):
    async with asyncio.TaskGroup() as group:
        group.create_task(child(error))

def thread(error):
    raise error

async def hostile(item):
    await asyncio.sleep(0.02)
    match item.split():
        case [how, name]:
            error = {"Panic": Panic, **vars(asyncio), **vars(builtins)}[name]("out of bounds")
            match how:
                case "raises": raise error
                case "awaits": await asyncio.create_task(child(error))
                case "gathers": await asyncio.gather(child(error), asyncio.sleep(1))
                case "groups": await grouped(error)
                case "calls": await asyncio.to_thread(thread, error)
                case "cleans":
                    try:
                        await asyncio.timeout(0).__aenter__()
                        await asyncio.sleep(1)
                    finally:
                        raise error
    return item
"""
BASES = ["Panic", "SystemExit", "KeyboardInterrupt", "GeneratorExit", "CancelledError"]
HOWS = ["raises", "awaits", "gathers", "groups", "calls", "cleans"]


@pytest.mark.parametrize(
    "more", [[], ["--retries", 1], ["--timeout", 5], ["--rate", "10000/s"], ["--workers", 1]], ids=str
)
def test_an_error_of_any_class_fails_its_item_and_nothing_else(run, folder, more):
    """An exception that Python or asyncio has for the end of a program, a task or a generator is one, too."""
    (folder / "hostile_jobs.py").write_text(HOSTILE)
    hostile = [f"{how} {name}" for how in HOWS for name in BASES]
    (folder / "items.txt").write_text("\n".join(["good", *hostile, *map(str, range(20))]))
    code, out, _ = run("hostile_jobs:hostile", "items.txt", "--limit", 100, "--halt", "never", *more)
    assert code == 1
    found = {record["input"]: record for record in records(out)}
    assert len(found) == 21 + len(hostile)
    assert {item for item, record in found.items() if not record["ok"]} == set(hostile) - {"groups CancelledError"}
    for item in set(hostile) - {"groups CancelledError"}:
        how, name = item.split()
        group = how == "groups" and name in {"Panic", "GeneratorExit"}
        assert found[item]["error"]["type"] == ("BaseExceptionGroup" if group else name), item


def test_a_ctrl_c_while_the_text_of_an_error_is_made_is_raised():
    class Slow(Exception):
        def __str__(self):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        message(Slow())


def test_a_ctrl_c_interrupts_a_target_that_has_restored_the_handler_of_python(run, folder):
    source = "import signal\nasync def f(item):\n    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    (folder / "restores.py").write_text(source + "    signal.raise_signal(signal.SIGINT)\n")
    assert run("restores:f", "three.txt", "--limit", 1)[::2] == (130, "paco: interrupted\n")


def test_a_line_that_is_not_json_is_recorded_with_zero_attempts(run, folder):
    (folder / "items.jsonl").write_text('{"a":1}\n{oops\n')
    code, out, _ = run("jobs:mutate", "items.jsonl")
    assert code == 1
    good, bad = records(out)
    assert good["input"] == {"a": 1}  # as it was before the function changed it
    assert good["result"] == {"a": 1, "seen": True}
    assert (bad["input"], bad["attempts"], bad["slot"]) == ("{oops", 0, None)


def test_an_item_that_cancels_its_own_task_fails_alone(run):
    code, out, _ = run("jobs:cancel", "three.txt", "--limit", 1)
    assert code == 1
    assert [record["error"]["type"] for record in records(out)] == ["CancelledError"] * 3


def test_repainted_lines_need_rich(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    code, _, err = run("jobs:echo", "three.txt", "-o", "out.jsonl", "--progress", "bar")
    assert code == 2
    assert "--progress bar needs rich to repaint lines: pip install 'paco[cli]'" in err
    assert not Path("out.jsonl").exists()


def test_progress_bar_repaints_lines_anywhere(run, monkeypatch):
    Path("slow.py").write_text("import asyncio\nasync def nap(item):\n    await asyncio.sleep(0.3)\n")
    monkeypatch.setenv("TERM", "xterm")
    code, _, err = run("slow:nap", "three.txt", "-o", "out.jsonl", "--progress", "bar")
    assert code == 0
    assert "\x1b[2K" in err
    monkeypatch.setenv("TERM", "dumb")
    code, _, err = run("slow:nap", "three.txt", "-o", "out.jsonl", "--progress", "bar")
    assert code == 0
    assert "\x1b" not in err


def test_progress_off_prints_nothing(run):
    assert run("jobs:echo", "three.txt", "-o", "out.jsonl", "--progress", "off") == (0, "", "")


@pytest.mark.parametrize("progress", ["plain", "json", "auto"])
def test_with_values_every_failure_is_told_since_no_record_has_it(run, folder, progress):
    (folder / "items.txt").write_text("bad\n" * 50 + "good\n")
    code, out, err = run("jobs:odd", "items.txt", "--values", "--progress", progress, "--halt", "never")
    assert (code, out) == (1, '"good"\n')
    assert err.count("bad  ValueError: 503") == 50
    assert "see the records" not in err


def test_progress_off_shows_no_failures(run, folder):
    (folder / "items.txt").write_text("good\nbad\n")
    code, _, err = run("jobs:odd", "items.txt", "-o", "out.jsonl", "--progress", "off")
    assert code == 1
    assert [record["ok"] for record in records((folder / "out.jsonl").read_text())] == [True, False]
    assert err.splitlines() == ["working on good", "working on bad"]


def test_ctrl_c_lets_the_running_items_end(run, folder):
    (folder / "many.txt").write_text("".join(f"{number}\n" for number in range(100)))
    code, out, err = run("jobs:interrupt", "many.txt", "--limit", 2, "--total", 100)  # it may not be counted yet
    assert code == 130
    assert 3 <= len(records(out)) <= 6
    assert all(record["ok"] for record in records(out))
    assert "draining 2 running items; Ctrl-C again cancels them\n" in err
    assert "stopped in" in err
    assert "of 100 items" in err


def test_a_signal_at_any_time_wakes_the_loop(run):
    code, out, _ = run("jobs:wakes", "three.txt")
    assert code == 0
    assert [record["result"] for record in records(out)] == [True] * 3
    assert signal.set_wakeup_fd(-1) == -1


def test_sigterm_lets_running_items_end_and_has_its_own_exit_code(run):
    code, out, err = run("jobs:terminate", "three.txt", "--limit", 1)
    assert code == 143
    assert len(records(out)) == 1
    assert "draining 1 running item; another signal cancels them\n" in err


def test_a_second_ctrl_c_cancels_running_items_and_keeps_finished_records(run, folder):
    (folder / "two.txt").write_text("0\n1\n")
    code, out, err = run("jobs:interrupt_twice", "two.txt", "--limit", 2)
    assert code == 130
    assert [record["input"] for record in records(out)] == ["0"]
    assert "cancelling 1 running item; Ctrl-C again leaves at once\n" in err
    assert "1 cancelled" in err


def test_a_third_ctrl_c_writes_the_records_and_exits_at_once(run, monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    assert run("jobs:interrupt_thrice", "three.txt", "--limit", 1)[0] == 130
    assert left[0] == 130
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_while_the_target_is_set_up_ends_the_run(run):
    code, _, err = run("jobs:interrupted_set_up", "three.txt")
    assert code == 130
    assert "stopped in" in err


def test_a_second_ctrl_c_cancels_the_cleanup_of_the_target(run):
    code, out, err = run("jobs:late", "three.txt")
    assert code == 130
    assert len(records(out)) == 3
    assert "no item is running; Ctrl-C again leaves at once" in err


def test_an_error_of_the_system_that_no_reader_caused_is_raised(run, monkeypatch):
    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("paco._cli.command._dispatch", fail)
    with pytest.raises(OSError, match="Input/output error"):
        run("jobs:echo", "three.txt")


def test_ctrl_c_before_the_run_ends_the_command(run, folder):
    (folder / "slow.py").write_text("import signal\nsignal.raise_signal(signal.SIGINT)\n")
    code, _, err = run("slow:f", "three.txt")
    assert code == 130
    assert err == "paco: interrupted\n"


def interrupt(*_):
    signal.raise_signal(signal.SIGINT)


def test_a_signal_after_the_end_of_the_loop_is_harmless(run, monkeypatch):
    monkeypatch.setattr("paco._cli.command.Console.close", interrupt)
    assert run("jobs:echo", "three.txt")[0] == 0


def test_a_signal_before_the_run_is_delivered_to_the_run(run, monkeypatch):
    monkeypatch.setattr("paco._cli.run.loop_factory", lambda _: interrupt() or asyncio.new_event_loop)
    code, out, err = run("jobs:echo", "three.txt")
    assert (code, out) == (130, "")
    assert "no item is running\n" in err


def test_a_signal_before_the_target_is_imported_ends_the_command(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=interrupt))
    assert run("jobs:echo", "three.txt") == (130, "", "paco: interrupted\n")
    assert "jobs" not in sys.modules


def test_only_the_first_signal_is_raised_and_the_third_exits_at_once(run, folder, monkeypatch):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    (folder / "stubborn.py").write_text(
        "import signal\ntry:\n    signal.raise_signal(signal.SIGTERM)\nexcept KeyboardInterrupt:\n"
        "    signal.raise_signal(signal.SIGINT)\n    import os\n    os._exit('second')\n"
        "    signal.raise_signal(signal.SIGINT)\nasync def f(item): ...\n"
    )
    assert run("stubborn:f", "three.txt")[0] == 143
    assert left == ["second", 143]


def test_a_run_outside_the_main_thread_handles_no_signals(run):
    codes = []
    thread = threading.Thread(target=lambda: codes.append(run("jobs:echo", "three.txt", "-o", "out.jsonl")[0]))
    thread.start()
    thread.join()
    assert codes == [0]


@pytest.mark.parametrize("run_in", ["main thread", "another"])
def test_a_task_of_an_item_that_exits_does_not_end_the_run(run, folder, run_in):
    (folder / "exits.py").write_text(
        "import asyncio\nasync def leave(): raise SystemExit\n"
        "async def f(item):\n    task = asyncio.create_task(leave())\n    await asyncio.wait([task])\n    return item\n"
    )
    ended = []
    thread = threading.Thread(target=lambda: ended.append(run("exits:f", "three.txt")))
    if run_in == "another":
        thread.start()
        thread.join()
    else:
        thread.run()
    ((code, out, err),) = ended
    assert (code, len(records(out)), "ValueError" in err) == (0, 3, False)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_an_item_that_stops_the_loop_does_not_end_the_run(run, folder, loop):
    source = "import asyncio\nasync def f(item):\n    asyncio.get_running_loop().stop()\n    await asyncio.sleep(0)\n"
    (folder / "stops.py").write_text(source)
    code, out, _ = run("stops:f", "three.txt", "--loop", loop)
    assert (code, len(records(out))) == (0, 3)


def test_a_wakeup_descriptor_that_was_closed_since_is_not_put_back(run, folder, monkeypatch):
    monkeypatch.setattr("paco._cli.run.loop_factory", lambda _: asyncio.SelectorEventLoop)
    (folder / "closes.py").write_text("import os\nasync def f(item): os.close(int(item))\n")
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno())
    (folder / "items.txt").write_text(str(sender.detach()))
    try:
        assert run("closes:f", "items.txt")[0] == 0
    finally:
        assert signal.set_wakeup_fd(before) == -1
        receiver.close()


def test_messages_go_to_a_stderr_without_a_descriptor(run, monkeypatch):
    monkeypatch.setattr(sys, "stderr", told := io.StringIO())
    code, out, err = run("jobs:odd", "three.txt")
    assert (code, len(records(out))) == (0, 3)
    assert err.startswith("working on 1\n")
    assert "3 items   3 ok" in told.getvalue()


def test_an_error_in_the_cleanup_of_the_target_is_reported_and_no_record_is_lost(run):
    code, out, err = run("jobs:bad_end", "three.txt")
    assert code == 1
    assert len(records(out)) == 3
    assert "paco: closing jobs:bad_end failed:\nTraceback" in err
    assert err.endswith("ValueError: still in use\n")


def test_a_cancellation_from_outside_is_not_hidden(run):
    with pytest.raises(asyncio.CancelledError):
        run("jobs:cancelled_end", "three.txt", "-o", "out.jsonl")
    assert len(records(Path("out.jsonl").read_text())) == 3


def test_a_cancellation_of_the_items_from_outside_is_not_hidden(run):
    with pytest.raises(asyncio.CancelledError):
        run("jobs:cancel_all", "three.txt")


def test_a_closed_output_pipe_ends_the_run_quietly(run, monkeypatch, folder):
    out, into = os.pipe()
    os.close(out)
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(fileno=lambda: into, flush=lambda: None))
    (folder / "mixed.py").write_text(
        "import asyncio\nasync def f(item):\n    await asyncio.sleep(0 if item == '0' else 3600)\n"
    )
    (folder / "items.txt").write_text("0\n1\n2\n")
    code, _, err = run("mixed:f", "items.txt")
    assert code == 141
    os.close(into)
    assert err == ""


@pytest.mark.parametrize("order", [[], ["--keep-order"]])
def test_items_wait_while_the_buffer_of_records_is_full(run, folder, monkeypatch, order):
    (folder / "rows.py").write_text(
        "from pathlib import Path\nasync def f(item):\n    return Path('out.jsonl').read_bytes().count(10)\n"
    )
    monkeypatch.setattr("paco._records.group_commit._FULL_BYTES", 0)
    code, _, err = run("rows:f", "three.txt", "--limit", "1", "--values", "-o", "out.jsonl", *order)
    assert code == 0
    assert (folder / "out.jsonl").read_text() == "0\n1\n2\n"
    assert "3 items" in err


def test_a_full_disk_ends_the_run_and_is_reported(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("paco._records.file.RecordFile.append", full)
    code, _, err = run("jobs:echo", "three.txt", "-o", "out.jsonl")
    assert code == 1
    assert "paco: cannot write the output, so the run was cancelled: out.jsonl: No space left on device\n" in err


def test_a_failing_input_is_reported_and_the_items_read_before_are_run(run, monkeypatch):
    def breaks(path, **_):
        yield b"1\n2\n"
        raise OSError(errno.EIO, "Input/output error", path)

    monkeypatch.setattr("paco._cli.inputs.chunks_of", breaks)
    code, out, err = run("jobs:echo", "three.txt")
    assert code == 1
    assert len(records(out)) == 2
    assert "paco: cannot read further, so the later items are missing: three.txt: Input/output error\n" in err


def test_stdin_is_read_without_an_input_argument(run, monkeypatch, folder):
    with (folder / "three.txt").open() as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, _ = run("jobs:echo")
        assert code == 0
    assert len(records(out)) == 3


@pytest.mark.posix
def test_reading_from_a_terminal_is_announced(run, monkeypatch):
    import pty

    master, slave = pty.openpty()
    os.write(master, b"typed\n\x04")
    with os.fdopen(slave) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        code, out, err = run("jobs:echo")
    os.close(master)
    assert code == 0
    assert err.startswith("paco: reading items from the terminal, one per line; end with Ctrl-D\n")
    assert [record["input"] for record in records(out)] == ["typed"]


@pytest.mark.posix
@pytest.mark.parametrize(
    ("words", "painted"),
    [(["-o", "out.jsonl"], True), ([], False), (["-o", "out.jsonl", "--progress", "plain"], False)],
)
def test_progress_is_repainted_only_where_it_disturbs_no_other_output(run, monkeypatch, folder, words, painted):
    (folder / "slow.py").write_text("import asyncio\nasync def f(item):\n    await asyncio.sleep(0.25)\n")
    monkeypatch.setenv("TERM", "xterm")
    import pty

    master, slave = pty.openpty()
    with os.fdopen(slave, "w", closefd=False) as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        monkeypatch.setattr(sys, "stdout", terminal)
        assert run("slow:f", "three.txt", "--total", 3, *words)[0] == 0  # they may not be counted yet
    os.close(slave)
    shown = ""
    with (
        os.fdopen(master, encoding="utf-8", newline="") as screen,
        contextlib.suppress(OSError),
    ):  # the end of a terminal
        while part := screen.read(1):
            shown += part
    assert ("0/3" in shown) == painted
    assert "3 items" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs:echo", "none.txt"], "cannot read none.txt: No such file or directory"),
        (
            ["three.txt", "jobs:echo"],
            "cannot read jobs:echo: No such file or directory; did you mean: paco map jobs:echo t",
        ),
        (
            ["none", "jobs.py:echo"],
            "cannot read jobs.py:echo: No such file or directory; did you mean: paco map jobs.py:ec",
        ),
        (["-", "jobs:echo"], "; did you mean: paco map jobs:echo -"),
        (["three.txt", "jobs.py"], "got 'three.txt', which is a file; TARGET comes first: paco map TARGET three.txt"),
        (["jobs:echo", "three.txt", "-o", "none/out.jsonl"], "cannot write none/out.jsonl: No such file or directory"),
        (["jobs:echo", "three.txt", "-o", "a\0b"], "cannot write a\\x00b: "),
        (["jobs:echo", "three.txt", "-o", "three.txt"], "three.txt is both input and output"),
        (["jobs:echo", "--limt", "5", "three.txt"], "unknown option --limt; did you mean --limit?"),
        (["jobs:echo", "three.txt", "--zzz=5"], "unknown option --zzz\n"),
        (["jobs:echo", "three.txt", "-x"], "unknown option -x\n"),
        (["jobs:echo", "three.txt", "--jobs", "4"], "unknown option --jobs; did you mean --limit?\n"),
        (["jobs:echo", "three.txt", "--concurrency=4"], "unknown option --concurrency; did you mean --limit?\n"),
        (["jobs:echo", "--version"], "unknown option --version; did you mean paco --version?\n"),
        (["jobs:echo", "-dash.txt"], "unknown option -dash.txt; the file of this name: -- -dash.txt\n"),
        (
            ["jobs:echo", "semicolons.csv", "--key", "id"],
            "but 'id;name'; to split it: --delimiter ",
        ),
        (["jobs:echo", "three.txt", "--limit", "-1"], "must be a whole number of 0 or more, or auto, got '-1'"),
        (["jobs:echo", "three.txt", "--limit", "ten"], "must be a whole number of 0 or more, or auto, got 'ten'"),
        (["jobs:echo", "three.txt", "--limit", "Auto"], "or auto, got 'Auto'; did you mean auto?"),
        (["jobs:echo", "three.txt", "--head", "0"], "must be a whole number of 1 or more, got '0'"),
        (["jobs:echo", "three.txt", "--arg", "x"], "must be NAME=VALUE, got 'x'"),
        (["jobs:echo", "three.txt", "--arg", "x=1", "--arg", "x=2"], "--arg x is given twice"),
        (["jobs:echo", "three.txt", "--arg", "x=1"], "--arg x: jobs:echo has no such parameter"),
        (["jobs:echo", "three.txt", "--progress", "loud"], "must be one of auto, bar, plain, json, off, got 'loud'"),
        ([], "TARGET is missing"),
        (["jobs:Response", "three.txt"], "jobs:Response is a class; TARGET must be a function"),
    ],
)
def test_wrong_arguments_are_reported_before_anything_starts(run, words, said):
    code, out, err = run(*words)
    assert code == 2
    assert out == ""
    assert err.startswith("paco: ")
    assert said in err


def test_options_may_stand_anywhere_and_arguments_after_two_dashes_are_not_options(run, folder):
    (folder / "--odd").write_text("1\n")
    assert run("--limit", 5, "jobs:echo", "--head=2", "three.txt")[0] == 0
    assert run("jobs:echo", "--", "--odd")[0] == 0


@pytest.mark.parametrize(("name", "option"), [("stdin", []), ("stdout", ["three.txt"])])
@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_closed_standard_stream_is_reported(run, monkeypatch, name, option, stream):
    monkeypatch.setattr(sys, name, stream)
    code, _, err = run("jobs:echo", *option)
    assert code == 2
    assert f"paco: standard {name[3:]}put is closed" in err


def test_help_starts_with_three_examples(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = run("--help")
    assert code == 0
    assert run("jobs:echo", "-h") == (0, out, "")
    examples = out[: out.index("usage:")]
    assert (examples.count("paco map "), examples.count("paco map --exec '")) == (3, 1)
    assert all(len(line) <= 79 for line in out.splitlines())


@pytest.fixture
def own_end(monkeypatch):
    """What a process does for its end is undone."""
    registered = []
    monkeypatch.setattr(atexit, "register", lambda *call: registered.append(call))
    before = {number: signal.getsignal(number) for number in HANDLED}
    yield registered
    for number, handler in before.items():
        signal.signal(number, handler)


def test_ctrl_c_during_interpreter_shutdown_keeps_the_exit_code(main, monkeypatch, capfd, own_end):
    left = []
    monkeypatch.setattr(os, "_exit", left.append)
    monkeypatch.setattr(sys, "argv", ["paco", "--bogus"])
    assert main() == 2
    signal.raise_signal(signal.SIGINT)
    assert left == [2]
    assert [number for _, number in own_end] == HANDLED
    for call, *arguments in own_end:
        call(*arguments)
    assert {signal.getsignal(number) for number in HANDLED} == {signal.SIG_IGN}
    capfd.readouterr()


def test_the_command_outside_the_main_thread_handles_no_signals(main, monkeypatch, capfd, own_end):
    monkeypatch.setattr(sys, "argv", ["paco", "--version"])
    thread = threading.Thread(target=main)
    thread.start()
    thread.join()
    assert own_end == []
    capfd.readouterr()


@pytest.mark.parametrize("ends", [False, True])
def test_the_process_leaves_a_thread_that_does_not_end(main, monkeypatch, capfd, own_end, ends):
    calls, release = [], threading.Event()
    monkeypatch.setattr("paco._cli.ending.PATIENCE", 0.2)
    monkeypatch.setattr(atexit, "_run_exitfuncs", lambda: calls.append("functions at exit"))
    monkeypatch.setattr(os, "_exit", calls.append)
    monkeypatch.setattr(sys, "argv", ["paco", "--version"])
    thread = threading.Thread(target=release.wait, name="deep")
    thread.start()
    assert main() == 0
    if ends:
        release.set()
    timer = own_end[-1][0].__self__
    timer.join()
    release.set()
    thread.join()
    assert calls == ([] if ends else ["functions at exit", 0])
    assert ("thread 'deep'" in capfd.readouterr().err) is not ends


@pytest.mark.usefixtures("own_end")
def test_paco_alone_has_a_version_a_help_and_known_subcommands(main, capfd, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["paco", "--version"])
    assert main() == 0
    assert main(["--help"]) == main(["-h"]) == 0
    assert capfd.readouterr().out.startswith(f"paco {paco.__version__}\nusage: paco map")
    assert main([]) == 2
    assert main(["mpa"]) == 2
    assert "unknown command mpa; did you mean map?" in capfd.readouterr().err
    assert main(["my jobs.py:f", "urls.txt"]) == 2
    assert "unknown command my jobs.py:f; did you mean: paco map 'my jobs.py:f' urls.txt\n" in capfd.readouterr().err


def test_help_into_a_closed_pipe_is_not_an_error(main, monkeypatch):
    redirected = []

    def closed():
        raise BrokenPipeError

    with monkeypatch.context() as patch:  # pytest's own capturing needs the real one
        patch.setattr(os, "dup2", lambda source, target: redirected.append((os.close(source), target)))
        patch.setattr(sys, "stdout", SimpleNamespace(write=lambda _: None, flush=closed))
        assert main(["--help"]) == 141
    assert redirected == [(None, 1)]


def test_without_any_stdout_a_run_writes_its_file(run, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert run("jobs:echo", "three.txt", "-o", "out.jsonl")[0] == 0


@pytest.mark.usefixtures("own_end")
def test_python_m_paco_is_the_command(monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["paco", "--version"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("paco", run_name="__main__")
    assert caught.value.code == 0
    assert importlib.import_module("paco.__main__")
    assert capfd.readouterr().out == f"paco {paco.__version__}\n"


@pytest.mark.parametrize("missing", [True, False])
def test_uvloop_is_used_if_installed(run, monkeypatch, folder, missing):
    if missing:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    else:
        pytest.importorskip("uvloop")
    (folder / "loops.py").write_text(
        "import asyncio\nasync def f(item): return type(asyncio.get_running_loop()).__module__\n"
    )
    code, out, _ = run("loops:f", "three.txt", "--head", 1)
    assert code == 0
    assert records(out)[0]["result"].startswith("asyncio" if missing else "uvloop")


def test_a_thousand_requests_over_http(run, folder):
    examples = Path(__file__).parents[2] / "examples"
    pytest.importorskip("aiohttp")
    words = [f"{examples / 'fetch.py'}:fetch", examples / "urls.txt", "--limit", 100, "--output", "out.jsonl"]
    code, _, err = run(*words)
    assert code == 0
    found = records((folder / "out.jsonl").read_text())
    assert [record["input"] for record in found] == [f"/item/{number}" for number in range(1000)]
    assert {record["result"]["status"] for record in found} == {200}
    assert max(record["slot"] for record in found) < 100
    assert "1,000 items   1,000 ok   0 failed" in err


class Echo(BaseHTTPRequestHandler):
    """A server that is not the example's own."""

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200 if self.path != "/none" else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("by", ["environment", "argument"])
def test_the_example_sends_requests_to_the_named_server(run, folder, monkeypatch, by):
    pytest.importorskip("aiohttp")
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever).start()
        url = f"http://127.0.0.1:{server.server_port}"
        (folder / "urls.txt").write_text(f"/abc\n{url}/whole-url\n/none\n")
        words = [f"{Path(__file__).parents[2] / 'examples/fetch.py'}:fetch", "urls.txt"]
        if by == "environment":
            monkeypatch.setenv("BASE_URL", url)
        else:
            words += ["--arg", f"base_url={url}"]
        try:
            code, out, _ = run(*words)
            assert code == 0
        finally:
            server.shutdown()
    assert [tuple(record["result"].values()) for record in records(out)] == [
        (200, 4),
        (200, 10),
        (404, 5),
    ]
