"""Basics: every result arrives in its order, from any source, under the limit."""

from __future__ import annotations

import asyncio
import collections
import functools
import itertools
import random

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, equal, identity, nap, same, took, turns

AREA = Area("basics")
scenario = AREA.scenario


def uneven(item):
    return (item * 7) % 5 + 1


@scenario(forms=FORMS)
async def every_result_arrives(library, run):
    work = Work(uneven)
    same(await run(work.run, list(range(40)), 4), range(40))
    same(work.started, range(40))
    work.settled()


@scenario(forms=["collect", "ordered"])
async def results_come_in_the_order_of_the_items(library, run):
    equal(await run(Work(uneven).run, list(range(40)), 4), list(range(40)))


@scenario(forms=["completed"])
async def results_come_in_the_order_of_completion(library, run):
    equal(await run(Work(lambda item: 10 * item).run, [4, 2, 3, 1], 4), [1, 2, 3, 4])


@scenario(forms=FORMS)
async def no_items_give_no_results(library, run):
    equal(await run(identity, [], 3), [])


@scenario(forms=FORMS)
async def one_item_gives_one_result(library, run):
    equal(await run(identity, [7], 3), [7])


@scenario(forms=FORMS)
async def the_limit_is_reached_and_never_passed(library, run):
    work = Work(uneven)
    await run(work.run, list(range(60)), 5)
    assert work.peak == 5, f"{work.peak} at once instead of 5"


@scenario("collect")
async def a_limit_of_one_runs_one_after_the_other(library):
    work = Work(uneven)
    await library.collect(work.run, list(range(9)), 1)
    assert work.peak == 1
    equal(work.started, list(range(9)))


@scenario("collect")
async def a_limit_above_the_number_of_items_runs_all_at_once(library):
    work = Work(10)
    await library.collect(work.run, list(range(9)), 100)
    assert work.peak == 9


@scenario(forms=FORMS)
async def six_naps_of_ten_at_a_limit_of_two_take_thirty(library, run):
    await run(nap_for, [10] * 6, 2)
    took(30)


async def nap_for(units):
    await nap(units)


@scenario("collect")
async def a_free_slot_is_filled_at_once(library):
    await library.collect(nap_for, [10, *[1] * 10], 2)
    took(10)


@scenario(forms=FORMS)
async def none_is_a_result(library, run):
    async def nothing(item):
        await asyncio.sleep(0)

    equal(await run(nothing, list(range(9)), 3), [None] * 9)


@scenario(forms=FORMS)
async def falsy_items_and_results_are_kept(library, run):
    falsy = [0, "", False, None, [], {}, 0.0]
    same(await run(identity, falsy, 3), falsy)


@scenario("collect")
async def equal_and_unhashable_items_are_kept_apart(library):
    equal(await library.collect(identity, [1, 1, [1], [1], {}, {}], 2), [1, 1, [1], [1], {}, {}])


@scenario(forms=FORMS)
async def an_exception_that_is_returned_is_a_result(library, run):
    values = [ValueError("returned"), StopAsyncIteration(), asyncio.CancelledError()]
    results = await run(identity, values, 2)
    assert {id(result) for result in results} == {id(value) for value in values}


@scenario("collect")
async def coroutine_functions_may_be_methods_partials_and_objects(library):
    class Callable:
        async def __call__(self, item):
            await asyncio.sleep(0)
            return item

    async def two(extra, item):
        await asyncio.sleep(0)
        return item

    for fn in Work().run, functools.partial(two, 1), Callable():
        equal(await library.collect(fn, [1, 2, 3], 2), [1, 2, 3])


@scenario(forms=FORMS)
async def items_that_never_suspend_give_their_results(library, run):
    async def instant(item):
        return item

    same(await run(instant, list(range(3000)), 10), range(3000))


@scenario(forms=FORMS)
async def two_thousand_items_give_two_thousand_results(library, run):
    work = Work(cleanup=0)
    same(await run(work.run, list(range(2000)), 50), range(2000))
    assert work.peak <= 50


@scenario("collect")
async def concurrent_runs_do_not_affect_each_other(library):
    works = [Work(uneven) for _ in range(5)]
    runs = [library.collect(work.run, list(range(20)), limit) for limit, work in enumerate(works, 1)]
    for results in await asyncio.gather(*runs):
        same(results, range(20))
    assert [work.peak for work in works] == [1, 2, 3, 4, 5]


@scenario(forms=FORMS)
async def runs_nest(library, run):
    async def inner(item):
        return sum(await run(identity, list(range(item)), 2))

    async def outer(item):
        return sum(await run(inner, list(range(item)), 1))

    same(await run(outer, list(range(7)), 2), [sum(sum(range(i)) for i in range(n)) for n in range(7)])


@scenario("collect")
def the_same_function_runs_in_one_loop_after_another(library, lane):
    async def main():
        same(await library.collect(identity, [1, 2, 3], 2), [1, 2, 3])

    for _ in range(3):
        lane.run(main)


@scenario(forms=FORMS)
def a_run_in_debug_mode_gives_its_results_without_warnings(library, lane, run):
    work = Work()

    async def main():
        same(await run(work.run, list(range(30)), 3), range(30))

    lane.run(main, debug=True)
    work.settled()


# ---- sources

SOURCES = {
    "tuple": lambda: tuple(range(9)),
    "range": lambda: range(9),
    "dict": lambda: dict.fromkeys(range(9)),
    "deque": lambda: collections.deque(range(9)),
    "iterator": lambda: iter(range(9)),
    "generator": lambda: (item for item in range(9)),
}


async def later(items, steps=1):
    for item in items:
        await turns(steps)
        yield item


class AsyncIterator:
    def __init__(self, items):
        self.items = iter(items)

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        for item in self.items:
            return item
        raise StopAsyncIteration


@scenario("collect", cases=SOURCES)
async def the_source_may_be_any_iterable(library, make):
    same(await library.collect(identity, make(), 3), range(9))


@scenario("reads_async", forms=FORMS, cases={"async generator": later, "async iterator": AsyncIterator})
async def the_source_may_be_async(library, run, make):
    same(await run(identity, make(range(9)), 3), range(9))


@scenario("lazy", forms=["ordered", "completed"])
async def an_infinite_source_is_left_after_enough_results(library, run):
    results = await first(library.ordered or library.completed, itertools.count(), 20)
    same(results, range(20))


@scenario("lazy", "reads_async", "stream")
async def an_infinite_async_source_is_left_after_enough_results(library):
    same(await first(library.stream, later(itertools.count()), 20), range(20))


async def first(stream, source, count):
    results = []
    async with stream(identity, source, 3) as items:
        async for item in items:
            results.append(item)
            if len(results) == count:
                break
    return results


@scenario("lazy", "stream")
async def a_source_is_read_lazily(library):
    pulled = 0

    def source():
        nonlocal pulled
        while pulled < 10_000:
            pulled += 1
            yield pulled

    async with library.stream(identity, source(), 3) as items:
        async for _ in items:
            break
        assert pulled < 100, f"{pulled} items read for the first result at a limit of 3"


@scenario("collect")
async def the_order_holds_for_random_durations(library):
    chance = random.Random(1)  # noqa: S311 - repeatable, not secret
    durations = [chance.randrange(6) for _ in range(200)]

    async def work(index):
        await turns(durations[index])
        return index

    equal(await library.collect(work, list(range(200)), 7), list(range(200)))
