"""`paco map` as a process of its own: signals, pipes, terminals, and what is left on the disk."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.patience import wait_until
from tests.programs import SOURCE
from tests.screens import left

pytestmark = [pytest.mark.realtime, pytest.mark.posix, pytest.mark.slow]

EXAMPLES = Path(__file__).parents[2] / "examples"

JOBS = '''
import asyncio, atexit, multiprocessing, os, pathlib, signal, sys, threading, time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

async def echo(item):
    return item

async def group(item):
    """Send the signal of the end of a terminal to the program and its workers, as the system does."""
    if item == "1":
        os.killpg(0, signal.SIGHUP)
        await asyncio.sleep(0.5)
    return item

async def gate(item):
    """End at once, but for items that are to be released."""
    if item.startswith("wait"):
        print("started", item)
        while not pathlib.Path("release").exists():
            await asyncio.sleep(0.01)
    return item

async def released(item):
    while not pathlib.Path(f"release {item}").exists():
        await asyncio.sleep(0.01)
    if item == "1":
        raise ValueError("no")

async def stubborn(item):
    print("started", item)
    while item.startswith("wait"):
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            print("stays")

async def blocking(item):
    print("started", item)
    while True:
        time.sleep(3600)

async def thread(item):
    print("started", item)
    await asyncio.to_thread(time.sleep, 3600)

async def hungry(item):
    print("started", item)
    os.system("cat > eaten.txt")
    return item

async def loud(item):
    os.write(1, b"said by a write\\n")
    os.system("echo said by a program")
    sys.__stdout__.write("said by the first stdout\\n")
    sys.__stdout__.flush()
    await (await asyncio.create_subprocess_exec("echo", "said by a child")).wait()
    print("said by a print", flush=item == "2")
    if not (child := os.fork()):
        os.write(1, b"said by a fork\\n")
        os._exit(0)
    os.waitpid(child, 0)
    atexit.register(print, "said at exit")
    return item

async def asked(item):
    atexit.register(os.kill, os.getpid(), signal.SIGUSR1)

async def quiet(item):
    for descriptor in range(3):
        try:
            os.write(descriptor, b"said to what was closed\\n")
        except OSError:
            pass
    sys.stderr.write("said to stderr\\n")
    return item

async def says(item):
    print("x" * 1000)
    return item

kept = set()

async def ever():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass

async def numbers():
    try:
        yield 1
    finally:
        await ever()

async def leaves(item):
    """Leave behind what does not end."""
    atexit.register(print, "said at exit")
    match item:
        case "task": kept.add(asyncio.create_task(ever()))
        case "generator":
            generator = numbers()
            kept.add(generator)
            await anext(generator)
        case "thread": threading.Thread(target=time.sleep, args=[3600], name="deep").start()
        case "job": kept.add(asyncio.get_running_loop().run_in_executor(None, sleeps))
        case "process": multiprocessing.get_context("fork").Process(target=sleeps).start()
        case "processes":
            pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
            kept.add(pool)
            pool.submit(sleeps)
        case "pool":
            pool = ThreadPoolExecutor(2)
            kept.add(pool)
            await asyncio.get_running_loop().run_in_executor(pool, int)
        case "brief": threading.Timer(0.2, print, ["said by a thread"]).start()
        case "ends": kept.add(asyncio.create_task(asyncio.sleep(3600)))
    return item

def sleeps():
    time.sleep(3600)

async def large(item):
    return "x" * 100_000
'''
FILES = {"jobs.py": JOBS}


@pytest.fixture
def start(folder, start):
    """Return a function that starts `paco` in the folder.

    Not with ``-X dev``: asyncio's debug mode reports each callback that takes 0.1 s, and a busy machine has many.
    """

    def paco(*words, options=("-X", "faulthandler", "-W", "error"), module=("-m", "paco"), **more):
        return start(*options, *module, *words, **more)

    return paco


def items(folder, *lines):
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in lines))
    return "items.txt"


def until(stream, word):
    """Read lines until one has ``word``."""
    lines = []
    for line in stream:
        lines.append(line)
        if word in line:
            return lines
    raise AssertionError("".join(lines))


def until_shown(screen, pattern):
    """Read a terminal until it has shown a pattern, or until it ends."""
    shown = ""
    with contextlib.suppress(OSError):  # the end of a terminal
        while pattern is None or not re.search(pattern, shown):
            if not (part := screen.read(1)):
                break
            shown += part
    assert pattern is None or re.search(pattern, shown), shown
    return shown


def records(path):
    text = path.read_text()
    assert text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("lines", "code"), [(["1", "2"], 0), (['"1"', "{oops"], 1)])
def test_the_exit_code_says_how_it_went(start, folder, lines, code):
    process = start("map", "jobs:echo", items(folder, *lines), "--format", "jsonl")
    out, _ = process.communicate()
    assert process.returncode == code
    assert len(out.splitlines()) == 2


SAID = ["a write", "a program", "the first stdout", "a child", "a print", "a fork"]


@pytest.mark.parametrize(
    "more", [[], ["--workers", "1"], ["--progress", "bar"], ["-o", "/dev/stdout"], ["--values"]], ids=" ".join
)
def test_records_alone_go_to_stdout_whatever_writes_there(start, folder, more):
    process = start("map", "jobs:loud", items(folder, "1", "2"), *more, options=())
    out, err = process.communicate()
    assert process.returncode == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 2
    # Without its line end, which processes without a buffer write on its own.
    assert [err.count(f"said by {name}") for name in SAID] == [2] * len(SAID), err
    assert err.count("said at exit") == 2


@pytest.mark.measured_processes
def test_a_program_that_reads_stdin_takes_no_items(start, folder):
    process = start("map", "jobs:hungry", "/dev/stdin", "--limit", "1", "--values", options=())
    process.stdin.write("1\n")
    process.stdin.flush()
    until(process.stderr, "started 1")
    out, _ = process.communicate("2\n3\n")
    assert (process.returncode, out) == (0, '"1"\n"2"\n"3"\n')
    assert (folder / "eaten.txt").read_text() == ""


def with_closed(closed, *words):
    """Run `paco` with the standard streams closed that are closed so in a shell."""
    shell = ["/bin/sh", "-c", f'exec "$0" -m paco "$@" {closed}', sys.executable, *words]
    environ = {**os.environ, "PYTHONPATH": SOURCE}
    return subprocess.run(shell, env=environ, capture_output=True, text=True, check=False)


CLOSED = ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"]


@pytest.mark.parametrize(
    ("closed", "more"), [*((one, []) for one in CLOSED), *((one, ["--workers", "1"]) for one in CLOSED[::3])]
)
@pytest.mark.measured_processes
def test_standard_streams_that_are_closed_do_no_harm(folder, closed, more):
    """No other file gets their descriptors."""
    words = ["map", "jobs:quiet", items(folder, "1", "2"), "-o", "out.jsonl", *more]
    done = with_closed(closed, *words)
    assert done.returncode == 0, done.stderr
    assert [record["ok"] for record in records(folder / "out.jsonl")] == [True, True]
    assert done.stdout == ""
    assert done.stderr.count("said to stderr") == (0 if "2>" in closed else 2)


@pytest.mark.measured_processes
def test_a_dry_run_tells_nothing_if_stdout_is_closed(folder):
    done = with_closed(">&-", "map", "jobs:echo", items(folder, "1"), "--dry-run")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_errors_are_not_told_on_stdout_if_stderr_is_closed(folder):
    done = with_closed("2>&-", "map", "jobs:none", "in.txt")
    assert (done.returncode, done.stdout) == (2, "")


@pytest.mark.parametrize("name", ["stdout", "stderr"])
@pytest.mark.parametrize("progress", ["plain", "bar", "json"])
def test_a_target_may_detach_or_close_its_standard_streams(start, folder, name, progress):
    (folder / "detaches.py").write_text(
        f"import codecs, sys\nsys.{name} = codecs.getwriter('utf-8')(sys.{name}.detach())\n"
        f"async def f(item):\n    print('said', item, file=sys.{name})\n    if item == '2': sys.{name}.close()\n"
    )
    process = start("map", "detaches:f", items(folder, "1", "2"), "--progress", progress, "--limit", 1, options=())
    out, err = process.communicate()
    assert process.returncode == 0
    assert len([json.loads(line) for line in out.splitlines()]) == 2
    assert ('"ended"' if progress == "json" else "2 items   2 ok") in err
    assert "said 1" in err


def test_a_dry_run_answers_on_stdout_and_the_target_does_not(start, folder):
    (folder / "loud.py").write_text("print('said on import')\nasync def f(item): ...\n")
    out, err = start("map", "loud:f", items(folder, "1"), "--dry-run").communicate()
    assert "nothing was run" in out
    assert (err, "said" in out) == ("said on import\n", False)


LEFT = [("task", "in ever"), ("generator", "shutdown_asyncgens"), ("thread", "thread 'deep'"), ("job", "in sleeps")]


@pytest.mark.parametrize(
    ("loop", "what", "named"), [*(("asyncio", *one) for one in LEFT), ("uvloop", *LEFT[0])], ids=[*dict(LEFT), "uvloop"]
)
@pytest.mark.measured_processes
def test_what_does_not_end_is_named_and_left_behind(start, folder, loop, what, named):
    (folder / "uvloop.py").write_text("raise ImportError" if loop == "asyncio" else "")
    if loop == "uvloop":
        (folder / "uvloop.py").unlink()
    process = start("map", "jobs:leaves", items(folder, "1", what), "-o", "out.jsonl", options=())
    out, err = process.communicate()
    assert process.returncode == 0
    assert len(records(folder / "out.jsonl")) == 2
    _, told = err.split("paco: still running 2 s after the end, so left behind:\n")
    assert named in told
    assert told.endswith("said at exit\n" * 2)
    assert "destroyed" not in err
    assert out == ""


@pytest.mark.parametrize("what", ["process", "processes"])
@pytest.mark.measured_processes
def test_a_process_that_does_not_end_is_named_and_killed(start, folder, what):
    process = start("map", "jobs:leaves", items(folder, what), "-o", "out.jsonl", options=())
    _, err = process.communicate()
    assert process.returncode == 0
    assert "said at exit\n" in err
    assert "paco: still running 2 s after the end, so killed:\n    process 'ForkProcess-1'\n" in err


@pytest.mark.parametrize(("what", "said"), [("pool", ""), ("brief", "said by a thread\n"), ("ends", "")])
def test_what_ends_is_waited_for_and_not_named(start, folder, what, said):
    process = start("map", "jobs:leaves", items(folder, what), "-o", "out.jsonl")
    _, err = process.communicate()
    assert process.returncode == 0
    assert err.partition("\n  latency")[2].partition("\n")[2] == said + "said at exit\n"


def test_wrong_arguments_give_exit_code_2(start):
    process = start("map", "jobs:ecko", "-")
    assert process.communicate() == ("", "paco: jobs has no 'ecko'; did you mean echo?\n")
    assert process.returncode == 2


def test_the_current_folder_is_not_searched_under_pythons_safe_path(start, folder):
    process = start("map", "jobs:echo", items(folder, "1"), options=["-P"])
    assert "not searched under Python's safe path" in process.communicate()[1]
    process = start("map", "jobs.py:echo", items(folder, "1"), options=["-P"])
    process.communicate()
    assert process.returncode == 0


def test_one_ctrl_c_starts_nothing_more_and_lets_running_items_end(start, folder):
    lines = ["fast", "wait 1", "wait 2", *map(str, range(1000))]
    process = start("map", "jobs:gate", items(folder, *lines), "-l", 2, "-o", "out.jsonl")
    until(process.stderr, "started wait 2")
    process.send_signal(signal.SIGINT)
    assert until(process.stderr, "draining")[-1] == "draining 2 running items; Ctrl-C again cancels them\n"
    (folder / "release").touch()
    assert "stopped in" in process.communicate()[1]
    assert process.returncode == 130
    assert sorted(record["input"] for record in records(folder / "out.jsonl")) == ["fast", "wait 1", "wait 2"]


def test_two_ctrl_c_cancel_the_running_items(start, folder):
    process = start("map", "jobs:gate", items(folder, "fast", "wait 1", "wait 2"), "-o", "out.jsonl")
    until(process.stderr, "started wait 2")
    process.send_signal(signal.SIGINT)
    until(process.stderr, "draining")
    process.send_signal(signal.SIGINT)
    assert "cancelling 2 running items" in process.communicate()[1]
    assert process.returncode == 130
    assert [record["input"] for record in records(folder / "out.jsonl")] == ["fast"]


def test_three_ctrl_c_exit_at_once_whatever_an_item_does(start, folder):
    process = start("map", "jobs:stubborn", items(folder, "fast", "wait"), "-o", "out.jsonl")
    until(process.stderr, "started wait")
    for word in ("draining", "stays"):
        process.send_signal(signal.SIGINT)
        until(process.stderr, word)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
    assert [record["input"] for record in records(folder / "out.jsonl")] == ["fast"]


def test_three_ctrl_c_exit_even_if_an_item_blocks_the_loop(start, folder):
    process = start("map", "jobs:blocking", items(folder, "1"))
    until(process.stderr, "started 1")
    while process.poll() is None:
        process.send_signal(signal.SIGINT)
        time.sleep(0.05)  # signals that come too close together are one
    assert process.returncode == 130


@pytest.mark.parametrize("pause", [0, 0.002, 0.02])
def test_ctrl_c_in_quick_succession_at_any_moment_leaves_whole_records(start, folder, pause):
    """The last item ends after the signals, so that the run is there when they come."""
    # A signal can interrupt `open` of the standard library, between the creation of the file and its return.
    options = ("-X", "faulthandler", "-W", "error", "-W", "ignore::ResourceWarning")
    words = ("map", "jobs:gate", items(folder, *range(100_000), "wait"), "-o", "out.jsonl")
    process = start(*words, options=options)
    wait_until((folder / "out.jsonl").exists)  # it is opened just before the run
    for _ in range(6):
        process.send_signal(signal.SIGINT)
        time.sleep(pause)
    (folder / "release").touch()
    _, err = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in err
    text = (folder / "out.jsonl").read_text()
    assert not text or records(folder / "out.jsonl")


def test_three_ctrl_c_exit_even_if_a_thread_still_runs(start, folder):
    process = start("map", "jobs:thread", items(folder, "1"))
    until(process.stderr, "started 1")
    for word in ("draining", "cancelling"):
        process.send_signal(signal.SIGINT)
        until(process.stderr, word)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130


def test_sigterm_lets_running_items_end_and_exits_with_its_own_code(start, folder):
    process = start("map", "jobs:gate", items(folder, "wait 1"), "-o", "out.jsonl")
    until(process.stderr, "started")
    process.terminate()
    until(process.stderr, "draining 1 running item; another signal cancels them")
    (folder / "release").touch()
    process.communicate()
    assert process.returncode == 143
    assert len(records(folder / "out.jsonl")) == 1


@pytest.mark.measured_processes
def test_the_end_of_the_terminal_lets_running_items_end(start, folder):
    """The shell may send the signal once more."""
    process = start("map", "jobs:gate", items(folder, "wait 1", "2"), "-o", "out.jsonl", "--limit", 1)
    until(process.stderr, "started")
    process.send_signal(signal.SIGHUP)
    until(process.stderr, "draining 1 running item; another signal cancels them")
    process.send_signal(signal.SIGHUP)
    (folder / "release").touch()
    process.communicate()
    assert process.returncode == 129
    assert [record["input"] for record in records(folder / "out.jsonl")] == ["wait 1"]


def test_the_end_of_the_terminal_does_not_end_the_workers(start, folder):
    words = ("map", "jobs:group", items(folder, *range(1, 1000)), "-o", "out.jsonl", "--workers", 2, "--limit", 2)
    process = start(*words, start_new_session=True)
    _, err = process.communicate()
    assert process.returncode == 129
    assert "lost" not in err
    found = records(folder / "out.jsonl")
    assert {"id": 0, "ok": True}.items() <= max(found, key=lambda record: record["ms"]).items()
    assert len(found) < 999


@pytest.mark.measured_processes
def test_the_end_of_the_terminal_is_ignored_under_nohup(start, folder):
    code = "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)"
    code += "; from paco._cli import main; sys.exit(main())"
    words = ("map", "jobs:gate", items(folder, "wait 1", "2"), "-o", "out.jsonl", "--limit", 1)
    process = start("-c", code, *words, options=(), module=())
    until(process.stderr, "started")
    process.send_signal(signal.SIGHUP)
    (folder / "release").touch()
    assert "draining" not in process.communicate()[1]
    assert process.returncode == 0


def test_a_question_for_the_state_does_no_harm_at_the_end(start, folder):
    process = start("map", "jobs:asked", items(folder, 1), "-o", "out.jsonl")
    process.communicate()
    assert process.returncode == 0


def test_a_terminal_that_nobody_reads_does_not_stop_the_items(start, folder):
    import pty

    master, slave = pty.openpty()
    words = ("map", "jobs:says", items(folder, *range(1000)), "-o", "out.jsonl", "--progress", "bar")
    process = start(*words, stderr=slave, environ={"TERM": "xterm", "CI": ""}, options=())
    os.close(slave)
    assert process.wait() == 0
    os.close(master)
    assert len(records(folder / "out.jsonl")) == 1000


def test_results_are_written_while_stdin_is_idle(start):
    process = start("map", "jobs:echo")
    for number in range(3):
        process.stdin.write(f"{number}\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["input"] == str(number)
    process.communicate()
    assert process.returncode == 0


def test_ctrl_c_ends_the_wait_for_an_idle_stdin(start):
    process = start("map", "jobs:echo", "--progress", "off")  # no timer that would wake the loop
    process.stdin.write("1\n")
    process.stdin.flush()
    process.stdout.readline()
    process.send_signal(signal.SIGINT)
    assert process.wait() == 130
    assert "Exception" not in process.stderr.read()


def test_a_reader_that_closes_the_pipe_ends_the_run_quietly(start, folder):
    process = start("map", "jobs:large", items(folder, *range(10_000)))
    assert json.loads(process.stdout.readline())["ok"]
    process.stdout.close()
    assert process.wait() == 141
    assert process.stderr.read() == ""


def test_help_into_a_closed_pipe_is_quiet(start):
    out, into = os.pipe()
    os.close(out)
    process = start("map", "--help", stdout=into)
    os.close(into)
    assert process.communicate()[1] == ""
    assert process.returncode == 141


def test_a_closed_stderr_does_not_disturb_the_run(start, folder):
    process = start("map", "jobs:echo", items(folder, "1", "2"))
    process.stderr.close()
    assert len(process.stdout.readlines()) == 2
    assert process.wait() == 0


def test_control_characters_in_the_input_do_not_reach_the_terminal(start, folder):
    (folder / "jobs.py").write_text("async def fail(item):\n    raise ValueError(item)\n")
    hostile = b"\x1b]52;c;aGk=\x07\n\xc2\x9b2J\n\xff\xfe\na\0b\n\xe2\x80\xae\n" + b"x" * 20_000_000 + b"\nlast\n"
    (folder / "items.txt").write_bytes(hostile)
    process = start("map", "jobs:fail", "items.txt", options=(), environ={"PYTHONUTF8": "1"})
    out, err = process.communicate()
    assert process.returncode == 1
    found = sorted(map(json.loads, out.splitlines()), key=lambda record: record["id"])
    assert len(found) == 7
    assert found[5]["error"]["type"] == "LineTooLong"
    assert found[6]["input"] == "last"
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_on_a_terminal_lines_are_repainted_below_the_failures(start, folder):
    import pty

    master, slave = pty.openpty()
    words = ("map", "jobs:released", items(folder, "0", "1", "2"), "-l", 1, "-o", "out.jsonl", "--total", 3)
    process = start(*words, stderr=slave, environ={"TERM": "xterm", "NO_COLOR": "1", "CI": ""})
    os.close(slave)
    with os.fdopen(master, encoding="utf-8", newline="") as screen:
        shown = until_shown(screen, r"  0%  0/3")
        (folder / "release 0").touch()
        shown += until_shown(screen, r"  33%  1/3  eta [\d:]+\r\n")
        shown += until_shown(screen, r"  in flight 1/1   ok 1   failed 0\r\n")
        (folder / "release 1").touch()
        (folder / "release 2").touch()
        shown += until_shown(screen, None)
    assert process.wait() == 1
    assert not re.search(r"\x1b\[[0-9;]*m", shown)
    again = f"paco map {' '.join(map(str, words[1:]))} --retry-failed"
    first, *_, failures, where, last = left(shown)
    assert first == "✗ #1 1  ValueError: no"
    assert (failures, last) == ("  failures  1 ValueError: no", f"  again     {again}")
    assert where.startswith("  first     ValueError at jobs.py:")


def test_a_named_pipe_is_read_while_it_is_written(start, folder):
    os.mkfifo(folder / "pipe")
    process = start("map", "jobs:echo", "pipe")
    with (folder / "pipe").open("w") as into:
        into.write("1\n")
        into.flush()
        assert json.loads(process.stdout.readline())["input"] == "1"
    process.communicate()
    assert process.returncode == 0


def test_ctrl_c_in_the_middle_of_http_requests_leaves_whole_records(start, folder):
    pytest.importorskip("aiohttp")
    (folder / "urls.txt").write_text("".join(f"/item/{number}\n" for number in range(100_000)))
    words = ("map", f"{EXAMPLES / 'fetch.py'}:fetch", "urls.txt", "--limit", 50, "--output", "out.jsonl")
    process = start(*words, "--total", 100_000, options=())  # they may not be counted yet
    wait_until(lambda: (folder / "out.jsonl").exists() and (folder / "out.jsonl").stat().st_size > 10_000)
    process.send_signal(signal.SIGINT)
    err = process.communicate()[1]
    assert process.returncode == 130
    found = records(folder / "out.jsonl")
    assert all(record["ok"] for record in found)
    assert sorted(record["id"] for record in found) == list(range(len(found)))
    assert f"{len(found):,} of 100,000 items" in err
