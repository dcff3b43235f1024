"""Contexts: items see the context variables of their caller, and none of other items."""

from __future__ import annotations

import asyncio
import contextvars

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Work, equal, same, turns

AREA = Area("contexts")
scenario = AREA.scenario

VAR = contextvars.ContextVar("VAR", default="unset")


@scenario(forms=FORMS)
async def an_item_sees_the_variables_of_its_caller(library, run):
    VAR.set("caller")

    async def look(item):
        await turns(1)
        return VAR.get()

    equal(await run(look, list(range(9)), 3), ["caller"] * 9)


@scenario(forms=FORMS)
async def a_variable_set_by_an_item_is_invisible_to_other_items(library, run):
    async def mark(item):
        seen = VAR.get()
        VAR.set(item)
        await turns(item % 3)
        assert VAR.get() == item
        return seen

    equal(await run(mark, list(range(30)), 3), ["unset"] * 30)


@scenario(forms=FORMS)
async def a_variable_set_by_an_item_is_invisible_to_the_caller(library, run):
    async def mark(item):
        VAR.set(item)
        return item

    await run(mark, list(range(9)), 3)
    assert VAR.get() == "unset"


@scenario("reads_async", "collect")
async def a_variable_set_by_an_async_source_is_invisible_to_items_and_caller(library):
    async def source():
        for item in range(9):
            VAR.set("source")
            await asyncio.sleep(0)
            yield item

    async def look(item):
        await turns(1)
        return VAR.get()

    equal(await library.collect(look, source(), 3), ["unset"] * 9)
    assert VAR.get() == "unset"


@scenario("collect")
async def nested_runs_see_the_variables_of_the_outer_item(library):
    async def inner(item):
        await turns(1)
        return VAR.get()

    async def outer(item):
        VAR.set(item)
        return await library.collect(inner, [1, 2], 2)

    equal(sorted(await library.collect(outer, list(range(4)), 2)), [[0, 0], [1, 1], [2, 2], [3, 3]])


@scenario("collect")
async def a_variable_set_in_cleanup_is_invisible_to_other_items(library):
    seen = []

    async def mark(item):
        seen.append(VAR.get())
        try:
            await turns(1)
        finally:
            VAR.set(item)
        return item

    same(await library.collect(mark, list(range(9)), 1), range(9))
    equal(seen, ["unset"] * 9)


@scenario("collect")
async def a_task_name_set_by_an_item_is_invisible_to_other_items(library):
    names = []

    async def rename(item):
        names.append(asyncio.current_task().get_name())
        await turns(1)
        asyncio.current_task().set_name("mine")
        return item

    same(await library.collect(rename, list(range(9)), 2), range(9))
    assert "mine" not in names


@scenario("collect")
async def context_values_that_cannot_be_compared_are_harmless(library):
    class Incomparable:
        def __eq__(self, other):
            raise RuntimeError("not comparable")

        __hash__ = None

    async def mark(item):
        VAR.set(Incomparable())
        await turns(1)
        return item

    VAR.set(Incomparable())
    same(await library.collect(mark, list(range(9)), 2), range(9))


@scenario("collect")
async def a_run_with_work_that_sets_variables_can_be_cancelled(library):
    work = Work(10)

    async def mark(item):
        VAR.set(item)
        return await work.run(item)

    async def main():
        return await library.collect(mark, list(range(9)), 3)

    task = asyncio.ensure_future(main())
    await turns(5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    work.settled()
