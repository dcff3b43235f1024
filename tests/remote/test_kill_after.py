"""Processes that are killed because an item holds them for too long."""

from __future__ import annotations

import asyncio
import math
import os
import re
import signal
import time
from pathlib import Path

import pytest

import paco
from paco._functions import threads
from paco.remote import WorkerLost, Workers
from paco.remote._marks import Marks
from paco.remote._processes import Line
from paco.remote._worker import Host
from tests.patience import until
from tests.remote.jobs import holds, holds_at_once, note, quick, where

pytestmark = pytest.mark.realtime

LOST = r"paco\.map: the item held process \d+ on .+ for more than 0\.5 s, and the process was killed"


@pytest.mark.parametrize("limit", [0, 10, paco.Limit(10)], ids=str)
@pytest.mark.parametrize("how", ["blocks", "spins", "holds the GIL"])
async def test_an_item_that_holds_its_process_fails_and_the_others_run_again(how, limit):
    items = [*range(30), how, *range(30)]
    with Workers(2, kill_after=0.5) as workers:
        outcomes = await paco.map(paco.settle(holds), items, limit).on(workers)
        assert [outcome.value for outcome in outcomes if isinstance(outcome, paco.Ok)] == [*range(30), *range(30)]
        (lost,) = [outcome for outcome in outcomes if isinstance(outcome, paco.Err)]
        assert lost.item == how
        assert isinstance(lost.error, WorkerLost)
        with pytest.raises(WorkerLost, match=LOST):
            raise lost.error
        assert await paco.map(quick, range(3)).on(workers) == [0, 1, 2]
        assert len(workers.pids) == 2


async def test_an_item_that_blocks_when_it_is_called_is_lost_too():
    with Workers(1, kill_after=0.5) as workers:
        results = await paco.map(holds_at_once, [1, "blocks", 2], return_exceptions=True).on(workers)
    assert (results[0], results[2]) == (1, 2)
    assert isinstance(results[1], WorkerLost)


async def test_an_item_whose_task_holds_the_process_is_found_by_trying():
    with Workers(2, kill_after=0.2) as workers:
        results = await paco.map(holds, [1, "in a task", 2], return_exceptions=True).on(workers)
    assert (results[0], results[2]) == (1, 2)
    assert isinstance(results[1], WorkerLost)
    assert re.search(r"the worker of this item has died \d times", str(results[1]))
    assert "something held process" in str(results[1].__cause__)


async def test_an_item_that_awaits_does_not_hold_its_process():
    with Workers(1, kill_after=0.3) as workers:
        pid = await paco.map(where, [1]).on(workers)
        assert await paco.map(nap, [1]).on(workers) == [1]
        assert await paco.map(where, [1]).on(workers) == pid


async def nap(number):
    await asyncio.sleep(1)
    return number


async def test_an_item_that_is_cancelled_but_whose_thread_goes_on_is_lost():
    with Workers(2, kill_after=0.5) as workers:
        timed = paco.timeout(paco.threaded(sleep_long), 0.1)
        results = await paco.map(timed, [0, 3600, 0.3, 0], return_exceptions=True).on(workers)
    assert (results[0], results[3]) == (0, 0)
    assert isinstance(results[1], WorkerLost)
    assert re.search(r"the item held process \d+ on .+ for more than 0\.5 s", str(results[1]))
    assert type(results[2]) is TimeoutError


def sleep_long(seconds):
    time.sleep(seconds)
    return seconds


def test_while_an_item_is_late_nothing_else_is_marked():
    marks = Marks()
    marks.mark(7, 1)
    with marks.late():
        change = marks.read().change
        marks.mark()
        marks.mark(7, 2)
        with marks.late():
            assert marks.read() == (change, 7, 1)
        assert marks.read()[1:] == (7, 1)
        marks.mark(7, 3)
    assert marks.read()[1:] == (7, 3)
    marks.close()


async def test_a_longer_time_than_a_thread_can_wait_is_fine():
    with Workers(1, kill_after=1e12) as workers:
        assert await paco.map(quick, [1]).on(workers) == [1]


@pytest.mark.posix
async def test_a_stopped_process_is_replaced():
    with Workers(1, kill_after=0.2) as workers:
        (pid,) = await paco.map(where, [1]).on(workers)
        os.kill(pid, signal.SIGSTOP)
        (other,) = await paco.map(where, [1]).on(workers)
        assert other != pid


async def test_a_run_that_is_cancelled_ends_its_items(tmp_path):
    """Through the marks, an item sees its cancellation, and its clean-up runs."""
    with Workers(1, kill_after=5) as workers:
        task = asyncio.ensure_future(paco.map(cleans_up, [tmp_path / "begun"]).on(workers))
        await until((tmp_path / "begun").exists)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert "late" in str(caught.value.__notes__)


async def cleans_up(begun):
    note(begun, "+")
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        await asyncio.sleep(0.01)
        raise OSError("late") from None


def test_marks_of_a_coroutine_that_is_dropped_close_it():
    marks, closed = Marks(), []

    async def waits(item):
        try:
            await asyncio.sleep(3600)
        finally:
            closed.append(item)

    async def main():
        steps = marks.around(waits, 7)(1)
        steps.send(None)
        assert not marks.read().of_item
        steps.close()

    asyncio.run(main())
    assert closed == [1]
    marks.close()


def test_the_file_of_the_marks_is_removed():
    marks = Marks()
    other = Marks(marks.path)
    other.mark(3, 4)
    assert marks.read() == (1, 3, 4)
    assert marks.read().of_item
    marks.hide()
    assert not Path(marks.path).exists() or os.name == "nt"
    other.mark()
    assert not marks.read().of_item
    marks.close()
    assert not Path(marks.path).exists()


@pytest.mark.parametrize(
    ("seconds", "kind"),
    [
        (0, ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (math.inf, ValueError),
        ("60", TypeError),
        (True, TypeError),
    ],
)
def test_a_wrong_time_is_refused(seconds, kind):
    with pytest.raises(
        kind, match=r"paco\.remote\.Workers: kill_after must be seconds \(a number above 0\) or None, go"
    ):
        Workers(1, kill_after=seconds)


def test_each_step_of_an_item_is_marked():
    marks, seen = Marks(), []

    async def fails(item):
        seen.append(marks.read()[1:])
        try:
            await asyncio.sleep(0)
            seen.append(marks.read()[1:])
            await asyncio.sleep(item)
        finally:
            seen.append(marks.read()[1:])
        return item

    async def main():
        fn = marks.around(fails, 7)
        assert await fn(0) == 0
        task = asyncio.ensure_future(paco.timeout(fn, 0.01)(60))
        await asyncio.sleep(0)
        assert marks.read()[1:] == (-1, -1)
        with pytest.raises(TimeoutError):
            await task
        with marks.preparing():
            assert not marks.read().of_item
            assert marks.read().item == -2

    asyncio.run(main())
    marks.close()
    assert seen == [(7, 0)] * 3 + [(7, 1)] * 3


async def test_the_loop_marks_that_it_goes_round(monkeypatch):
    monkeypatch.setattr(threads, "late", threads.late)  # so that it is restored
    marks = Marks()
    host = Host(marks=marks, seconds=0.001)
    first = marks.read().change
    await until(lambda: marks.read().change > first + 3)
    host.close()
    marks.close()


def swallow(line, receive=Line.receive):
    """Receive everything, and tell nothing, as if it had not been sent."""
    while receive(line) is not None:
        pass


async def test_an_item_that_holds_the_gil_before_its_process_could_report_is_lost(monkeypatch):
    """Its process has marked it, and nothing else is known of it."""
    monkeypatch.setattr(Line, "receive", swallow)
    with Workers(1, kill_after=0.3) as workers:
        results = await paco.map(holds, ["holds the GIL"], return_exceptions=True).on(workers)
    assert isinstance(results[0], WorkerLost)
    assert "held process" in str(results[0])
