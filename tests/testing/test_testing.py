"""The tools that the other tests stand on: each check is seen red here."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import logging
import math
import multiprocessing
import os
import queue
import re
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
import tracemalloc
import weakref
from collections.abc import Coroutine
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import aclosing, closing, suppress
from itertools import count
from types import SimpleNamespace

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco.testing import (
    AsyncSource,
    Deadlock,
    Leak,
    Probe,
    Source,
    VirtualLoop,
    cancel_at_every_step,
    check_leaks,
    now,
    pytest_pyfunc_call,
    run,
)

needs_eager_tasks = pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks need Python 3.12")
EAGER = [False, pytest.param(True, marks=needs_eager_tasks)]


async def forever():
    await asyncio.get_running_loop().create_future()


async def fail():
    raise ValueError("planted")


# ---- virtual time ----


async def naps():
    limit = asyncio.Semaphore(2)

    async def nap():
        async with limit:
            await asyncio.sleep(10)

    await asyncio.gather(*(nap() for _ in range(6)))
    return now()


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("eager", EAGER)
def test_six_naps_of_ten_seconds_at_limit_two_end_at_exactly_thirty(eager, debug):
    assert run(naps, eager=eager, debug=debug) == 30


@pytest.mark.parametrize("seconds", [86_400, 86_400.5, 10 * 365 * 86_400])
def test_a_sleep_takes_no_time_however_long(seconds):
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(asyncio.sleep(seconds))
        assert runner.get_loop().time() == seconds


async def test_the_clock_is_exactly_at_the_time_of_the_timer():
    for tenths in range(1, 1001):
        await asyncio.sleep(0.1)
        assert now() == tenths / 10  # and not the sum of floats: 0.1 + 0.1 + 0.1 is 0.30000000000000004


async def test_times_add_up_as_decimal_numbers_wherever_they_are_computed():
    await asyncio.sleep(0.1)
    await paco.timeout(asyncio.sleep, 9)(0.2)
    assert (now(), now() - 0.1, 1 - now(), 0.1 + now()) == (0.3, 0.2, 0.7, 0.4)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.sleep(1)
    with anyio.move_on_after(0.1):
        await anyio.sleep(1)
    assert now() == 0.8
    assert type(copy.copy(now())) is float
    assert [now() + math.inf, now() - math.inf] == [math.inf, -math.inf]
    assert math.isnan(now() + math.nan)


async def test_a_tiny_sleep_until_a_time_reaches_it():
    for end in (1 / 3, 0.1 + 0.2, 1e-9, 123.456, 1e5 / 3):
        while now() < end:  # noqa: ASYNC110 - what a poller does
            await asyncio.sleep(end - now())
    assert now() - 1e5 / 3 < 1e-10


async def test_only_timers_of_the_same_time_run_in_the_same_step():
    loop = asyncio.get_running_loop()
    later = math.nextafter(1, 2)
    ran = []
    for when in (later, 1, 1):
        loop.call_at(when, lambda: (ran.append(now()), loop.call_soon(ran.append, "next step")))
    await asyncio.sleep(2)
    assert ran == [1, 1, "next step", "next step", later, "next step"]


async def test_a_cancelled_timer_does_not_move_the_clock():
    asyncio.get_running_loop().call_later(5, print).cancel()
    await asyncio.sleep(7)
    assert now() == 7


@pytest.mark.parametrize("wait", [forever, lambda: asyncio.sleep(math.inf)])
def test_waiting_without_a_timer_is_a_deadlock(wait):
    with pytest.raises(Deadlock, match=r"^nothing is ready and no timer is set at time 3\.0; these tasks wait:"):
        run(lambda: asyncio.wait_for(asyncio.gather(asyncio.sleep(3), wait()), None))


def test_a_deadlock_names_the_waiting_tasks_and_their_places():
    async def main():
        async with asyncio.TaskGroup() as group:
            group.create_task(forever(), name="worker")

    with pytest.raises(Deadlock) as caught:
        run(main)
    assert re.search(rf"\n  task 'worker', at {re.escape(__file__)}:\d+ in forever\b", str(caught.value))
    assert re.search(rf"\n  task '.*', at {re.escape(__file__)}:\d+ in .*main\b", str(caught.value))


class Waiting:
    """An async iterator that is no generator."""

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.Event().wait()


async def waiting():
    yield 1
    await asyncio.Event().wait()


async def outer():
    async for one in waiting():
        yield one


@pytest.mark.parametrize(("source", "name"), [(waiting, "waiting"), (outer, "waiting"), (Waiting, "Waiting.__anext__")])
@pytest.mark.parametrize("read", [paco.map, None], ids=["map", "async for"])
def test_a_deadlock_names_the_line_in_which_an_async_source_waits(source, name, read):
    async def ask(item):
        await forever()

    async def main():
        if read is not None:
            await read(ask, source(), limit=2)
        async for _ in source():
            pass

    with pytest.raises(Deadlock) as caught:
        run(main)
    assert re.search(
        rf"\n  task '.*', at {re.escape(__file__)}:\d+ in {re.escape(name)}$", str(caught.value), re.MULTILINE
    )
    assert "reader.py" not in str(caught.value)


def test_a_deadlock_shows_the_frames_in_which_the_function_waits_and_releases_their_variables():
    gone = []

    class Local:
        def __del__(self):
            gone.append(self)

    async def waits():
        local = Local()
        await paco.map(lambda _: forever(), [local])

    async def main():
        await waits()

    with pytest.raises(Deadlock) as caught:
        run(main)
    names = [entry.name for entry in caught.traceback]
    assert names[1:] == ["run", "run_on", "main", "waits"]
    assert len(gone) == 1


def test_a_deadlock_of_a_stream_shows_no_frames_of_paco():
    with pytest.raises(Deadlock) as caught:
        run(paco.map(lambda _: forever(), [1]))
    assert [entry.name for entry in caught.traceback][1:] == ["run", "run_on"]


def test_a_deadlock_is_raised_once_even_if_cleanup_sleeps():
    async def main():
        async def worker():
            try:
                await forever()
            finally:
                await asyncio.sleep(1)

        start(worker())
        await forever()

    with pytest.raises(Deadlock) as caught:
        run(main)
    assert not hasattr(caught.value, "__notes__")


def test_after_a_deadlock_the_loop_still_works_and_can_be_closed():
    ended = []

    async def main():
        try:
            await forever()
        finally:
            await asyncio.sleep(1)
            ended.append(now())

    with check_leaks(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        with pytest.raises(Deadlock):
            runner.run(main())
        runner.run(asyncio.sleep(4))
    assert ended == [5]


def test_a_deadlocked_task_that_resists_cancellation_does_not_hang_the_test():
    async def main():
        while True:
            with suppress(asyncio.CancelledError):
                await forever()

    def deadlock():
        with check_leaks(), suppress(Deadlock):
            run(main)

    with pytest.raises(Leak, match="Task was destroyed but it is pending"):
        deadlock()
    assert sys.get_asyncgen_hooks() == (None, None)


async def test_a_thread_is_waited_for_and_its_time_does_not_count():
    order = []

    async def job():
        await asyncio.to_thread(time.sleep, 0.01)
        order.append(("job", now()))

    async def timer():
        await asyncio.sleep(1000)
        order.append(("timer", now()))

    await asyncio.gather(timer(), job())
    assert order == [("job", 0), ("timer", 1000)]


async def test_while_a_thread_runs_timers_fire_in_real_time():
    event = threading.Event()
    job = asyncio.create_task(asyncio.to_thread(event.wait))
    began = time.monotonic()
    await asyncio.sleep(0.02)
    assert time.monotonic() - began > 0.019
    event.set()
    assert await job
    assert now() == 0.02


async def test_a_thread_may_call_into_the_loop():
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    await asyncio.gather(told, asyncio.to_thread(loop.call_soon_threadsafe, told.set_result, 1))


def call_in_through_a_timer(loop, told):
    threading.Timer(0.03, loop.call_soon_threadsafe, [told.set_result, 1]).start()


def call_in_through_a_thread(loop, told):
    def work():
        time.sleep(0.03)
        loop.call_soon_threadsafe(told.set_result, 1)

    threading.Thread(target=work, daemon=True).start()


def call_in_through_two_threads(loop, told):
    jobs = queue.Queue()

    def work():
        time.sleep(jobs.get())
        loop.call_soon_threadsafe(told.set_result, 1)

    threading.Thread(target=work).start()
    threading.Timer(0.01, jobs.put, [0.02]).start()


@pytest.mark.parametrize("call_in", [call_in_through_a_timer, call_in_through_a_thread, call_in_through_two_threads])
async def test_a_thread_that_somebody_else_has_started_is_waited_for(call_in):
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    call_in(loop, told)
    assert await asyncio.wait_for(told, 60) == 1
    assert now() == 0


async def test_what_a_thread_calls_just_before_it_ends_comes_before_the_next_timer(monkeypatch):
    loop = asyncio.get_running_loop()
    told, calls = loop.create_future(), [1]

    def call_in_and_end():
        if calls:
            loop.call_soon_threadsafe(told.set_result, calls.pop())
        return False

    monkeypatch.setattr(loop, "_threads_work", call_in_and_end)
    assert await asyncio.wait_for(told, 60) == 1
    assert now() == 0


async def test_jobs_in_executors_and_threads_of_others_are_waited_for():
    with ThreadPoolExecutor(1) as executor, anyio.fail_after(60):
        assert await anyio.to_thread.run_sync(lambda: time.sleep(0.02) or 42) == 42
        for job in (lambda: time.sleep(0.02), functools.partial(time.sleep, 0.02)):
            await asyncio.wait_for(asyncio.wrap_future(executor.submit(job)), 60)
        for _ in range(50):
            assert await anyio.Path(__file__).exists()
    assert now() == 0


@pytest.mark.skipif(not getattr(sys, "_is_gil_enabled", lambda: True)(), reason="the GIL keeps the thread waiting")
def test_a_job_that_a_thread_has_not_begun_is_waited_for():
    interval = sys.getswitchinterval()
    sys.setswitchinterval(60)  # the thread does not get the GIL while this test looks at it
    try:
        with closing(VirtualLoop()) as loop, ThreadPoolExecutor(2) as executor:
            executor.submit(int).result()
            while loop._threads_work():
                time.sleep(0.001)
            executor.submit(int)
            assert loop._threads_work()
    finally:
        sys.setswitchinterval(interval)


def test_an_executor_that_miscounts_its_idle_threads_does_not_hold_the_clock_back(monkeypatch):
    monkeypatch.setattr("paco.testing._loop._DOUBTS", 3)
    with ThreadPoolExecutor(2) as executor, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        loop = runner.get_loop()
        executor.submit(int).result()
        while loop._threads_work():
            time.sleep(0.001)
        executor._idle_semaphore.acquire()
        runner.run(asyncio.sleep(86_400))
        assert loop.time() == 86_400


async def test_jobs_of_a_process_pool_of_others_are_waited_for():
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        await asyncio.wait_for(asyncio.wrap_future(executor.submit(time.sleep, 0.02)), 60)
        assert now() == 0
        await asyncio.sleep(86_400)
    assert now() == 86_400


async def test_threads_that_wait_for_work_do_not_slow_the_clock_down():
    jobs = queue.Queue()
    idle = threading.Thread(target=jobs.get)
    idle.start()
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        await asyncio.to_thread(int)
        await anyio.to_thread.run_sync(int)
        for _ in range(100):
            await asyncio.sleep(86_400)
        server.shutdown()
    jobs.put(None)
    idle.join()
    serving.join()
    assert now() == 8_640_000


@pytest.mark.posix
async def test_a_process_is_waited_for():
    async with asyncio.timeout(60):
        process = await asyncio.create_subprocess_exec("sleep", "0.05")
        assert await process.wait() == 0
    assert now() == 0


def polls_the_clock():
    async def main():
        while now() < 10:  # noqa: ASYNC110 - the fault
            await asyncio.sleep(0)

    return main


def schedules_itself():
    async def main():
        def again():
            asyncio.get_running_loop().call_soon(again)

        again()
        await asyncio.sleep(1)

    return main


def is_cancelled_in_each_turn():
    async def main():
        with anyio.move_on_after(0.1):
            await paco.map(Probe(lambda item: item, takes=9, cleanup=2), range(3))

    return main


@pytest.mark.parametrize("polls", [polls_the_clock, schedules_itself, is_cancelled_in_each_turn])
def test_turns_without_end_at_one_time_are_reported(monkeypatch, polls):
    monkeypatch.setattr("paco.testing._loop._TURNS", 1000)
    with pytest.raises(Deadlock) as caught:
        run(polls())
    stands = (
        r"time stands still at \d\.\d: callbacks were ready in each of 1,000 turns of the loop; let what polls sleep"
    )
    assert re.match(stands, str(caught.value))
    assert "\n  ready: <Handle " in str(caught.value)


async def test_many_turns_that_wait_for_a_thread_are_no_deadlock(monkeypatch):
    monkeypatch.setattr("paco.testing._loop._TURNS", 1000)
    thread = threading.Timer(0.05, int)
    thread.start()
    while thread.is_alive():  # noqa: ASYNC110 - it polls
        await asyncio.sleep(0)
    job = asyncio.ensure_future(asyncio.to_thread(time.sleep, 0.05))
    while not job.done():  # noqa: ASYNC110 - it polls
        await asyncio.sleep(0)


@pytest.mark.parametrize("shut_down", [False, True])
def test_a_deadlock_is_detected_after_a_thread_has_ended(shut_down):
    async def main():
        await asyncio.to_thread(int)
        if shut_down:
            await asyncio.get_running_loop().shutdown_default_executor()
        await forever()

    with pytest.raises(Deadlock):
        run(main)


async def test_a_watched_socket_is_waited_for():
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        thread = threading.Timer(0.01, far.send, [b"x"])
        thread.start()
        assert await asyncio.get_running_loop().sock_recv(near, 1) == b"x"
        thread.join()


def test_an_interrupted_wait_is_not_a_deadlock():
    loop = VirtualLoop()
    loop._jobs = 1
    assert loop._wait(lambda timeout: [], None) == []
    loop.close()


@pytest.mark.posix
async def test_a_signal_handled_by_the_loop_runs_before_the_clock_moves():
    loop = asyncio.get_running_loop()
    told = loop.create_future()
    loop.add_signal_handler(signal.SIGUSR1, told.set_result, None)
    signal.raise_signal(signal.SIGUSR1)
    try:
        async with asyncio.timeout(1):
            await told
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)


async def test_callbacks_from_another_thread_run_before_the_clock_moves():
    loop = asyncio.get_running_loop()
    ran = []
    queue = loop._step_ended
    loop._step_ended = lambda: loop._ready.append(asyncio.Handle(lambda: ran.append(now()), (), loop))
    await asyncio.sleep(0)
    loop._step_ended = queue
    await asyncio.sleep(1)
    assert ran == [0]


def test_an_interrupt_cancels_the_run_and_is_raised():
    cancelled = []

    async def main():
        signal.raise_signal(signal.SIGINT)
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            cancelled.append(now())
            raise

    with pytest.raises(KeyboardInterrupt):
        run(main)
    assert cancelled == [0]


# ---- run ----


def test_run_accepts_a_function_a_coroutine_and_any_awaitable():
    class Three:
        def __await__(self):
            yield from asyncio.sleep(3).__await__()
            return 3

    async def three():
        return await Three()

    assert [run(three), run(three()), run(Three())] == [3, 3, 3]


async def test_run_inside_a_loop_is_an_error_that_suggests_await():
    with pytest.raises(RuntimeError, match="await the function instead"):
        run(naps)


def test_debug_enables_the_debug_mode_of_asyncio():
    async def debugs():
        return asyncio.get_running_loop().get_debug()

    assert run(debugs, debug=True)


@needs_eager_tasks
def test_eager_tasks_start_at_their_creation():
    async def main():
        task = asyncio.create_task(asyncio.sleep(0, 1))
        task_of_one_step = asyncio.create_task(Probe(int, takes=None)(1))
        assert task_of_one_step.done()
        return await task

    assert run(main, eager=True) == 1


def test_eager_uses_the_eager_task_factory_of_asyncio(monkeypatch):
    class Eager(asyncio.Task):
        def __init__(self, loop, coroutine, **options):
            super().__init__(coroutine, loop=loop, **options)

    async def kind():
        return type(asyncio.current_task())

    monkeypatch.setattr(asyncio, "eager_task_factory", Eager, raising=False)
    assert run(kind, eager=True) is Eager
    assert run(kind, eager=False) is asyncio.Task


def test_eager_tasks_need_python_3_12(monkeypatch):
    monkeypatch.delattr(asyncio, "eager_task_factory", raising=False)
    with pytest.raises(RuntimeError, match=r"eager tasks need Python 3\.12"):
        run(naps, eager=True)


# ---- leaks ----


def start(coroutine, **options):
    return asyncio.create_task(coroutine, **options)


async def leak_task():
    start(forever(), name="worker")
    await asyncio.sleep(0)


async def leak_task_of_a_foreign_coroutine():
    class Foreign(Coroutine):
        def send(self, _):
            return None

        def throw(self, *error):
            raise error[0]

        def close(self):
            pass

        def __await__(self):
            return self

    start(Foreign())


async def numbers():
    for number in count():
        yield number
        await asyncio.sleep(1)


async def leak_open_generator():
    leak_open_generator.generator = numbers()
    await anext(leak_open_generator.generator)


async def leak_dropped_generator():
    async for _ in numbers():
        break


async def leak_waiting_generator():
    generator = numbers()
    await anext(generator)
    start(pull(generator), name="puller")
    await asyncio.sleep(0)


async def pull(generator):
    await anext(generator)


async def leak_coroutine():
    naps()


async def leak_error_of_task():
    start(fail())
    await asyncio.sleep(1)


async def leak_error_in_a_cycle():
    task = asyncio.create_task(fail())
    task.add_done_callback([task].append)
    await asyncio.sleep(1)


async def leak_error_of_future():
    asyncio.get_running_loop().create_future().set_exception(ValueError("planted"))


async def leak_error_of_callback():
    asyncio.get_running_loop().call_soon(int, "planted")
    await asyncio.sleep(0)


async def leak_stream():
    paco.map(naps, [1]).as_completed()


async def leak_single_result():
    paco.each(naps, [1])


async def leak_task_of_asyncio_alone():
    start(asyncio.sleep(10))


class Unraisable:
    def __del__(self):
        raise ValueError("planted")


async def leak_unraisable():
    Unraisable()


async def leak_file():
    open(os.devnull)  # noqa: ASYNC230, PTH123, SIM115 - left open on purpose


#: Whether Python tells the unraisable hook which object it has dropped.
TELLS_THE_OBJECT = sys.version_info < (3, 14)

LEAKS = [
    (leak_task, r"task 'worker', at .*test_testing\.py:\d+ in forever$"),
    (leak_task_of_a_foreign_coroutine, r"task '.*', at an unknown place"),
    (leak_open_generator, r"async generator 'numbers', at .*test_testing\.py:\d+ in numbers$"),
    (leak_dropped_generator, r"async generator 'numbers', at .*test_testing\.py:\d+ in numbers$"),
    (leak_waiting_generator, r"task 'puller', at (?s:.*)async generator 'numbers', at .* in numbers$"),
    (
        leak_coroutine,
        r"RuntimeWarning: coroutine 'naps' was never awaited; made at .*_testing\.py:\d+ in leak_coroutine$",
    ),
    (leak_stream, r"RuntimeWarning: paco\.map\(\.\.\.\) was never .*; made at .*test_testing\.py:\d+ in leak_stream$"),
    (leak_single_result, r"RuntimeWarning: coroutine 'paco.each' was never awaited; made at .* in leak_single_result$"),
    (leak_task_of_asyncio_alone, r"task '.*', at .*test_testing\.py:\d+ in leak_task_of_asyncio_alone$"),
    (leak_error_of_task, r"Task exception was never retrieved, future: .*planted"),
    (leak_error_in_a_cycle, r"Task exception was never retrieved, future: .*planted"),
    (leak_error_of_future, r"Future exception was never retrieved, future: .*planted"),
    (leak_error_of_callback, r"Exception in callback int\(.*planted"),
    (leak_unraisable, r"ValueError: planted; .*Unraisable\.__del__"),
    (leak_file, r"ResourceWarning: unclosed file .*" + "; python -X tracemalloc .*" * TELLS_THE_OBJECT),
]


@pytest.mark.parametrize("eager", EAGER)
@pytest.mark.parametrize(("leaking", "message"), LEAKS, ids=lambda value: getattr(value, "__name__", None))
def test_a_run_that_leaves_something_behind_fails(leaking, message, eager):
    with pytest.raises(Leak, match=r"^left behind:\n  (?m:" + message + ")"):
        run(leaking, eager=eager)


@pytest.mark.parametrize(("leaking", "message"), LEAKS, ids=lambda value: getattr(value, "__name__", None))
def test_an_error_of_the_run_wins_and_what_it_left_behind_becomes_its_notes(leaking, message):
    async def main():
        await leaking()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine") as caught:
        run(main)
    assert re.search("(?m:" + message + ")", "\n".join(caught.value.__notes__))


@pytest.mark.skipif(not TELLS_THE_OBJECT, reason="Python tells the object until 3.13")
def test_where_a_leaked_resource_was_made_is_told_if_python_remembers_it():
    tracemalloc.start()
    try:
        with pytest.raises(Leak, match=r"unclosed file .*; made at .*test_testing\.py:\d+$"):
            run(leak_file)
    finally:
        tracemalloc.stop()


async def test_tasks_and_generators_that_have_ended_are_no_leak():
    async def two():
        yield 1
        yield 2

    assert [number async for number in two()] == [1, 2]
    async with aclosing(numbers()) as generator:
        await anext(generator)
    numbers()
    with pytest.raises(ValueError, match="planted"):
        await asyncio.create_task(fail())
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    logging.getLogger("asyncio").warning("no error")


def test_the_loop_closes_an_open_generator():
    with suppress(Leak):
        run(leak_open_generator)
    assert leak_open_generator.generator.ag_frame is None


async def test_a_dropped_generator_closed_by_the_loop_is_no_leak():
    async for _ in numbers():
        break
    await asyncio.sleep(1)


async def test_check_leaks_reports_only_tasks_of_its_block():
    before = asyncio.create_task(asyncio.sleep(1))
    with check_leaks():
        await asyncio.create_task(asyncio.sleep(0))
    with pytest.raises(Leak, match="task 'mine'"), check_leaks():
        mine = asyncio.create_task(asyncio.sleep(0), name="mine")
    await asyncio.wait([before, mine])


def test_check_leaks_works_around_code_without_a_loop():
    with check_leaks():
        asyncio.run(asyncio.sleep(0))
    with pytest.raises(Leak, match="never retrieved"), check_leaks():
        asyncio.run(leak_error_of_task())
    with pytest.raises(Leak, match="planted"), check_leaks():
        Unraisable()


def test_check_leaks_restores_all_hooks():
    def state():
        depth = sys.get_coroutine_origin_tracking_depth()
        filters = logging.getLogger("asyncio").filters[:]
        return sys.unraisablehook, sys.get_asyncgen_hooks(), filters, gc.isenabled(), depth

    async def main():
        before = state()
        with suppress(Leak), check_leaks():
            await leak_task()
        assert state() == before

    before = state()
    with suppress(Leak):
        run(main)
    assert state() == before
    assert gc.get_freeze_count() == 0


def test_garbage_from_before_the_block_is_not_reported():
    gc.disable()
    try:
        garbage = [Unraisable()]
        garbage.append(garbage)
        garbage_alive = weakref.ref(garbage[0])
        del garbage
        with check_leaks():
            gc.collect()
        assert garbage_alive() is not None
    finally:
        gc.enable()
    with pytest.raises(Leak, match="planted"), check_leaks():
        gc.unfreeze()


# ---- cancellation ----


@pytest.mark.parametrize(
    ("fn", "points"),
    [
        (lambda: asyncio.sleep(1), 5),  # before: the start, the timer, the end; after: the start, the timer
        (lambda: asyncio.sleep(0), 3),
        (lambda: Probe(int, takes=None)(1), 1),
        (naps, 23),
    ],
)
def test_a_run_is_cancelled_at_every_step(fn, points):
    assert cancel_at_every_step(fn, eager=False) == points
    assert cancel_at_every_step(fn, eager=False, again=0) == points
    assert cancel_at_every_step(fn, eager=False, again=1) == points


def test_the_cancellation_comes_before_and_after_the_callbacks_of_each_step():
    traces = []

    async def sleeps():
        trace = []
        traces.append(trace)
        asyncio.get_running_loop().call_later(1, trace.append, "timer")
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            trace.append(now())
            raise

    assert cancel_at_every_step(sleeps) == 5
    before = [["timer", 1], ["timer", 1], ["timer"]]  # the first of all is cancelled before it is called
    after = [[0], ["timer", 1], ["timer"]]
    assert traces == before + after


@pytest.mark.parametrize(("again", "cancellations"), [(None, {1}), (0, {2}), (1, {1, 2})])
def test_again_sets_the_steps_between_two_cancellations(again, cancellations):
    seen = set()

    async def cleans_up():
        try:
            await asyncio.sleep(1)
        finally:
            try:
                await asyncio.sleep(1)
            finally:
                seen.add(asyncio.current_task().cancelling())

    assert cancel_at_every_step(cleans_up, again=again) > 5
    assert seen - {0} == cancellations


@pytest.mark.parametrize("eager", EAGER)
def test_a_group_of_tasks_passes_cancellation_at_every_step(eager):
    async def group():
        tasks = [asyncio.create_task(asyncio.sleep(delay)) for delay in (1, 1, 2)]
        try:
            await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    assert cancel_at_every_step(group, eager=eager) > 5


async def swallows():
    with suppress(asyncio.CancelledError):
        await asyncio.sleep(1)


async def turns_into_a_timeout():
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        raise TimeoutError from None


async def forgets_its_task():
    task = asyncio.create_task(asyncio.sleep(1), name="forgotten")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


async def uncancels():
    try:
        await asyncio.sleep(1)
    except asyncio.CancelledError:
        asyncio.current_task().uncancel()
        raise


async def cancels_itself():
    raise asyncio.CancelledError


async def hangs_when_cancelled():
    try:
        await asyncio.sleep(1)
    finally:
        await forever()


async def never_ends():
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(1)


BROKEN = [
    (swallows, AssertionError, "the cancellation was swallowed", "before the callbacks of step 1"),
    (turns_into_a_timeout, TimeoutError, None, "before the callbacks of step 1"),
    (forgets_its_task, Leak, "task 'forgotten'", "before the callbacks of step 1"),
    (uncancels, AssertionError, "must be the number of cancellations, 1, got 0", "before the callbacks of step 1"),
    (cancels_itself, AssertionError, "but it was not cancelled", "in a run that was not cancelled"),
    (hangs_when_cancelled, Deadlock, "in forever", "before the callbacks of step 1"),
    (never_ends, AssertionError, "must end within 50 steps", "before the callbacks of step 1"),
    (fail, ValueError, "planted", "in a run that was not cancelled"),
]


@pytest.mark.parametrize(("fn", "error", "message", "note"), BROKEN, ids=lambda value: getattr(value, "__name__", None))
def test_a_broken_cancellation_is_found_and_the_error_names_its_step(fn, error, message, note):
    with pytest.raises(error, match=message) as caught:
        cancel_at_every_step(fn, max_steps=50)
    assert note in "".join(caught.value.__notes__)


def test_a_second_cancellation_finds_faults_that_the_first_does_not():
    async def abandons_its_task_when_cancelled_twice():
        task = asyncio.create_task(Probe(int, takes=5, cleanup=5)(1), name="abandoned")
        try:
            await asyncio.wait([task])
        finally:
            task.cancel()
            await asyncio.wait([task])

    assert cancel_at_every_step(abandons_its_task_when_cancelled_twice) > 5
    with pytest.raises(Leak, match="task 'abandoned'"):
        cancel_at_every_step(abandons_its_task_when_cancelled_twice, again=1)


# ---- fakes ----


def test_a_source_records_pulled_items_and_requests_after_its_end():
    source = Source("abc")
    assert next(source) == "a"
    assert (source.pulled, source.ended, source.closed, source.asked_after_end) == (1, False, False, False)
    assert list(source) == ["b", "c"]
    assert (source.pulled, source.ended, source.closed, source.asked_after_end) == (3, True, False, False)
    assert list(source) == []
    assert source.asked_after_end
    source.close()
    assert source.closed


def test_a_source_raises_its_error_after_its_items():
    error = ValueError("planted")
    source = Source([1], error=error)
    with pytest.raises(ValueError, match="planted") as caught:
        list(source)
    assert caught.value is error
    assert (source.pulled, source.ended, source.asked_after_end) == (1, True, False)


def test_a_source_is_lazy_and_records_that_its_generator_is_closed():
    source = Source(count())
    generator = source.generator()
    assert [next(generator), next(generator), source.pulled, source.closed] == [0, 1, 2, False]
    generator.close()
    assert source.closed


async def test_an_async_source_records_the_same():
    source = AsyncSource("abc", delay=10)
    assert await anext(source) == "a"
    assert (source.pulled, source.ended, source.closed, source.asked_after_end) == (1, False, False, False)
    assert [item async for item in source] == ["b", "c"]
    assert (source.pulled, source.ended, source.closed, source.asked_after_end) == (3, True, False, False)
    assert [item async for item in source] == []
    assert source.asked_after_end
    await source.aclose()
    assert source.closed
    assert now() == 50  # an end takes the delay too


async def test_an_async_source_raises_its_error_and_is_closed_as_a_generator():
    source = AsyncSource([1], error=ValueError("planted"))
    generator = source.generator()
    assert await anext(generator) == 1
    with pytest.raises(ValueError, match="planted"):
        await anext(generator)
    assert source.closed
    endless = AsyncSource(count())
    async with aclosing(endless.generator()) as generator:
        await anext(generator)
    assert (endless.pulled, endless.ended, endless.closed) == (1, False, True)


async def test_an_async_source_refuses_two_tasks_at_once():
    source = AsyncSource("abc", delay=1)
    first = asyncio.create_task(pull(source))
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="must be asked for one item at a time"):
        await anext(source)
    await first
    assert await anext(source) == "b"


async def test_a_probe_records_starts_ends_and_the_peak():
    probe = Probe(lambda x: 2 * x, takes=lambda x: 10 - x)
    first = asyncio.gather(probe(1), probe(2))
    await asyncio.sleep(5)
    assert probe.running == 2
    assert await asyncio.gather(first, probe(6)) == [[2, 4], 12]
    assert (probe.started, probe.started_at) == ([1, 2, 6], [0, 0, 5])
    assert probe.finished == [2, 1, 6]
    await probe(9)
    assert (probe.peak, probe.running, probe.failed, probe.cancelled) == (3, 0, [], [])


async def test_a_probe_records_errors_and_cancellations_and_cleans_up():
    probe = Probe(lambda x: 1 / x, takes=1, cleanup=5)
    with pytest.raises(ZeroDivisionError):
        await probe(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await probe(2)
    assert (probe.failed, probe.cancelled, probe.finished, probe.running, now()) == ([0], [2], [], 0, 6.5)
    quick = Probe(int, takes=1)
    task = asyncio.create_task(quick(1))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert quick.cancelled == [1]


# ---- the pytest plugin ----


@pytest.fixture
def five():
    return 5


async def test_async_tests_run_on_virtual_time_and_take_fixtures(five):
    assert isinstance(asyncio.get_running_loop(), VirtualLoop)
    await asyncio.sleep(five)
    assert now() == 5


class TestMethods:
    async def test_async_test_methods_run_on_virtual_time(self, five):
        await asyncio.sleep(five)


@pytest.mark.realtime
async def test_realtime_tests_run_on_a_real_loop(monkeypatch):
    assert not isinstance(asyncio.get_running_loop(), VirtualLoop)


@pytest.mark.parametrize("twice", [1, 2])
@given(seconds=st.integers(1, 9))
async def test_hypothesis_tests_may_be_async(twice, seconds):
    await asyncio.sleep(seconds * twice)
    assert now() == seconds * twice


def item(test, *markers):
    """Return what the plugin needs to know of a pytest item."""
    return SimpleNamespace(
        obj=test, get_closest_marker={name: name for name in markers}.get, _fixtureinfo=SimpleNamespace(argnames=())
    )


@pytest.mark.parametrize("marker", ["asyncio", "anyio", "trio"])
def test_tests_of_other_plugins_are_left_alone(marker):
    assert pytest_pyfunc_call(item(naps, marker)) is None
    assert pytest_pyfunc_call(item(naps)) is True
    assert pytest_pyfunc_call(item(lambda: None)) is None


def test_an_async_hypothesis_test_gets_a_new_loop_for_each_example():
    law = SimpleNamespace(hypothesis=SimpleNamespace(inner_test=naps))
    assert pytest_pyfunc_call(item(law)) is None
    assert not inspect.iscoroutinefunction(law.hypothesis.inner_test)
    law.hypothesis.inner_test()
    law.hypothesis.inner_test()


@needs_eager_tasks
@pytest.mark.parametrize(("value", "eager"), [("1", True), ("0", False), ("", False)])
def test_the_environment_turns_eager_tasks_on(monkeypatch, value, eager):
    async def test():
        assert asyncio.create_task(Probe(int, takes=None)(1)).done() is eager
        await asyncio.sleep(0)

    monkeypatch.setenv("PACO_TEST_EAGER", value)
    assert pytest_pyfunc_call(item(test))


def test_the_environment_names_the_loop_of_realtime_tests(monkeypatch):
    class Mine(asyncio.SelectorEventLoop):
        pass

    async def test(expected):
        assert type(asyncio.get_running_loop()) is expected

    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(new_event_loop=Mine))
    monkeypatch.setenv("PACO_TEST_LOOP", "mine")
    for markers, loop in ((["realtime"], Mine), ([], VirtualLoop)):
        fake = item(test, *markers)
        fake.funcargs, fake._fixtureinfo.argnames = {"expected": loop}, ["expected"]
        assert pytest_pyfunc_call(fake)


SUITE = """
import asyncio, pytest
from paco.testing import now

async def test_passes(tmp_path):
    await asyncio.sleep(86_400)
    assert now() == 86_400

@pytest.mark.realtime
async def test_realtime():
    await asyncio.sleep(0.001)

async def test_leaks():
    asyncio.create_task(asyncio.sleep(1), name="worker")

async def test_fails_and_leaks():
    asyncio.create_task(asyncio.sleep(1), name="worker")
    assert now() == 1

async def test_deadlock():
    await asyncio.Event().wait()
"""


@pytest.mark.parametrize("enable", ["-p paco.testing", "conftest"])
def test_the_plugin_works_in_a_real_run_of_pytest(tmp_path, enable):
    (tmp_path / "test_suite.py").write_text(SUITE)
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\nfilterwarnings = error")
    (tmp_path / "conftest.py").write_text("" if enable != "conftest" else 'pytest_plugins = ["paco.testing"]')
    options = enable.split() if enable != "conftest" else []
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", *options, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = ended.stdout + ended.stderr
    assert re.search(r"\b3 failed, 2 passed\b", said), said
    assert re.search(
        r"(?m)^E +paco\.testing\._leaks\.Leak: left behind:\n +task 'worker', at .* in test_leaks$", said
    ), said
    assert re.search(r"(?m)^E +assert 0\.0 == 1\n(E.*\n)*?E +left behind: task 'worker'", said), said
    assert re.search(r"Deadlock: nothing is ready and no timer is set at time 0\.0", said), said
    assert re.search(r"(?m)^> +await asyncio\.Event\(\)\.wait\(\)$", said), said
    assert "run_until_complete" not in said
    assert "def run_on" not in said


def test_the_plugin_reports_a_leak_without_its_own_frames():
    async def leaky():
        _kept.append(asyncio.ensure_future(asyncio.sleep(100)))

    with pytest.raises(Leak, match="left behind") as caught:
        pytest_pyfunc_call(item(leaky))
    assert caught.value.__suppress_context__


_kept: list[object] = []
