"""The functions over items: map each filter filterfalse flat_map dropwhile reduce some every repeat."""

from __future__ import annotations

import asyncio
import functools
import itertools
import operator

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now


async def double(item):
    return 2 * item


async def add(total, item):
    return total + item


async def with_more(item, extra, *, key):
    return item, extra, key


class Callable:
    async def __call__(self, item):
        return 2 * item

    async def method(self, item):
        return 2 * item


@pytest.mark.parametrize(
    "coro",
    [double, Callable(), Callable().method, functools.partial(add, 1), lambda item: add(item, item)],
    ids=["function", "object", "method", "partial", "lambda"],
)
async def test_any_callable_that_returns_an_awaitable_is_accepted(coro):
    assert await paco.map(coro, [1]) == [2]


async def test_a_future_is_awaitable_too():
    loop = asyncio.get_running_loop()

    def later(item):
        future = loop.create_future()
        loop.call_later(1, future.set_result, 2 * item)
        return future

    assert await paco.map(later, [1, 2]) == [2, 4]


async def test_further_arguments_go_to_the_function_after_the_item():
    want = [(1, "x", "y")]
    assert await paco.map(with_more, [1], 0, None, None, False, "x", key="y") == want
    assert await paco.each(with_more, [1], 0, None, True, None, False, "x", key="y") == want
    assert await paco.flat_map(with_more, [[1]], 0, None, None, False, None, "x", key="y") == want
    assert await ([1] | paco.map(with_more, extra="x", key="y")) == want


async def test_no_result_is_dropped_because_of_its_value():
    values = [None, 0, "", False, [], ValueError("a value")]

    async def same(item):
        return item

    assert await paco.map(same, values) == values
    assert [value async for value in paco.map(same, values)] == values
    assert await paco.filter(lambda item: double(1), values) == values


async def test_results_that_cannot_be_compared_are_kept():
    class Incomparable:
        def __eq__(self, other):
            raise RuntimeError("not comparable")

        __hash__ = None

    values = [Incomparable() for _ in range(3)]

    async def true(item):
        return True

    assert [id(value) for value in await paco.filter(true, values)] == [id(value) for value in values]
    assert [id(value) for value in await paco.map(Probe(lambda item: item), values)] == [id(value) for value in values]


async def test_each_returns_none_and_collects_when_asked():
    probe = Probe(lambda item: item)
    assert await paco.each(probe, range(10), limit=2) is None
    assert probe.finished == list(range(10))
    assert await paco.each(probe, range(10), limit=2, collect=True) == list(range(10))


async def test_each_continues_after_exceptions_on_request():
    probe = Probe(lambda item: 1 // item)
    assert await paco.each(probe, [1, 0, 2], return_exceptions=True) is None
    assert probe.started == [1, 0, 2]
    first, second, third = await paco.each(probe, [1, 0, 2], return_exceptions=True, collect=True)
    assert (first, type(second), third) == (1, ZeroDivisionError, 0)


@pytest.mark.parametrize("judge", [None, bool, Callable()], ids=["none", "sync", "async"])
@pytest.mark.parametrize("limit", [0, 1, 3])
async def test_filter_and_filterfalse_are_complements_and_keep_the_order(judge, limit):
    items = [0, 1, "", "a", None, 2.5, []]

    async def verdict(item):
        await asyncio.sleep(0 if item else 1)
        return int(bool(item))

    for source in items, Source(items).generator(), AsyncSource(items):
        assert await paco.filter(verdict, source, judge, limit) == [1, "a", 2.5]
    for source in items, Source(items).generator(), AsyncSource(items):
        assert await paco.filterfalse(verdict, source, limit, None, judge) == [0, "", None, []]
    assert [item async for item in paco.filter(verdict, items, judge, limit)] == [1, "a", 2.5]
    assert [item async for item in paco.filterfalse(verdict, items, limit, None, judge)] == [0, "", None, []]


async def test_filter_keeps_items_by_assert_fn_of_the_result():
    assert await paco.filter(double, [1, 2, 3], lambda result: result == 4) == [2]


async def test_a_verdict_without_a_truth_value_is_an_error_of_the_item():
    class Neither:
        def __bool__(self):
            raise ValueError("neither")

    async def verdict(item):
        return Neither()

    with pytest.raises(ValueError, match="neither"):
        await paco.filter(verdict, [1])
    with pytest.raises(ValueError, match="neither"):
        await paco.some(verdict, [1])


async def test_flat_map_walks_nested_iterables_depth_first():
    nested = [1, [2, (3, {4: None}), []], iter([5, [[[[6]]]]]), "text", b"bytes", {7}]
    assert await paco.flat_map(Probe(lambda item: item), nested) == [1, 2, 3, 4, 5, 6, "text", b"bytes", 7]


async def test_flat_map_is_lazy_and_closes_generators_that_it_leaves():
    inner, outer = Source(itertools.count()), Source([])
    generators = [inner.generator()]

    def source():
        try:
            yield generators[0]
        finally:
            outer.closed = True

    async with paco.flat_map(double, source(), limit=2) as results:
        assert await anext(results) == 0
        await asyncio.sleep(1)
        assert inner.pulled <= 5
    assert inner.closed
    assert outer.closed


async def test_flat_map_accepts_async_sources_and_awaitables_of_nested_iterables():
    async def rows():
        return [[1], [[2]]]

    assert await paco.flat_map(double, AsyncSource([[1, [2]], 3])) == [2, 4, 6]
    assert await paco.flat_map(double, rows()) == [2, 4]
    assert await paco.flat_map(double, paco.map(Probe(lambda item: [item]), [1, 2])) == [2, 4]


async def test_the_results_of_flat_map_begin_with_its_initializer():
    assert await paco.flat_map(double, [[1], 2], initializer=["a", "b"]) == ["a", "b", 2, 4]
    assert [item async for item in paco.flat_map(double, [[1], 2], 1, initializer=range(9))] == [*range(9), 2, 4]
    assert await paco.flat_map(double, [[1], 2], initializer=["a"]).as_completed() == ["a", 2, 4]

    async def fail(item):
        raise ValueError(item)

    with pytest.raises(ValueError, match="7") as caught:
        await paco.flat_map(fail, [[7]], initializer=[1, 2])
    assert caught.value.__notes__ == ["paco.flat_map: item 0: 7"]


async def test_flat_map_of_a_leaf_that_cannot_be_iterated_is_an_error_of_the_source():
    class Broken:
        def __iter__(self):
            raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        await paco.flat_map(double, [1, Broken()])


@pytest.mark.parametrize("numbers", [[], [1, 1], [1, 9, 1], [9, 1], [1, 2, 3, 4, 5, 1]])
async def test_dropwhile_agrees_with_itertools(numbers):
    probe = Probe(lambda number: number < 4, takes=1)
    want = list(itertools.dropwhile(lambda number: number < 4, numbers))
    for source in numbers, AsyncSource(numbers):
        assert await paco.dropwhile(probe, source) == want
    assert [number async for number in paco.dropwhile(probe, numbers)] == want


async def test_dropwhile_tests_one_item_at_a_time_and_not_after_the_first_false():
    probe = Probe(lambda number: number < 3, takes=1)
    await paco.dropwhile(probe, [1, 2, 3, 1, 1])
    assert probe.started == [1, 2, 3]
    assert probe.peak == 1


async def test_reduce_agrees_with_functools():
    for numbers in [1], [1, 2], [3, 1, 2]:
        assert await paco.reduce(Probe2(operator.sub), numbers) == functools.reduce(operator.sub, numbers)
        assert await paco.reduce(Probe2(operator.sub), numbers, initializer=10) == functools.reduce(
            operator.sub, numbers, 10
        )
        assert await paco.reduce(Probe2(operator.sub), AsyncSource(numbers)) == functools.reduce(operator.sub, numbers)
    assert await paco.reduce(add, [], initializer=None) is None
    with pytest.raises(TypeError, match=r"paco\.reduce: .* empty"):
        await paco.reduce(add, [])
    with pytest.raises(TypeError, match=r"paco\.reduce: .* empty"):
        await paco.reduce(add, [], right=True)


class Probe2:
    """An async function of two arguments."""

    def __init__(self, fn):
        self.fn = fn

    async def __call__(self, first, second):
        await asyncio.sleep(1)
        return self.fn(first, second)


async def test_reduce_from_the_right_first_reads_the_whole_source():
    assert await paco.reduce(add, ["a", "b", "c"], right=True) == "cba"
    assert await paco.reduce(add, AsyncSource("abc"), True, "x") == "xcba"
    source = Source("abc")

    async def check(total, item):
        assert source.ended
        return total + item

    assert await paco.reduce(check, source, right=True) == "cba"


async def test_the_first_true_result_decides_some_and_the_other_items_are_cancelled_and_awaited():
    probe = Probe(lambda item: item == 2, takes=lambda item: item, cleanup=5)
    assert await paco.some(probe, range(1, 10)) is True
    assert now() == 7
    assert probe.running == 0
    assert await paco.some(probe, [1, 3]) is False
    assert await paco.some(probe, []) is False


async def test_some_stops_pulling_an_endless_source():
    source = AsyncSource(itertools.count())
    assert await paco.some(double, source.generator(), limit=3)
    assert source.closed
    with pytest.raises(TimeoutError):
        await paco.some(Probe(lambda item: False, takes=1), itertools.count(), limit=3, timeout=10)


async def test_the_first_false_result_decides_every_and_the_other_items_are_cancelled_and_awaited():
    probe = Probe(lambda item: item != 2, takes=lambda item: item, cleanup=5)
    assert await paco.every(probe, range(1, 10), limit=0) is False
    assert now() == 7
    assert probe.running == 0
    assert await paco.every(probe, [1, 3]) is True
    assert probe.peak == 9
    assert await paco.every(probe, []) is True


async def test_every_runs_one_item_at_a_time_by_default():
    probe = Probe(lambda item: item < 2)
    assert await paco.every(probe, range(5)) is False
    assert probe.started == [0, 1, 2]


async def test_an_error_before_a_decision_is_raised():
    async def fail(item):
        await asyncio.sleep(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        await paco.some(fail, [3, 2, 1])
    with pytest.raises(ValueError, match="3"):
        await paco.every(fail, [3, 2, 1])


async def test_repeat_calls_with_the_numbers_of_a_range():
    probe = Probe(lambda number: number, takes=1)
    assert await paco.repeat(probe) == [1]
    assert await paco.repeat(probe, 5) == [1, 2, 3, 4, 5]
    assert probe.peak == 1
    assert await paco.repeat(probe, 9, 3, limit=2) == [1, 4, 7]
    assert [number async for number in paco.repeat(probe, 3)] == [1, 2, 3]
