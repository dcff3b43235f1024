"""Functions over items whose source fails at any item, hangs, or is nested: it is closed, and its error is raised."""

from __future__ import annotations

import asyncio
import inspect
import itertools

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now

ITEMS = 4


async def add(total, item):
    return total + item


async def collected(stream):
    async with stream as results:
        return [result async for result in results]


FUNCTIONS = {
    "map": lambda probe, source: paco.map(probe, source, limit=2),
    "map as completed": lambda probe, source: collected(paco.map(probe, source, limit=2).as_completed()),
    "each": lambda probe, source: paco.each(probe, source, limit=2),
    "filter": lambda probe, source: paco.filter(probe, source, limit=2),
    "filterfalse": lambda probe, source: paco.filterfalse(probe, source, limit=2),
    "flat_map": lambda probe, source: paco.flat_map(probe, source, limit=2),
    "dropwhile": paco.dropwhile,
    "reduce": lambda probe, source: paco.reduce(lambda _, item: probe(item), source, initializer=0),
    "reduce from the right": lambda probe, source: paco.reduce(lambda _, item: probe(item), source, True, 0),
    "some": lambda probe, source: paco.some(lambda item: negated(probe(item)), source, limit=2),
    "every": lambda probe, source: paco.every(probe, source, limit=2),
    "race": lambda probe, source: paco.race(paco.map(paco.constant(probe), source), None, None, 9),
    "pipeline": lambda probe, source: (
        source | paco.map(probe, limit=2) | paco.filter(paco.constant(1)) | paco.each(probe)
    ),
    "nested runs": lambda probe, source: paco.map(probe, paco.map(probe, paco.filter(paco.constant(1), source))),
}


async def negated(awaitable):
    return not await awaitable


KINDS = {
    "generator": lambda count, error: (source := Source(range(1, count + 1), error=error), source.generator()),
    "async generator": lambda count, error: (
        source := AsyncSource(range(1, count + 1), error=error),
        source.generator(),
    ),
    "slow async generator": lambda count, error: (
        source := AsyncSource(range(1, count + 1), error=error, delay=1),
        source.generator(),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "race"])
async def test_the_error_of_a_source_at_any_item_is_raised_unchanged_after_all_has_ended(name, kind):
    for count in range(ITEMS):
        error = ValueError(count)
        source, items = KINDS[kind](count, error)
        probe = Probe(lambda item: item, takes=0.5)
        with pytest.raises(ValueError, match=str(count)) as caught:
            await FUNCTIONS[name](probe, items)
        assert caught.value is error
        assert source.closed
        assert source.pulled == count
        assert probe.running == 0
        assert not probe.failed


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in {"race", "reduce from the right"}])
async def test_an_error_of_a_source_does_not_wait_for_an_item_that_hangs(name, kind):
    source, items = KINDS[kind](2, ValueError("source"))
    probe = Probe(lambda item: item, takes=lambda item: 1000 if item == 2 else 0.5, cleanup=3)
    one_at_a_time = name in {"dropwhile", "reduce"}  # the source is read only after the item
    with pytest.raises(ValueError, match="source"):
        await FUNCTIONS[name](probe, items)
    assert source.closed
    assert probe.running == 0
    assert (2 in probe.finished) is one_at_a_time
    assert (now() > 1000) is one_at_a_time


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_a_hanging_source_is_cancelled_by_a_timeout_and_closed(name):
    ended = []

    async def hangs():
        try:
            yield 1
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(3)
            ended.append(now())

    probe = Probe(lambda item: item, takes=5000 if name == "race" else 0.5)
    with pytest.raises(TimeoutError):
        await paco.timeout(run(FUNCTIONS[name](probe, hangs())), 10)
    assert ended == [13]
    assert now() == 13
    assert probe.running == 0


async def run(awaitable):
    return await awaitable


# ---- flat_map


class Tree:
    """Nested generators that count how many of them are open."""

    def __init__(self, depth, width, failing=None):
        self.depth, self.width, self.failing = depth, width, failing
        self.open = self.made = 0

    def walk(self, depth=0):
        self.open += 1
        try:
            for _ in range(self.width):
                if depth + 1 < self.depth:
                    yield self.walk(depth + 1)
                else:
                    if self.made == self.failing:
                        raise ValueError(self.made)
                    self.made += 1
                    yield self.made - 1
        finally:
            self.open -= 1


@pytest.mark.parametrize("depth", [1, 2, 3])
async def test_flat_map_over_nested_generators_closes_each_after_any_failure(depth):
    leaves = 2**depth
    probe = Probe(lambda item: item)
    assert await paco.flat_map(probe, Tree(depth, 2).walk(), limit=2) == list(range(leaves))
    for failing, limit in itertools.product(range(leaves), (1, 2, 0)):

        def judge(leaf, failing=failing):
            if leaf == failing:
                raise KeyError(leaf)
            return leaf

        for tree, fn, error in (
            (Tree(depth, 2), Probe(judge), KeyError),
            (Tree(depth, 2, failing), Probe(lambda leaf: leaf), ValueError),
        ):
            with pytest.raises(error, match=str(failing)):
                await paco.flat_map(fn, tree.walk(), limit)
            assert (tree.open, fn.running) == (0, 0)
            assert tree.made <= failing + (limit or leaves) + 1


@pytest.mark.parametrize("taken", range(5))
async def test_a_flat_map_that_is_left_early_closes_open_generators_and_creates_no_more(taken):
    tree, probe = Tree(3, 2), Probe(lambda leaf: leaf)
    async with paco.flat_map(probe, tree.walk(), limit=2) as results:
        for number in range(taken):
            assert await anext(results) == number
    assert (tree.open, probe.running) == (0, 0)
    assert tree.made <= taken + 2 * 2


@pytest.mark.parametrize("again", [None, 1])
@pytest.mark.parametrize("kind", ["sync", "async"])
def test_flat_map_over_nested_generators_closes_them_if_cancelled_at_any_step(kind, again, cancel_at_every_step):
    async def asynchronous(tree):
        for branch in tree.walk():
            yield branch
            await asyncio.sleep(0)

    async def main():
        tree = Tree(3, 2)
        walk = tree.walk()
        source = walk if kind == "sync" else asynchronous(tree)
        try:
            await paco.flat_map(Probe(lambda leaf: leaf), source, limit=2)
        finally:
            # The outermost async generator belongs to the test, and is closed with its frame.
            assert tree.open <= (kind == "async") or inspect.getgeneratorstate(walk) == inspect.GEN_CREATED

    assert cancel_at_every_step(main, again=again) > 8


async def test_flat_map_with_return_exceptions_keeps_them_in_the_place_of_their_items():
    async def half(leaf):
        await asyncio.sleep(3 - leaf)
        return 1 / leaf

    results = await paco.flat_map(
        half, [[1, [0]], [], [[2, [0]]]], limit=3, return_exceptions=True, initializer=["head"]
    )
    assert [result if isinstance(result, float | str) else type(result) for result in results] == [
        "head",
        1,
        ZeroDivisionError,
        0.5,
        ZeroDivisionError,
    ]
