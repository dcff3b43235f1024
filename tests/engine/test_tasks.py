"""The tasks that paco creates: they are named after what they run, and asyncio knows who waits for them."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from contextlib import suppress

import pytest

import paco
from paco.testing import AsyncSource

knows_waiters = pytest.mark.skipif(sys.version_info < (3, 14), reason="asyncio knows who waits since 3.14")


async def nap(item):
    await asyncio.sleep(10)
    return item


class Fetch:
    async def __call__(self, item, *more):
        await asyncio.sleep(10)


async def running(awaitable):
    """Return what is awaited in a task, and the tasks that has started by the time that all wait."""
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(awaitable)
    await asyncio.sleep(1)
    return task, {one.get_name(): one for one in asyncio.all_tasks() - before - {task}}


async def ended(task):
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def iterated(stream):
    async def iterate():
        return [item async for item in stream]

    return iterate()


def executed():
    executor = paco.ConcurrentExecutor(limit=2)
    executor.add(nap, 1)
    return executor.run()


def listened(stream):
    async def listen():
        with paco.listening(lambda event: None):
            await stream

    return listen()


WORKERS = [f"paco.map nap worker {number}" for number in (1, 2)]
STARTED = {
    "a list": (lambda: paco.map(nap, range(9), limit=2), WORKERS),
    "no limit": (lambda: paco.map(nap, range(3)), [*WORKERS, "paco.map nap worker 3"]),
    "iterated": (lambda: iterated(paco.map(nap, range(9), limit=2)), WORKERS),
    "arguments": (lambda: paco.map(Fetch(), [1], 0, None, None, False, "more"), ["paco.map Fetch worker 1"]),
    "a limit object": (lambda: paco.map(nap, range(9), limit=paco.Limit(2)), [*WORKERS, "paco.map nap worker 3"]),
    "listeners": (lambda: listened(paco.map(nap, range(9), limit=2)), WORKERS),
    "an async source": (lambda: paco.map(nap, AsyncSource([1, 2, 3]), limit=2), ["paco.map nap reader", *WORKERS]),
    "a partial": (lambda: paco.map(functools.partial(nap), [1]), WORKERS[:1]),
    "a lambda": (lambda: paco.map(lambda _: nap(1), [1]), ["paco.map <lambda> worker 1"]),
    "an object": (lambda: paco.map(Fetch(), [1]), ["paco.map Fetch worker 1"]),
    "an object, listeners": (lambda: listened(paco.map(Fetch(), [1])), ["paco.map Fetch worker 1"]),
    "wrapped": (lambda: paco.map(paco.settle(paco.retry(paco.timeout(nap, 99))), [1]), WORKERS[:1]),
    "filter": (lambda: paco.filter(nap, [1], limit=2), ["paco.filter nap worker 1"]),
    "some": (lambda: paco.some(nap, [1]), ["paco.some nap worker 1"]),
    "reduce": (lambda: paco.reduce(lambda a, b: nap(b), [1, 2]), ["paco.reduce <lambda> worker 1"]),
    "gather": (lambda: paco.gather(nap(1), nap(2)), ["paco.gather worker 1", "paco.gather worker 2"]),
    "wait": (lambda: paco.wait(nap(1)), ["paco.wait worker 1"]),
    "race": (lambda: paco.race([nap(1)]), ["paco.race worker 1"]),
    "an executor": (executed, ["paco.ConcurrentExecutor worker 1"]),
    "hedge": (lambda: paco.hedge(nap, 30)(1), ["paco.hedge nap reader", "paco.hedge nap worker 1"]),
    "once": (lambda: paco.once(nap)(1), ["paco.once nap"]),
}  # fmt: skip


@pytest.mark.parametrize(("start", "names"), STARTED.values(), ids=STARTED)
async def test_a_task_is_named_after_its_function(start, names):
    task, tasks = await running(start())
    assert sorted(tasks) == names
    await ended(task)


async def test_the_task_of_interval_is_named_after_its_function():
    task = paco.interval(functools.partial(nap, 1), 30)()
    assert task.get_name() == "paco.interval nap"
    await ended(task)


async def test_the_writer_of_a_journal_and_the_sender_of_items_are_tasks_with_names(tmp_path):
    for fn, name in ((nap, "nap"), (Fetch(), "Fetch")):
        task, tasks = await running(paco.map(fn, [1, 2], limit=1).journal(tmp_path / f"{name}.jsonl"))
        assert sorted(tasks) == [f"paco.map {name} journal", f"paco.map {name} worker 1"]
        await ended(task)


@pytest.mark.realtime
def test_tasks_on_workers_are_named_after_their_function_too():
    async def main(limit):
        task = asyncio.ensure_future(paco.map(names_of_tasks, [1], limit=limit).on(1))
        here = []
        while not task.done():
            here += [one.get_name() for one in asyncio.all_tasks()]
            await asyncio.sleep(0)
        return here, *await task

    for limit, role in ((1, "sender 1"), (paco.Limit(1), "sender")):
        here, there = paco.run(main(limit))
        assert f"paco.map names_of_tasks {role}" in here
        assert {"paco chunk", "paco.map names_of_tasks worker 1"} <= set(there)


async def names_of_tasks(item):
    return sorted(task.get_name() for task in asyncio.all_tasks())


# ---- who waits


@pytest.fixture
def waiters(monkeypatch):
    """Return who waits for which tasks, as asyncio is told, on each Python."""
    told = {}
    monkeypatch.setattr("paco._engine.nursery._add_waiter", told.__setitem__)

    def discard(task, waiter):
        if told[task] is waiter:
            del told[task]

    monkeypatch.setattr("paco._engine.nursery._discard_waiter", discard)
    return told


async def test_the_task_that_starts_a_run_waits_for_its_tasks(waiters):
    task, tasks = await running(paco.map(nap, AsyncSource(range(9)), limit=2))
    assert waiters == dict.fromkeys(tasks.values(), task)
    await ended(task)
    assert not waiters


async def test_pending_tasks_of_wait_have_no_waiter(waiters):
    done, pending = await paco.wait(nap(1), paco.timeout(nap, 1)(2), return_when="FIRST_COMPLETED")
    assert not waiters
    await asyncio.wait(pending)
    assert {str(future.exception()) for future in done} == {"paco.timeout: nap did not finish within 1 s"}


@knows_waiters
async def test_the_call_graph_of_asyncio_leads_from_the_caller_to_the_items():
    async def main():
        return await (AsyncSource([1, 2, 3]) | paco.map(nap, limit=1) | paco.map(Fetch(), limit=1))

    task, tasks = await running(main())
    graph = asyncio.capture_call_graph(tasks["paco.map nap worker 1"])
    assert [entry.frame.f_code.co_qualname for entry in graph.call_stack] == ["sleep", "nap", "Scheduler.work"]
    (reader,) = graph.awaited_by
    assert reader.future.get_name() == "paco.map Fetch reader"
    (whole,) = reader.awaited_by
    assert whole.future is task
    assert whole.awaited_by == ()
    text = asyncio.format_call_graph(tasks["paco.map nap worker 1"])
    assert text.index("paco.map nap worker 1") < text.index("paco.map Fetch reader") < text.index("main()")
    await ended(task)


@knows_waiters
async def test_a_stored_task_does_not_keep_its_waiter_alive():
    task, tasks = await running(paco.map(nap, [1]))
    await task
    assert not tasks["paco.map nap worker 1"]._asyncio_awaited_by


PROGRAM = """
import asyncio, os
import paco

async def answer(url):
    if url == 1:
        asyncio.get_running_loop().call_soon(os.write, 1, b"runs\\n")  # when both wait
    await asyncio.sleep(3600)

async def fetch(url):
    await answer(url)

async def main():
    await paco.map(fetch, range(5), limit=2)

asyncio.run(main())
"""


@knows_waiters
@pytest.mark.realtime
def test_pstree_of_asyncio_shows_a_run_of_another_process(start, capfd):
    from asyncio import tools

    process = start("-c", PROGRAM)
    try:
        process.stdout.readline()
        tools.display_awaited_by_tasks_tree(process.pid)
        tools.display_awaited_by_tasks_table(process.pid)
    except SystemExit:
        if "permission" in (told := capfd.readouterr().err):
            pytest.skip("this system lets no process read another one")
        raise AssertionError(told) from None
    out = capfd.readouterr().out
    tree, table = out.split("tid", 1)
    lines = [re.sub(r"^\W*(T\) )?(.*?)( (<|/).*)?$", r"\2", line) for line in tree.splitlines()]
    frames = ["Scheduler.work", "fetch", "answer", "sleep"]
    assert lines == ["Task-1", "main", "paco.map fetch worker 1", *frames, "paco.map fetch worker 2", *frames]
    assert "sleep -> answer -> fetch -> Scheduler.work" in table
