"""Errors: the first error is raised unchanged, at once, after everything else has ended, whatever its kind."""

from __future__ import annotations

import asyncio
import traceback

from tests.torture.kit import FORMS, Area
from tests.torture.tools import (
    Points,
    Work,
    are,
    caught,
    describe,
    equal,
    identity,
    is_it,
    leaves,
    nap,
    same,
    turns,
    virtual,
)

AREA = Area("errors")
scenario = AREA.scenario


class OwnBaseException(BaseException):
    pass


@scenario(forms=FORMS)
def an_error_at_any_step_of_any_item_arrives_after_all_have_ended(library, lane, run):
    points = Points()

    async def once(item, step):
        mine = ValueError(item, step)
        work = Work(raises={item: mine}, at=step)
        is_it(await caught(run(work.run, list(range(8)), 3)), mine)
        work.settled()

    for item in range(8):
        for step in range(5):
            points.attempt(lambda item=item, step=step: lane.run(lambda: once(item, step)), f"item {item}, step {step}")
    points.judge()


@scenario(forms=FORMS)
async def the_first_error_in_time_arrives(library, run):
    errors = {item: ValueError(item) for item in range(6)}
    work = Work(lambda item: 30 - 5 * item, raises=errors)
    is_it(await caught(run(work.run, list(range(6)), 6)), errors[5])
    work.settled()


@scenario("collect")
async def of_a_hundred_errors_in_one_step_one_arrives_and_none_is_reported_as_lost(library):
    errors = {item: ValueError(item) for item in range(100)}
    error = await caught(library.collect(Work(1, raises=errors).run, list(range(100)), 100))
    assert {id(one) for one in leaves(error)} <= {id(one) for one in errors.values()}, describe(error)


@scenario(forms=FORMS)
async def the_other_items_are_cancelled_and_clean_up_before_the_error_arrives(library, run):
    mine = ValueError("mine")
    work = Work(lambda item: 1 if item == 2 else 100, cleanup=10, raises={2: mine})
    is_it(await caught(run(work.run, list(range(9)), 4)), mine)
    work.settled()
    assert set(work.cancelled) >= {0, 1, 3}, work.cancelled


@scenario(forms=FORMS)
async def cleanup_that_takes_time_is_waited_for(library, run):
    cleaned = []

    async def work(item):
        try:
            await nap(1 if item == 2 else 100)
            raise ValueError(item)
        finally:
            await nap(20)
            cleaned.append(item)

    error = await caught(run(work, [0, 1, 2, 3, 4], 3))
    assert set(cleaned) >= {0, 1, 2}, f"only {cleaned} completed their cleanup"
    are(error, ValueError)


@scenario("collect")
async def nothing_is_started_after_an_error(library):
    work = Work(lambda item: 1 if item == 2 else 100, raises={2: ValueError()})
    await caught(library.collect(work.run, list(range(50)), 3))
    same(work.started, [0, 1, 2])
    await turns(5)
    same(work.started, [0, 1, 2])


@scenario(forms=FORMS)
async def an_error_is_not_held_back_by_a_slow_item_before_it(library, run):
    mine = ValueError("mine")
    work = Work(lambda item: 200 if item == 0 else 1, raises={1: mine})
    is_it(await caught(run(work.run, list(range(9)), 3)), mine)
    assert 0 not in work.finished, "the error was delayed until an earlier slow item had ended"


@scenario("stream")
async def a_slow_consumer_gets_the_error_too(library):
    mine = ValueError("mine")

    async def consume():
        async with library.stream(Work(1, raises={7: mine}).run, list(range(20)), 3) as items:
            async for _ in items:
                await nap(5)

    is_it(await caught(consume()), mine)


@scenario("stream")
async def after_an_error_a_stream_has_ended(library):
    mine = ValueError("mine")

    async def consume():
        async with library.stream(Work(raises={2: mine}).run, list(range(9)), 3) as items:
            iterator = aiter(items)
            error = await caught(read(iterator))
            again = await caught(anext(iterator))
            assert isinstance(again, Exception), describe(again)
            raise error

    error = await caught(consume())
    assert isinstance(error, Exception), describe(error)


async def read(iterator):
    return [item async for item in iterator]


# ---- kinds of errors


@scenario(forms=FORMS, cases={kind.__name__: kind for kind in [StopIteration, StopAsyncIteration, GeneratorExit]})
async def an_exception_that_ends_iteration_is_never_a_missing_result(library, run, kind):
    work = Work(raises={4: kind("mine")})
    await caught(run(work.run, list(range(9)), 3))
    work.settled()


@scenario(forms=FORMS)
async def a_base_exception_arrives_unchanged(library, run):
    mine = OwnBaseException("mine")
    work = Work(raises={4: mine})
    is_it(await caught(run(work.run, list(range(9)), 3)), mine)
    work.settled()


@scenario("collect", cases={"KeyboardInterrupt": KeyboardInterrupt, "SystemExit": SystemExit})
def an_interrupt_is_raised_after_all_has_ended(library, lane, kind):
    work = Work(lambda item: 1 if item == 1 else 100, raises={1: kind("mine")})
    try:
        lane.run(lambda: library.collect(work.run, list(range(9)), 3))
    except kind as error:
        notes = getattr(error, "__notes__", [])
        assert not any("left behind" in note for note in notes), notes
    else:
        raise AssertionError("the exception was swallowed")
    work.settled()


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("no str")

    __repr__ = __str__


class BadEq(Exception):
    def __eq__(self, other):
        raise RuntimeError("not comparable")

    __hash__ = None


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError("frozen")

    def add_note(self, note):
        raise RuntimeError("no notes")


class BadNotes(Exception):
    def __init__(self, *args):
        super().__init__(*args)
        self.__notes__ = 5


class Falsy(Exception):
    def __bool__(self):
        return False

    def __len__(self):
        return 0


class NeedsArguments(Exception):
    def __init__(self, one, *, two):
        super().__init__()


HOSTILE = {
    "bad str": lambda: BadStr("mine"),
    "bad eq": lambda: BadEq("mine"),
    "frozen": lambda: Frozen("mine"),
    "bad notes": lambda: BadNotes("mine"),
    "falsy": lambda: Falsy("mine"),
    "needs arguments": lambda: NeedsArguments(1, two=2),
    "a group": lambda: ExceptionGroup("mine", [ValueError(1), ValueError(2)]),
}


@scenario("collect", cases=HOSTILE)
async def an_exception_with_a_failing_repr_arrives_unchanged(library, make):
    mine = make()
    work = Work(raises={2: mine})
    is_it(await caught(library.collect(work.run, list(range(9)), 3)), mine)
    work.settled()


@scenario("collect")
async def an_exception_that_several_items_share_arrives_unchanged(library):
    mine = ValueError("shared")
    work = Work(1, raises=dict.fromkeys(range(9), mine))
    error = await caught(library.collect(work.run, list(range(9)), 3))
    assert all(one is mine for one in leaves(error)), describe(error)


@scenario("collect")
async def the_cause_of_an_error_is_left_as_it_was(library):
    mine, cause = ValueError("mine"), KeyError("cause")

    async def work(item):
        await asyncio.sleep(0)
        raise mine from cause

    is_it(await caught(library.collect(work, [1], 3)), mine)
    assert mine.__cause__ is cause
    assert mine.__suppress_context__


@scenario("collect")
async def the_traceback_leads_to_the_line_that_raised(library):
    async def the_one_that_raises(item):
        await asyncio.sleep(0)
        raise ValueError(item)

    error = await caught(library.collect(the_one_that_raises, [1], 3))
    [error] = leaves(error)
    assert "the_one_that_raises" in [frame.name for frame in traceback.extract_tb(error.__traceback__)]


# ---- items that do not end as they should


@scenario(forms=FORMS)
async def an_item_that_ignores_its_cancellation_holds_the_error_until_it_ends(library, run):
    mine, ended = ValueError("mine"), []

    async def work(item):
        if item == 2:
            await nap(1)
            raise mine
        try:
            await nap(100)
        except asyncio.CancelledError:
            await turns(5)
        ended.append(item)
        return item

    is_it(await caught(run(work, list(range(6)), 3)), mine)
    assert set(ended) >= {0, 1}, f"the error was raised when only {ended} had ended"


@scenario("collect", cases={"Exception": KeyError, "BaseException": OwnBaseException})
async def an_error_in_the_cleanup_of_another_item_does_not_hide_the_first(library, kind):
    mine, others = ValueError("mine"), []

    async def work(item):
        if item == 2:
            await nap(1)
            raise mine
        try:
            await nap(100)
        finally:
            others.append(kind(item))
            raise others[-1]

    error = await caught(library.collect(work, list(range(6)), 3))
    assert any(one is mine for one in leaves(error)), f"the first error is not in {describe(error)}"
    assert len(others) >= 2


# ---- exceptions as values


@scenario("outcomes")
async def exceptions_as_values_keep_the_place_of_their_results(library):
    errors = {item: ValueError(item) for item in (0, 3, 8)}
    work = Work(raises=errors)
    equal(await library.outcomes(work.run, list(range(9)), 3), [errors.get(item, item) for item in range(9)])
    work.settled()


@scenario("outcomes", cases={kind.__name__: kind for kind in [StopIteration, StopAsyncIteration]})
async def stop_iteration_as_a_value_is_an_exception(library, kind):
    results = await library.outcomes(Work(raises={4: kind("mine")}).run, list(range(9)), 3)
    same([result for result in results if not isinstance(result, Exception)], [0, 1, 2, 3, 5, 6, 7, 8])
    assert isinstance(results[4], Exception)


@scenario("outcomes")
async def a_cancelled_item_among_exceptions_as_values_is_not_missing(library):
    async def work(item):
        await asyncio.sleep(0)
        if item == 2:
            raise asyncio.CancelledError
        return item

    try:
        results = await library.outcomes(work, list(range(5)), 2)
    except BaseException:
        return
    assert len(results) == 5
    assert isinstance(results[2], BaseException), results


@scenario("outcomes")
async def a_base_exception_is_raised_and_never_a_value(library):
    mine = OwnBaseException("mine")
    work = Work(raises={2: mine})
    is_it(await caught(library.outcomes(work.run, list(range(9)), 3)), mine)
    work.settled()


# ---- speed


@scenario("collect")
async def an_error_arrives_at_the_time_at_which_it_was_raised(library):
    loop, ended = asyncio.get_running_loop(), []

    async def work(item):
        if item == 3:
            await nap(7)
            raise ValueError(item)
        try:
            await nap(100)
        finally:
            ended.append(item)

    start = loop.time()
    await caught(library.collect(work, list(range(20)), 5))
    assert set(ended) >= {0, 1, 2, 4}
    assert not virtual() or loop.time() - start == 7


@scenario("collect")
async def an_error_before_the_first_wait_arrives(library):
    mine = ValueError("mine")

    async def work(item):
        if item == 1:
            raise mine
        return await identity(item)

    is_it(await caught(library.collect(work, list(range(9)), 3)), mine)
