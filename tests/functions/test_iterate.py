"""`iterate`: a stream in a plain ``for``. Its loop is in another thread, which nothing outlives."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import signal
import threading
import weakref
from queue import Empty, SimpleQueue

import pytest

import paco
from paco import testing
from paco.testing import Probe

pytestmark = pytest.mark.realtime

VARIABLE = contextvars.ContextVar("variable", default="none")


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.enumerate()
    with testing.check_leaks():
        yield
    assert threading.enumerate() == before


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


async def numbers(closed=None):
    try:
        number = 0
        while True:
            yield number
            number += 1
    finally:
        await asyncio.sleep(0)
        if closed is not None:
            closed.append(threading.current_thread().name)


def test_a_plain_for_gets_the_results_in_order():
    with paco.iterate(paco.map(double, range(10), limit=3)) as results:
        assert iter(results) is results
        assert list(results) == list(range(0, 20, 2))
        assert next(results, None) is None
    with paco.iterate(range(7) | paco.map(double) | paco.batch(3)) as results:
        assert list(results) == [[0, 2, 4], [6, 8, 10], [12]]


def test_other_async_iterables_are_iterated_and_closed():
    closed = []
    with paco.iterate(numbers(closed)) as results:
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        assert closed == []
    assert closed == ["paco-iterate"]
    with paco.iterate(testing.AsyncSource([1, 2])) as results:
        assert list(results) == [1, 2]


def test_leaving_the_block_ends_everything_that_runs():
    probe = Probe(lambda item: item, takes=lambda item: 0 if item < 2 else 1000, cleanup=0.01)
    with paco.iterate(paco.map(probe, range(100), limit=3)) as results:
        for number in results:
            if number == 1:
                break
    assert probe.running == 0
    assert len(probe.cancelled) == 3


def test_an_error_in_the_block_ends_everything_and_is_raised():
    closed = []
    with pytest.raises(KeyError), paco.iterate(numbers(closed)) as results:
        for number in results:
            if number == 3:
                raise KeyError
    assert closed == ["paco-iterate"]


def test_the_error_of_an_item_comes_out_of_the_for_after_the_results_before_it():
    async def invert(number):
        return 1 / number

    found = []
    with pytest.raises(ZeroDivisionError) as caught, paco.iterate(paco.map(invert, [1, 2, 0, 4])) as results:
        found.extend(results)
    with pytest.raises(ZeroDivisionError), paco.iterate(paco.map(invert, [1, 2, 0, 4])) as results:
        for number in results:
            found.append(number)  # noqa: PERF402 - this is the `for` that is tested
    assert found == [1, 0.5, 1, 0.5]
    assert caught.value.__notes__ == ["paco.map: item 2: 0"]


def test_after_an_error_the_results_are_at_their_end():
    async def fail(number):
        raise ValueError(number)

    with paco.iterate(paco.map(fail, [1])) as results:
        with pytest.raises(ValueError, match="1"):
            next(results)
        assert list(results) == []


def test_an_item_that_ends_the_program_ends_the_for():
    async def leave(number):
        raise SystemExit(number)

    with pytest.raises(SystemExit), paco.iterate(paco.map(leave, [3])) as results:
        list(results)


def test_the_stream_does_not_run_ahead_further_than_its_buffer():
    probe = Probe(lambda item: item)
    idle = SimpleQueue()

    async def probed(item):
        result = await probe(item)
        idle.put(len(probe.started))
        return result

    with paco.iterate(paco.map(probed, range(1000), limit=2).buffer(1)) as results:
        assert next(results) == 0
        for _ in range(1 + 2 + 1):
            idle.get(timeout=10)
        with pytest.raises(Empty):  # nothing more starts
            idle.get(timeout=0.1)
        assert len(probe.started) == 1 + 2 + 1


def test_nothing_is_read_before_it_is_asked_for():
    source = testing.AsyncSource(range(10))
    with paco.iterate(source) as results:
        assert next(results) == 0
        assert source.pulled == 1


def test_the_stream_sees_the_context_variables_of_the_caller():
    async def see(_):
        return VARIABLE.get()

    heard = []
    token = VARIABLE.set("mine")
    try:
        with (
            paco.listening(heard.append, paco.events.RunEnded),
            paco.iterate(paco.map(see, [1])) as results,
        ):
            VARIABLE.set("later")
            assert list(results) == ["mine"]
    finally:
        VARIABLE.reset(token)
    assert len(heard) == 1


async def test_inside_a_running_loop_it_is_refused():
    with pytest.raises(RuntimeError, match="an event loop is already running in this thread; write `async for`"):
        paco.iterate(paco.map(double, [1]))
    assert await asyncio.to_thread(lambda: list_of(paco.map(double, [1, 2]))) == [2, 4]


def list_of(stream):
    with paco.iterate(stream) as results:
        return list(results)


@pytest.mark.parametrize("wrong", [None, [1], "text", numbers], ids=["None", "list", "text", "function"])
def test_what_is_not_an_async_iterable_is_refused(wrong):
    with pytest.raises(TypeError, match=r"^paco.iterate: stream must be a stream or another async iterable, got "):
        paco.iterate(wrong)


def test_a_plain_for_over_a_stream_names_it():
    with pytest.raises(TypeError, match=r"in sync code, `with paco\.iterate\(this\) as results:` before the `for`"):
        list(paco.map(double, [1]))


def test_it_is_used_once_and_inside_its_block():
    block = paco.iterate(paco.map(double, [1, 2]))
    with pytest.raises(RuntimeError, match="iterate inside the `with` block, which is not entered"):
        next(block)
    with block as results:
        assert next(results) == 2
        with pytest.raises(RuntimeError, match="can be used once, and this one is open"):
            block.__enter__()
    with pytest.raises(RuntimeError, match="iterate inside the `with` block, which is closed"):
        next(results)
    with pytest.raises(RuntimeError, match="can be used once, and this one is closed"):
        block.__enter__()


def test_an_unused_block_closes_its_stream():
    for _ in range(20):  # sometimes before the thread has started to read
        with paco.iterate(paco.map(double, [1])), paco.iterate(numbers()):
            pass


def test_a_block_that_ends_before_its_thread_reads_closes_the_stream(monkeypatch):
    kind = paco._functions.iterate._Iteration
    run, call, left = kind._run, kind._call, threading.Event()
    monkeypatch.setattr(kind, "_run", lambda self, runner: left.wait(10) and run(self, runner))
    monkeypatch.setattr(kind, "_call", lambda self, fn: (call(self, fn), left.set()))
    closed = []

    def source():
        try:
            yield 1
        finally:
            closed.append(True)

    items = source()
    next(items)
    with paco.iterate(paco.map(double, items)):
        pass
    assert closed == [True]


def test_an_error_of_the_clean_up_is_raised_at_the_end_of_the_block():
    async def source():
        try:
            yield 1
            yield 2
        finally:
            raise OSError("clean-up")

    with pytest.raises(OSError, match="clean-up"), paco.iterate(source()) as results:
        assert next(results) == 1
    with pytest.raises(KeyError) as caught, paco.iterate(source()) as results:
        assert next(results) == 1
        raise KeyError
    assert caught.value.__notes__ == ["paco.iterate: closing the stream failed with OSError('clean-up')"]


@pytest.mark.posix
def test_a_source_that_swallows_its_cancellation_ends_all_the_same():
    async def stubborn():
        yield 1
        for _ in range(3):
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                yield 2

    with paco.iterate(stubborn()) as results:
        assert next(results) == 1
        with pytest.raises(KeyboardInterrupt):
            interrupted(lambda: next(results))


def interrupted(call):
    """Interrupt a call of this thread as Ctrl-C does."""
    main = threading.main_thread().ident
    timer = threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    try:
        call()
    finally:
        timer.join()


@pytest.mark.posix
def test_ctrl_c_ends_the_for_and_everything_that_runs():
    probe = Probe(lambda item: item, takes=lambda item: 1000 * item, cleanup=0.01)
    with pytest.raises(KeyboardInterrupt), paco.iterate(paco.map(probe, range(100), limit=3)) as results:
        interrupted(lambda: list(results))
    assert probe.running == 0


@pytest.mark.posix
def test_a_wait_that_was_interrupted_loses_no_result():
    release = threading.Event()

    async def source():
        yield 1
        await asyncio.to_thread(release.wait, 10)
        yield 2
        yield 3

    with paco.iterate(source()) as results:
        assert next(results) == 1
        with pytest.raises(KeyboardInterrupt):
            interrupted(lambda: next(results))
        release.set()
        assert list(results) == [2, 3]


def test_threads_share_the_results():
    found = SimpleQueue()

    def take():
        for number in results:
            found.put(number)

    with paco.iterate(paco.map(double, range(200), limit=5)) as results:
        threads = [threading.Thread(target=take) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(found.get() for _ in range(found.qsize())) == list(range(0, 400, 2))


def test_a_thread_that_waits_for_a_result_ends_with_the_block():
    async def source():
        yield 1
        await asyncio.sleep(1000)

    waiting, got = threading.Event(), []

    def take():
        waiting.set()
        got.append(next(results, "end"))

    with paco.iterate(source()) as results:
        assert next(results) == 1
        thread = threading.Thread(target=take)
        thread.start()
        waiting.wait()
        while not results._requested:
            pass
    thread.join()
    assert got == ["end"]


def test_waits_are_repeated_where_they_cannot_be_interrupted(monkeypatch):
    monkeypatch.setattr("paco._base.system.LONGEST_WAIT", 0.001)

    async def slow(number):
        await asyncio.sleep(0.02)
        return number

    with paco.iterate(paco.map(slow, range(3))) as results:
        assert list(results) == [0, 1, 2]


def test_a_thread_that_cannot_start_leaves_no_loop(monkeypatch):
    def fail(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)
    stream = paco.map(double, [1])
    with pytest.raises(RuntimeError, match="can't start"), paco.iterate(stream):
        pass
    stream.close()


def test_results_are_not_kept():
    class Result:
        pass

    async def make(_):
        return Result()

    with paco.iterate(paco.map(make, range(100), limit=1).buffer(0)) as results:
        kept = [weakref.ref(one) for one in results]
        gc.collect()
        assert sum(one() is not None for one in kept) <= 1


AT_EXIT = """
import asyncio, atexit, sys, threading, paco

async def item(number):
    try:
        await asyncio.sleep(1000 * number)
    finally:
        await asyncio.sleep(0.01)
        print("ended", number, flush=True)

results = paco.iterate(paco.map(item, [0, 1, 2], limit=3))
opened = results.__enter__()
next(opened)
atexit.register(print, "exit")
{end}
"""


@pytest.mark.parametrize(
    ("end", "code"), [("", 0), ("sys.exit(3)", 3), ("raise KeyError", 1)], ids=["end", "exit", "error"]
)
def test_the_interpreter_can_exit_in_the_middle(start, end, code):
    process = start("-c", AT_EXIT.format(end=end))
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert out.split("\n")[:2] == ["ended 0", "exit"]
    assert sorted(out.split("\n")[2:]) == ["", "ended 1", "ended 2"]
    assert ("KeyError" in err) == (code == 1)
    assert "never" not in err


@pytest.mark.posix
def test_a_program_that_is_interrupted_in_the_for_ends(start):
    process = start(
        "-c", "import asyncio, paco\n"
        "async def item(number):\n"
        "    try:\n        await asyncio.sleep(1000 * number)\n"
        "    finally:\n        print('ended', number, flush=True)\n"
        "with paco.iterate(paco.map(item, [0, 1])) as results:\n"
        "    for one in results:\n        print(one, flush=True)\n",
    )  # fmt: skip
    assert process.stdout.readline() == "ended 0\n"
    assert process.stdout.readline() == "None\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert out == "ended 1\n"
    assert process.returncode == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
