"""What a call refuses: an error of the documented type and form, at the call, before anything has started.

One table says what each parameter refuses, and every function that has such a parameter is tried with it. The leak
check of the tests sees a coroutine that a refused call would leave unawaited.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import re
from collections.abc import Iterable
from contextlib import closing

import pytest

import paco
from paco import testing
from paco.testing import AsyncSource, Probe, Source, VirtualLoop, now


class Work:
    """An async function that records its calls."""

    def __init__(self):
        self.calls = 0

    async def __call__(self, *args, **kw):
        self.calls += 1

    async def method(self, *args, **kw):
        self.calls += 1


async def work(*args, **kw):
    """An async function that is named in a message."""


class Hostile:
    """An object that cannot be shown."""

    def __repr__(self):
        raise ZeroDivisionError


def a_class(name, module, *bases):
    return type(name, bases, {"__module__": module, "__iter__": lambda self: iter(["column"])})


PANDAS = a_class("DataFrame", "pandas.core.frame")
FRAMES = {
    "a pandas frame": (PANDAS, "itertuples"),
    "a polars frame": (a_class("DataFrame", "polars.dataframe.frame"), "iter_rows"),
    "a polars lazy frame": (a_class("LazyFrame", "polars.lazyframe.frame"), "iter_rows"),
    "a pyarrow table": (a_class("Table", "pyarrow.lib"), "to_pylist"),
    "a pyarrow batch": (a_class("RecordBatch", "pyarrow.lib"), "to_pylist"),
}

# ---- the table: what each parameter refuses

HOSTILE = {"hostile": (Hostile, TypeError, "<Hostile whose repr raised ZeroDivisionError>")}

NOT_CALLABLE = {
    "None": (lambda: None, TypeError, "None"),
    "int": (lambda: 5, TypeError, "5"),
    "str": (lambda: "work", TypeError, "'work'"),
    "list": (lambda: [work], TypeError, "[<function work"),
    "long": (lambda: "x" * 10**6, TypeError, "'xxxxxxxx"),
    **HOSTILE,
}

FUNCTION = {
    **NOT_CALLABLE,
    "coroutine object": (
        lambda: work(1),
        TypeError,
        "the coroutine object work(...); pass the function, not the call: work instead of work(...)",
    ),
}

ITERABLE = {
    "None": (lambda: None, TypeError, "None"),
    "str": (lambda: "text", TypeError, "'text'"),
    "empty str": (lambda: "", TypeError, "''"),
    "bytes": (lambda: b"text", TypeError, "b'text'"),
    "bytearray": (lambda: bytearray(b"text"), TypeError, "bytearray(b'text')"),
    "int": (lambda: 5, TypeError, "5"),
    "bool": (lambda: True, TypeError, "True"),
    "float": (lambda: 1.5, TypeError, "1.5"),
    "complex": (lambda: 1j, TypeError, "1j"),
    "function": (lambda: work, TypeError, "<function work"),
    "class": (lambda: list, TypeError, "<class 'list'>"),
    "object": (object, TypeError, "<object object at"),
    **HOSTILE,
    **{name: (kind, TypeError, "") for name, (kind, _) in FRAMES.items()},
}


def integers(least):
    """Return what an int of ``least`` or more is not."""
    return {
        "below": (lambda: least - 1, ValueError, str(least - 1)),
        "far below": (lambda: -(10**30), ValueError, str(-(10**30))),
        "True": (lambda: True, TypeError, "True"),
        "False": (lambda: False, TypeError, "False"),
        "float": (lambda: 3.0, TypeError, "3.0"),
        "nan": (lambda: math.nan, TypeError, "nan"),
        "str": (lambda: "3", TypeError, "'3'"),
        "list": (lambda: [3], TypeError, "[3]"),
        **HOSTILE,
    }


NONE = {"None": (lambda: None, TypeError, "None")}

SECONDS = {
    "negative": (lambda: -1, ValueError, "-1"),
    "just negative": (lambda: -5e-324, ValueError, "-5e-324"),
    "minus infinity": (lambda: -math.inf, ValueError, "-inf"),
    "nan": (lambda: math.nan, ValueError, "nan"),
    "True": (lambda: True, TypeError, "True"),
    "str": (lambda: "10", TypeError, "'10'"),
    "tuple": (lambda: (10,), TypeError, "(10,)"),
    **HOSTILE,
}

POSITIVE = {
    **SECONDS,
    "zero": (lambda: 0, ValueError, "0"),
    "infinity": (lambda: math.inf, ValueError, "inf"),
    "beyond all floats": (lambda: 10**400, ValueError, "1000"),
}

LOOP = {
    "int": (lambda: 5, TypeError, "5"),
    "str": (lambda: "uvloop", TypeError, "'uvloop'"),
    "the class": (lambda: VirtualLoop, TypeError, "<class "),
    **HOSTILE,
}

WHEN = {
    "str": (lambda: "SOMETIME", ValueError, "'SOMETIME'"),
    "lower case": (lambda: "all_completed", ValueError, "'all_completed'"),
    "int": (lambda: 5, ValueError, "5"),
}

NOT_PLAIN = {
    "async function": (lambda: work, TypeError, "<function work"),
    "async method": (lambda: Work().method, TypeError, "<bound method Work.method"),
    "partial of one": (lambda: functools.partial(work, 1), TypeError, "functools.partial(<function work"),
    "coroutine object": (lambda: work(1), TypeError, "<coroutine object work"),
}

#: By the name of the parameter, or ``function.parameter`` where it differs. An empty one: tested by itself, below.
REFUSED = {
    "coro": FUNCTION,
    "coro_test": FUNCTION,
    "timeout.coro": {name: row for name, row in FUNCTION.items() if name != "coroutine object"},
    "run.coro": {},
    "assert_fn": {name: row for name, row in FUNCTION.items() if name != "None"},
    "assert_coro": {name: row for name, row in FUNCTION.items() if name != "None"},
    "evaluator": {name: row for name, row in FUNCTION.items() if name != "None"},
    "fn": FUNCTION,
    "threaded.fn": {**{name: row for name, row in NOT_CALLABLE.items() if name != "int"}, **NOT_PLAIN},
    "threads": integers(1),
    "arity_or_fn": {
        **{name: row for name, row in FUNCTION.items() if name not in {"None", "int"}},
        "below": (lambda: -1, ValueError, "-1"),
        "True": (lambda: True, TypeError, "True"),
    },
    "iterable": ITERABLE,
    "coros": {name: row for name, row in ITERABLE.items() if name != "None"},
    "compose.coros": {},
    "initializer": {"int": (lambda: 5, TypeError, "5"), **HOSTILE},
    "reduce.initializer": {},
    "limit": integers(0),
    "Limit.limit": {**integers(1), **NONE},
    "n": {**POSITIVE, **NONE},
    "per": {**POSITIVE, **NONE},
    "burst": {**integers(1), **NONE},
    "cost": {**{name: row for name, row in NOT_CALLABLE.items() if name != "None"}, **NOT_PLAIN},
    "times.limit": {**integers(1), **NONE},
    "throttle.limit": {**integers(1), **NONE},
    "times": integers(1),
    "repeat.times": {**integers(1), **NONE},
    "step": {**integers(1), **NONE},
    "size": {**integers(1), **NONE},
    "within": SECONDS,
    "timeout": SECONDS,
    "delay": SECONDS,
    "defer.delay": {**SECONDS, **NONE},
    "hedge.delay": {**SECONDS, **NONE},
    "extra": {**integers(1), **NONE},
    "attempts": {**integers(1), **NONE},
    "on": {
        "None": (lambda: None, TypeError, "None"),
        "empty tuple": (tuple, TypeError, "()"),
        "an exception": (OSError, TypeError, "OSError()"),
        "another class": (lambda: int, TypeError, "<class 'int'>"),
        "no Exception": (lambda: KeyboardInterrupt, TypeError, "<class 'KeyboardInterrupt'>"),
        "one of several": (lambda: (OSError, 5), TypeError, "(<class 'OSError'>, 5)"),
        **HOSTILE,
    },
    "wait": {**SECONDS, **NONE},
    "max_wait": {**SECONDS, **NONE},
    "budget": {**SECONDS, "zero": (lambda: 0, ValueError, "0"), "infinity": (lambda: math.inf, ValueError, "inf")},
    "seconds": SECONDS,
    "outcomes": {
        **{name: row for name, row in ITERABLE.items() if "frame" not in name and "table" not in name},
        "other values": (lambda: [paco.Ok(1, 1), 5], TypeError, "5"),
    },
    "interval": {**SECONDS, **NONE},
    "timeframe": {**SECONDS, **NONE},
    "loop": LOOP,
    "return_when": WHEN,
}

FUNCTIONS = [name for name in paco.__all__ if name[0].islower()]
FUNCTIONS += ["ConcurrentExecutor", "Limit", "Rate", "TimeoutLimit"]


def parameters(name):
    return inspect.signature(getattr(paco, name)).parameters


def rows(name):
    """Yield what the parameters of a function refuse."""
    for parameter in parameters(name):
        for row in REFUSED.get(f"{name}.{parameter}", REFUSED.get(parameter, {})).values():
            yield name, parameter, *row


ROWS = {
    name: found
    for name in FUNCTIONS
    if name not in {"run", "concurrent", "identity", "iterate"} and (found := [*rows(name)])
}


def call(name, function, source, **given):
    """Call a function with what is right, but for what is ``given``."""
    known = parameters(name)
    right = {"coro": function, "coro_test": function, "iterable": source, "timeout": None, "value": 5, "fn": function}
    right |= {"arity_or_fn": function, "delay": 0, "seconds": 5, "outcomes": []}
    right |= {"size": 2}
    right |= {"n": 1, "limit": 1} if name in {"Limit", "Rate", "limited"} else {}
    several = (function(), function, function()) if "coros_or_futures" in known else ()
    keywords = {key: value for key, value in right.items() if key in known}
    return getattr(paco, name)(*several, **{**keywords, **given})


def refuse(name, parameter, make, error, shown):
    """Demand that a call is refused and says so, and that nothing has happened."""
    function = Work()
    source = Source([function, function])
    with pytest.raises(error) as caught:
        call(name, function, source, **{parameter: make()})
    message = str(caught.value)
    assert re.match(rf"paco\.{name}: {parameter} must be [^,]", message)
    assert f", got {shown}" in message
    assert len(message) < 400
    assert type(caught.value) is error
    assert function.calls == 0
    if name != "race":  # whose contestants are taken at the call
        assert source.pulled == 0
    assert not source.closed


@pytest.mark.parametrize("name", ROWS)
async def test_bad_input_is_refused_at_the_call_before_anything_has_started(name):
    for row in ROWS[name]:
        refuse(*row)


@pytest.mark.parametrize("name", ROWS)
def test_bad_input_is_refused_without_a_running_loop_too(name):
    with testing.check_leaks():
        for row in ROWS[name]:
            refuse(*row)


@pytest.mark.parametrize(
    "name", [name for name in FUNCTIONS if "loop" in parameters(name) and name not in {"run", "concurrent"}]
)
async def test_the_loop_parameter_accepts_the_running_loop_and_no_other(name):
    with closing(VirtualLoop()) as other:
        refuse(name, "loop", lambda: other, RuntimeError, "another loop")
    result = call(name, work, [work, work], loop=asyncio.get_running_loop())
    if inspect.isawaitable(result):
        await result


STAGED = [name for name in FUNCTIONS if {"coro", "iterable"} <= set(parameters(name))]


@pytest.mark.parametrize("name", STAGED)
def test_swapped_arguments_are_refused_with_the_order(name):
    with pytest.raises(
        TypeError, match=r"coroutine function, got \[1, 2\]; the function comes first: paco\."
    ) as caught:
        getattr(paco, name)([1, 2], work)
    assert str(caught.value).endswith(f"paco.{name}(work, [1, 2])")


@pytest.mark.parametrize("name", ["map", "each", "flat_map"])
def test_a_positional_argument_for_the_function_is_refused_with_the_remedy(name):
    message = rf"^paco\.{name}: loop must be .*, got 'x'; pass further arguments by name, those of coro too$"
    with pytest.raises(TypeError, match=message):
        getattr(paco, name)(work, [1], 2, "x")


def test_contestants_that_are_not_in_a_list_are_refused_with_the_remedy():
    in_a_list = r"pass the coroutines in a list: paco\.race\(\[a, b\]\)$"
    with pytest.raises(TypeError, match=rf"^paco\.race: loop must be .*, got <coroutine object work .*; {in_a_list}"):
        paco.race(work(), work())
    with pytest.raises(TypeError, match=r"loop must be None or the running event loop, got 5$"):
        paco.race([work], 5)


def test_the_message_names_function_parameter_expectation_and_value():
    with pytest.raises(ValueError, match=r"^paco\.map: limit must be an int of 0 or more, got -1$"):
        paco.map(work, [], limit=-1)
    with pytest.raises(TypeError, match=r"^paco\.each: coro must be a coroutine function, got None$"):
        paco.each(None, [])
    with pytest.raises(TypeError, match=r"^paco\.some: timeout must be .+ or None, got '3'$"):
        paco.some(work, [], timeout="3")
    with pytest.raises(
        TypeError, match=r"^paco\.filter: iterable must be an iterable, an async iterable or .+, got 5$"
    ):
        paco.filter(work, 5)


@pytest.mark.parametrize("kind", FRAMES)
def test_for_a_data_frame_the_message_names_its_row_iterator(kind):
    frame, rows = FRAMES[kind]
    with pytest.raises(TypeError, match=rows):
        paco.map(work, frame())
    with pytest.raises(TypeError, match=rows):
        frame() | paco.map(work)


async def test_a_subclass_of_a_data_frame_is_refused_like_one():
    """As that of geopandas: what it iterates are the names of its columns, too."""
    frame = a_class("GeoDataFrame", "geopandas.geodataframe", PANDAS)
    with pytest.raises(TypeError, match="itertuples"):
        paco.map(work, frame()).close()


async def test_an_iterable_that_only_looks_like_a_data_frame_is_accepted():
    mine = a_class("DataFrame", "frames_of_my_own")
    series = a_class("Series", "pandas.core.series")
    assert await paco.map(paco.constant(1), mine()) == [1]
    assert await paco.map(paco.constant(1), series()) == [1]


def test_for_text_the_message_shows_how_to_run_over_its_characters():
    with pytest.raises(TypeError, match=r"\[value\]"):
        paco.map(work, "text")


# ---- the left side of |


@pytest.mark.parametrize("name", STAGED)
async def test_the_left_side_of_a_stage_is_an_iterable(name):
    function = Work()
    stage = getattr(paco, name)(function)
    for make, error, shown in ITERABLE.values():
        with pytest.raises(error, match=rf"^paco\.{name}: the left side of \| must be .+, got {re.escape(shown)}"):
            make() | stage
    assert function.calls == 0


@pytest.mark.parametrize("name", STAGED)
def test_the_right_side_of_a_stage_is_a_stage(name):
    for wrong in (None, 5, work):
        with pytest.raises(TypeError, match="unsupported operand"):
            getattr(paco, name)(work) | wrong


@pytest.mark.parametrize("name", STAGED)
def test_items_on_the_right_side_of_a_stage_belong_on_its_left(name):
    for items in ([1], range(3), {1}, {1: 2}, AsyncSource([1]), iter([])):
        with pytest.raises(TypeError, match=rf"^paco\.{name}: the items come first: write items \| stage$"):
            getattr(paco, name)(work) | items


@pytest.mark.parametrize("name", STAGED)
async def test_what_is_used_without_its_items_says_how_to_give_them(name):
    stage = getattr(paco, name)(work)
    message = rf"^paco\.{name}: no items were given; write paco\.{name}\(\.\.\., items\), or items \| stage$"
    with pytest.raises(TypeError, match=message):
        await stage
    with pytest.raises(TypeError, match=message):
        async for _ in stage:
            pass


def test_what_is_run_without_its_items_says_how_to_give_them():
    with pytest.raises(TypeError, match=r"^paco\.map: no items were given; write paco\.map\(\.\.\., items\), or items"):
        paco.run(paco.map(work))
    with pytest.raises(TypeError, match=r"^paco\.map \| filter: no items were given; write items \| stage$"):
        paco.run(paco.map(work) | paco.filter(work))
    with pytest.raises(TypeError, match=r"^paco\.map: no items were given"), paco.iterate(paco.map(work)) as results:
        next(results)


def test_the_help_of_a_function_shows_plainly_that_its_items_may_be_missing():
    assert "iterable: 'Any' = <not given>, limit:" in str(inspect.signature(paco.map))


def test_a_stage_is_not_a_source():
    with pytest.raises(TypeError, match=r"^paco\.map: iterable must be .*, got <paco stage filter>$"):
        paco.map(work, paco.filter(work))


async def test_a_stage_is_still_a_function_of_its_items_wherever_one_may_be_called():
    stage = paco.map(paco.wraps(abs))
    assert await paco.map(stage, [[-1], [-2, 3]]) == [[1], [2, 3]]
    assert await paco.race([stage], None, None, [-5]) == [5]
    pool = paco.ConcurrentExecutor()
    pool.add(stage, [-5, 6])
    assert [future.result() for future in (await pool.run())[0]] == [[5, 6]]


@pytest.mark.parametrize(
    "items",
    [
        pytest.param([1, 2], id="list"),
        pytest.param([], id="empty list"),
        pytest.param({1: 2}, id="dict"),
        pytest.param({1}, id="set"),
        pytest.param(range(3), id="range"),
    ],
)
async def test_operands_with_their_own_operator_leave_it_to_the_stage(items):
    async def same(item):
        return item

    assert await (items | paco.map(same)) == list(items)


async def test_a_numpy_array_leaves_the_operator_to_the_stage_and_gives_its_rows():
    numpy = pytest.importorskip("numpy")

    async def total(row):
        return int(row.sum())

    assert await (numpy.array([1, 2, 3]) | paco.map(total, limit=2)) == [1, 2, 3]
    assert await (numpy.array([[1, 2], [3, 4]]) | paco.map(total)) == [3, 7]
    assert await (numpy.array([]) | paco.map(total)) == []
    assert await paco.map(total, numpy.array([[1, 2], [3, 4]])) == [3, 7]


class Series:
    """What a series, an index and a frame of pandas do with an operand: ``|`` is for each element, or left to it."""

    __pandas_priority__ = 3000

    def __init__(self, *values):
        self.values = values

    def __iter__(self):
        return iter(self.values)

    def __or__(self, other):
        if getattr(other, "__pandas_priority__", 0) > self.__pandas_priority__:
            return NotImplemented
        return [value | other for value in self]


async def test_a_series_leaves_the_operator_to_the_stage_and_gives_its_elements():
    async def same(item):
        return item

    assert await (Series(1, 2, 3) | paco.map(same, limit=2)) == [1, 2, 3]
    assert await (Series(1, 2, 3) | (paco.map(same) | paco.filter(same))) == [1, 2, 3]
    with pytest.raises(TypeError, match="unsupported operand"):
        Series(1) | object()


async def test_pandas_leaves_the_operator_to_the_stage():
    pandas = pytest.importorskip("pandas")

    async def same(item):
        return item

    stage = paco.map(same, limit=2)
    for make in (pandas.Series, pandas.Index, pandas.array, pandas.Categorical):
        assert await (make(["a", "b"]) | stage) == ["a", "b"]
    with pytest.raises(TypeError, match=r"the left side of \| must be .+; pass its rows: frame.itertuples\(\)"):
        pandas.DataFrame({"a": [1]}) | stage


def test_the_keys_of_a_dict_take_the_operator_and_the_error_says_how_to_call_the_stage():
    for items in ({1: 2}.keys(), {1: 2}.items()):
        with pytest.raises(TypeError, match=r"^paco\.map: no items .+ or stage\(list\(items\)\)$"):
            items | paco.map(work)


@pytest.mark.parametrize("kind", ["int64", "float64", "bool_", "str_", "bytes_", "array"])
async def test_a_numpy_scalar_is_not_an_iterable(kind):
    numpy = pytest.importorskip("numpy")
    values = {"int64": 5, "float64": 1.5, "bool_": True, "str_": "text", "bytes_": b"text", "array": 5}
    scalar = getattr(numpy, kind)(values[kind])
    with pytest.raises(TypeError, match=r"^paco\.map: iterable must be "):
        paco.map(work, scalar).close()
    with pytest.raises(TypeError, match=r"^paco\.map: the left side of \| must be "):
        (scalar | paco.map(work)).close()


# ---- what was given beside a wrong argument


DEFERRED = {
    "coroutine object": lambda: work(),  # noqa: PLW0108 - a new one each time
    "stream": lambda: paco.map(work, [1]),
    "stream of a coroutine object": lambda: paco.map(work, work()),
    "pipeline": lambda: [1] | paco.map(work) | paco.map(work),
    "one result": lambda: paco.some(work, work()),
}


BESIDE = {
    "map": lambda given: paco.map(work, given, limit=-1),
    "map of it": lambda given: paco.map(given, [1]),
    "map without a function": lambda given: paco.map(None, given),
    "each": lambda given: paco.each(work, given, timeout="x"),
    "filter": lambda given: paco.filter(work, given, assert_fn=5),
    "flat_map": lambda given: paco.flat_map(work, given, initializer=5),
    "flat_map of it": lambda given: paco.flat_map(work, [1], initializer=given),
    "reduce": lambda given: paco.reduce(work, given, loop=5),
    "repeat": lambda given: paco.repeat(work, given),
    "gather": lambda given: paco.gather(given, 5),
    "series": lambda given: paco.series(given, timeout=-1),
    "race": lambda given: paco.race([given], timeout=-1),
    "race of it": lambda given: paco.race([given, 5]),
    "race of a generator": lambda given: paco.race((one for one in [given]), loop=5),
    "wait": lambda given: paco.wait(given, return_when="x"),
    "lists instead of gather's arguments": lambda given: paco.gather([given], work()),
    "a list instead of a function": lambda given: paco.map([given], [1]),
    "a list instead of executor's argument": lambda given: paco.ConcurrentExecutor().add([given]),
    "executor": lambda given: paco.ConcurrentExecutor().add(given, 5),
    "executor, many": lambda given: paco.ConcurrentExecutor().extend(given, 5),
    "executor, listener": lambda given: paco.ConcurrentExecutor().on("start", given),
    "timeout": lambda given: paco.timeout(given, "x"),
    "limited": lambda given: paco.limited(given, 5),
    "retry": paco.retry,
    "retry on": lambda given: paco.retry(work, on=given),
    "settle": paco.settle,
    "compose": lambda given: paco.compose(work, given),
    "whilst": lambda given: paco.whilst(work, given),
    "partition": paco.partition,
    "run": lambda given: paco.run(given, loop=5),
    "Rate": paco.Rate,
    "Budget": paco.Budget,
    "Budget cost": lambda given: paco.Budget(5, given),
    "PerKey": lambda given: paco.PerKey(given, work),
    "PerKey make_limit": lambda given: paco.PerKey(len, given),
    "a timeout": lambda given: paco.map(work, [1], timeout=given),
    "progress": paco.progress,
    "listening": paco.listening,
    "buffer": lambda given: paco.map(work, [1]).buffer(given),
    "ahead": lambda given: paco.map(work, [1]).ahead(given),
    "on": lambda given: paco.map(work, [1]).on(given),
    "journal": lambda given: paco.map(work, [1]).journal(given),
    "max_errors": lambda given: paco.map(work, [1]).max_errors(given),
    "batch": lambda given: paco.map(work, [1]).batch(given),
    "batch of it": lambda given: paco.batch(given, given),
}


@pytest.mark.parametrize("call", BESIDE.values(), ids=BESIDE)
def test_no_warning_comes_beside_the_error_of_a_refused_call(call):
    for make in DEFERRED.values():
        with pytest.raises((TypeError, ValueError)):
            call(make())


OPTIONS = {
    "buffer": lambda stream: stream.buffer(-1),
    "ahead": lambda stream: stream.ahead(-1),
    "on": lambda stream: stream.on(0),
    "on, slots": lambda stream: stream.on(2, slots=0),
    "max_errors": lambda stream: stream.max_errors(-1),
    "batch": lambda stream: stream.batch(0),
    "batch, within": lambda stream: stream.batch(2, within=-1),
    "journal": lambda stream: stream.journal(5),
    "journal, key": lambda stream: stream.journal("x", key=5),
    "journal, durable": lambda stream: stream.journal("x", durable="y"),
    "for": list,
    "in": lambda stream: 1 in stream,
    "unpacking": lambda stream: work(*stream),
}


@pytest.mark.parametrize("option", OPTIONS.values(), ids=OPTIONS)
async def test_a_refused_option_of_a_stream_gives_no_warning_beside_its_error_and_leaves_the_stream_usable(option):
    with pytest.raises((TypeError, ValueError)):
        option(paco.map(work, [1]))
    stream = paco.map(work, [1])
    with pytest.raises((TypeError, ValueError)):
        option(stream)
    assert await stream == [None]


def test_a_refused_journal_gives_no_warning_beside_its_error():
    with pytest.raises(RuntimeError, match="journal"):
        paco.filter(work, [1]).journal("x")
    with pytest.raises(RuntimeError, match="journal"):
        paco.map(work, [1]).journal("x").journal("y")


@pytest.mark.parametrize(("call", "options"), [(paco.gather, {"limit": 1}), (paco.series, {})])
async def test_calls_that_an_error_leaves_unstarted_give_no_warning(call, options):
    async def fail():
        raise KeyError

    for make in DEFERRED.values():
        with pytest.raises(KeyError):
            await call(fail(), make(), **options)


def test_a_plain_for_over_results_says_what_to_write():
    for make in (lambda: paco.map(work, [1]), lambda: paco.filter(work, [1]), lambda: paco.gather(work())):
        with pytest.raises(TypeError, match=r"^paco\.\w+: .+ paco\.run.+ or write `async for`"):
            for _ in make():
                pass
    for make in (lambda: paco.reduce(work, [1, 2]), lambda: paco.race([work()]), lambda: paco.wait(work())):
        with pytest.raises(TypeError, match=r"^paco\.\w+: .+ await this, or pass it to paco\.run"):
            _, _ = make()


def test_a_plain_for_over_a_stage_says_what_to_write():
    message = r"^paco\.map: no items were given; write paco\.map\(\.\.\., items\), or stage\(list\(items\)\)$"
    with pytest.raises(TypeError, match=message):
        for _ in paco.map(work, limit=2):
            pass


def test_a_stream_is_not_taken_for_an_iterable():
    stream = paco.map(work, [1])
    assert not isinstance(stream, Iterable)
    assert paco.run(paco.flat_map(paco.identity(2), [stream])) == [2]
    stream.close()


# ---- gather, series, wait, race

GROUPS = ["gather", "series", "wait"]
NOT_A_CALL = {"None": None, "int": 5, "object": object(), "hostile": Hostile(), "frame": PANDAS()}


@pytest.mark.parametrize("kind", NOT_A_CALL)
@pytest.mark.parametrize("name", GROUPS)
async def test_one_invalid_coroutine_is_refused_and_the_others_are_closed(name, kind):
    function = Work()
    message = rf"^paco\.{name}: coros_or_futures must be .+, got "
    for given in ((NOT_A_CALL[kind],), (function(), NOT_A_CALL[kind]), ([function(), NOT_A_CALL[kind], function()],)):
        with pytest.raises(TypeError, match=message):
            getattr(paco, name)(*given)
    assert function.calls == 0


@pytest.mark.parametrize("wrong", ["text", b"text", "", b""], ids=repr)
@pytest.mark.parametrize("name", GROUPS)
async def test_text_is_not_an_iterable_of_coroutines(name, wrong):
    with pytest.raises(TypeError, match=rf"^paco\.{name}: coros_or_futures must be .+, got b?['\"]"):
        getattr(paco, name)(wrong)


@pytest.mark.parametrize("kind", NOT_A_CALL)
async def test_race_names_its_own_parameter_and_closes_the_other_runners(kind):
    function = Work()
    with pytest.raises(TypeError, match=r"^paco\.race: iterable must be .+, got "):
        paco.race([function(), NOT_A_CALL[kind]])
    assert function.calls == 0


@pytest.mark.parametrize("name", ["series", "wait"])
async def test_empty_groups_are_refused(name):
    for nothing in ((), ([],), (iter([]),)):
        with pytest.raises(ValueError, match=rf"^paco\.{name}: "):
            getattr(paco, name)(*nothing)


async def test_a_race_without_runners_is_refused():
    with pytest.raises(ValueError, match=r"^paco\.race: "):
        paco.race([])


@pytest.mark.parametrize("name", GROUPS)
async def test_a_refused_group_does_not_cancel_the_callers_futures(name):
    future = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(asyncio.sleep(10, "done"))
    with pytest.raises(ValueError, match="timeout must be"):
        getattr(paco, name)(future, task, timeout=-1)
    future.set_result(1)
    assert await asyncio.gather(future, task) == [1, "done"]


# ---- compose, run


@pytest.mark.parametrize("kind", FUNCTION)
async def test_compose_demands_functions(kind):
    make, error, shown = FUNCTION[kind]
    with pytest.raises(error, match=rf"^paco\.compose: coros must be .+, got {re.escape(shown)}"):
        paco.compose(work, make(), work)
    with pytest.raises(TypeError, match=r"^paco\.compose: coros must be "):
        paco.compose()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (work, "pass the call, not the function"),
        (None, "got None"),
        (5, "got 5"),
        ([work], r"got \[<function work"),
        (Hostile(), "got <Hostile whose repr raised"),
    ],
    ids=["function", "None", "int", "list", "hostile"],
)
def test_run_demands_an_awaitable(wrong, message):
    with pytest.raises(TypeError, match=rf"^paco\.run: coro must be .*{message}"):
        paco.run(wrong)


@pytest.mark.parametrize("kind", LOOP)
def test_run_demands_a_loop(kind):
    make, error, shown = LOOP[kind]
    function = Work()
    with testing.check_leaks(), pytest.raises(error, match=rf"^paco\.run: loop must be .+, got {re.escape(shown)}"):
        paco.run(function(), loop=make())
    assert function.calls == 0


async def test_run_inside_a_running_loop_suggests_await():
    function = Work()
    for awaitable in (function(), paco.map(function, [1])):
        with pytest.raises(RuntimeError, match=r"^paco\.run: .+await"):
            paco.run(awaitable)
    assert function.calls == 0


# ---- the executor


def by_argument(fn, *args, **kw):
    """Name a call for the test that makes it."""
    return lambda executor: getattr(executor, fn)(*args, **kw)


REFUSED_BY_THE_EXECUTOR = {
    "add None": (by_argument("add", None), TypeError, "coro must be .+, got None"),
    "add int": (by_argument("add", 5), TypeError, "coro must be .+, got 5"),
    "add hostile": (by_argument("add", Hostile()), TypeError, "coro must be .+, got <Hostile whose repr raised"),
    "add a coroutine object and arguments": (
        lambda executor: executor.add(work(), 1),
        TypeError,
        "pass the function, not the call",
    ),
    "submit None": (by_argument("submit", None), TypeError, "coro must be .+, got None"),
    "extend int": (lambda executor: executor.extend(work(), 5, work()), TypeError, "coros must be .+, got 5"),
    "extend None": (by_argument("extend", None), TypeError, "coros must be .+, got None"),
    "on nothing known": (by_argument("on", "stop", print), ValueError, "event must be .+, got 'stop'"),
    "on no function": (by_argument("on", "start", None), TypeError, "fn must be .+, got None"),
    "off nothing known": (by_argument("off", "stop"), ValueError, "event must be .+, got 'stop'"),
    "negative timeout": (by_argument("run", timeout=-1), ValueError, "timeout must be .+, got -1"),
    "nan timeout": (by_argument("run", timeout=math.nan), ValueError, "timeout must be .+, got nan"),
    "text timeout": (by_argument("wait", timeout="3"), TypeError, "timeout must be .+, got '3'"),
    "return_when": (by_argument("run", return_when="SOMETIME"), ValueError, "return_when must be .+, got 'SOMETIME'"),
}


@pytest.mark.parametrize("kind", REFUSED_BY_THE_EXECUTOR)
async def test_the_executor_refuses_bad_input_and_keeps_its_coroutines(kind):
    refused, error, message = REFUSED_BY_THE_EXECUTOR[kind]
    executor = paco.ConcurrentExecutor()
    future = executor.add(work)
    with pytest.raises(error, match=rf"^paco\.ConcurrentExecutor: .*{message}"):
        refused(executor)
    assert (len(executor), executor.is_running(), future.done()) == (1, False, False)
    await executor.run()
    assert future.done()


async def test_the_executor_refuses_one_bad_coroutine_and_closes_the_others():
    with pytest.raises(TypeError, match=r"^paco\.ConcurrentExecutor: coros must be .+, got 5$"):
        paco.ConcurrentExecutor(coros=[work(), 5, work()])


# ---- a function whose result cannot be awaited


def plain(*args):
    return 5


UNAWAITABLE = {
    "map": lambda: paco.map(plain, [1]),
    "map with arguments": lambda: paco.map(plain, [1], 0, None, None, False, 7),
    "each": lambda: paco.each(plain, [1]),
    "filter": lambda: paco.filter(plain, [1]),
    "filterfalse": lambda: paco.filterfalse(plain, [1]),
    "flat_map": lambda: paco.flat_map(plain, [[1]]),
    "dropwhile": lambda: paco.dropwhile(plain, [1]),
    "reduce": lambda: paco.reduce(plain, [1, 2]),
    "some": lambda: paco.some(plain, [1]),
    "every": lambda: paco.every(plain, [1]),
    "repeat": lambda: paco.repeat(plain),
    "gather": lambda: paco.gather(plain),
    "series": lambda: paco.series(plain),
    "wait": lambda: paco.wait(plain),
    "race": lambda: paco.race([plain]),
    "whilst": lambda: paco.whilst(plain, paco.constant(True)),
    "whilst's test": lambda: paco.whilst(work, plain),
    "until": lambda: paco.until(plain, paco.constant(False)),
    "until's test": lambda: paco.until(work, plain),
    "interval": paco.interval(plain),
    "timeout": paco.timeout(plain, 1),
    "throttle": paco.throttle(plain),
    "defer": paco.defer(plain),
    "once": paco.once(plain),
    "times": paco.times(plain),
    "apply": paco.apply(plain),
    "partial": paco.partial(plain),
    "thunk": paco.thunk(plain),
    "compose": paco.compose(plain, work),
}


@pytest.mark.parametrize("name", UNAWAITABLE)
async def test_the_error_for_a_sync_function_names_it_and_says_what_to_do(name):
    with pytest.raises(TypeError) as caught:
        await UNAWAITABLE[name]()
    message = str(caught.value)
    operation = name.partition(" ")[0].partition("'")[0]
    assert message.startswith(f"paco.{operation}: plain must be a coroutine function")
    assert "paco.wraps(plain)" in message
    assert "paco.threaded(plain)" in message


async def test_the_error_of_the_executor_for_a_sync_function_says_what_to_do():
    executor = paco.ConcurrentExecutor()
    future = executor.add(plain)
    await executor.run()
    message = str(future.exception())
    assert message.startswith("paco.ConcurrentExecutor: plain must be a coroutine function")
    assert "paco.wraps(plain)" in message
    assert "paco.threaded(plain)" in message


# ---- and what is not refused

CALLABLE = {
    "async def": lambda: work,
    "method": lambda: Work().method,
    "object": Work,
    "partial": lambda: functools.partial(work, 1),
    "partial of a partial": lambda: functools.partial(functools.partial(Work(), 1), 2),
    "lambda": lambda: lambda *args, **kw: work(1),
    "lambda that returns a future": lambda: lambda *args, **kw: asyncio.ensure_future(work()),
    "wraps": lambda: paco.wraps(lambda *args, **kw: None),
    "class of awaitables": lambda: Awaitable,
}


class Awaitable:
    """Its objects can be awaited."""

    def __init__(self, *args, **kw):
        pass

    def __await__(self):
        return work().__await__()


@pytest.mark.parametrize("kind", CALLABLE)
async def test_any_callable_that_returns_an_awaitable_is_a_coroutine_function(kind):
    for name in FUNCTIONS:
        if "coro" in parameters(name) and name not in {"run", "whilst", "until", "interval"}:
            result = call(name, CALLABLE[kind](), [1, 2])
            await (result if inspect.isawaitable(result) else result())


class OldSequence:
    """Iterable by the protocol from before ``__iter__``."""

    def __getitem__(self, index):
        return [1, 2][index]


async def later(value):
    return value


TAKEN = {
    "list": lambda: [1, 2],
    "tuple": lambda: (1, 2),
    "dict": lambda: {1: "a", 2: "b"},
    "iterator": lambda: iter([1, 2]),
    "generator": lambda: (number for number in (1, 2)),
    "sequence of old": OldSequence,
    "async iterator": lambda: AsyncSource([1, 2]),
    "async generator": lambda: AsyncSource([1, 2]).generator(),
    "awaitable of a list": lambda: later([1, 2]),
    "awaitable of an async generator": lambda: later(AsyncSource([1, 2]).generator()),
    "future of a list": lambda: asyncio.ensure_future(later([1, 2])),
    "stream": lambda: paco.map(later, [1, 2]),
}


@pytest.mark.parametrize("name", STAGED)
async def test_any_iterable_async_iterable_or_awaitable_of_one_is_accepted(name):
    expected = {"dropwhile": [2], "filterfalse": [], "each": None, "reduce": 3, "some": True, "every": True}
    fns = {"reduce": lambda total, number: later(total + number), "dropwhile": lambda number: later(number < 2)}
    fn = fns.get(name, later)
    for kind, make in TAKEN.items():
        assert await getattr(paco, name)(fn, make()) == expected.get(name, [1, 2]), kind
        assert await (make() | getattr(paco, name)(fn)) == expected.get(name, [1, 2]), kind


CONTESTANTS = {
    "list": lambda one: [one],
    "tuple": lambda one: (one,),
    "iterator": lambda one: iter([one]),
    "generator": lambda one: (each for each in [one]),
    "async iterator": lambda one: AsyncSource([one]),
    "async generator": lambda one: AsyncSource([one]).generator(),
}


@pytest.mark.parametrize("kind", CONTESTANTS)
async def test_the_runners_of_a_race_may_come_from_any_iterable(kind):
    assert await paco.race(CONTESTANTS[kind](paco.constant("first"))) == "first"


@pytest.mark.parametrize("seconds", [0, 0.0, 1, 10**400, math.inf, None], ids=["0", "0.0", "1", "huge", "inf", "None"])
async def test_seconds_are_any_number_of_zero_or_more(seconds):
    if seconds == 0:
        with pytest.raises(TimeoutError):
            await paco.map(later, [1], timeout=seconds)
    else:
        assert await paco.map(later, [1], timeout=seconds) == [1]


# ---- arguments for another parameter than the caller means


async def takes_anything(item=None, **kw):
    return item, kw


FLAGS = {
    "map": (lambda flag: paco.map(work, [1], 0, None, None, flag), "return_exceptions"),
    "each": (lambda flag: paco.each(work, [1], return_exceptions=flag), "return_exceptions"),
    "each, collect": (lambda flag: paco.each(work, [1], 0, None, flag), "collect"),
    "flat_map": (lambda flag: paco.flat_map(work, [1], return_exceptions=flag), "return_exceptions"),
    "a stage": (lambda flag: paco.map(work, return_exceptions=flag), "return_exceptions"),
    "gather": (lambda flag: paco.gather(work(1), return_exceptions=flag), "return_exceptions"),
    "gather, preserve_order": (lambda flag: paco.gather(work(1), preserve_order=flag), "preserve_order"),
    "series": (lambda flag: paco.series(work(1), return_exceptions=flag), "return_exceptions"),
    "wait": (lambda flag: paco.wait(work(1), return_exceptions=flag), "return_exceptions"),
    "reduce": (lambda flag: paco.reduce(work, [1], flag), "right"),
    "a stage of reduce": (lambda flag: paco.reduce(work, right=flag), "right"),
    "an executor": (lambda flag: paco.ConcurrentExecutor(2, None, None, flag), "ignore_empty"),
    "run": (lambda flag: paco.ConcurrentExecutor(ignore_empty=True).run(None, flag), "return_exceptions"),
    "run, ignore_empty": (lambda flag: paco.ConcurrentExecutor().run(None, None, None, flag), "ignore_empty"),
    "once": (lambda flag: paco.once(work, flag), "raise_exception"),
    "times": (lambda flag: paco.times(work, 2, flag), "raise_exception"),
    "throttle": (lambda flag: paco.throttle(work, 1, 1, None, flag), "raise_exception"),
    "curry": (lambda flag: paco.curry(work, flag), "ignore_kwargs"),
}


@pytest.mark.parametrize("name", FLAGS)
@pytest.mark.parametrize("flag", [100, 0, 1, "FIRST_COMPLETED", [], (0,)])
async def test_a_flag_that_is_no_bool_is_refused_by_its_name(name, flag):
    call, parameter = FLAGS[name]
    with pytest.raises(TypeError, match=rf"^paco\.\w+: {parameter} must be True") as caught:
        call(flag)
    assert f", got {flag!r}" in str(caught.value)


def test_a_flag_that_is_meant_for_the_parameter_next_to_it_says_which():
    with pytest.raises(TypeError, match=r"to pass 10 as initializer, write initializer=10$"):
        paco.reduce(work, [1], 10)
    with pytest.raises(
        TypeError, match=r"to pass 'FIRST_COMPLETED' as return_when, write return_when='FIRST_COMPLETED'"
    ):
        paco.ConcurrentExecutor().run(None, "FIRST_COMPLETED")


TAKING_KEYWORDS = {
    "map": (
        lambda **kw: paco.map(takes_anything, [1], **kw),
        ["limt", "limti", "Limit", "timout", "retun_exceptions"],
    ),
    "a stage": (lambda **kw: paco.map(takes_anything, **kw), ["limt", "iterabel"]),
    "each": (lambda **kw: paco.each(takes_anything, [1], **kw), ["limt", "colect", "time_out"]),
    "flat_map": (lambda **kw: paco.flat_map(takes_anything, [1], **kw), ["limt", "initialiser"]),
    "race": (lambda **kw: paco.race([takes_anything], **kw), ["timeuot"]),
    "race of more": (lambda **kw: paco.race(iter([takes_anything(), takes_anything]), **kw), ["timeuot"]),
    "until": (lambda **kw: paco.until(takes_anything, takes_anything, **kw), ["assert_cor"]),
    "whilst": (lambda **kw: paco.whilst(takes_anything, takes_anything, **kw), ["asert_coro"]),
    "partial": (lambda **kw: paco.map(functools.partial(takes_anything, a=1), [1], **kw), ["limt"]),
    "wrapped": (lambda **kw: paco.map(paco.retry(takes_anything), [1], **kw), ["limt"]),
    "coroutines": (lambda **kw: paco.map(takes_anything, takes_anything(), **kw), ["limt"]),
}


@pytest.mark.parametrize("name", TAKING_KEYWORDS)
async def test_a_keyword_that_looks_like_a_mistyped_parameter_is_refused(name):
    call, keys = TAKING_KEYWORDS[name]
    for key in keys:
        with pytest.raises(TypeError, match=rf"^paco\.\w+: got {key}=5: did you mean [a-z_]+\? If takes_anything"):
            call(**{key: 5})


async def test_a_keyword_that_the_function_names_or_that_resembles_none_reaches_it():
    async def get(item, limt, *, timout=1, **kw):
        return item, limt, timout, kw

    assert await paco.map(get, [1], limt=2, timout=3, size=4, key=5) == [(1, 2, 3, {"size": 4, "key": 5})]
    assert await paco.map(functools.partial(takes_anything, limt=5), [1]) == [(1, {"limt": 5})]

    class Odd:
        __signature__ = "unknown"

        async def __call__(self, item, **kw):
            return item, kw

    assert await paco.map(Odd(), [1], limt=5) == [(1, {"limt": 5})]


async def takes_two(item, /, size, *, key=None):
    return item, size, key


class Client:
    async def get(self, url, timeout=None):
        return url, timeout

    @classmethod
    async def make(cls, url):
        return url


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paco.map(takes_two, [1], limt=5), "map: got limt=5: did you mean limit? takes_two takes size, key"),
        (lambda: paco.map(takes_two, [1], 0, size=5, item=2), "map: got item=2: takes_two takes size, key"),
        (lambda: paco.map(takes_two, limit=1, sise=5), "map: got sise=5: takes_two takes size, key"),
        (lambda: paco.each(Client().get, [1], urls=5), "each: got urls=5: get takes url, timeout"),
        (lambda: paco.each(Client().get, [1], self=5), "each: got self=5: get takes url, timeout"),
        (lambda: paco.each(Client.make, [1], cls=5), "each: got cls=5: make takes url"),
        (lambda: paco.flat_map(takes_two, [1], colour=5), "flat_map: got colour=5: takes_two takes size, key"),
        (lambda: paco.race([nothing], key=5), "race: got key=5: nothing takes no keyword arguments"),
        (lambda: paco.until(takes_two, nothing, sice=1), "until: got sice=1: takes_two takes size, key"),
        (lambda: paco.apply(takes_two, 1, sice=1), "apply: got sice=1: takes_two takes size, key"),
        (lambda: paco.partial(takes_two, 1, sice=1), "partial: got sice=1: takes_two takes size, key"),
        (lambda: paco.curry(takes_two, sice=1), "curry: got sice=1: takes_two takes size, key"),
        (
            lambda: paco.curry(ignore_kwarg=True)(takes_two),
            "curry: got ignore_kwarg=True: did you mean ignore_kwargs? takes_two takes size, key",
        ),
        (
            lambda: paco.ConcurrentExecutor().add(takes_two, 1, sice=1),
            "ConcurrentExecutor: got sice=1: takes_two takes size, key",
        ),
    ],
)
async def test_a_keyword_that_the_function_does_not_take_is_refused_at_the_call(call, message):
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value) == f"paco.{message}"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: paco.map(takes_two, [1], max_at_once=5),
            "map: got max_at_once=5: did you mean limit? takes_two takes",
        ),
        (lambda: paco.each(takes_two, [1], Concurrency=5), "each: got Concurrency=5: did you mean limit? takes_two "),
        (
            lambda: paco.retry(work, retries=3),
            "retry: got retries=3: did you mean attempts (retries + 1)? retry takes",
        ),
        (
            lambda: paco.retry(max_tries=3),
            "retry: got max_tries=3: did you mean attempts? retry takes fn, attempts",
        ),
        (
            lambda: paco.retry(work, exceptions=OSError),
            "retry: got exceptions=<class 'OSError'>: did you mean on? ",
        ),
        (lambda: paco.retry(work, atempts=3), "retry: got atempts=3: did you mean attempts? retry takes"),
        (lambda: paco.throttle(work, other=3), "throttle: got other=3: throttle takes coro, limit, timeframe, "),
    ],
)
async def test_a_keyword_of_another_library_is_refused_with_the_name_here(call, message):
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).startswith(f"paco.{message}")


def a_generator(item):
    yield item


async def an_async_generator(item):
    yield item


def a_plain_one(item):
    return item


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paco.timeout(2, work), "timeout: the function comes first: paco.timeout(work, 2)"),
        (lambda: paco.retry(5, work), "retry: the function comes first: paco.retry(work, 5)"),
        (lambda: paco.defer(0.5, work), "defer: the function comes first: paco.defer(work, 0.5)"),
        (
            lambda: paco.map(work, a_generator),
            "map: iterable must be an iterable, an async ",
        ),
        (
            lambda: paco.batch(3, 2.0),
            "batch: iterable must be an iterable, an async ",
        ),
        (
            lambda: paco.threaded(b"page"),
            "threaded: fn must be a plain function, not an async one, got ",
        ),
        (
            lambda: paco.retry(paco.settle(work)),
            "retry: fn must be able to fail, but paco.settle returns ",
        ),
    ],
)
def test_a_call_that_cannot_mean_what_it_says_is_refused(call, message):
    with pytest.raises(TypeError) as caught:
        call()
    assert str(caught.value).startswith(f"paco.{message}")


def test_where_items_are_missing_the_message_names_the_call_or_the_keyword():
    with pytest.raises(TypeError, match=r"got <function .*; to iterate what it returns, call it: a_gen"):
        paco.map(work, a_generator)
    with pytest.raises(TypeError, match=r"got 2\.0; to deliver a list after some seconds, write within=2\.0$"):
        paco.batch(3, 2.0)
    with pytest.raises(TypeError, match=r"got b'page'; pass the function, not its result$"):
        paco.threaded(b"page")
    with pytest.raises(TypeError, match=r"error of work; write paco\.settle\(paco\.retry\(work\)\)$"):
        paco.retry(paco.settle(work))


@pytest.mark.parametrize(
    ("fn", "remedy"),
    [
        (a_generator, "a_generator is a generator: write `async def`, and `await` for `yield from`"),
        (an_async_generator, "an_async_generator is an async generator: `return` a result instead of `yield`"),
        (a_plain_one, "write it as `async def`, wrap"),
    ],
)
@pytest.mark.parametrize("wrap", [lambda fn: fn, lambda fn: paco.timeout(fn, 5)], ids=["bare", "wrapped"])
async def test_a_function_that_is_not_async_is_refused_with_what_to_write(fn, remedy, wrap):
    with pytest.raises(TypeError, match=re.escape(remedy)):
        await paco.map(wrap(fn), [1])


@pytest.mark.parametrize("wrap", [paco.retry, paco.settle, lambda fn: paco.settle(paco.retry(fn))])
async def test_a_function_that_is_not_async_is_an_error_of_the_program_in_every_wrapper(wrap):
    calls = []
    with pytest.raises(TypeError, match="append must be a coroutine function"):
        await paco.map(wrap(paco.timeout(calls.append, 5)), [1])
    assert calls == [1]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: paco.map(work), "paco.map: a stage has no journal; give it its items first: (items | stage).jo"),
        (
            lambda: paco.map(work, []).drain(),
            "paco.map.drain: a single result has no journal; it belongs to a stream",
        ),
        (
            lambda: paco.each(work, []),
            "paco.each: a single result has no journal; it belongs to a stream, before ",
        ),
    ],
)
def test_an_option_of_a_stream_on_what_is_none_says_where_it_belongs(make, message):
    found = make()
    with pytest.raises(AttributeError) as caught:
        found.journal("run.jsonl")
    assert str(caught.value).startswith(message)
    with pytest.raises(AttributeError, match="has no attribute 'jornal'"):
        found.jornal("run.jsonl")
    getattr(found, "close", int)()  # a stage has none


async def test_a_keyword_of_another_library_reaches_a_function_that_takes_it():
    assert await paco.map(takes_anything, [1], workers=5) == [(1, {"workers": 5})]


async def test_a_keyword_that_a_function_may_take_reaches_it():
    @functools.wraps(takes_two)
    async def any_of_them(*args, **kw):
        return args, kw

    assert await paco.map(any_of_them, [1], other=5) == [((1,), {"other": 5})]
    assert await paco.map(takes_two, [1], size=5, key=6) == [(1, 5, 6)]


async def nothing():
    pass


async def test_filterfalse_takes_its_limit_third():
    probe = Probe(lambda item: item % 2, takes=1)
    assert await paco.filterfalse(probe, range(8), 2) == [0, 2, 4, 6]
    assert (probe.peak, now()) == (2, 4)
