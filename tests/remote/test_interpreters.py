"""Items that run in interpreters of this process, from Python 3.14 on; before, a thread takes their place."""

from __future__ import annotations

import asyncio
import atexit
import importlib
import os
import platform
import sys
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace

import pytest

import paco
from paco.events import ItemEnded
from paco.remote import _executors
from tests.patience import until
from tests.programs import SOURCE

pytestmark = pytest.mark.realtime

real = pytest.mark.skipif(sys.version_info < (3, 14), reason="interpreters can be used since Python 3.14")

JOBS = """
import asyncio
import sys

begun = []

async def double(number):
    await asyncio.sleep(0.001)
    return 2 * number

async def loop_and_count(number):
    begun.append(number)
    return id(asyncio.get_running_loop()), len(begun)

async def count(path):
    note(path, "+")
    try:
        await asyncio.Event().wait()  # it ends when it is cancelled, and only then
    finally:
        note(path, "-")

def note(path, text):
    with open(path, "a") as file:
        file.write(text)

async def meets(paths):
    import os, time
    with open(paths[0] + ".met", "a") as file:
        file.write("x")
    while os.path.getsize(paths[0] + ".met") < 2:
        time.sleep(0.001)
    return os.path.getsize(paths[0] + ".met")

async def fail(number):
    raise ValueError(number)

def refuse():
    try:
        raise ImportError("module numbers does not support loading in subinterpreters")
    except ImportError as error:
        raise ImportError("please read all of this") from error

class Refused:
    def __reduce__(self):
        return refuse, ()

    async def __call__(self, item):
        return item
"""


class Fake(ThreadPoolExecutor):
    """A thread in place of an interpreter."""

    def __init__(self):
        super().__init__(1)


@pytest.fixture
def fake(monkeypatch):
    """Return a pool whose interpreter is a thread: it runs on every Python, and coverage measures it."""
    pools, interpreters = ModuleType("pools"), ModuleType("interpreters")
    pools.InterpreterPoolExecutor = Fake
    interpreters.get_current = lambda: SimpleNamespace(id=1)
    monkeypatch.setitem(sys.modules, "concurrent.futures.interpreter", pools)
    monkeypatch.setitem(sys.modules, "concurrent.interpreters", interpreters)
    monkeypatch.setattr(_executors, "_runner", None)
    with Fake() as pool:
        yield pool
        runner = _executors._runner
        if runner is not None:
            atexit.unregister(runner.loop.close)
            pool.submit(runner.loop.close).result()


@pytest.fixture(params=["fake", pytest.param("real", marks=real)])
def pool(request):
    if request.param == "fake":
        yield request.getfixturevalue("fake")
        return
    from concurrent.futures import InterpreterPoolExecutor

    with InterpreterPoolExecutor(1) as pool:
        yield pool


@pytest.fixture
def jobs(monkeypatch, tmp_path):
    """Return a module in a folder that was added to ``sys.path`` at run time."""
    (tmp_path / "interpreted.py").write_text(JOBS)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("interpreted")
    del sys.modules["interpreted"]


async def test_each_interpreter_has_one_event_loop_for_all_its_chunks(jobs, pool):
    assert await paco.map(jobs.double, range(100), limit=10).on(pool) == list(range(0, 200, 2))
    (here, one), (there, two) = [(await paco.map(jobs.loop_and_count, [1]).on(pool))[0] for _ in range(2)]
    assert (here, one, two) == (there, 1, 2)
    assert here != id(asyncio.get_running_loop())


class Broken:
    """Cannot be unpickled anywhere, although it can be pickled."""

    def __reduce__(self):
        return (int, ("no number",))


async def test_an_item_that_cannot_be_unpickled_fails_alone(jobs, pool):
    two, refused = await paco.map(paco.settle(jobs.double), [1, Broken()]).on(pool)
    assert two.value == 2
    assert "the item cannot be sent to another process" in str(refused.error)


async def test_each_interpreter_is_a_worker_with_its_own_name(jobs, pool):
    names = set()
    with paco.listening(lambda event: names.add(event.worker), ItemEnded):
        await paco.map(jobs.double, range(10)).on(pool)
    (name,) = names
    assert name.endswith(f" of process {os.getpid()} on {platform.node()}")
    assert name.startswith("interpreter ")


async def test_a_cancelled_run_returns_when_its_items_have_ended(jobs, pool, tmp_path):
    log = tmp_path / "log"
    log.touch()
    task = asyncio.ensure_future(paco.map(jobs.count, [str(log)] * 100, limit=10).on(pool))
    await until(lambda: len(log.read_text()) == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.read_text() == 10 * "+" + 10 * "-"


async def test_an_error_is_raised_as_itself_with_its_interpreter_in_a_note(jobs, pool):
    with pytest.raises(ValueError, match="3") as caught:
        await paco.map(jobs.fail, [3]).on(pool)
    assert caught.value.__notes__[0].startswith("in interpreter ")
    assert "raise ValueError(number)" in caught.value.__notes__[0]


@pytest.mark.parametrize("refused", ["function", "item"])
async def test_a_module_that_interpreters_cannot_import_is_named_with_the_remedy(jobs, pool, refused):
    function, item = (jobs.Refused(), 1) if refused == "function" else (jobs.double, jobs.Refused())
    told = "executor: module numbers does not support loading in subinterpreters; use processes instead, as in"
    with pytest.raises(ImportError, match=told.replace("executor", r"paco\.map: .* of InterpreterPoolExecutor")):
        await paco.map(function, [item]).on(pool)


@real
async def test_an_extension_module_without_support_for_interpreters_is_named(tmp_path, monkeypatch):
    from concurrent.futures import InterpreterPoolExecutor

    pytest.importorskip("uvloop")
    (tmp_path / "loops.py").write_text("import uvloop\nasync def same(item): return item\n")
    monkeypatch.syspath_prepend(tmp_path)
    with InterpreterPoolExecutor(1) as pool, pytest.raises(ImportError, match=r"module uvloop.*; use processes inst"):
        await paco.map(importlib.import_module("loops").same, [1]).on(pool)
    del sys.modules["loops"]


async def test_the_part_of_a_function_that_cannot_be_pickled_is_named(fake):
    with pytest.raises(TypeError, match=r"cannot be sent .*: its fake is .*cannot pickle"):
        await paco.map(lambda item: (fake, item), [1]).on(fake)


@real
async def test_interpreters_work_at_the_same_time(jobs):
    from concurrent.futures import InterpreterPoolExecutor

    with InterpreterPoolExecutor(2) as pool:
        names = set()
        with paco.listening(lambda event: names.add(event.worker), ItemEnded):
            assert await paco.map(jobs.meets, [[str(jobs.__file__)]] * 2, limit=2).on(pool) == [2, 2]
    assert len(names) == 2


PROGRAM = """
import operator, sys
from concurrent.futures import InterpreterPoolExecutor
sys.path.insert(0, {path!r})
import paco

async def leave_behind(number):
    import asyncio
    global left
    left = asyncio.ensure_future(asyncio.sleep(100))
    await asyncio.sleep(0)
    return number

if __name__ == "__main__":
    with InterpreterPoolExecutor(2) as pool:
        print(paco.run(paco.map({function}, range(3)).on(pool)))
"""


@pytest.fixture
def program(start):
    """Return a function that runs a program with this function, and returns its stdout and stderr."""

    def run(function, *options, environ=()):
        return start(*options, "-c", PROGRAM.format(function=function, path=SOURCE), environ=environ).communicate()

    return run


@real
def test_tasks_left_by_items_are_cancelled_when_the_pool_ends(program):
    assert program("leave_behind", "-W", "error") == ("[0, 1, 2]\n", "")


@real
def test_interpreters_that_cannot_import_paco_are_an_error_with_the_remedy(program):
    _, err = program("paco.wraps(operator.neg)", "-S", environ={"PYTHONPATH": ""})
    assert "sys.path that the interpreters start with; install paco or set PYTHONPATH, or use processes" in err


@pytest.mark.parametrize(("kind", "told"), [("NotShareableError", "not on the sys.path"), ("ValueError", "")])
def test_only_an_error_of_sharing_gets_a_note(fake, kind, told):
    error = type(kind, (Exception,), {})("args not shareable")
    assert _executors.Interpreters(fake, 1).lost(error) is None
    assert told in "".join(notes := getattr(error, "__notes__", []))
    assert bool(notes) == bool(told)
