"""`paco.run`, the door from synchronous code."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import types
import warnings
from collections.abc import Coroutine

import pytest

from paco import run
from paco.testing import VirtualLoop


async def double(number):
    await asyncio.sleep(0)
    return number * 2


class Wrapped(Coroutine):
    """A coroutine that is no coroutine object, as a stream is."""

    def __init__(self, coro):
        self.coro, self.closed = coro, False

    def __await__(self):
        return self.coro.__await__()

    def send(self, value):
        return self.coro.send(value)

    def throw(self, *error):
        return self.coro.throw(*error)

    def close(self):
        self.closed = True
        self.coro.close()


class Awaitable:
    def __await__(self):
        return double(21).__await__()


@types.coroutine
def generator_based():
    yield from double(21).__await__()
    return 42


def wrapped():
    return Wrapped(double(21))


@pytest.mark.parametrize("make", [functools.partial(double, 21), wrapped, Awaitable, generator_based])
def test_any_awaitable_is_run_to_its_end(make):
    assert run(make()) == 42


def test_an_exception_is_raised_unchanged():
    error = ValueError("no")

    async def fail():
        raise error

    with pytest.raises(ValueError, match="no") as caught:
        run(fail())
    assert caught.value is error


def test_without_a_loop_a_new_one_is_made_and_closed():
    async def running():
        return asyncio.get_running_loop()

    first, second = run(running()), run(running())
    assert first is not second
    assert first.is_closed()


def test_tasks_left_running_are_cancelled_and_awaited_before_the_loop_is_closed():
    ended = []

    async def left():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async def main():
        task = asyncio.ensure_future(left())
        await asyncio.sleep(0)
        return task

    assert run(main()).cancelled()
    assert ended == [True]


def test_the_coroutine_sees_the_context_of_the_caller():
    variable = contextvars.ContextVar("variable", default="unset")

    async def get():
        return variable.get()

    token = variable.set("set")
    try:
        assert run(get()) == "set"
    finally:
        variable.reset(token)


@pytest.fixture
def loop():
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        yield loop


def test_a_given_loop_is_used_and_left_open(loop):
    async def running():
        return asyncio.get_running_loop()

    assert run(running(), loop) is loop
    assert run(double(21), loop=loop) == 42
    assert not loop.is_closed()


def test_a_future_runs_in_its_own_loop(loop):
    future = loop.create_future()
    loop.call_soon(future.set_result, 42)
    assert run(future) == 42
    assert run(loop.create_task(double(21))) == 42


async def running_in():
    loop = asyncio.get_running_loop()
    return loop, loop.get_debug()


@pytest.mark.parametrize("debug", [False, True])
def test_debug_sets_the_mode_of_a_new_loop(debug):
    assert run(running_in(), debug=debug)[1] is debug


@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("debug", [None, False, True])
def test_debug_sets_the_mode_of_a_given_loop_until_the_end(loop, before, debug):
    async def fail():
        raise ValueError(asyncio.get_running_loop().get_debug())

    loop.set_debug(before)
    expected = before if debug is None else debug
    assert run(running_in(), loop, debug=debug) == (loop, expected)
    with pytest.raises(ValueError, match=str(expected)):
        run(fail(), loop, debug=debug)
    assert loop.get_debug() is before


def test_the_loop_that_loop_factory_makes_is_used_and_closed():
    made, mode = run(running_in(), loop_factory=VirtualLoop, debug=True)
    assert (type(made), made.is_closed(), mode) == (VirtualLoop, True, True)


@pytest.mark.parametrize("factory", [5, running_in], ids=["a number", "an async function"])
def test_a_loop_factory_that_is_no_plain_function_is_an_error(factory):
    def refused():
        with pytest.raises(
            TypeError, match=r"^paco\.run: loop_factory must be a plain function, not an async one, got "
        ):
            run(double(21), loop_factory=factory)

    no_warnings(refused)


def test_a_loop_factory_that_makes_no_loop_is_an_error_that_shows_what_it_made():
    def refused():
        with pytest.raises(TypeError, match=r"^paco\.run: what loop_factory returns must be an event loop, got None$"):
            run(double(21), loop_factory=lambda: None)

    no_warnings(refused)


def test_a_loop_factory_beside_a_loop_is_an_error(loop):
    def refused():
        with pytest.raises(
            TypeError, match=r"^paco\.run: loop_factory makes a new event loop, but there is one already"
        ):
            run(double(21), loop, loop_factory=VirtualLoop)

    no_warnings(refused)
    with pytest.raises(TypeError, match="there is one already"):
        run(loop.create_future(), loop_factory=VirtualLoop)


def test_debug_must_be_a_flag():
    with pytest.raises(TypeError, match=r"^paco\.run: debug must be True, False or None, got 1$"):
        run(double(21), debug=1)


async def test_inside_a_running_loop_run_is_an_error_that_suggests_await():
    with pytest.raises(RuntimeError, match=r"^paco\.run: an event loop is already running; write `await"):
        run(double(21))


async def test_inside_a_running_loop_the_coroutine_is_closed():
    wrapped = Wrapped(double(21))
    with pytest.raises(RuntimeError, match="await"):
        run(wrapped)
    assert wrapped.closed
    with pytest.raises(RuntimeError, match="await"):
        run(Awaitable())


def no_warnings(call):
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call()
        gc.collect()
    assert not told


def test_a_closed_loop_or_no_loop_is_an_error_and_the_coroutine_is_closed(loop):
    loop.close()

    def closed():
        with pytest.raises(RuntimeError, match="closed"):
            run(double(21), loop)
        with pytest.raises(RuntimeError, match="closed"):
            run(Awaitable(), loop)

    def none():
        with pytest.raises(TypeError, match=r"^paco\.run: loop must be None or the running event loop, got 5$"):
            run(double(21), loop=5)

    no_warnings(closed)
    no_warnings(none)


@pytest.mark.parametrize("fn", [double, functools.partial(double, 21)])
def test_a_function_is_an_error_that_suggests_to_call_it(fn):
    with pytest.raises(TypeError, match=r"got the function double; pass the call, .*: paco\.run\(double\(\.\.\.\)\)"):
        run(fn)


async def agen():
    yield 1


@pytest.mark.parametrize("value", [None, 5, "text", [1]])
def test_an_object_that_cannot_be_awaited_is_an_error_that_shows_it(value):
    with pytest.raises(TypeError, match=r"^paco\.run: coro must be an awaitable, .*, got "):
        run(value)


def test_an_async_generator_cannot_be_awaited():
    with pytest.raises(TypeError, match="async_generator"):
        run(agen())
