"""What code written for the old library relies on: its names and signatures, what they return, raise and wait for.

Generator coroutines (``@asyncio.coroutine``, ``yield from``) are gone from Python; everything else that such code does
runs here. Where this library has settled something otherwise, the docstring of the test says what it was before.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextlib import closing

import pytest

import paco
from paco import testing
from paco._base.types import MISSING
from paco.testing import VirtualLoop, now

# ---- names and signatures

#: As documented; a parameter that may be left out without having a default is marked ``=<none>``.
SIGNATURES = {
    "ConcurrentExecutor": "limit=10, loop=None, coros=None, ignore_empty=False",
    "TimeoutLimit": "timeout, loop=None",
    "apply": "coro, *args, **kw",
    "compose": "*coros",
    "concurrent": "limit=10, loop=None, coros=None, ignore_empty=False",
    "constant": "value, delay=None",
    "curry": "arity_or_fn=None, ignore_kwargs=False, evaluator=None, *args, **kw",
    "defer": "coro, delay=1",
    "dropwhile": "coro, iterable, loop=None",
    "each": "coro, iterable, limit=0, loop=None, collect=False, timeout=None, return_exceptions=False, *args, **kw",
    "every": "coro, iterable, limit=1, loop=None",
    "filter": "coro, iterable, assert_fn=None, limit=0, loop=None",
    "filterfalse": "coro, iterable, limit=0, loop=None, assert_fn=None",
    "flat_map": (
        "coro, iterable, limit=0, loop=None, timeout=None, return_exceptions=False, initializer=None, *args, **kw"
    ),
    "gather": "*coros_or_futures, limit=0, loop=None, timeout=None, preserve_order=False, return_exceptions=False",
    "identity": "value, delay=None",
    "interval": "coro, interval=1, times=None, loop=None",
    "map": "coro, iterable, limit=0, loop=None, timeout=None, return_exceptions=False, *args, **kw",
    "once": "coro, raise_exception=False, return_value=None",
    "partial": "coro, *args, **kw",
    "race": "iterable, loop=None, timeout=None, *args, **kw",
    "reduce": "coro, iterable, right=False, initializer=<none>, loop=None",
    "repeat": "coro, times=1, step=1, limit=1, loop=None",
    "run": "coro, loop=None, debug=None, loop_factory=None",  # the last two are new
    "series": "*coros_or_futures, timeout=None, loop=None, return_exceptions=False",
    "some": "coro, iterable, limit=0, timeout=None, loop=None",
    "throttle": "coro, limit=1, timeframe=1, return_value=None, raise_exception=False",
    "thunk": "coro",
    "timeout": "coro, timeout=None, loop=None",
    "times": "coro, limit=1, raise_exception=False, return_value=None",
    "until": "coro, coro_test, assert_coro=None, *args, **kw",
    "wait": (
        "*coros_or_futures, limit=0, timeout=None, loop=None, return_exceptions=False, return_when='ALL_COMPLETED'"
    ),
    "whilst": "coro, coro_test, assert_coro=None, *args, **kw",
    "wraps": "fn",
}

METHODS = {
    "add": "coro, *args, **kw",
    "submit": "coro, *args, **kw",
    "extend": "*coros",
    "run": "timeout=None, return_exceptions=None, return_when=None, ignore_empty=None",
    "wait": "timeout=None, return_exceptions=None, return_when=None, ignore_empty=None",
    "cancel": "",
    "reset": "",
    "is_running": "",
    "on": "event, fn",
    "off": "event",
}


def parameters(fn):
    """Write the parameters as the documentation does; without an iterable, a call makes a stage for ``|``."""
    written = []
    for parameter in inspect.signature(fn).parameters.values():
        default = parameter.default
        if default is MISSING:
            default = parameter.empty if parameter.name == "iterable" else "<none>"
        elif default is not parameter.empty:
            default = repr(default)
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        written.append(star + parameter.name + ("" if default is parameter.empty else f"={default}"))
    return ", ".join(written)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_name_has_its_documented_parameters_in_their_order_with_their_defaults(name):
    assert parameters(getattr(paco, name)) == SIGNATURES[name]
    assert name in paco.__all__


@pytest.mark.parametrize("name", METHODS)
def test_every_method_of_the_executor_has_its_documented_parameters(name):
    method = getattr(paco.ConcurrentExecutor(), name)
    assert parameters(method) == METHODS[name]


def test_parameters_are_positional_exactly_where_they_were():
    for name in SIGNATURES:
        kinds = {one.kind for one in inspect.signature(getattr(paco, name)).parameters.values()}
        assert inspect.Parameter.POSITIONAL_ONLY not in kinds
        assert (inspect.Parameter.KEYWORD_ONLY in kinds) is (name in {"gather", "series", "wait", "run"})


# ---- functions of the tests


async def nap(number, seconds=10):
    await asyncio.sleep(seconds)
    return number


async def double(number):
    return number * 2


async def slow_double(number):
    return await nap(number) * 2


async def is_even(number):
    return number % 2 == 0


async def slow_is_even(number):
    return await nap(number) % 2 == 0


async def add(total, number):
    return total + number


async def append(items, number):
    return (*items, number)


async def echo(*args, **kw):
    return args, kw


async def refuse_four(number):
    await asyncio.sleep(10)
    if number == 4:
        raise ValueError("no four")
    return number


def loop_of_the_test():
    return asyncio.get_running_loop()


# ---- running from sync code and from asyncio


def with_paco_run(make):
    return paco.run(make())


def with_paco_run_and_a_loop(make):
    with closing(VirtualLoop()) as loop:
        return paco.run(make(), loop=loop)


def with_run_until_complete(make):
    with closing(VirtualLoop()) as loop:
        return loop.run_until_complete(make())


def with_asyncio_run(make):
    return asyncio.run(make())


async def with_await(awaitable):
    return await awaitable


async def with_create_task(awaitable):
    return await asyncio.create_task(awaitable)


async def with_ensure_future(awaitable):
    return await asyncio.ensure_future(awaitable)


async def with_gather(awaitable):
    return (await asyncio.gather(awaitable, double(1)))[0]


async def with_wait_for(awaitable):
    return await asyncio.wait_for(awaitable, 100)


async def with_shield(awaitable):
    return await asyncio.shield(awaitable)


async def with_wait(awaitable):
    (done,), _ = await asyncio.wait([asyncio.ensure_future(awaitable)])
    return done.result()


async def with_as_completed(awaitable):
    return await next(iter(asyncio.as_completed([awaitable])))


async def with_a_task_group(awaitable):
    async with asyncio.TaskGroup() as group:
        task = group.create_task(awaitable)
    return task.result()


FROM_SYNC_CODE = [with_paco_run, with_paco_run_and_a_loop, with_run_until_complete, with_asyncio_run]
FROM_ASYNC_CODE = [
    with_await,
    with_create_task,
    with_ensure_future,
    with_gather,
    with_wait_for,
    with_shield,
    with_wait,
    with_as_completed,
    with_a_task_group,
]
#: Each is a coroutine in the old library, whatever it is here.
COROUTINES = {
    "dropwhile": (lambda: paco.dropwhile(is_even, [2, 4, 5, 6]), [5, 6]),
    "each": (lambda: paco.each(double, [1, 2]), None),
    "each collect": (lambda: paco.each(double, [1, 2], collect=True), [2, 4]),
    "every": (lambda: paco.every(is_even, [2, 4]), True),
    "filter": (lambda: paco.filter(is_even, [1, 2, 3, 4]), [2, 4]),
    "filterfalse": (lambda: paco.filterfalse(is_even, [1, 2, 3, 4]), [1, 3]),
    "flat_map": (lambda: paco.flat_map(double, [1, [2, (3,)]]), [2, 4, 6]),
    "gather": (lambda: paco.gather(double(1), double(2)), [2, 4]),
    "map": (lambda: paco.map(double, [1, 2]), [2, 4]),
    "pipeline": (lambda: [1, 2, 3] | paco.map(double) | paco.reduce(add, initializer=0), 12),
    "race": (lambda: paco.race([double(21)]), 42),
    "reduce": (lambda: paco.reduce(add, [1, 2, 3]), 6),
    "repeat": (lambda: paco.repeat(double, 3), [2, 4, 6]),
    "series": (lambda: paco.series(double(1), double(2)), [2, 4]),
    "some": (lambda: paco.some(is_even, [1, 2]), True),
}


@pytest.mark.parametrize("run", FROM_SYNC_CODE)
@pytest.mark.parametrize("name", COROUTINES)
def test_former_coroutines_run_from_sync_code(name, run):
    make, expected = COROUTINES[name]
    with testing.check_leaks():
        assert run(make) == expected


@pytest.mark.parametrize("use", FROM_ASYNC_CODE)
@pytest.mark.parametrize("name", COROUTINES)
async def test_former_coroutines_are_accepted_wherever_a_coroutine_is(name, use):
    make, expected = COROUTINES[name]
    assert await use(make()) == expected


@pytest.mark.parametrize("name", COROUTINES)
async def test_former_coroutines_are_coroutines_for_asyncio(name):
    awaitable = COROUTINES[name][0]()
    assert asyncio.iscoroutine(awaitable)
    await awaitable


async def test_a_cancelled_task_of_a_stream_leaves_nothing_running():
    probe = testing.Probe(lambda item: item, takes=10)
    task = asyncio.create_task(paco.map(probe, [1, 2, 3], limit=2))
    await asyncio.sleep(5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (probe.running, sorted(probe.cancelled), probe.started) == (0, [1, 2], [1, 2])


async def test_wait_for_can_time_out_a_stream_and_nothing_is_left_running():
    probe = testing.Probe(lambda item: item, takes=10)
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(paco.map(probe, [1, 2, 3], limit=2), 5)
    assert (probe.running, now()) == (0, 5)


def test_the_loop_parameter_is_accepted_before_that_loop_runs():
    """Sync code made the call first and ran the loop later."""
    with closing(VirtualLoop()) as loop, testing.check_leaks():
        assert loop.run_until_complete(paco.map(slow_double, [1, 2], loop=loop)) == [2, 4]
        assert loop.run_until_complete(paco.gather(slow_double(1), loop=loop)) == [2]
        assert loop.run_until_complete(paco.race([slow_double], loop, None, 2)) == 4
        done, _ = loop.run_until_complete(paco.wait(slow_double(1), loop=loop))
        assert [future.result() for future in done] == [2]
        executor = paco.ConcurrentExecutor(2, loop)
        future = executor.add(slow_double, 1)
        loop.run_until_complete(executor.run())
        assert future.result() == 2


# ---- over iterables: positional and keyword use, results


POSITIONAL = {
    "map": (lambda loop: paco.map(echo, ["ab"], 1, loop, 60, False, 7, key=8), [(("ab", 7), {"key": 8})]),
    "each": (lambda loop: paco.each(echo, ["a"], 1, loop, True, 60, False, 7, key=8), [(("a", 7), {"key": 8})]),
    "flat_map": (
        lambda loop: paco.flat_map(echo, [["a"]], 1, loop, 60, False, ["first"], 7, key=8),
        ["first", (("a", 7), {"key": 8})],
    ),
    "filter": (lambda loop: paco.filter(double, [0, 1], paco.wraps(bool), 1, loop), [1]),
    "filterfalse": (lambda loop: paco.filterfalse(double, [0, 1], 1, loop, paco.wraps(bool)), [0]),
    "dropwhile": (lambda loop: paco.dropwhile(is_even, [2, 3, 4], loop), [3, 4]),
    "reduce": (lambda loop: paco.reduce(append, [1, 2, 3], True, (0,), loop), (0, 3, 2, 1)),
    "some": (lambda loop: paco.some(is_even, [1, 2], 1, 60, loop), True),
    "every": (lambda loop: paco.every(is_even, [1, 2], 1, loop), False),
    "repeat": (lambda loop: paco.repeat(double, 5, 2, 1, loop), [2, 6, 10]),
    "race": (lambda loop: paco.race([echo], loop, 60, 7, key=8), ((7,), {"key": 8})),
}


@pytest.mark.parametrize("name", POSITIONAL)
async def test_all_parameters_can_be_given_by_position(name):
    call, expected = POSITIONAL[name]
    assert await call(loop_of_the_test()) == expected


KEYWORDS = {
    "map": lambda: paco.map(coro=double, iterable=[1, 2], limit=1, loop=None, timeout=60, return_exceptions=True),
    "each": lambda: paco.each(coro=double, iterable=[1, 2], limit=1, loop=None, collect=True, timeout=60),
    "flat_map": lambda: paco.flat_map(coro=double, iterable=[[1], 2], limit=1, timeout=60, initializer=None),
    "filter": lambda: paco.filter(coro=double, iterable=[2, 4], assert_fn=paco.wraps(bool), limit=1, loop=None),
    "filterfalse": lambda: paco.filterfalse(coro=double, iterable=[2, 4], assert_fn=paco.constant(0), limit=1),
    "dropwhile": lambda: paco.dropwhile(coro=paco.constant(False), iterable=[2, 4], loop=None),
    "reduce": lambda: paco.reduce(coro=append, iterable=[4, 2], right=True, initializer=(), loop=None),
    "repeat": lambda: paco.repeat(coro=double, times=2, step=1, limit=1, loop=None),
}


@pytest.mark.parametrize("name", KEYWORDS)
async def test_all_parameters_can_be_given_by_name(name):
    assert list(await KEYWORDS[name]()) == [2, 4]


OF_NOTHING = {
    "map": (lambda: paco.map(double, []), []),
    "each": (lambda: paco.each(double, []), None),
    "each collect": (lambda: paco.each(double, [], collect=True), []),
    "flat_map": (lambda: paco.flat_map(double, [[], [[]]]), []),
    "filter": (lambda: paco.filter(is_even, ()), []),
    "filterfalse": (lambda: paco.filterfalse(is_even, ()), []),
    "dropwhile": (lambda: paco.dropwhile(is_even, []), []),
    "some": (lambda: paco.some(is_even, []), False),
    "every": (lambda: paco.every(is_even, []), True),
    "reduce": (lambda: paco.reduce(add, (), initializer=1), 1),
    "gather": (lambda: paco.gather(limit=1), []),
    "gather a list": (lambda: paco.gather([]), []),
}


@pytest.mark.parametrize("name", OF_NOTHING)
async def test_empty_iterables_give_empty_results(name):
    call, expected = OF_NOTHING[name]
    assert await call() == expected


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: (number for number in (1, 2, 3)), id="generator"),
        pytest.param(lambda: range(1, 4), id="range"),
        pytest.param(lambda: {1: "a", 2: "b", 3: "c"}, id="dict"),
        pytest.param(lambda: testing.AsyncSource([1, 2, 3], delay=1), id="async iterator"),
        pytest.param(lambda: testing.AsyncSource([1, 2, 3], delay=1).generator(), id="async generator"),
    ],
)
async def test_any_iterable_is_accepted(make):
    """The text says that async iterables are not supported; the later versions did support them."""
    assert await paco.map(double, make()) == [2, 4, 6]
    assert await paco.filter(is_even, make()) == [2]
    assert await paco.reduce(append, make(), right=True, initializer=()) == (3, 2, 1)
    assert await (make() | paco.map(double) | paco.reduce(add, initializer=0)) == 12


async def test_falsy_results_are_kept():
    assert await paco.map(paco.constant(None), [1, 2]) == [None, None]
    assert await paco.filter(paco.constant(True), [0, "", None, False]) == [0, "", None, False]
    assert await paco.dropwhile(paco.constant(False), [0, None]) == [0, None]


async def test_dropwhile_passes_all_after_the_first_false():
    assert await paco.dropwhile(is_even, [2, 4, 1, 2, 4]) == [1, 2, 4]


async def test_reduce_works_from_both_ends():
    assert await paco.reduce(append, [1, 2, 3], initializer=()) == (1, 2, 3)
    assert await paco.reduce(append, [1, 2, 3], initializer=(), right=True) == (3, 2, 1)
    assert await paco.reduce(add, ["a", "b", "c"]) == "abc"


async def test_reduce_without_items_and_initializer_is_an_error():
    """As in ``functools.reduce``; the old library started with ``None`` where it got no initializer."""
    with pytest.raises(TypeError):
        await paco.reduce(add, [])


async def test_flat_map_flattens_all_the_way_and_keeps_the_order():
    """Without a limit, the old library gave them as they were completed."""
    nested = [1, [2, 3, 4], 5, 6, (7, [8, [(9,)]])]
    assert await paco.flat_map(double, nested) == [2, 4, 6, 8, 10, 12, 14, 16, 18]
    assert await paco.flat_map(slow_double, [3, [2], (1, [4]), [5]], limit=1) == [6, 4, 2, 8, 10]
    assert await (nested | paco.flat_map(double, limit=2)) == [2, 4, 6, 8, 10, 12, 14, 16, 18]


async def test_flat_map_starts_its_list_with_the_initializer():
    assert await paco.flat_map(double, [1, [2]], initializer=["a", ["b"]]) == ["a", ["b"], 2, 4]


async def test_flat_map_treats_text_as_one_item():
    assert await paco.flat_map(double, ["ab", [b"cd"]]) == ["abab", b"cdcd"]


async def test_repeat_counts_from_one():
    assert await paco.repeat(double) == [2]
    assert await paco.repeat(double, 5) == [2, 4, 6, 8, 10]
    assert await paco.repeat(double, times=5, limit=5) == [2, 4, 6, 8, 10]
    assert await paco.repeat(double, 5, step=3) == [2, 8]


async def test_repeat_of_no_times_is_refused():
    """It was taken for once."""
    with pytest.raises(ValueError, match=r"^paco\.repeat: times must be an int of 1 or more, got 0$"):
        paco.repeat(double, 0)


# ---- how many at once, and for how long


FIVE = [1, 2, 3, 4, 5]


def five_naps():
    return [nap(number) for number in FIVE]


LIMITED = {
    "map": lambda **kw: paco.map(slow_double, FIVE, **kw),
    "each": lambda **kw: paco.each(slow_double, FIVE, **kw),
    "filter": lambda **kw: paco.filter(slow_is_even, FIVE, **kw),
    "filterfalse": lambda **kw: paco.filterfalse(slow_is_even, FIVE, **kw),
    "flat_map": lambda **kw: paco.flat_map(slow_double, [1, [2, 3], [[4, 5]]], **kw),
    "some": lambda **kw: paco.some(paco.constant(False, 10), FIVE, **kw),
    "every": lambda **kw: paco.every(paco.constant(True, 10), FIVE, **kw),
    "repeat": lambda **kw: paco.repeat(slow_double, 5, **kw),
    "gather": lambda **kw: paco.gather(*five_naps(), **kw),
    "wait": lambda **kw: paco.wait(*five_naps(), **kw),
}


@pytest.mark.parametrize("name", LIMITED)
@pytest.mark.parametrize(("limit", "seconds"), [(1, 50), (2, 30), (5, 10), (100, 10), (0, 10)])
async def test_the_limit_bounds_concurrency(name, limit, seconds):
    await LIMITED[name](limit=limit)
    assert now() == seconds


@pytest.mark.parametrize("name", LIMITED)
async def test_without_a_limit_all_at_once_but_every_and_repeat_one_by_one(name):
    await LIMITED[name]()
    assert now() == (50 if name in {"every", "repeat"} else 10)


@pytest.mark.parametrize("limit", [-1, -10])
def test_a_negative_limit_is_refused(limit):
    """It was taken for no limit."""
    with pytest.raises(ValueError, match=rf"^paco\.map: limit must be an int of 0 or more, got {limit}$"):
        paco.map(double, [1], limit=limit)
    with pytest.raises(ValueError, match="limit must be"):
        paco.ConcurrentExecutor(limit)


@pytest.mark.parametrize("name", ["dropwhile", "reduce"])
async def test_a_limit_of_one_runs_one_item_at_a_time(name):
    fns = {"dropwhile": paco.constant(True, 10), "reduce": paco.constant(0, 10)}
    await getattr(paco, name)(fns[name], [1, 2, 3, 4, 5, 6])
    assert now() == {"dropwhile": 60, "reduce": 50}[name]


async def test_some_and_every_stop_at_the_first_decision():
    assert await paco.some(slow_is_even, [2, 4, 6, 8], limit=1)
    assert now() == 10
    assert not await paco.every(slow_is_even, [1, 2, 3, 4])
    assert now() == 20


TIMED = {name: call for name, call in LIMITED.items() if "timeout" in SIGNATURES[name] and name != "wait"}


@pytest.mark.parametrize("name", TIMED)
async def test_a_timeout_ends_the_whole_call(name):
    with pytest.raises(asyncio.TimeoutError):
        await TIMED[name](limit=1, timeout=25)
    assert now() == 25


# ---- errors


FAILING = {
    "map": lambda **kw: paco.map(refuse_four, FIVE, limit=1, **kw),
    "each": lambda **kw: paco.each(refuse_four, FIVE, limit=1, collect=True, **kw),
    "flat_map": lambda **kw: paco.flat_map(refuse_four, [[1, 2], 3, [4, 5]], limit=1, **kw),
    "gather": lambda **kw: paco.gather([refuse_four(number) for number in FIVE], limit=1, **kw),
    "series": lambda **kw: paco.series(*(refuse_four(number) for number in FIVE), **kw),
}


@pytest.mark.parametrize("name", FAILING)
async def test_the_first_exception_ends_the_call_and_is_raised_unchanged(name):
    with pytest.raises(ValueError, match="no four"):
        await FAILING[name]()
    assert now() == 40


@pytest.mark.parametrize("name", FAILING)
async def test_with_return_exceptions_an_exception_takes_the_place_of_the_result(name):
    *results, error, last = await FAILING[name](return_exceptions=True)
    assert (*results, last) == (1, 2, 3, 5)
    assert isinstance(error, ValueError)


@pytest.mark.parametrize("name", ["filter", "filterfalse", "dropwhile", "some", "every"])
async def test_an_exception_of_the_test_function_is_raised(name):
    async def fail(item):
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        await getattr(paco, name)(fail, [1, 2])


NEEDS_A_FUNCTION = sorted(
    set(SIGNATURES) - {"ConcurrentExecutor", "TimeoutLimit", "concurrent", "constant", "identity"}
)


@pytest.mark.parametrize("name", sorted(set(NEEDS_A_FUNCTION) - {"curry"}))
def test_none_for_a_function_is_a_type_error(name):
    arguments = (None, None) if name in {"whilst", "until"} else (None,)
    with pytest.raises(TypeError):
        getattr(paco, name)(*arguments)


@pytest.mark.parametrize("name", [name for name in SIGNATURES if SIGNATURES[name].startswith("coro, iterable")])
def test_none_for_an_iterable_is_a_type_error(name):
    with pytest.raises(TypeError):
        getattr(paco, name)(double, None)


@pytest.mark.parametrize("name", ["thunk", "interval", "throttle", "once", "times", "defer", "timeout"])
@pytest.mark.parametrize("wrong", [1.5, "double", [double], object()], ids=["float", "str", "list", "object"])
def test_only_functions_can_be_wrapped(name, wrong):
    wrap = getattr(paco, name)
    with pytest.raises(TypeError):
        wrap(coro=wrong)
    if name != "thunk":
        with pytest.raises(TypeError):
            wrap()(wrong)


@pytest.mark.parametrize("name", ["map", "each", "filter", "some", "interval"])
async def test_a_sync_function_is_an_error_when_it_is_called(name):
    """It was refused at the call, like a lambda that returns a coroutine: that one is taken now."""
    wrong = getattr(paco, name)(*([lambda number: number] if name == "interval" else [lambda number: number, [1]]))
    with pytest.raises(TypeError, match=r"must be a coroutine function.+paco\.wraps"):
        await (wrong(1) if name == "interval" else wrong)


# ---- pipelines


async def test_a_pipeline_of_four_stages():
    async def below_eight(number):
        return number < 8

    async def below_ten(number):
        return number < 10

    async def main(numbers):
        return await (
            numbers
            | paco.filter(below_eight)
            | paco.map(double)
            | paco.dropwhile(below_ten)
            | paco.reduce(add, initializer=0)
        )

    assert await main((1, 2, 3, 4, 5, 6, 7, 8, 9, 10)) == 36


STAGES = {
    "map": (lambda: paco.map(double, limit=2), [2, 4, 6]),
    "each": (lambda: paco.each(double), None),
    "each collect": (lambda: paco.each(double, collect=True), [2, 4, 6]),
    "filter": (lambda: paco.filter(is_even), [2]),
    "filterfalse": (lambda: paco.filterfalse(is_even), [1, 3]),
    "flat_map": (lambda: paco.flat_map(double), [2, 4, 6]),
    "dropwhile": (lambda: paco.dropwhile(is_even), [1, 2, 3]),
    "reduce": (lambda: paco.reduce(add), 6),
    "some": (lambda: paco.some(is_even), True),
    "every": (lambda: paco.every(is_even), False),
}


@pytest.mark.parametrize("name", STAGES)
async def test_each_function_over_an_iterable_returns_a_stage_without_an_iterable(name):
    stage, expected = STAGES[name]
    assert await ([1, 2, 3] | stage()) == expected


async def test_a_pipeline_over_an_empty_iterable_gives_an_empty_result():
    """The old library refused an empty list on the left of ``|``."""
    assert await ([] | paco.map(double) | paco.filter(is_even)) == []


# ---- gather, series, wait, race


@pytest.mark.parametrize("preserve_order", [True, False])
async def test_gather_keeps_the_order_with_and_without_preserve_order(preserve_order):
    """Without ``preserve_order`` it was the order of completion, against what the text says."""
    naps = nap(1, 30), nap(2, 10), nap(3, 20)
    assert await paco.gather(*naps, preserve_order=preserve_order) == [1, 2, 3]


@pytest.mark.parametrize(
    "given",
    [
        lambda: (double(1), double(2)),
        lambda: ([double(1), double(2)],),
        lambda: ((double(number) for number in (1, 2)),),
        lambda: (paco.partial(double, 1), paco.partial(double, 2)),
        lambda: ([paco.partial(double, 1), double(2)],),
        lambda: (asyncio.ensure_future(double(1)), double(2)),
    ],
    ids=["coroutines", "a list", "a generator", "functions", "a mixed list", "a future"],
)
async def test_groups_accept_coroutines_functions_and_futures_as_arguments_or_as_an_iterable(given):
    assert await paco.gather(*given()) == [2, 4]
    assert await paco.series(*given()) == [2, 4]
    done, _ = await paco.wait(*given())
    assert sorted(future.result() for future in done) == [2, 4]


async def test_series_runs_one_after_the_other():
    assert await paco.series(nap(1), nap(2), nap(3)) == [1, 2, 3]
    assert now() == 30
    with pytest.raises(asyncio.TimeoutError):
        await paco.series(nap(1), nap(2), timeout=15)
    assert now() == 45


async def test_series_and_wait_of_nothing_are_errors():
    """As documented for both. (``series`` did return an empty list.)"""
    with pytest.raises(ValueError, match=r"^paco\.series: "):
        await paco.series()
    with pytest.raises(ValueError, match=r"^paco\.wait: "):
        await paco.wait()


async def test_wait_returns_done_and_pending_futures():
    done, pending = await paco.wait([nap(1), nap(2), nap(3)], limit=1)
    assert {future.result() for future in done} == {1, 2, 3}
    assert (pending, now()) == (set(), 30)
    assert all(asyncio.isfuture(future) for future in done)


async def test_wait_with_return_exceptions_has_exceptions_as_results():
    done, _ = await paco.wait([refuse_four(4), refuse_four(4)], return_exceptions=True)
    assert [str(future.result()) for future in done] == ["no four", "no four"]


async def test_wait_raises_the_first_exception_after_all_have_ended():
    """As documented; the old library left it in its future."""
    with pytest.raises(ValueError, match="no four"):
        await paco.wait(refuse_four(4), nap(1, 100))
    assert now() == 10


@pytest.mark.parametrize(
    ("when", "seconds", "finished"),
    [("FIRST_COMPLETED", 5, 1), ("FIRST_EXCEPTION", 10, 2), ("ALL_COMPLETED", 20, 3)],
)
async def test_wait_supports_return_when(when, seconds, finished):
    done, pending = await paco.wait(nap(1, 5), refuse_four(4), nap(2, 20), return_when=when)
    assert (now(), len(done), len(pending)) == (seconds, finished, 3 - finished)
    errors = [future.exception() for future in done]
    await asyncio.gather(*pending, return_exceptions=True)
    assert [str(error) for error in errors if error is not None] == ["no four"] * (seconds >= 10)


async def test_wait_returns_on_timeout_like_asyncio():
    """The text promises a ``TimeoutError``; what ran was ``asyncio.wait``, which returns."""
    done, pending = await paco.wait(nap(1, 5), nap(2, 50), timeout=10)
    assert ([future.result() for future in done], len(pending), now()) == ([1], 1, 10)
    assert await asyncio.gather(*pending) == [2]
    assert now() == 50


async def test_race_returns_the_first_result():
    def napper(seconds):
        async def contestant():
            return await nap(seconds, seconds)

        return contestant

    assert await paco.race((napper(80), napper(50), napper(100), napper(300), napper(20))) == 20
    assert await paco.race([nap(3, 30), nap(2, 20)]) == 2
    assert now() == 40


async def test_race_passes_its_further_arguments_to_functions():
    assert await paco.race([nap], None, None, "first", seconds=10) == "first"
    assert now() == 10


async def test_race_raises_on_timeout():
    """As documented; the old library returned ``None``."""
    with pytest.raises(asyncio.TimeoutError):
        await paco.race([nap(1), nap(2)], timeout=1)
    assert now() == 1


async def test_an_exception_can_win_a_race():
    """It was swallowed."""
    with pytest.raises(ValueError, match="no four"):
        await paco.race([refuse_four(4), nap(1, 20)])


@pytest.mark.parametrize("wrong", [None, 5, [None], [5], ["text"]], ids=repr)
async def test_race_requires_an_iterable_of_coroutines(wrong):
    with pytest.raises(TypeError):
        paco.race(wrong)
    if isinstance(wrong, list):
        with pytest.raises(TypeError):
            paco.race([double(1), *wrong])


# ---- whilst, until, interval


class Counter:
    def __init__(self):
        self.calls = 0

    async def __call__(self, step=1, *, more=0):
        self.calls += step + more
        return self.calls

    async def below_five(self):
        return self.calls < 5

    async def above_four(self):
        return self.calls > 4

    async def count(self):
        return self.calls


async def test_whilst_and_until_are_each_others_inverse():
    counter = Counter()
    assert await paco.whilst(counter, counter.below_five) == [1, 2, 3, 4, 5]
    counter = Counter()
    assert await paco.until(counter, counter.above_four) == [1, 2, 3, 4, 5]


async def test_whilst_and_until_pass_arguments_on():
    counter = Counter()
    assert await paco.whilst(counter, counter.below_five, None, 2, more=1) == [3, 6]
    counter = Counter()
    assert await paco.until(counter, counter.above_four, None, 2) == [2, 4, 6]


async def test_whilst_and_until_accept_a_coroutine_function_for_the_assertion():
    """``until`` took no notice of its ``assert_coro``."""

    async def below_three(count):
        return count < 3

    async def is_three(count):
        return count == 3

    counter = Counter()
    assert await paco.whilst(counter, counter.count, below_three) == [1, 2, 3]
    counter = Counter()
    assert await paco.until(counter, counter.count, is_three) == [1, 2, 3]


@pytest.mark.parametrize(
    "make", [lambda tick: paco.interval(tick, 10, 5), paco.interval(10, 5)], ids=["function", "decorator"]
)
async def test_interval_calls_a_number_of_times_in_a_task(make):
    """The task ends with the last call; it did sleep once more after it."""
    ticks = []

    async def tick(text):
        ticks.append((text, now()))

    task = make(tick)("tick")
    assert isinstance(task, asyncio.Task)
    assert await task is None
    assert ticks == [("tick", 0), ("tick", 10), ("tick", 20), ("tick", 30), ("tick", 40)]
    assert now() == 40


async def test_interval_goes_on_until_it_is_cancelled():
    ticks = []

    async def tick():
        ticks.append(now())

    task = paco.interval(tick)()
    asyncio.get_running_loop().call_later(9.5, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ticks == list(range(10))


# ---- timeout, TimeoutLimit, throttle, defer


@pytest.mark.parametrize(
    "limit",
    [
        lambda: paco.timeout(nap, timeout=10),
        lambda: paco.timeout(nap, 10, None),
        lambda: paco.timeout(timeout=10)(nap),
        lambda: paco.timeout(10)(nap),
    ],
    ids=["by name", "by position", "decorator by name", "decorator by position"],
)
async def test_timeout_of_a_function(limit):
    assert await limit()(1, seconds=5) == 1
    with pytest.raises(asyncio.TimeoutError):
        await limit()(1, seconds=20)
    assert now() == 15


async def test_timeout_of_a_coroutine_object():
    """``await paco.timeout(coro, timeout=10)`` was its documented use, which could not run."""
    assert await paco.timeout(nap(1), timeout=20) == 1
    with pytest.raises(asyncio.TimeoutError):
        await paco.timeout(nap(1), timeout=5)


async def test_timeout_without_a_time_has_no_end():
    assert await paco.timeout(nap)(1, seconds=10**9) == 1


async def test_timeout_limit_around_a_block():
    with paco.TimeoutLimit(10):
        await nap(1, 5)
    with pytest.raises(asyncio.TimeoutError), paco.TimeoutLimit(10):
        await nap(1, 20)
    with paco.TimeoutLimit(None):
        await nap(1, 1000)
    with paco.TimeoutLimit(10, loop=loop_of_the_test()):
        await nap(1, 5)
    assert now() == 1020


def test_timeout_limit_outside_of_a_task_is_an_error():
    with pytest.raises(RuntimeError), paco.TimeoutLimit(10):
        pass


THROTTLED = {
    "by name": (lambda: paco.throttle(double, limit=2, timeframe=10), [2, 4, 4, 4, 10, 12, 12, 12]),
    "decorator": (lambda: paco.throttle(limit=2, timeframe=10)(double), [2, 4, 4, 4, 10, 12, 12, 12]),
    "text": (lambda: paco.throttle(double, 2, 10, "over"), [2, 4, "over", "over", 10, 12, "over", "over"]),
    "zero": (lambda: paco.throttle(double, 2, 10, 0), [2, 4, 0, 0, 10, 12, 0, 0]),
    "defaults": (lambda: paco.throttle(double), [2, 2, 2, 2, 10, 10, 10, 10]),
}


@pytest.mark.parametrize("name", THROTTLED)
async def test_throttle_returns_the_last_result_to_calls_beyond_the_limit(name):
    """A false ``return_value`` was taken for none."""
    make, expected = THROTTLED[name]
    throttled = make()
    results = [await throttled(number) for number in (1, 2, 3, 4)]
    await asyncio.sleep(10)
    assert results + [await throttled(number) for number in (5, 6, 7, 8)] == expected


async def test_throttle_can_raise():
    throttled = paco.throttle(double, limit=1, timeframe=1, raise_exception=True)
    assert await throttled(1) == 2
    with pytest.raises(RuntimeError):
        await throttled(2)


DEFERRED = {
    "by name": (lambda: paco.defer(echo, delay=10), 10),
    "by position": (lambda: paco.defer(echo, 10), 10),
    "decorator by name": (lambda: paco.defer(delay=10)(echo), 10),
    "decorator by position": (lambda: paco.defer(10)(echo), 10),
    "default": (lambda: paco.defer(echo), 1),
    "decorator without options": (lambda: paco.defer()(echo), 1),
}


@pytest.mark.parametrize("name", DEFERRED)
async def test_defer_waits_before_the_call(name):
    make, seconds = DEFERRED[name]
    assert await make()(1, key=2) == ((1,), {"key": 2})
    assert now() == seconds


# ---- functions of functions


async def test_apply_ignores_the_arguments_of_the_call():
    """Its text says that they are added; its behaviour, and its tests, were these."""
    applied = paco.apply(echo, 1, 2, key="value")
    assert await applied() == ((1, 2), {"key": "value"})
    assert await applied(3, 4, other="value") == ((1, 2), {"key": "value"})


async def test_partial_adds_the_arguments_of_the_call():
    bound = paco.partial(echo, 1, key="value")
    assert await bound() == ((1,), {"key": "value"})
    assert await bound(2, 3, other="more") == ((1, 2, 3), {"key": "value", "other": "more"})
    assert await bound(key="changed") == ((1,), {"key": "changed"})


async def test_partial_is_not_changed_by_a_call():
    """The keywords of one call were still there in the next."""
    bound = paco.partial(echo, key="value")
    await bound(key="changed", other="more")
    assert await bound() == ((), {"key": "value"})


async def test_compose_goes_from_right_to_left_one_after_the_other():
    async def prepend(number, numbers):
        await asyncio.sleep(10)
        return (number, *numbers)

    composed = paco.compose(paco.partial(prepend, 1), paco.partial(prepend, 2), paco.partial(prepend, 3))
    assert await composed((0,)) == (1, 2, 3, 0)
    assert now() == 30


async def test_compose_ends_at_an_exception():
    calls = []

    async def call(number):
        calls.append(number)
        if number == 1:
            raise ValueError(number)
        return number + 1

    with pytest.raises(ValueError, match="1"):
        await paco.compose(*[call] * 5)(0)
    assert calls == [0, 1]


@pytest.mark.parametrize("name", ["constant", "identity"])
@pytest.mark.parametrize("value", [1, "foo", {"foo": "bar"}, (1, 2, 3), None])
async def test_constant_returns_its_value(name, value):
    coro = getattr(paco, name)(value)
    assert await coro() is value
    assert now() == 0
    assert await getattr(paco, name)(value, delay=10)() is value
    assert now() == 10


async def test_thunk_calls_anew_each_time():
    counter = Counter()
    thunk = paco.thunk(counter)
    assert [await thunk(), await thunk(), await thunk()] == [1, 2, 3]


async def test_wraps_makes_a_coroutine_function():
    @paco.wraps
    def sync(*args, **kw):
        return args, kw

    assert inspect.iscoroutinefunction(sync)
    assert sync.__name__ == "sync"
    assert await sync(1, key=2) == ((1,), {"key": 2})
    assert paco.wraps(echo) is echo


def sync_task(x, y, baz=None, *args, **kw):
    return x + y, baz, kw


async def async_task(x, y, baz=None, *args, **kw):
    return sync_task(x, y, baz, *args, **kw)


CURRIED = {
    "one by one": (lambda task: paco.curry(task)(2)(4)(baz="foo"), (6, "foo", {})),
    "two at first": (lambda task: paco.curry(task)(2, 4)(baz="foo"), (6, "foo", {})),
    "all at once": (lambda task: paco.curry(task)(2, 4, baz="foo"), (6, "foo", {})),
    "more than all": (lambda task: paco.curry(task)(2, 4, baz="foo", fee=True), (6, "foo", {"fee": True})),
    "more at last": (lambda task: paco.curry(task)(2)(4)(baz="foo", tee=True), (6, "foo", {"tee": True})),
    "a number": (lambda task: paco.curry(4)(task)(2)(4)(baz="foo")(tee=True), (6, "foo", {"tee": True})),
    "no keywords": (lambda task: paco.curry(ignore_kwargs=True)(task)(2)(4), (6, None, {})),
    "keywords beside": (
        lambda task: paco.curry(ignore_kwargs=True)(task)(2)(4, baz="foo", tee=True),
        (6, "foo", {"tee": True}),
    ),
    "an evaluator": (
        lambda task: paco.curry(evaluator=lambda given, fn: len(given[0]) < 3)(task)(2)(4)(8),
        (6, 8, {}),
    ),
    "an evaluator that has enough": (
        lambda task: paco.curry(evaluator=lambda given, fn: False)(task)(2, 4),
        (6, None, {}),
    ),
    "arguments at first": (lambda task: paco.curry(task, False, None, 2)(4)(8), (6, 8, {})),
}


@pytest.mark.parametrize("name", CURRIED)
@pytest.mark.parametrize("task", [sync_task, async_task])
async def test_curry_waits_for_all_arguments(name, task):
    call, expected = CURRIED[name]
    assert await call(task) == expected


async def test_curry_as_a_decorator():
    @paco.curry
    async def area(x, y, z=0):
        return x * y + z

    @paco.curry(4)
    def of_four(x, y, *args):
        return x + y + args[0] + args[1]

    @paco.curry(ignore_kwargs=True)
    async def of_two(x, y, z=0):
        return x * y

    assert await area(4)(4)(z=8) == 24
    assert await of_four(2)(4)(8)(10) == 24
    assert await of_two(4)(4) == 16


async def test_curry_of_one_parameter_and_of_none():
    assert await paco.curry(lambda x: x)(True) is True
    assert await paco.curry(lambda: True)() is True


# ---- once and times


@pytest.mark.parametrize(
    ("make", "runs"),
    [
        (lambda **kw: paco.once(echo, **kw), 1),
        (lambda **kw: paco.once(**kw)(echo), 1),
        (lambda **kw: paco.times(echo, **kw), 1),
        (lambda **kw: paco.times(echo, 2, **kw), 2),
        (lambda **kw: paco.times(2, **kw)(echo), 2),
        (lambda **kw: paco.times(limit=3, **kw)(echo), 3),
    ],
    ids=["once", "@once", "times", "times 2", "@times 2", "@times 3"],
)
class TestLimitedCalls:
    async def test_later_calls_of_once_get_the_last_result(self, make, runs):
        limited = make()
        results = [await limited(number, key=number) for number in range(5)]
        expected = [((number,), {"key": number}) for number in range(runs)]
        assert results == expected + expected[-1:] * (5 - runs)

    @pytest.mark.parametrize("value", ["ignored", 0, "", False])
    async def test_once_can_return_a_given_value_to_later_calls(self, make, runs, value):
        """A false one was taken for none."""
        limited = make(return_value=value)
        results = [await limited(number) for number in range(5)]
        assert results[runs:] == [value] * (5 - runs)

    async def test_once_can_raise_an_exception_in_later_calls(self, make, runs):
        limited = make(raise_exception=True)
        for number in range(runs):
            assert await limited(number) == ((number,), {})
        with pytest.raises(RuntimeError):
            await limited(runs)


async def test_a_concurrent_call_of_once_waits_for_the_running_one():
    """A second caller got ``None`` at once."""
    once = paco.once(nap)
    assert await asyncio.gather(once(1), once(2)) == [1, 1]
    assert now() == 10


@pytest.mark.parametrize("limit", [0, -1])
def test_zero_times_are_refused(limit):
    """They were taken for one."""
    with pytest.raises(ValueError, match=r"^paco\.times: limit must be an int of 1 or more"):
        paco.times(double, limit)


# ---- the executor


@pytest.mark.parametrize(
    ("limit", "count", "seconds"), [(3, 10, 40), (100, 1000, 100), (1, 10, 100), (0, 50, 10), (None, 11, 20)]
)
async def test_the_limit_of_the_executor_bounds_concurrency(limit, count, seconds):
    executor = paco.concurrent() if limit is None else paco.concurrent(limit)
    for number in range(count):
        executor.add(nap, number)
    assert (len(executor), len(executor.pool)) == (count, count)
    done, pending = await executor.run()
    assert now() == seconds
    assert {future.result() for future in done} == set(range(count))
    assert (pending, len(executor)) == (set(), 0)


def test_the_executor_can_be_filled_before_a_loop_runs():
    with testing.check_leaks():
        executor = paco.concurrent(10)
        future = executor.add(double, 2)
        done, pending = paco.run(executor.run())
        assert (done, pending) == ({future}, set())
        assert future.result() == 4


async def test_the_executor_accepts_coroutine_objects_and_functions():
    """``add`` returned the coroutine itself; it is a future, as documented."""
    executor = paco.ConcurrentExecutor(coros=[double(1), paco.partial(double, 2)])
    executor.extend(double(3), paco.partial(double, 4))
    futures = [executor.add(double(5)), executor.submit(double, number=6)]
    done, _ = await executor.wait()
    assert sorted(future.result() for future in done) == [2, 4, 6, 8, 10, 12]
    assert [await future for future in futures] == [10, 12]


@pytest.mark.parametrize("asynchronous", [True, False])
async def test_the_executor_sends_events_to_its_listeners(asynchronous):
    started, finished = [], []

    def on_start(task):
        started.append(task)

    def on_finish(task, result):
        finished.append(result)

    executor = paco.concurrent(10)
    executor.on("task.start", paco.wraps(on_start) if asynchronous else on_start)
    executor.on("task.finish", paco.wraps(on_finish) if asynchronous else on_finish)
    for number in (2, 4, 6):
        executor.add(double, number)
    await executor.run()
    assert len(set(started)) == 3
    assert sorted(finished) == [4, 8, 12]


@pytest.mark.parametrize("limit", [1, 2, 0])
async def test_the_executor_returns_exceptions_as_results_on_request(limit):
    """With a limit of one it raised them from the future instead."""
    executor = paco.ConcurrentExecutor(limit)
    right, wrong = executor.add(add, 1, 2), executor.add(add, None, "text")
    done, _ = await executor.run(return_exceptions=True)
    assert done == {right, wrong}
    assert right.result() == 3
    assert isinstance(wrong.result(), TypeError)


@pytest.mark.parametrize("limit", [1, 2, 0])
async def test_the_executor_leaves_an_exception_in_its_future_by_default(limit):
    """As ``asyncio.wait`` does. (With a limit of one it was raised.)"""
    executor = paco.ConcurrentExecutor(limit)
    wrong, right = executor.add(refuse_four, 4), executor.add(refuse_four, 5)
    done, _ = await executor.run()
    assert done == {right, wrong}
    assert right.result() == 5
    assert isinstance(wrong.exception(), ValueError)


async def test_an_executor_without_coroutines_refuses_to_run():
    with pytest.raises(ValueError, match="nothing to run"):
        await paco.ConcurrentExecutor().run()
    assert [*map(len, await paco.ConcurrentExecutor(ignore_empty=True).run())] == [0, 0]
    assert [*map(len, await paco.ConcurrentExecutor().run(ignore_empty=True))] == [0, 0]
    with pytest.raises(ValueError, match="nothing to run"):
        await paco.ConcurrentExecutor(ignore_empty=True).run(ignore_empty=False)


async def test_the_executor_supports_return_when():
    executor = paco.ConcurrentExecutor(2)
    quick, late = executor.add(nap, 1, 10), executor.add(nap, 2, 20)
    assert await executor.run(None, None, "FIRST_COMPLETED") == ({quick}, {late})
    assert now() == 10
    assert await late == 2


async def test_the_executor_times_out():
    """As documented; what ran returned, and went on."""
    executor = paco.ConcurrentExecutor(2, coros=five_naps())
    with pytest.raises(asyncio.TimeoutError):
        await executor.run(timeout=15)
    assert now() == 15
    assert not executor.is_running()


async def test_the_executor_can_be_used_again():
    executor = paco.ConcurrentExecutor(2)
    for number in (1, 2):
        future = executor.add(nap, number)
        await executor.run()
        assert future.result() == number


@pytest.mark.parametrize("wrong", [None, 5, "text", [double]], ids=["None", "int", "str", "list"])
def test_the_executor_requires_coroutines(wrong):
    executor = paco.ConcurrentExecutor()
    with pytest.raises(TypeError):
        executor.add(wrong)
    with pytest.raises(TypeError):
        executor.extend(functools.partial(double, 1), wrong)
    assert len(executor) == 0
