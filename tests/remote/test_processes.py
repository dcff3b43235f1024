"""Items that run in real processes and executors."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import multiprocessing
import os
import random
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections import Counter
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest

import paco
from paco.events import ItemEnded
from paco.remote import WorkerLost, Workers, _engines, _processes
from paco.remote._fork_server import Server
from tests.patience import until, wait_until
from tests.programs import popen
from tests.remote.jobs import RAISED, counted, kills, note, quick, raises_kind, where

pytestmark = pytest.mark.realtime

#: How often processes are killed: a few times in the suite, more often by PACO_KILLS=20.
KILLS = int(os.environ.get("PACO_KILLS", "2"))


STARTERS = {"forked": _processes.ForkServer, "spawned": _processes.Spawn}


@pytest.fixture(params=STARTERS if _processes.FORKS else ["spawned"])
def starts(request, monkeypatch):
    """Start workers in each way. Return a function that sets the code they run."""
    monkeypatch.setattr(_processes, "Starter", STARTERS[request.param])

    def instead(code):
        monkeypatch.setattr(_processes, "_WORKER", code)
        monkeypatch.setattr(_processes, "_SERVER", code)

    return instead


forks = pytest.mark.skipif(not _processes.FORKS, reason="processes are not forked here")


@pytest.fixture(scope="module")
def workers():
    with Workers(2) as workers:
        yield workers


@pytest.fixture(scope="module")
def pool():
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


class Elsewhere:
    """A stream whose descriptor is none any more."""

    def fileno(self):
        return 99_999


async def late(argument):
    number, path = argument
    if number:
        await counted(path)
    return number


async def fails(number):
    raise ValueError(number)


def is_alive(pid):
    """Say whether there is such a process, and no zombie. (On Windows ``os.kill(pid, 0)`` would send it a Ctrl-C.)"""
    windows = ["tasklist", "/nh", "/fo", "csv", "/fi", f"PID eq {pid}"]
    command = ["ps", "-o", "stat=", "-p", str(pid)] if hasattr(os, "fork") else windows
    if Path("/proc/self/stat").exists():
        with contextlib.suppress(OSError):
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
        return False
    told = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return f'"{pid}"' in told if command is windows else bool(told.strip()) and "Z" not in told


# ---- processes of ours


async def test_items_run_in_worker_processes(workers):
    found = await paco.map(where, range(300), limit=10).on(workers)
    assert set(found) == set(workers.pids)
    assert repr(workers) == "<paco.remote.Workers 2, 2 started>"


@pytest.mark.usefixtures("starts")
async def test_processes_of_one_run_end_with_it():
    pids = set(await paco.map(where, range(300), limit=10).on(2))
    assert len(pids) == 2
    assert not any(map(is_alive, pids))


async def test_an_error_has_the_traceback_of_the_process(workers):
    with pytest.raises(ValueError, match="3") as caught:
        await paco.map(fails, [3]).on(workers)
    assert "in fails\n    raise ValueError(number)" in caught.value.__notes__[0]


@pytest.mark.usefixtures("without_cloudpickle")
@pytest.mark.parametrize("engine", ["processes", "spawned pool", "pool"])
async def test_without_cloudpickle_errors_arrive_as_themselves(engine):
    with contextlib.ExitStack() as stack:
        place = 1
        if engine != "processes":
            context = multiprocessing.get_context("spawn" if engine == "spawned pool" else None)
            place = stack.enter_context(ProcessPoolExecutor(1, context))
        hidden, *found = await paco.map(raises_kind, ["hidden", *RAISED], return_exceptions=True).on(place)
    assert hidden is True
    assert dict(zip(RAISED, map(repr, found), strict=True)) == RAISED


async def test_a_pipeline_runs_in_several_places(workers, pool):
    stages = range(1000) | paco.map(quick, limit=50)
    assert await (stages.on(workers) | paco.map(quick, limit=20)) == list(range(1000))


@pytest.mark.parametrize("limit", [10, paco.Limit(10)], ids=["number", "object"])
async def test_a_cancelled_run_returns_when_its_items_in_processes_have_ended(workers, tmp_path, limit):
    log = tmp_path / "log"
    task = asyncio.ensure_future(paco.map(counted, [str(log)] * 100, limit=limit).on(workers))
    await until(lambda: log.exists() and log.read_text().count("+") == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.read_text() == 10 * "+" + 10 * "-"


@pytest.mark.parametrize("limit", [10, paco.Limit(10)], ids=["number", "object"])
async def test_break_out_of_a_block_returns_when_the_items_in_processes_have_ended(workers, tmp_path, limit):
    log = tmp_path / "log"
    async with paco.map(late, [(number, log) for number in range(1000)], limit=limit).on(workers) as results:
        async for _ in results:
            await until(lambda: log.exists() and len(log.read_text()) >= 5)
            break
    text = log.read_text()
    assert text.count("-") == text.count("+") >= 5


async def test_break_out_of_a_plain_loop_ends_the_items_in_processes_soon_after(workers, tmp_path):
    log = tmp_path / "log"
    async for _ in paco.map(late, [(number, log) for number in range(1000)], limit=10).on(workers):
        await until(lambda: log.exists() and len(log.read_text()) >= 5)
        break
    await until(lambda: (text := log.read_text()).count("-") == text.count("+"))
    await until(lambda: len(asyncio.all_tasks()) == 1)


@pytest.mark.posix
@pytest.mark.usefixtures("starts")
async def test_processes_killed_at_their_start_are_started_again():
    with Workers(1) as workers:
        task = asyncio.ensure_future(paco.map(quick, range(10)).on(workers))
        for _ in range(7):
            await until(lambda: workers.pids)
            [pid] = workers.pids
            os.kill(pid, signal.SIGKILL)
            await until(lambda pid=pid: pid not in workers.pids)
        assert await task == list(range(10))


@pytest.mark.posix
async def test_with_processes_killed_at_random_each_result_is_delivered_once(workers):
    dice, count, found = random.Random(), 1000 * KILLS, []  # noqa: S311 - dice, not secrets
    kills = Counter(dice.choices(range(count), k=KILLS))
    async for number in paco.map(quick, range(count), limit=10).on(workers):
        for _ in range(kills[number]):
            with contextlib.suppress(ProcessLookupError):  # one that was killed just before
                os.kill(dice.choice(await until(lambda: workers.pids)), signal.SIGKILL)
        found.append(number)
    assert found == list(range(count))


@pytest.mark.posix
@pytest.mark.parametrize("limit", [10, paco.Limit(10)], ids=str)
async def test_a_trace_has_a_process_for_each_worker_and_no_spans_of_a_row_overlap(workers, tmp_path, limit):
    killed = []

    def kill(event):
        busy = [worker.name for worker in event.run.workers.values() if worker.in_flight]
        if event.run.done > 300 and busy and not killed:
            killed.append(busy[0])
            os.kill(int(busy[0].split()[1]), signal.SIGKILL)

    with paco.trace() as trace, paco.listening(kill, ItemEnded):
        assert len(await paco.map(quick, range(1500), limit).on(workers)) == 1500
    trace.save(tmp_path / "trace.json")
    spans, last, done, (run,) = {}, {}, set(), trace.runs
    found = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    for event in found:
        if event["ph"] == "X":
            spans.setdefault((event["pid"], event["tid"]), []).append(event)
    for row, events in spans.items():
        for event in sorted(events, key=lambda event: event["ts"]):
            assert last.get(row, 0) <= event["ts"] + 0.001  # as floats, of which each is a little off
            assert event["dur"] >= 900
            last[row] = event["ts"] + event["dur"]
            done.add(event["name"])
    assert len(done) == 1500
    names = {event["pid"]: event["args"]["name"] for event in found if event["name"] == "process_name"}
    told = {names[process].rpartition(": ")[2] for process, _ in spans}
    assert told == {worker.name for worker in run.workers.values() if worker.done}
    lost = [worker.name for worker in run.workers.values() if worker.lost]
    assert lost in (killed, [])  # nothing is lost with one that has just brought back what it had


async def test_the_items_of_one_slot_of_a_worker_never_overlap(workers):
    ends, free_from = [], {}
    with paco.listening(ends.append, ItemEnded):
        await paco.map(quick, range(10_000), limit=50).on(workers)
    assert len(ends) == 10_000
    for event in sorted(ends, key=lambda event: event.start):
        row = event.worker, event.slot
        assert free_from.get(row, -math.inf) <= event.start
        free_from[row] = event.end
    assert max(slot for _, slot in free_from) < 50


@pytest.mark.posix
async def test_an_item_that_kills_its_process_is_lost_and_no_other_item(workers):
    found = await paco.map(kills, range(100), limit=10, return_exceptions=True).on(workers)
    assert isinstance(found[50], WorkerLost)
    assert "by SIGKILL" in str(found[50].__cause__)
    assert [*found[:50], *found[51:]] == [*range(50), *range(51, 100)]


async def test_processes_that_never_connect_are_an_error(starts):
    starts("raise SystemExit(7)")
    with pytest.raises(RuntimeError, match="5 processes in a row died as they started"):
        await paco.map(quick, range(10)).on(1)


@pytest.mark.usefixtures("starts")
@pytest.mark.measured_processes
def test_workers_are_started_when_needed_and_closed_once():
    workers = Workers()
    assert workers.count >= 1
    assert workers.pids == []
    workers.start()
    pids = workers.pids
    workers.close()
    workers.close()
    assert not any(map(is_alive, pids))
    with pytest.raises(RuntimeError, match="closed; create new workers"):
        workers.start()
    with pytest.raises(ValueError, match=r"paco\.remote\.Workers: count must be an int of 1 or more, got 0"):
        Workers(0)


async def loop_there(number):
    return type(asyncio.get_running_loop()).__module__.partition(".")[0]


class LoopOfMyOwn(asyncio.SelectorEventLoop):
    """One that no worker can make."""


@pytest.mark.parametrize(
    ("loop", "module", "there"),
    [
        ("asyncio", None, "asyncio"),
        ("uvloop", None, "uvloop"),
        ("own", "paco.testing", "asyncio"),
        ("own", "not_there.loops", "asyncio"),
    ],
)
def test_workers_run_on_a_loop_of_the_same_kind_if_they_can(monkeypatch, loop, module, there):
    new_loop = LoopOfMyOwn if loop == "own" else pytest.importorskip(loop).new_event_loop
    monkeypatch.setattr(LoopOfMyOwn, "__module__", module)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(awaited(paco.map(loop_there, [1]).on(1))) == [there]


async def awaited(awaitable):
    return await awaitable


@pytest.mark.parametrize("stream", [None, io.StringIO(), Elsewhere()], ids=["none", "text", "closed"])
def test_workers_print_to_the_original_stdout_if_the_program_prints_to_no_file(stream, monkeypatch):
    monkeypatch.setattr(sys, "stdout", stream)
    assert _processes._stdout() is None


async def blocks(number):
    time.sleep(3600)  # noqa: ASYNC251 - what no cancellation ends


@pytest.mark.usefixtures("starts")
@pytest.mark.parametrize("kept", [True, False], ids=["kept", "of one run"])
async def test_a_process_that_does_not_end_is_killed(monkeypatch, kept):
    monkeypatch.setattr(_processes, "PATIENCE", 0.3)
    engine = _engines.WorkersEngine(Workers(1), keep=False)
    monkeypatch.setattr(_engines, "WorkersEngine", lambda _, keep: engine)
    workers = engine._workers
    run = asyncio.ensure_future(paco.map(blocks, [1]).on(workers if kept else 1))
    await until(lambda: any(process.pending for process in workers._processes))
    [pid] = workers.pids
    run.cancel()
    if kept:
        await asyncio.to_thread(workers.close)
    with pytest.raises((asyncio.CancelledError, RuntimeError)):
        await run
    assert not is_alive(pid)


async def hangs(item):
    """Hang as it says, if it is the item 1; return if it is the item 0."""
    number, how, path = item
    note(path, f"{os.getpid()} ")
    if not number:
        return
    try:
        if number == 1 and how == "stopped":
            os.kill(os.getpid(), signal.SIGSTOP)
        if number == 1 and how == "stopped with the server":
            os.kill(os.getppid(), signal.SIGSTOP)
            os.kill(os.getpid(), signal.SIGSTOP)
        if number == 1 and how == "blocked":
            time.sleep(3600)  # noqa: ASYNC251 - what no cancellation ends
        await asyncio.sleep(3600)
    finally:
        if number == 1 and how == "blocked in cleanup":
            await asyncio.sleep(0.5)
            time.sleep(3600)  # noqa: ASYNC251 - the same


async def ended_by(how, stream, begun):
    """End a run in one of the ways there are, as soon as a file says that all items have begun."""
    if how == "leaving":
        async with stream as results:
            async for _ in results:
                await until(begun)
                break
        return
    async with asyncio.timeout(None) as time_out:
        task = asyncio.ensure_future(stream)
        await until(begun)
        if how == "cancellation":
            task.cancel()
        else:
            time_out.reschedule(0)
        with contextlib.suppress(asyncio.CancelledError) if how == "cancellation" else contextlib.nullcontext():
            await task


@pytest.mark.posix
@pytest.mark.parametrize(
    ("how", "end", "limit"),
    [
        ("stopped", "timeout", 3),
        pytest.param("stopped with the server", "cancellation", paco.Limit(3), marks=pytest.mark.slow),
        pytest.param("blocked", "leaving", 3, marks=pytest.mark.slow),
        ("blocked in cleanup", "timeout", paco.Limit(3)),
    ],
)
async def test_a_run_that_ends_kills_the_workers_that_do_not_answer(monkeypatch, tmp_path, end, how, limit):
    monkeypatch.setattr(_processes, "PATIENCE", 0.3)
    begun = tmp_path / "pids"
    stream = paco.map(hangs, [(number, how, begun) for number in range(3)], limit).on(3)
    with pytest.raises(TimeoutError) if end == "timeout" else contextlib.nullcontext():
        await ended_by(end, stream, lambda: begun.exists() and begun.read_text().count(" ") == 3)
    assert not any(map(is_alive, map(int, begun.read_text().split())))


@pytest.mark.posix
@pytest.mark.slow
async def test_another_run_on_a_worker_that_is_killed_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(_processes, "PATIENCE", 0.3)
    with Workers(1) as workers:
        other = asyncio.ensure_future(paco.map(quick, range(1000), limit=2).on(workers))
        begun = tmp_path / "pids"
        await ended_by("cancellation", paco.map(hangs, [(1, "stopped", begun)]).on(workers), begun.exists)
        assert await other == list(range(1000))


async def cleans_up(path):
    try:
        await counted(path)
    finally:
        await asyncio.sleep(1)
        note(path, f" {os.getpid()}")


@pytest.mark.slow
async def test_a_worker_whose_items_clean_up_for_long_is_not_killed(monkeypatch, tmp_path):
    monkeypatch.setattr(_processes, "PATIENCE", 0.3)
    log = tmp_path / "log"
    with Workers(1) as workers:
        pids = set(await paco.map(where, range(2)).on(workers))
        stream = paco.map(cleans_up, [log, log], limit=2).on(workers)
        await ended_by("cancellation", stream, lambda: log.exists() and log.read_text() == "++")
        assert log.read_text() == "++--" + f" {workers.pids[0]}" * 2
        assert {*workers.pids} == pids


@pytest.mark.posix
@pytest.mark.slow
def test_all_workers_that_are_stopped_are_killed_at_the_same_time(monkeypatch):
    monkeypatch.setattr(_processes, "PATIENCE", 1)
    workers = Workers(4)
    workers.start()
    for pid in workers.pids:
        os.kill(pid, signal.SIGSTOP)
    start = time.monotonic()
    workers.close()
    assert time.monotonic() - start < 3


def test_a_process_that_hangs_while_it_starts_is_killed(monkeypatch, starts):
    monkeypatch.setattr(_processes, "PATIENCE", 0.3)
    starts("import time; time.sleep(3600)")
    workers = Workers(2)
    [one, two] = workers.started()
    workers.close()
    assert one.gone.done()
    assert two.gone.done()


async def hangs_up(number):
    for descriptor in range(3, 100):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
            line.shutdown(socket.SHUT_RDWR)
    time.sleep(3600)  # noqa: ASYNC251 - what no cancellation ends


@pytest.mark.posix
@pytest.mark.usefixtures("starts")
async def test_a_process_that_closes_its_socket_is_killed(monkeypatch):
    monkeypatch.setattr(_processes, "PATIENCE", 0.2)
    with Workers(1) as workers:
        with pytest.raises(WorkerLost) as caught:
            await paco.map(hangs_up, [1]).on(workers)
        assert "by SIGKILL" in str(caught.value.__cause__)


# ---- reports that cannot be read


async def large(number):
    return bytes(2_000_000 if number == 2 else 10_000)


@pytest.mark.parametrize("limit", [pytest.param(40, marks=pytest.mark.slow), paco.Limit(40)], ids=["number", "object"])
async def test_a_result_beyond_memory_is_the_error_of_its_item_and_of_no_other(monkeypatch, limit):
    def receive(self, real=_processes.Line.receive):
        data = real(self)
        if data is not None and len(data) > 100_000:  # which is reached by the results of ten items together
            raise MemoryError
        return data

    monkeypatch.setattr(_processes.Line, "receive", receive)
    found = await paco.map(large, range(200), limit, return_exceptions=True).on(2)
    assert isinstance(found.pop(2), MemoryError)
    assert {*map(len, found)} == {10_000}


async def test_an_executor_that_was_interrupted_ends_the_run():
    class Interrupted:
        def submit(self, fn, /, *args):
            future = Future()
            future.set_exception(SystemExit(3))
            return future

    with pytest.raises(SystemExit, match="3"):
        await paco.map(quick, range(10)).on(Interrupted())


# ---- processes that items leave behind


async def leaves_a_program(path):
    left = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"], close_fds=False)  # noqa: ASYNC220
    note(path, f"{left.pid} ")
    return os.getpid()


async def leaves_a_fork(path):
    left = os.fork()
    if not left:
        time.sleep(3600)  # noqa: ASYNC251 - it holds what the worker has open, and has no thread of the worker
    note(path, f"{left} ")
    return os.getpid()


async def leaves_a_fork_and_is_killed(path):
    if not path.exists():
        await leaves_a_fork(path)
        os.kill(os.getpid(), signal.SIGKILL)
    return os.getpid()


@pytest.fixture
def left(tmp_path):
    """Return the path of a file for the process IDs that items leave behind; these still run at the end of the test."""
    path = tmp_path / "left"
    yield path
    for pid in path.read_text().split():
        assert is_alive(int(pid))
        os.kill(int(pid), signal.SIGKILL)


@pytest.mark.posix
@pytest.mark.usefixtures("starts")
@pytest.mark.parametrize("leaves", [leaves_a_program, leaves_a_fork])
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
async def test_a_run_does_not_wait_for_a_process_that_an_item_leaves_behind(left, leaves):
    [pid] = await paco.map(leaves, [left]).on(1)
    assert not is_alive(pid)


@pytest.mark.posix
@pytest.mark.usefixtures("starts")
async def test_the_death_of_a_worker_is_noticed_though_a_process_that_it_has_left_has_its_connection(left):
    [pid] = await paco.map(leaves_a_fork_and_is_killed, [left]).on(1)
    assert not is_alive(pid)


# ---- the fork server


def server_of(workers):
    """Return the fork server of some workers."""
    return workers._starter._process


async def parent(number):
    return os.getppid()


@forks
@pytest.mark.measured_processes
async def test_the_fork_server_ends_with_its_workers():
    with Workers(2) as workers:
        assert set(await paco.map(parent, range(100), limit=10).on(workers)) == {server_of(workers).pid}
        server = server_of(workers)
        for pid in workers.pids:
            os.kill(pid, signal.SIGKILL)
        await until(lambda: not workers._processes)
        assert server.poll() is None
    assert server.poll() == 0


@forks
async def test_a_killed_fork_server_is_replaced_and_so_are_its_workers():
    """Only the server learns of the death of a worker, so a worker without one could die unnoticed."""
    with Workers(1) as workers:
        [before] = await paco.map(where, [1]).on(workers)
        server = server_of(workers)
        server.kill()
        await until(lambda: not workers._processes)
        await until(lambda: not is_alive(before))
        assert await paco.map(where, range(100)).on(workers) != [before] * 100
        assert server_of(workers) is not server


@forks
async def test_a_worker_of_a_killed_fork_server_is_ended():
    with Workers(1) as workers:
        [pid] = await paco.map(where, [1]).on(workers)
        server_of(workers).kill()
    await until(lambda: not is_alive(pid))


@forks
async def test_a_fork_server_killed_at_its_start_is_started_again():
    with Workers(1) as workers:
        workers.start()
        server_of(workers).kill()
        assert await paco.map(quick, [1]).on(workers) == [1]


@forks
def test_a_worker_that_cannot_be_forked_has_exit_code_1(monkeypatch):
    def refuse():
        raise BlockingIOError

    monkeypatch.setattr(os, "fork", refuse)
    one, other = socket.socketpair()
    worker, pipe, end = os.dup(one.fileno()), *os.pipe()
    with one, other:
        server = Server(one)
        assert not server._fork(worker, end)
        os.close(server._wake)
        os.close(server._woken)
    forked = _processes.Forked(pipe, None)
    assert (forked.pid, forked.pid) == (0, 0)
    assert forked.wait() == 1
    forked.kill()


@forks
def test_the_fork_server_kills_the_workers_that_outlive_the_program(monkeypatch):
    monkeypatch.setattr("paco.remote._fork_server.GRACE", 0.05)
    one, other = socket.socketpair()
    with one, other, popen("-c", "import time; time.sleep(3600)") as stuck:
        server = Server(one)
        server._pipes[stuck.pid] = -1
        server._end()
        assert stuck.wait() == -signal.SIGKILL
    os.close(server._wake)
    os.close(server._woken)


@forks
def test_the_fork_server_leaves_alone_the_workers_that_end_in_time(monkeypatch):
    monkeypatch.setattr(Server, "_reap", lambda server: server._pipes.clear())
    one, other = socket.socketpair()
    with one, other, popen("-c", "import time; time.sleep(3600)") as worker:
        server = Server(one)
        server._pipes[worker.pid] = -1
        os.write(server._woken, b"\0")  # as the signal does that a child has ended
        try:
            server._end()
            assert (server._pipes, worker.poll()) == ({}, None)
        finally:
            worker.kill()
    os.close(server._wake)
    os.close(server._woken)


# ---- programs


@pytest.fixture
def program(start):
    """Return a function that starts Python code."""

    def run(code, *options):
        environ = {"PYTHON_THREAD_INHERIT_CONTEXT": "1"}
        return start(*options, "-c", textwrap.dedent(code), environ=environ, stdin=None)

    return run


def test_a_script_needs_no_main_guard_and_its_functions_and_classes_can_be_sent(program):
    process = program("""
        import paco
        from dataclasses import dataclass

        @dataclass
        class Point:
            x: int

        async def move(point):
            return Point(point.x + 1)

        print(paco.run(paco.map(move, [Point(1), Point(2)]).on(1)) == [Point(2), Point(3)])
        print(paco.run(paco.map(lambda point: move(point), [Point(1)]).on(1)))
    """)
    out, err = process.communicate()
    assert (out, err) == ("True\n[Point(x=2)]\n", "")


@pytest.mark.posix
def test_workers_of_a_program_that_blocks_signals_end(program):
    process = program("""
        import operator, signal
        import paco

        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, signal.SIGCONT, signal.SIGTERM})
        print(paco.run(paco.map(paco.wraps(operator.neg), [1, 2]).on(2)))
    """)
    out, err = process.communicate()
    assert (out, err) == ("[-1, -2]\n", "")


def test_reports_do_not_arrive_in_the_context_of_the_run_that_started_the_worker(program):
    """A thread inherits the context of its starter without a GIL, and with this flag of Python 3.14."""
    process = program("""
        import asyncio, contextvars, operator
        import paco, paco.remote

        VAR = contextvars.ContextVar("VAR", default="none")
        told = set()

        class Loop(asyncio.SelectorEventLoop):
            def call_soon_threadsafe(self, callback, *args, context=None):
                told.add(VAR.get())
                return super().call_soon_threadsafe(callback, *args, context=context)

        with paco.remote.Workers(1) as workers, asyncio.Runner(loop_factory=Loop) as runner:
            VAR.set("a run of the past")
            workers.start()
            VAR.set("a run")
            stream = paco.map(paco.wraps(operator.neg), [1]).on(workers)
            print(runner.run(asyncio.wait_for(stream, None)), *sorted(told - {"a run"}))
    """)
    out, err = process.communicate()
    assert (out, err) == ("[-1] none\n", "")


@pytest.mark.parametrize("engine", ["2", "ProcessPoolExecutor(2, multiprocessing.get_context('spawn'))"])
@pytest.mark.measured_processes
def test_a_killed_program_leaves_no_process_behind(program, engine, tmp_path):
    (tmp_path / "job.py").write_text(
        "import os, time\nasync def work(x):\n    os.write(1, b'%d\\n' % os.getpid())\n    time.sleep(0.5)\n"
    )
    process = program(f"""
        import multiprocessing, sys
        from concurrent.futures import ProcessPoolExecutor
        sys.path.insert(0, {str(tmp_path)!r})
        import paco, job
        if __name__ == "__main__":
            paco.run(paco.map(job.work, range(1000), limit=2).on({engine}))
    """)
    pids = set()
    while len(pids) < 2:
        pids.add(int(process.stdout.readline()))
    process.kill()
    process.wait()
    wait_until(lambda: not any(map(is_alive, pids)))


JOB_THAT_HOLDS_ON = """
import os, re, signal

async def work(item):
    if item == "stopped with the server":
        os.kill(os.getppid(), signal.SIGSTOP)
    os.write(1, b'%d\\n' % os.getpid())
    if item == "holds the GIL":
        re.match(r"(a+)+$", "a" * 40 + "b")
    os.kill(os.getpid(), signal.SIGSTOP)
"""
POOL = "ProcessPoolExecutor(2, multiprocessing.get_context('{}'))"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux kills a process after its parent")
@pytest.mark.parametrize(
    ("engine", "item", "sibling"),
    [
        ("2", "holds the GIL", False),
        ("2", "stopped", True),
        ("2", "stopped with the server", False),
        (POOL.format("spawn"), "holds the GIL", False),
        (POOL.format("fork"), "holds the GIL", False),
        (POOL.format("forkserver"), "stopped", False),
    ],
)
@pytest.mark.slow
def test_a_killed_program_leaves_no_process_behind_whatever_its_items_do(program, engine, item, sibling, tmp_path):
    (tmp_path / "job.py").write_text(JOB_THAT_HOLDS_ON)
    process = program(f"""
        import multiprocessing, os, sys, threading, time
        from concurrent.futures import ProcessPoolExecutor
        sys.path.insert(0, {str(tmp_path)!r})
        import paco, paco.remote, job

        def fork():
            if {sibling} and not os.fork():
                print(os.getpid(), flush=True)
                time.sleep(3600)

        if __name__ == "__main__":
            engine = {engine}
            if isinstance(engine, int):  # the thread that starts the processes ends before the program
                engine = paco.remote.Workers(engine)
                starter = threading.Thread(target=engine.start)
                starter.start()
                starter.join()
                fork()
            paco.run(paco.map(job.work, [{item!r}] * 2, limit=2).on(engine))
    """)
    pids = [int(process.stdout.readline()) for _ in range(2 + sibling)]
    process.kill()
    process.wait()
    if sibling:
        wait_until(lambda: sum(map(is_alive, pids)) == 1)
        [forked] = filter(is_alive, pids)
        os.kill(forked, signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, pids)))


def whole_lines(path):
    return path.read_text().split("\n")[:-1] if path.exists() else []


JOB = '''
import asyncio, pathlib, time

async def work(item):
    """Return another thing each time that it runs; the last item ends when it is released."""
    number, last = item
    await asyncio.sleep(0.002)
    while last and not pathlib.Path(__file__).with_name("release").exists():
        await asyncio.sleep(0.01)
    return [number, time.time_ns()]
'''


@pytest.mark.posix
@pytest.mark.slow
def test_a_killed_program_with_a_journal_delivers_the_same_results_when_run_again(program, tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    dice, count, runs = random.Random(), 300 * (KILLS + 1), []  # noqa: S311 - dice, not secrets
    for run in range(KILLS + 1):
        handed = tmp_path / f"handed.{run}"
        process = program(f"""
            import asyncio, os, sys
            sys.path.insert(0, {str(tmp_path)!r})
            import paco, job

            async def main():
                into = os.open({str(handed)!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                items = [(number, number == {count - 1}) for number in range({count})]
                stream = paco.map(job.work, items, limit=10).on(2).journal({str(tmp_path / "run.jsonl")!r})
                async with stream as results:
                    async for result in results:
                        os.write(into, f"{{result}}\\n".encode())

            asyncio.run(main())
        """)
        if run < KILLS:
            enough = count * (run + dice.random()) / (KILLS + 1)
            wait_until(lambda: len(whole_lines(handed)) >= enough)  # noqa: B023 - it is called here
            process.kill()
        else:
            (tmp_path / "release").touch()
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0 if run == KILLS else -signal.SIGKILL, "", "")
        runs.append(whole_lines(handed))
    last = runs.pop()
    assert [int(line[1:].partition(",")[0]) for line in last] == list(range(count))
    for lines in runs:
        assert lines == last[: len(lines)]


# ---- executors


@pytest.mark.parametrize("limit", [10, paco.Limit(10)], ids=["number", "object"])
async def test_a_process_pool_executor_runs_items(pool, limit):
    found = await paco.map(where, range(300), limit=limit).on(pool)
    assert len(found) == 300
    assert os.getpid() not in found


async def test_a_cancelled_run_returns_when_its_items_in_an_executor_have_ended(pool, tmp_path):
    log = tmp_path / "log"
    task = asyncio.ensure_future(paco.map(counted, [str(log)] * 100, limit=10).on(pool))
    await until(lambda: log.exists() and log.read_text().count("+") == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.read_text() == 10 * "+" + 10 * "-"


@pytest.mark.posix
async def test_an_executor_that_breaks_ends_the_run_and_the_error_says_what_to_do():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(BrokenProcessPool) as caught:
            await paco.map(kills, [50]).on(pool)
        assert "pass a number of processes instead" in caught.value.__notes__[0]


async def test_anything_with_submit_is_an_engine():
    class Here:
        def submit(self, fn, /, *args):
            future = Future()
            future.set_result(fn(*args))
            return future

    assert await paco.map(quick, range(10), limit=3).on(Here(), slots=2) == list(range(10))


async def test_an_executor_that_fails_ends_the_run():
    class Fails:
        def submit(self, fn, /, *args):
            future = Future()
            future.set_exception(OSError("no route"))
            return future

    with pytest.raises(OSError, match="no route"):
        await paco.map(quick, range(10)).on(Fails())


def test_an_invalid_engine_is_refused():
    stream = paco.map(quick, [1])
    with pytest.raises(TypeError, match=r"paco\.map\.on: engine must be a number of processes such as .* got None"):
        stream.on(None)
    with pytest.raises(TypeError, match=r"engine must be a number of processes such as os\.cpu_count\(\), .* got None"):
        stream.on()
    with pytest.raises(TypeError, match="got <class"):
        stream.on(ThreadPoolExecutor)
    with pytest.raises(ValueError, match=r"paco\.map\.on: engine must be an int of 1 or more, got 0"):
        stream.on(0)
    with pytest.raises(TypeError, match=r"paco\.map\.on: engine must be an int of 1 or more, got True"):
        stream.on(True)
    with pytest.raises(ValueError, match=r"paco\.map\.on: slots must be an int of 1 or more, got 0"):
        stream.on(2, slots=0)
    stream.close()
