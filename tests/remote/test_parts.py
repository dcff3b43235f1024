"""The parts of items that run elsewhere, each by itself: sizes, worker processes seen from inside, odd connections."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
from concurrent.futures import Future
from functools import partial
from multiprocessing.connection import Connection
from types import SimpleNamespace

import pytest

import paco
from paco import events
from paco.remote import _chunk, _executors, _pickles, _worker
from paco.remote._chunk import ChunkRunner
from paco.remote._feedback import Shape, Sizes
from paco.remote._messages import Order, Report
from paco.remote._processes import NUMBER, Line
from paco.remote._worker import Host
from tests.patience import wait_until
from tests.remote.jobs import attempts

INFINITE = float("inf")


async def double(number):
    return 2 * number


async def forever(number):
    await asyncio.sleep(10**6)


def order(run="run", flag="", **more):
    fields = {"watched": False, "deadline": INFINITE, "flag": flag, **more}
    return Order(run, "map", 2, 100.0, on_error="return", **fields).dump()


def chunk(fn, items, **more):
    return order(**more), _pickles.dump_function("map", fn), _pickles.dump_all(dict(enumerate(items)))[0]


# ---- sizes


def sizes_for(limit, slots=128, processes=2, **more):
    return Sizes(SimpleNamespace(slots=slots, processes=processes), limit, 10_000, **more)


def test_the_first_chunks_are_small_and_later_ones_have_the_target_duration():
    sizes = sizes_for(100)
    assert sizes.next(0, 0, INFINITE) == Shape(1, 1, 0.5)
    sizes.learn(Report("", 1, 0.001), 1, 10)
    assert sizes.next(0, 0, INFINITE) == Shape(16, 50, 0.5)  # no more than 16 times the last
    sizes.learn(Report("", 1000, 0.02), 50, 10_000)
    assert sizes.next(0, 0, INFINITE).items == 5001  # half the lead


def test_a_further_chunk_must_get_half_of_what_each_has():
    sizes = sizes_for(100, slots=3)
    sizes.learn(Report("", 1000, 0.02), 50, 10_000)
    assert sizes.next(1, 50, INFINITE).limit == 50
    assert sizes.next(2, 75, INFINITE).limit == 25
    assert sizes.next(2, 76, INFINITE) is None
    assert sizes.next(1, 100, INFINITE) is None
    assert sizes.next(3, 0, INFINITE) is None  # the engine accepts no more


def test_items_that_keep_the_loop_busy_are_not_spread():
    sizes = sizes_for(100)
    sizes.learn(Report("", 50, 0.1, 0.1), 50, 100)
    assert sizes.next(0, 0, INFINITE)[:2] == (125, 50)  # a quarter of a second of 2 ms each


def test_if_some_items_are_much_slower_all_are_sent_like_slow_ones():
    sizes = sizes_for(100)
    for limit in (1, 50):
        assert sizes.next(0, 0, INFINITE).limit == limit
        sizes.learn(Report("", 1000, 0.3, 0.0, 0.25), 50, 10_000)
    assert sizes.next(0, 0, INFINITE).limit == 1


def test_the_remainder_of_the_limit_is_assigned_too():
    sizes = sizes_for(5, slots=2)
    assert [sizes.next(0, 0, INFINITE).limit, sizes.next(1, 3, INFINITE).limit] == [3, 2]


@pytest.mark.parametrize(
    ("left", "items"), [(INFINITE, 1000), (2000, 1000), (1999, 1000), (1001, 501), (251, 126), (249, 125), (0, 125)]
)
def test_a_chunk_has_its_share_of_the_items_left_and_at_least_as_many_as_run_at_once(left, items):
    def share(items, left):
        return sizes_for(100)._share(Shape(items, 50, 0.5), left, chunks=7, used=0)

    assert share(1000, left) == items
    assert share(9, left) == 9
    assert share(300, 0) == 50


def test_items_that_may_start_at_once_are_divided_among_the_possible_chunks():
    sizes = sizes_for(100, paced=True)
    assert [sizes.next(80, 0, left).items for left in (0, 1, 20, 21, 100, 5000)] == [1, 1, 1, 2, 5, 101]
    assert sizes.next(99, 99, 60).items == 60  # the last


def test_items_that_may_start_at_once_are_sent_in_at_most_a_thousand_chunks_a_second():
    sizes = sizes_for(100, paced=True)
    sizes.learn(Report("", 40, 0.01), 40, 10)
    assert sizes.next(50, 30, 10).items == 4  # 40 of 10 ms each: four end in a millisecond
    sizes.learn(Report("", 40, 100.0), 40, 10)
    assert sizes.next(50, 30, 10).items == 1
    at_once = sizes_for(100, paced=True)
    at_once.learn(Report("", 40), 40, 10)
    assert at_once.next(50, 40, 60).items == 101


# ---- the side of the workers


async def test_a_runner_of_chunks_keeps_few_functions_and_few_cancelled_runs(monkeypatch):
    monkeypatch.setattr(_chunk, "_FUNCTIONS", 2)
    monkeypatch.setattr(_chunk, "_CANCELLED", 2)
    runner = ChunkRunner()
    for number in range(4):
        runner.cancel(f"run {number}")
        await runner.work(order(), _pickles.dump_function("map", partial(double, number)), _pickles.dump_all({})[0])
    assert list(runner._cancelled) == ["run 2", "run 3"]
    assert runner._function.cache_info()[1:] == (4, 2, 2)


async def test_a_chunk_of_a_run_that_was_cancelled_is_not_started():
    runner = ChunkRunner()
    runner.cancel("run")
    report = Report.load(await runner.work(*chunk(double, [1, 2])))
    assert report.started == 0
    assert report.values == b""


async def test_a_chunk_whose_items_cancel_all_tasks_reports_it():
    async def cancels(number):
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if "paco.map" in task.get_name():
                task.cancel()
        await asyncio.sleep(0)
        return number

    report = Report.load(await ChunkRunner().work(*chunk(cancels, [1, 2, 3])))
    assert report.errors


async def test_a_report_has_the_retries_of_items_if_they_are_asked_for():
    fails = iter([True, True, False])

    async def unsteady(number):
        if next(fails):
            raise OSError(number)
        events.retried(pause=4)

    fn = paco.retry(unsteady, on=lambda _: 3)
    report = Report.load(await ChunkRunner().work(*chunk(fn, ["a"], watched=True, retries=True)))
    assert [(index, attempt, pause) for index, attempt, _, pause in report.retries] == [(0, 1, 3), (0, 2, 3), (0, 1, 4)]
    assert [error is None for _, _, error, _ in report.retries] == [False, False, True]


async def test_closing_a_run_waits_for_its_chunks():
    runner = ChunkRunner()
    working = asyncio.ensure_future(runner.work(*chunk(forever, [1, 2])))
    await asyncio.sleep(1)
    await runner.end("run")
    await runner.end("another")
    assert Report.load(await working).started == 2


async def test_a_flag_file_ends_a_chunk(tmp_path):
    flag = tmp_path / "flag"
    working = asyncio.ensure_future(ChunkRunner().work(*chunk(forever, [1, 2], flag=str(flag))))
    await asyncio.sleep(1)
    assert not working.done()
    flag.touch()
    start = asyncio.get_running_loop().time()
    assert Report.load(await working).started == 2
    assert asyncio.get_running_loop().time() - start <= 0.06


@pytest.mark.realtime
def test_a_host_answers_without_a_chunk():
    host = Host()
    assert host.start().result() == b""
    host.close()


@pytest.mark.realtime
def test_closing_a_host_ends_everything_in_it():
    host = Host()
    working = host.start(*chunk(forever, [1, 2]))
    host.end("another").result()
    host.cancel("third")
    host.close()
    assert working.cancelled() or working.done()


@pytest.mark.realtime
def test_a_run_in_this_process_can_be_cancelled_from_another_loop():
    asyncio.run(_worker.end("a run that was never here"))
    assert "a run that was never here" in _worker.host().chunks._cancelled


@pytest.mark.realtime
def test_items_of_a_host_do_not_see_the_context_of_the_sending_thread():
    """Which is that of some run: without a GIL, a thread inherits the context that it is started in."""
    with paco.deadline(0.001):
        host = Host()
        report = Report.load(host.start(*chunk(attempts, [0.01])).result())
    host.close()
    assert _pickles.load_all(report.values) == ({0: 2}, {})


@pytest.mark.realtime
def test_a_process_of_multiprocessing_ends_with_its_parent(monkeypatch):
    sentinel, end = os.pipe()
    codes, parent = [], SimpleNamespace(join=lambda: None, sentinel=sentinel)
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: parent)
    monkeypatch.setattr(os, "_exit", codes.append)
    _worker._follow_parent()
    assert wait_until(lambda: codes) == [1]
    os.close(sentinel)  # before the other end, whose end would kill this process
    os.close(end)


# ---- a worker process, in a thread


def talk():
    ours, theirs = socket.socketpair()
    return Line(Connection(ours.detach())), theirs.detach()


@pytest.mark.realtime
@pytest.mark.parametrize(("loops", "says_goodbye"), [("asyncio", True), ("not_there", False)])
def test_a_worker_runs_until_its_program_says_goodbye_or_ends(monkeypatch, loops, says_goodbye):
    left = []
    monkeypatch.setattr(signal, "signal", lambda *given: None)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    monkeypatch.setattr(_worker, "GRACE", 0.01)
    monkeypatch.setattr(os, "_exit", left.append)
    line, descriptor = talk()
    working = threading.Thread(target=_worker.main, args=(descriptor,))
    working.start()
    line.send(pickle.dumps((sys.path, loops, {}, None)))
    assert line.receive() == b""
    line.send(pickle.dumps((1, *chunk(double, [1, 2]))))
    assert line.receive() == NUMBER.pack(1)
    assert _pickles.load_all(Report.load(line.receive()).values) == ({0: 2, 1: 4}, {})
    line.send(pickle.dumps((2, *chunk(forever, [1]))))
    line.send(pickle.dumps((None, "run")))
    assert line.receive() == NUMBER.pack(2)
    assert line.receive()
    line.send(pickle.dumps((3, *chunk(forever, [1], run="other"))))
    if says_goodbye:
        line.send(b"")
        while line.receive() is not None:
            pass
    line.close()
    working.join()
    if says_goodbye:
        assert not any(isinstance(thread, threading.Timer) for thread in threading.enumerate())
    else:
        wait_until(lambda: left)  # in a process of its own it would have ended by then
    assert left == ([] if says_goodbye else [1])


@pytest.mark.realtime
def test_a_connection_drops_messages_that_the_other_side_does_not_read():
    line, descriptor = talk()
    os.close(descriptor)
    for _ in range(3):
        line.send(bytes(1000))
    assert line.receive() is None
    line.close()


@pytest.mark.realtime
def test_a_message_that_cannot_be_sent_ends_the_connection():
    class Full(Connection):
        def send_bytes(self, data):
            raise MemoryError

    ours, theirs = socket.socketpair()
    line, other = Line(Full(ours.detach())), Line(Connection(theirs.detach()))
    line.send(b"a message")
    assert other.receive() is None
    line.close()
    other.close()


def served(future):
    """Return the messages of a worker that has one chunk, whose report is this future."""
    line, descriptor = talk()
    there = Line(Connection(descriptor))
    line.send(pickle.dumps((1, *chunk(double, [1, 2]))))
    line.send(b"")
    assert _worker.serve(there, SimpleNamespace(start=lambda *_, number: future))
    there.close()
    messages = list(iter(line.receive, None))
    line.close()
    return messages


@pytest.mark.realtime
def test_a_worker_reports_no_chunk_that_ended_before_it_began():
    future = Future()
    future.cancel()
    assert served(future) == []


@pytest.mark.realtime
def test_a_worker_that_cannot_make_a_report_refuses_the_chunk():
    future = Future()
    future.set_exception(MemoryError("no room"))
    number, report = served(future)
    assert number == NUMBER.pack(1)
    assert isinstance(Report.load(report).refusal.error(""), MemoryError)


def test_the_slots_of_an_executor_are_its_workers_or_the_number_of_cpus():
    class Says:
        num_workers = 7

    assert _executors.slots_of(Says()) == 7
    assert _executors.slots_of(object()) == os.cpu_count()
