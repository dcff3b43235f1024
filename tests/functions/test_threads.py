"""`paco.threaded`: blocking functions in threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import operator
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from contextvars import ContextVar

import pytest

import paco
from paco import testing
from paco._functions import threads as module
from tests.patience import PATIENCE, until

VAR = ContextVar("VAR", default="none")


def double(number: int, *, more: int = 0) -> int:
    """Return twice the number."""
    return 2 * number + more


#: Hold the event loop.
block = time.sleep


def ours():
    return [thread for thread in threading.enumerate() if thread.name.startswith("paco-threaded-")]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    yield
    assert not ours()


# ---- what it calls


def test_a_call_has_the_result_the_name_the_docs_and_the_signature_of_the_function():
    wrapped = paco.threaded(double)
    assert paco.run(wrapped(3, more=1)) == 7
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("double", double.__doc__, double)
    assert testing.run(paco.map(wrapped, range(3), limit=100, more=1)) == [1, 3, 5]


@pytest.mark.parametrize(
    "decorate",
    [paco.threaded, paco.threaded(), paco.threaded(threads=1), paco.threaded(1)],
    ids=["bare", "()", "(threads=1)", "(1)"],
)
def test_it_decorates_with_and_without_arguments(decorate):
    @decorate
    def name(number):
        return threading.current_thread().name, number

    assert testing.run(lambda: name(1)) == ("paco-threaded-name", 1)


def test_partials_lambdas_functions_in_c_and_callable_objects_run_in_threads():
    class Adder:
        def __call__(self, number):
            return number + 1

    for fn in (functools.partial(operator.add, 1), lambda number: number + 1, (1).__add__, Adder()):
        assert testing.run(paco.map(paco.threaded(fn), [1, 2])) == [2, 3]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyError])
def test_an_error_is_raised_with_the_traceback_of_the_thread(kind):
    def fail():
        raise kind("in the thread")

    async def call():
        with pytest.raises(kind, match="in the thread") as caught:
            await paco.threaded(fail)()
        assert caught.traceback[-1].name == "fail"
        refer = gc.get_referrers(caught.value)
        assert not any(isinstance(one, module._BlockingCall) for one in refer)

    testing.run(call)


def test_a_stop_iteration_does_not_end_the_iteration_of_the_caller():
    with pytest.raises(RuntimeError, match="StopIteration"):
        testing.run(paco.threaded(functools.partial(next, iter(())))())


def test_a_call_sees_the_context_of_its_caller_and_keeps_its_changes():
    @paco.threaded
    def swap(value):
        before = VAR.get()
        VAR.set(value)
        return before

    async def calls():
        VAR.set("the caller's")
        return [await swap("other"), await swap("other"), VAR.get()]

    assert testing.run(calls) == ["the caller's"] * 3


# ---- bad input


async def fetch(number):
    return number


@pytest.mark.parametrize(
    ("make", "kind", "message"),
    [
        (
            lambda: paco.threaded(fetch),
            TypeError,
            r"paco\.threaded: fn must be a plain function, not an async one, got",
        ),
        (lambda: paco.threaded(functools.partial(fetch, 1)), TypeError, "not an async one"),
        (lambda: paco.threaded(fetch(1)), TypeError, "fn must be a plain function"),
        (lambda: paco.threaded("name"), TypeError, "fn must be a plain function, not an async one, got 'name'"),
        (lambda: paco.threaded(double, 0), ValueError, r"paco\.threaded: threads must be an int of 1 or more, got 0"),
        (lambda: paco.threaded(threads=0), ValueError, "threads must be an int of 1 or more, got 0"),
        (lambda: paco.threaded(double, True), TypeError, "threads must be an int of 1 or more, got True"),
        (lambda: paco.threaded(threads=2.5), TypeError, "threads must be an int of 1 or more, got 2.5"),
    ],
)
def test_bad_arguments_are_refused_at_the_call(make, kind, message):
    with pytest.raises(kind, match=message):
        make()


def test_a_function_that_returns_an_awaitable_is_refused_and_the_coroutine_closed():
    with pytest.raises(TypeError, match=r"not an async one, got <coroutine.* from <lambda>; await <lambda> in the ev"):
        testing.run(paco.threaded(lambda: fetch(1))())


def test_a_plain_function_given_to_map_is_refused_with_this_remedy():
    for fn, called in (double, "double"), (functools.partial(double, more=1), "double"), (lambda _: 1, ".*<lambda>"):
        with pytest.raises(TypeError, match=rf"or a blocking one, to run in threads, as paco\.threaded\({called}\)"):
            paco.run(paco.map(fn, [1]))


# ---- threads


@pytest.mark.realtime
@pytest.mark.parametrize(("threads", "limit", "count"), [(None, 100, 100), (None, 0, 300), (6, 100, 6), (200, 30, 30)])
async def test_as_many_run_at_once_as_are_called_at_once(threads, limit, count):
    together, lock, running, most = threading.Barrier(count), threading.Lock(), [], []

    def meet(number):
        with lock:
            running.append(number)
            most.append(len(running))
        together.wait(PATIENCE)  # passes when `count` have come
        time.sleep(0.001)
        with lock:
            running.remove(number)
        return number

    fn = paco.threaded(meet, threads)
    assert await paco.map(fn, range(300), limit) == list(range(300))
    assert max(most) <= count == len(ours())
    del fn
    await until(lambda: not ours())  # the function is gone, so its threads need not wait for calls


@pytest.mark.realtime
async def test_no_more_than_1000_threads_run_without_a_number(monkeypatch):
    monkeypatch.setattr(module, "_MOST", 3)  # of the 1000, which take 100 ms to start
    together = threading.Barrier(3)
    assert len(await paco.map(paco.threaded(lambda _: together.wait(PATIENCE)), range(6))) == 6


@pytest.mark.realtime
async def test_quick_calls_need_few_threads():
    used = await paco.map(paco.threaded(lambda _: threading.get_ident()), range(1000), limit=100)
    assert len(set(used)) < 50  # the first one has run most calls before the next have started


@pytest.mark.realtime
async def test_threads_are_used_again_and_idle_ones_end(monkeypatch):
    monkeypatch.setattr(module, "_IDLE", 0.2)
    ident = paco.threaded(threading.get_ident)
    assert await ident() == await ident()
    assert len(ours()) == 1
    await until(lambda: not ours())
    await ident()
    assert len(ours()) == 1


@pytest.mark.realtime
async def test_a_thread_stays_while_as_many_calls_are_in_flight_as_threads(monkeypatch):
    monkeypatch.setattr(module, "_IDLE", 0.001)
    go_on = threading.Event()
    wait = paco.threaded(go_on.wait)
    first = asyncio.ensure_future(wait(PATIENCE))
    second = paco.threaded(double)
    pending = asyncio.ensure_future(second(1))
    await asyncio.sleep(0)
    block(0.05)  # the call has ended, but the loop does not know: the thread must not end
    assert len(ours()) == 2
    assert await pending == 2
    await until(lambda: len(ours()) == 1)
    go_on.set()
    assert await first


@pytest.mark.realtime
def test_each_loop_has_threads_of_its_own_that_end_with_it():
    ident, seen = paco.threaded(threading.current_thread), []

    async def calls():
        return [await ident() for _ in range(3)]

    def program():
        seen.append(asyncio.run(calls()))

    others = [threading.Thread(target=program) for _ in range(3)]
    for thread in others:
        thread.start()
    for thread in others:
        thread.join()
    assert len({thread for one in seen for thread in one}) == 3
    assert not any(thread.is_alive() for one in seen for thread in one)
    loop = asyncio.new_event_loop()
    for _ in range(2):
        thread = loop.run_until_complete(ident())
    loop.close()  # without having closed its generators
    left = weakref.ref(loop)
    del loop
    asyncio.run(ident())
    ident = None
    thread.join(PATIENCE)
    gc.collect()
    assert left() is None


def test_a_call_after_the_end_of_the_generators_has_a_thread_that_does_not_wait():
    ident = paco.threaded(threading.current_thread)

    async def main():
        first = await ident()
        await asyncio.get_running_loop().shutdown_asyncgens()
        assert not first.is_alive()
        second = await ident()
        second.join(PATIENCE)
        assert not second.is_alive()

    asyncio.run(main())


@pytest.mark.realtime
async def test_the_end_of_a_loop_does_not_wait_for_calls_in_flight():
    go_on = threading.Event()
    wait = paco.threaded(go_on.wait)
    call = asyncio.ensure_future(wait(PATIENCE))
    await until(ours)
    await asyncio.get_running_loop().shutdown_asyncgens()
    assert not call.done()
    go_on.set()
    assert await call
    await until(lambda: not ours())


@pytest.mark.realtime
async def test_a_thread_that_cannot_start_is_an_error_of_the_call(monkeypatch):
    start, go_on = threading.Thread.start, threading.Event()

    def refuse(thread):
        if thread.name.startswith("paco-threaded") and len(ours()) >= most:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    most = 0
    with pytest.raises(RuntimeError, match=r"cannot start thread 1 \(can't start new thread\); end other threads"):
        await paco.threaded(double)(1)
    most = 2
    wait = paco.threaded(go_on.wait)
    calls = [asyncio.ensure_future(wait(PATIENCE)) for _ in range(2)]
    await until(lambda: len(ours()) == 2)
    with pytest.raises(RuntimeError, match=r"cannot start thread 3 \(can't start new thread\); pass threads=2"):
        await wait(PATIENCE)
    go_on.set()
    assert await asyncio.gather(*calls) == [True] * 2
    assert await wait(PATIENCE)


# ---- cancellation


@pytest.mark.realtime
@pytest.mark.parametrize("fails", [True, False])
async def test_a_cancelled_call_waits_for_its_thread(fails):
    begun, go_on = threading.Event(), threading.Event()

    def work():
        begun.set()
        go_on.wait(PATIENCE)
        if fails:
            raise OSError("late")

    task = asyncio.ensure_future(paco.threaded(work)())
    await until(begun.is_set)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
    assert not task.done()
    go_on.set()
    with pytest.raises(OSError if fails else asyncio.CancelledError):
        await task


@pytest.mark.realtime
async def test_a_call_that_is_cancelled_when_it_has_just_ended_ends_cancelled():
    task = asyncio.ensure_future(paco.threaded(double)(1))
    await asyncio.sleep(0)
    block(0.05)  # it has ended, but the loop does not know
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.realtime
async def test_a_call_that_is_cancelled_before_it_begins_never_begins():
    go_on, begun = threading.Event(), []
    wait = paco.threaded(lambda number: (begun.append(number), go_on.wait(PATIENCE)), threads=1)
    tasks = [asyncio.ensure_future(wait(number)) for number in range(3)]
    await until(lambda: begun == [0])
    tasks[1].cancel()
    await asyncio.wait([tasks[1]])
    assert tasks[1].cancelled()
    go_on.set()
    await tasks[2]
    assert begun == [0, 2]


@pytest.mark.realtime
async def test_a_timeout_around_a_call_ends_when_the_function_does():
    ended = []
    nap = paco.threaded(lambda: time.sleep(0.05) or ended.append(1))
    with pytest.raises(TimeoutError):
        await paco.timeout(nap, 0.01)()
    assert ended == [1]


@pytest.mark.realtime
async def test_a_cancelled_call_that_fails_is_not_tried_again():
    begun, go_on = [], threading.Event()

    def work():
        begun.append(1)
        go_on.wait(PATIENCE)
        raise OSError("late")

    task = asyncio.ensure_future(paco.retry(paco.threaded(work), wait=0)())
    await until(lambda: begun)
    task.cancel()
    await asyncio.sleep(0)
    go_on.set()
    with pytest.raises(OSError, match="late"):
        await task
    assert begun == [1]


@pytest.mark.parametrize("again", [None, 0, 1])
def test_cancelled_at_every_step_nothing_runs_when_control_returns(cancel_at_every_step, again):
    async def calls():
        running = []

        def work(number):
            running.append(number)
            time.sleep(0.0005)
            running.remove(number)

        try:
            await paco.map(paco.threaded(work), range(4), limit=2)
        finally:
            assert not running

    assert cancel_at_every_step(calls, again=again) > 5


@pytest.mark.realtime
async def test_an_interrupt_while_results_are_delivered_loses_none(monkeypatch):
    loop, raised = asyncio.get_running_loop(), []
    monkeypatch.setattr(module, "check", module.check)

    class Interrupted(asyncio.Future):
        def set_result(self, result):
            if not raised:
                raised.append(1)
                raise ZeroDivisionError("as from a signal handler")
            super().set_result(result)

    monkeypatch.setattr(loop, "create_future", lambda: Interrupted(loop=loop))
    reported = []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
    assert await asyncio.gather(*map(paco.threaded(double), range(3))) == [0, 2, 4]
    assert raised
    assert len(reported) == 1


@pytest.mark.realtime
@pytest.mark.posix
@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_ends_a_program(tmp_path, times):
    """The first one waits for the calls that run. The third one ends the program, as with asyncio.to_thread."""
    program = """
import os, paco, sys, time
fn = paco.threaded(lambda _: (os.write(1, b"begun\\n"), time.sleep(float(sys.argv[1])), os.write(1, b"ended\\n")))
paco.run(paco.map(fn, range(8), limit=4))
"""
    seconds = "1" if times == 1 else "600"
    command = [sys.executable, "-c", program, seconds]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        begun = [process.stdout.readline() for _ in range(4)]
        for _ in range(times):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        out, err = process.communicate(timeout=20)
    assert begun == ["begun\n"] * 4
    assert out == ("ended\n" * 4 if times == 1 else "")
    assert err.endswith("KeyboardInterrupt\n")
    assert process.returncode in {-signal.SIGINT, 130}


# ---- with the rest


def test_a_loop_on_virtual_time_waits_for_threads_and_not_for_idle_ones():
    nap = paco.threaded(lambda: time.sleep(0.02))

    async def main():
        async with asyncio.timeout(0.5):
            await nap()
        await asyncio.sleep(86_400)  # the thread is idle
        return testing.now()

    start = time.monotonic()
    assert testing.run(main) == 86_400
    assert time.monotonic() - start < 5


def test_a_deadlock_is_found_beside_idle_threads():
    nap = paco.threaded(double)

    async def main():
        await nap(1)
        await asyncio.Event().wait()

    with pytest.raises(testing.Deadlock):
        testing.run(main)


@pytest.mark.realtime
async def test_it_runs_in_worker_processes():
    pid = paco.threaded(process_id)
    pids = await paco.map(pid, range(4), limit=4).on(2)
    assert os.getpid() not in pids


def process_id(_: int) -> int:
    return os.getpid()


async def _uv():
    return await paco.map(paco.threaded(double), range(3))


def test_it_runs_on_uvloop():
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(_uv()) == [0, 2, 4]


async def test_a_thread_that_is_called_up_just_when_it_has_slept_enough_looks_for_calls():
    class Lock:
        """A lock whose owner is called up when its time is over."""

        released = False

        def acquire(self, timeout=None):
            if timeout is not None:
                pool._wake()
            return timeout is None and self.released

        def release(self):
            self.released = True

    pool = module.ThreadPool(double, 1, asyncio.get_running_loop())
    pool._coming, lock = True, Lock()
    assert pool.sleep(lock)
    assert lock.released
    assert not pool._coming


async def test_a_thread_does_not_sleep_if_a_call_came_meanwhile():
    loop = asyncio.get_running_loop()
    pool = module.ThreadPool(double, 1, loop)
    pool._calls.append(module._BlockingCall(loop, (), {}))
    assert pool.sleep(threading.Lock())
    assert not pool._sleeping


def test_a_function_has_threads_for_each_loop_that_calls_it_in_turn():
    double = paco.threaded(lambda number: 2 * number)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        assert [runner.run(double(number)) for number, runner in enumerate((first, second, first))] == [0, 2, 4]
