"""Programs, and the process that starts them: what they receive and return, and that none is left."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import marshal
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest

import paco
from paco._exec import client, server
from paco._exec.client import Ended, Programs
from tests.patience import until, wait_until
from tests.programs import SOURCE, is_there

pytestmark = [pytest.mark.realtime, pytest.mark.posix]

ECHO = [sys.executable, "-S", "-c", "import json, sys; print(json.dumps(sys.argv[1:]))"]
HOSTILE = [
    *("", " ", "a b", "'", '"', "`id`", "$(id)", "$HOME", "*", "~", "\\", "a\nb", "\r\n", "\t", "-rf", "--", "--help"),
    *("é日🎉", "\x1b[2J", "\x01", "{}", "%s", "!", "#", ";", "|", "&&", "\udcff"),
]


def using(work):
    """Run an async function of `Programs`, and return its result."""

    async def main():
        programs = Programs()
        try:
            return await work(programs)
        finally:
            await programs.close()

    return asyncio.run(main())


def one(*argv, stdin=None):
    return using(lambda programs: programs.run(argv, stdin))


# ---- what goes in and comes out


def test_hostile_arguments_reach_the_program_as_they_are():
    ended = one(*ECHO, *HOSTILE)
    assert json.loads(ended.stdout) == HOSTILE


@pytest.mark.parametrize(
    ("word", "error", "said"),
    [
        ("a\0b", ValueError, r"no program can receive a NUL \(\\0\) in an argument, got 'a\\x00b'"),
        ("\ud800", UnicodeEncodeError, "surrogates not allowed"),
        ("x" * 3_000_000, OSError, "Argument list too long"),
    ],
)
def test_an_argument_that_no_program_can_receive_is_an_error(word, error, said):
    with pytest.raises(error, match=said):
        one("echo", word)


def test_a_program_that_cannot_be_started_is_an_error(tmp_path):
    async def main(programs):
        with pytest.raises(FileNotFoundError, match="'no such'"):
            await programs.run(["no such"])
        (tmp_path / "data").write_bytes(b"\0\1\2")
        (tmp_path / "data").chmod(0o755)
        with pytest.raises(OSError, match="Exec format error"):
            await programs.run([str(tmp_path / "data")], b"in")
        with pytest.raises(PermissionError):
            await programs.run([str(tmp_path)])
        return await programs.run(["echo", "on"])

    assert using(main).stdout == b"on\n"


def test_how_a_program_ends_is_told():
    assert one("sh", "-c", "echo out; echo err >&2; exit 3") == Ended(3, b"out\n", 0, b"err\n")
    assert one("sh", "-c", "kill -KILL $$") == Ended(-9, b"", 0, b"")


def test_stdin_is_what_was_given_or_empty():
    assert one("cat").stdout == b""
    assert one("cat", stdin=b"").stdout == b""
    assert one("cat", stdin=b"a\n\0b").stdout == b"a\n\0b"
    assert one("wc", "-c", stdin=b"x" * 1_000_000).stdout.strip() == b"1000000"
    assert one("true", stdin=b"x" * 1_000_000).code == 0  # does not read it


def test_of_a_long_output_the_end_is_kept():
    ended = one("sh", "-c", "yes | head -c 20000000; echo end; yes err | head -c 10000 >&2; echo last >&2")
    assert len(ended.stdout) == server.STDOUT
    assert ended.dropped == 20_000_004 - server.STDOUT
    assert ended.stdout.endswith(b"\ny\nend\n")
    assert len(ended.stderr) == server.STDERR
    assert ended.stderr.endswith(b"err\nlast\n")


def test_signals_that_python_ignores_end_a_program():
    assert one("sh", "-c", "kill -PIPE $$").code == -signal.SIGPIPE


def test_a_program_has_a_session_of_its_own_and_no_other_descriptors():
    code = "import os; print(os.getsid(0) == os.getpid(), *sorted(os.listdir('/dev/fd')))"
    assert one(sys.executable, "-S", "-c", code).stdout == b"True 0 1 2 3\n"  # the last one is the folder


def test_programs_run_at_once():
    async def main(programs):
        waiting = [programs.run(["sh", "-c", f"read line <{place}.fifo; echo $line"]) for place in range(2)]
        tasks = [asyncio.ensure_future(one) for one in waiting]
        done = await programs.run(["sh", "-c", "echo a >1.fifo; echo b >0.fifo"])
        return done.code, [(await task).stdout for task in tasks]

    with contextlib.chdir(os.environ["PACO_FIFOS"]):
        assert using(main) == (0, [b"b\n", b"a\n"])


@pytest.fixture(autouse=True)
def fifos(request, tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "0.fifo")
    os.mkfifo(tmp_path / "1.fifo")
    monkeypatch.setenv("PACO_FIFOS", str(tmp_path))


def test_output_that_comes_after_the_end_of_a_program_is_waited_for():
    assert one("sh", "-c", "(sleep 0.1; echo late) & echo soon").stdout == b"soon\nlate\n"


# ---- nothing is left


def test_a_call_that_is_cancelled_ends_the_program_and_its_group(tmp_path):
    async def main(programs):
        task = asyncio.ensure_future(programs.run(["sh", "-c", f"sleep 60 & echo $! $$ >{tmp_path}/pids; wait"]))
        pids = (await until(lambda: read(tmp_path / "pids"))).split()
        assert all(map(is_there, pids))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not any(map(is_there, pids))
        return await programs.run(["echo", "on"])

    assert using(main).stdout == b"on\n"


def read(path):
    return path.read_text() if path.exists() and path.read_text().endswith("\n") else ""


def test_what_ignores_sigterm_is_killed(tmp_path):
    script = f"trap '' TERM; (trap '' TERM; echo $$ >{tmp_path}/pids; while :; do sleep 0.05; done)"

    async def main(programs):
        task = asyncio.ensure_future(programs.run(["sh", "-c", script]))
        pid = (await until(lambda: read(tmp_path / "pids"))).strip()
        task.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - began >= server.GRACE
        await until(lambda: not is_there(pid))

    using(main)


def test_a_second_cancellation_does_not_wait_for_the_program(tmp_path):
    async def main(programs):
        task = asyncio.ensure_future(programs.run(["sh", "-c", f"trap '' TERM; echo $$ >{tmp_path}/pids; sleep 60"]))
        pid = (await until(lambda: read(tmp_path / "pids"))).strip()
        for _ in range(2):
            task.cancel()
            await asyncio.sleep(0)
        assert task.cancelled()
        await until(lambda: not programs._link._asked)  # the reply has come, and nobody waits for it
        assert not is_there(pid)

    using(main)


def test_a_cancellation_after_the_end_of_the_program_asks_for_nothing(monkeypatch):
    async def main(programs):
        task = asyncio.ensure_future(programs.run(["true"]))
        await until(lambda: programs._link and programs._link._asked)
        received = programs._link.data_received

        def receive(data):
            received(data)
            task.cancel()

        monkeypatch.setattr(programs._link, "data_received", receive)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not programs._link._asked

    using(main)


def test_what_a_program_leaves_in_its_group_is_ended(tmp_path):
    async def main(programs):
        await programs.run(["sh", "-c", f"sleep 60 >/dev/null 2>&1 & echo $! >{tmp_path}/pids"])
        await until(lambda: not is_there(read(tmp_path / "pids").strip()))
        ended = await programs.run(["sh", "-c", "sleep 60 & echo done"])  # holds the pipes, and is waited for a second
        assert ended == Ended(0, b"done\n", 0, b"")

    using(main)


def test_closing_ends_what_runs(tmp_path):
    async def main(programs):
        task = asyncio.ensure_future(programs.run(["sh", "-c", f"echo $$ >{tmp_path}/pids; sleep 60"]))
        pid = (await until(lambda: read(tmp_path / "pids"))).strip()
        await programs.close()
        assert not is_there(pid)
        with pytest.raises(ConnectionResetError, match="was killed"):
            await task
        await programs.close()

    using(main)


def test_nothing_needs_to_be_closed_that_was_not_used():
    assert using(lambda _: asyncio.sleep(0, 1)) == 1


def test_if_the_process_that_starts_programs_is_killed_its_programs_fail_and_the_next_starts_another():
    async def main(programs):
        script = "trap '' TERM; sleep 2"
        tasks = [asyncio.ensure_future(programs.run(["sh", "-c", script])) for _ in range(3)]
        await until(lambda: programs._link and len(programs._link._asked) == 3)
        await asyncio.sleep(0.1)
        for task in (tasks[0], tasks[2], tasks[2]):
            task.cancel()
            await asyncio.sleep(0)
        first = programs._link._process.pid
        os.kill(first, signal.SIGTERM)  # which it passes over
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ConnectionResetError, match="the process that started the program was killed"):
            await tasks[1]
        with pytest.raises(ConnectionResetError):
            await tasks[0]
        more = await asyncio.gather(*[programs.run(["echo", "on"]) for _ in range(3)])
        assert programs._link._process.pid != first
        return {ended.stdout for ended in more}

    assert using(main) == {b"on\n"}


CLIENT = """
import asyncio, sys
from paco._exec.client import Programs

async def main():
    programs = Programs()
    await asyncio.gather(*[programs.run(["sh", "-c", "sleep 60 & echo $$ $! >> pids; wait"]) for _ in range(4)])

asyncio.run(main())
"""


def test_no_program_is_left_if_the_process_that_asked_for_it_is_killed(tmp_path):
    environ = {**os.environ, "PYTHONPATH": SOURCE}
    with subprocess.Popen([sys.executable, "-c", CLIENT], cwd=tmp_path, env=environ) as process:
        pids = wait_until(lambda: (p := read(tmp_path / "pids").split())[7:] and p)
        process.kill()
    wait_until(lambda: not any(map(is_there, pids)))


# ---- the server in this process, where it can be measured


@pytest.fixture
def served(monkeypatch):
    """Return a function that serves a client, which runs in a thread, in this thread."""

    def serve(client):
        ours, theirs = socket.socketpair()
        errors = []

        def run():
            with ours:
                try:
                    client(ours)
                except BaseException as error:
                    errors.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        monkeypatch.setattr(sys, "argv", ["server.py", str(theirs.detach())])
        runpy.run_path(server.__file__, run_name="__main__")
        thread.join()
        if errors:
            raise errors[0]

    return serve


def ask(client, *values):
    data = marshal.dumps(values)
    client.sendall(len(data).to_bytes(server.HEAD) + data)


def answer(client):
    size = int.from_bytes(exactly(client, server.HEAD))
    return marshal.loads(exactly(client, size))  # noqa: S302 - from the server under test


def exactly(client, size):
    data = b""
    while len(data) < size:
        part = client.recv(size - len(data))
        assert part, "the server is gone"
        data += part
    return data


def test_the_server_starts_and_reports_programs(served):
    def client(end):
        ask(end, 1, [b"sh", b"-c", b"cat; exit 2"], b"x" * 200_000)
        ask(end, 2, [b"no such"], None)
        ask(end, 3, [b"true"], b"x" * 200_000)
        ask(end, 4, [b"cat"], b"short")
        replies = {reply[0]: reply[1:] for reply in (answer(end), answer(end), answer(end), answer(end))}
        assert replies.pop(4) == (0, b"short", 0, b"")
        assert replies == {1: (2, b"x" * 200_000, 0, b""), 2: (errno.ENOENT,), 3: (0, b"", 0, b"")}
        ask(end, 9)  # not there any more

    served(client)


def test_the_server_reads_a_request_that_comes_in_parts(served):
    def client(end):
        data = marshal.dumps((1, [b"true"], None))
        for byte in len(data).to_bytes(server.HEAD) + data:
            end.sendall(bytes([byte]))
        assert answer(end) == (1, 0, b"", 0, b"")

    served(client)


def test_the_server_keeps_the_end_of_an_output(served):
    def client(end):
        ask(end, 1, [b"sh", b"-c", b"yes | head -c 20000000"], None)
        _, code, stdout, dropped, _ = answer(end)
        assert (code, len(stdout), dropped) == (0, server.STDOUT, 20_000_000 - server.STDOUT)

    served(client)


@pytest.mark.parametrize("script", ["exec sleep 60", "sleep 60 & exit", "trap '' TERM; while :; do sleep 0.05; done"])
def test_the_server_ends_programs_on_request_and_at_the_end(served, script):
    def client(end):
        ask(end, 1, [b"sh", b"-c", b"echo on >&2; " + script.encode()], None)
        ask(end, 2, [b"sh", b"-c", script.encode()], None)
        time.sleep(0.1)
        ask(end, 1)
        assert answer(end)[0] in {1, 2}

    served(client)


def test_at_the_end_the_server_waits_for_groups_that_were_asked_to_end(served):
    def client(end):
        ask(end, 1, [b"sh", b"-c", b"(trap '' TERM; echo on; sleep 0.3; sleep 0.3) & read line"], b"")
        assert answer(end)[0] == 1

    served(client)


def test_the_server_ends_at_once_if_the_other_side_is_killed(served):
    def client(end):
        ask(end, 1, [b"true"], None)
        select.select([end], [], [])  # what is not read has the other side get an error instead of an end

    served(client)


def test_the_server_goes_on_without_descriptors(served, monkeypatch):
    def full():
        raise OSError(errno.EMFILE, "")

    real = os.pipe

    def client(end):
        ask(end, 0, [b"true"], None)
        assert answer(end)[0] == 0
        monkeypatch.setattr(os, "pipe", full)
        ask(end, 1, [b"true"], b"")
        assert answer(end) == (1, errno.EMFILE)
        made = iter([real, full])
        monkeypatch.setattr(os, "pipe", lambda: next(made)())  # noqa: PLW0108 - another one for each call
        ask(end, 2, [b"true"], None)
        assert answer(end) == (2, errno.EMFILE)
        monkeypatch.setattr(os, "pipe", real)

    served(client)


def test_a_pipe_that_never_ends_is_not_read_without_a_pause(monkeypatch):
    monkeypatch.setattr(server, "_CHUNK", 1)
    out, into = os.pipe()
    with os.fdopen(out, "rb"), os.fdopen(into, "wb"):
        os.write(into, b"x" * 100)
        tail = server.Tail(5)
        tail.pipe = out
        assert tail.read()
        assert tail.take() == b"xxxxx"
        assert 5 < tail.dropped < 50


def test_a_full_pipe_is_written_later():
    out, into = os.pipe()
    with os.fdopen(out, "rb"), os.fdopen(into, "wb"):
        os.set_blocking(into, False)
        os.write(into, b"x" * 1_000_000)
        program = server.Program(1, b"more")
        program.stdin = into
        assert program.write()
        assert program.unwritten == b"more"


def test_where_no_session_can_be_started_a_group_is(served, monkeypatch):
    real = os.posix_spawnp

    def spawn(*args, setsid=False, **more):
        if setsid:
            raise NotImplementedError
        return real(*args, **more)

    def client(end):
        monkeypatch.setattr(os, "posix_spawnp", spawn)
        for number in range(2):
            ask(end, number, [b"sh", b"-c", b"ps -o pgid= -p $$; echo $$"], None)
            group, pid = answer(end)[2].split()
            assert group == pid

    served(client)


def test_a_cancelled_run_of_items_leaves_no_program(tmp_path):
    async def main(programs):
        async def item(number):
            await programs.run(["sh", "-c", f"echo $$ >{tmp_path}/{number}; sleep 60"])

        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await paco.map(item, range(4), limit=2)
        return [read(path).strip() for path in tmp_path.glob("[0-9]")]

    pids = using(main)
    assert len(pids) == 2
    assert not any(map(is_there, pids))


@pytest.mark.parametrize("turns", range(1, 6))
async def test_a_call_that_is_cancelled_while_the_process_starts_waits_for_its_end(monkeypatch, turns):
    started, run_server = [], client._run_server
    monkeypatch.setattr(client, "_run_server", lambda end: started.append(run_server(end)) or started[0])
    programs = Programs()
    call = asyncio.ensure_future(programs.run(["true"]))
    for _ in range(turns):
        await asyncio.sleep(0)
    call.cancel()
    await asyncio.wait([call])
    await programs.close()
    assert call.cancelled()
    assert [process.returncode for process in started] == [0]
