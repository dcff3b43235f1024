"""`paco.settle`, `Ok`, `Err`, `partition`; and what runs that end early have finished: `RunTimeout`, `max_errors`."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import dataclasses
import gc
import inspect
import itertools
import pickle
import weakref
from functools import partial

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now


def invert(number):
    return 1 / number


def slowly(takes=1, fn=invert):
    return Probe(fn, takes=takes)


# ---- settle


async def test_a_result_is_an_ok_and_an_error_is_an_err_and_both_know_their_item():
    good, bad = await paco.map(paco.settle(slowly()), [2, 0])
    assert good == paco.Ok(2, 0.5)
    assert (bad.item, type(bad.error), bad.attempts) == (0, ZeroDivisionError, 1)


async def test_all_items_run_even_if_some_fail_and_the_order_is_kept():
    outcomes = await paco.map(paco.settle(slowly()), [0, 1, 0, 2, 0, 4], limit=2)
    assert [one.item for one in outcomes] == [0, 1, 0, 2, 0, 4]
    assert [isinstance(one, paco.Ok) for one in outcomes] == [False, True, False, True, False, True]


async def test_outcomes_have_the_start_and_the_duration_of_an_item(monkeypatch):
    monkeypatch.setattr("paco._engine.outcomes.time", lambda: 1_700_000_000 + now())
    outcomes = await paco.map(paco.settle(slowly(5)), [1, 0, 2], limit=1)
    assert [one.start for one in outcomes] == [1_700_000_000, 1_700_000_005, 1_700_000_010]
    assert [one.elapsed for one in outcomes] == [5, 5, 5]


async def test_attempts_are_counted_through_retry():
    failures = iter([OSError(), OSError(), None, OSError(), OSError(), OSError(), None])

    async def fetch(item):
        error = next(failures)
        if error is not None:
            raise error
        return item

    outcomes = await paco.map(paco.settle(paco.retry(fetch, wait=0)), [1, 2, 3], limit=1)
    assert [(type(one), one.attempts) for one in outcomes] == [(paco.Ok, 3), (paco.Err, 3), (paco.Ok, 1)]


async def test_attempts_of_concurrent_items_are_counted_separately():
    seen = {}

    async def fetch(item):
        seen[item] = seen.get(item, 0) + 1
        await asyncio.sleep(1)
        if seen[item] <= item:
            raise OSError

    outcomes = await paco.map(paco.settle(paco.retry(fetch, attempts=9, wait=0)), range(5))
    assert [one.attempts for one in outcomes] == [1, 2, 3, 4, 5]


async def test_a_nested_outcome_counts_its_own_attempts():
    async def fails(item):
        raise OSError

    inner = paco.settle(paco.retry(fails, wait=0))
    outer = await paco.settle(inner)(1)
    assert (outer.attempts, outer.value.attempts) == (1, 3)


async def test_settle_sets_no_context_variable_so_that_workers_are_recycled():
    tasks = set()

    async def fetch(item):
        tasks.add(asyncio.current_task())
        await asyncio.sleep(0)

    await paco.map(paco.settle(fetch), range(100), limit=2)
    assert len(tasks) == 2


async def test_further_arguments_go_to_the_function():
    async def add(item, other, *, key):
        return item + other + key

    assert await paco.map(paco.settle(add), [1], 0, None, None, False, 2, key=3) == [paco.Ok(1, 6)]


async def test_an_item_that_ends_cancelled_by_itself_is_settled():
    async def fetch(item):
        raise asyncio.CancelledError

    (outcome,) = await paco.map(paco.settle(fetch), [1])
    assert isinstance(outcome.error, paco.ItemCancelled)
    assert isinstance(outcome.error.__cause__, asyncio.CancelledError)


async def fails_when_cancelled():
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError:
        raise ValueError from None


CANCELS = {
    "awaits": lambda: asyncio.sleep(0),
    "returns": paco.constant(None),
    "fails": fails_when_cancelled,
}


class Turnstile:
    """A foreign limit that suspends each time."""

    async def __aenter__(self):
        await asyncio.sleep(0)

    async def __aexit__(self, *error):
        await asyncio.sleep(0)


FORMS = {
    "plain": lambda stream, path: stream,
    "as completed": lambda stream, path: stream.as_completed(),
    "journal": lambda stream, path: stream.journal(path),
    "max errors": lambda stream, path: stream.max_errors(1),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", [1, 2, paco.Limit(2), Turnstile()], ids=["1", "2", "a limit", "a foreign limit"])
async def test_an_item_that_cancels_itself_is_an_err_and_the_others_go_on(form, limit, tmp_path):
    async def fetch(item, how):
        if item == 1:
            asyncio.current_task().cancel()
            await CANCELS[how]()
        return item

    number = itertools.count()
    for how in CANCELS:
        for settled in (partial(paco.settle(fetch), how=how), paco.settle(partial(fetch, how=how))):
            for watch in (paco.listening(lambda event: None), contextlib.nullcontext()):
                with watch:
                    stream = FORMS[form](paco.map(settled, range(4), limit=limit), tmp_path / f"{next(number)}.jsonl")
                    found = {outcome.item: outcome for outcome in await stream}
                assert [isinstance(found[item], paco.Err) for item in range(4)] == [
                    False,
                    how != "returns",
                    False,
                    False,
                ]
                if how == "awaits":
                    assert isinstance(found[1].error, paco.ItemCancelled)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("limit", [1, paco.Limit(2)], ids=["1", "a limit"])
async def test_an_item_that_cancels_itself_has_its_attempts_and_times(form, limit, tmp_path, monkeypatch):
    async def fetch(item):
        calls.append(item)
        await asyncio.sleep(3)
        if len(calls) < 2:
            raise OSError
        asyncio.current_task().cancel()
        await asyncio.sleep(3)

    monkeypatch.setattr("paco._engine.outcomes.time", lambda: 1_700_000_000 + now())
    for watch in (paco.listening(lambda event: None), contextlib.nullcontext()):
        calls, began = [], now()
        with watch:
            fn = paco.settle(paco.retry(fetch, on=lambda _: 1))
            [one] = await FORMS[form](paco.map(fn, [1], limit=limit), tmp_path / f"{began}.jsonl")
        assert (one.attempts, one.start, one.elapsed) == (2, 1_700_000_000 + began, 7)


async def test_an_item_that_its_limit_refuses_has_the_time_of_that(monkeypatch):
    monkeypatch.setattr("paco._engine.outcomes.time", lambda: 1_700_000_000 + now())
    limit = paco.Rate(1, cost=lambda item: 1 / item)
    one = (await paco.map(paco.settle(slowly()), [1, 0], limit=limit))[1]
    assert (one.attempts, one.start, one.elapsed) == (1, 1_700_000_000, 0)


async def test_a_cancellation_of_the_caller_is_not_settled():
    calling = asyncio.ensure_future(paco.settle(slowly(10))(1))
    await asyncio.sleep(1)
    calling.cancel()
    await asyncio.wait([calling])
    assert calling.cancelled()


class Exit(BaseException):
    """What is no Exception."""


async def test_a_base_exception_is_not_settled():
    async def fetch(item):
        raise Exit

    with pytest.raises(Exit):
        await paco.map(paco.settle(fetch), [1, 2])


async def test_an_error_of_the_call_itself_is_settled():
    fetch = slowly()
    outcomes = await paco.map(paco.settle(lambda row: fetch(row["number"])), [{"number": 1}, {}])
    assert isinstance(outcomes[1].error, KeyError)


async def test_a_function_that_returns_no_awaitable_is_an_error_of_the_run():
    with pytest.raises(TypeError, match=r"^paco\.settle: abs must be a coroutine function, but it returned 1, which"):
        await paco.map(paco.settle(abs), [1])


PLAIN = {
    "retry": lambda fn: paco.retry(fn, 4, wait=10),
    "timeout": lambda fn: paco.timeout(fn, 5),
    "hedge": lambda fn: paco.hedge(fn, 100, extra=3),
    "once": paco.once,
    "limited": lambda fn: paco.limited(fn, 2),
    "partial": paco.partial,
    "run": lambda fn: lambda item: paco.map(fn, [item]),
}


@pytest.mark.parametrize("limit", [1, paco.Limit(1)], ids=["number", "object"])
@pytest.mark.parametrize("with_journal", [False, True], ids=["", "journal"])
async def test_a_plain_function_at_any_depth_ends_the_run_at_once(limit, with_journal, tmp_path):
    def get(item):
        calls.append(item)
        return item

    for outer, inner in itertools.product(PLAIN.values(), repeat=2):
        calls = []
        stream = paco.map(paco.settle(outer(inner(get))), range(9), limit=limit)
        with pytest.raises(TypeError, match=r"^paco\.\w+: (\S+\.)?get must be a coroutine function, .*paco\.threaded"):
            await (stream.journal(tmp_path / "run.jsonl") if with_journal else stream)
        assert (calls, now()) == ([0], 0)
    assert not with_journal or (tmp_path / "run.jsonl").read_text() == ""


def test_an_argument_that_is_no_function_is_refused_at_the_call():
    with pytest.raises(TypeError, match=r"^paco\.settle: fn must be a coroutine function, got 5$"):
        paco.settle(5)


async def test_settle_is_a_decorator_that_keeps_name_and_signature():
    @paco.settle
    async def fetch(item, *, key=0):
        """Fetch."""
        return item

    assert await fetch(1, key=2) == paco.Ok(1, 1)
    assert (fetch.__name__, fetch.__doc__, str(inspect.signature(fetch))) == ("fetch", "Fetch.", "(item, *, key=0)")
    assert inspect.iscoroutinefunction(fetch)


async def test_a_stored_error_shows_the_users_frames_and_is_part_of_no_cycle():
    class Local:
        pass

    locals_ = []

    async def fetch(item):
        local = Local()
        locals_.append(weakref.ref(local))
        raise OSError

    gc.collect()
    gc.disable()
    try:
        for fn in (fetch, paco.retry(fetch, wait=0), paco.timeout(fetch, 1), paco.hedge(fetch, 1)):
            outcomes = await paco.map(paco.settle(fn), [1])
            assert outcomes[0].error.__traceback__.tb_frame.f_code is fetch.__code__
            del outcomes
        assert all(local() is None for local in locals_)
    finally:
        gc.enable()


async def test_an_abandoned_coroutine_is_closed_in_another_context_without_an_error():
    coro = paco.settle(slowly())(1)
    contextvars.copy_context().run(coro.send, None)
    coro.close()


# ---- the values


def test_outcomes_match_by_position():
    match paco.Ok("a", 1, 2, 3.0, 4.0):
        case paco.Ok(item, value, attempts, start, elapsed):
            assert (item, value, attempts, start, elapsed) == ("a", 1, 2, 3.0, 4.0)
    error = OSError()
    match paco.Err("a", error, 2, 3.0, 4.0):
        case paco.Err(item, found, attempts, start, elapsed):
            assert (item, found, attempts, start, elapsed) == ("a", error, 2, 3.0, 4.0)


@pytest.mark.parametrize("outcome", [paco.Ok("a", 1, start=5.0), paco.Err("a", OSError(1), start=5.0)])
def test_outcomes_are_frozen_slotted_and_picklable(outcome):
    with pytest.raises(dataclasses.FrozenInstanceError):
        outcome.item = "b"
    assert not hasattr(outcome, "__dict__")
    again = pickle.loads(pickle.dumps(outcome))  # noqa: S301 - our own
    assert (again.item, again.start, repr(again)) == ("a", 5.0, repr(outcome))


def test_outcomes_are_equal_whenever_they_happened():
    assert paco.Ok("a", 1, start=5.0, elapsed=1.0) == paco.Ok("a", 1)
    assert paco.Ok("a", 1) != paco.Ok("a", 2)
    assert paco.Ok("a", 1) != paco.Ok("a", 1, attempts=2)
    assert len({paco.Ok("a", 1), paco.Ok("a", 1, start=5.0)}) == 1


def test_partition_splits_outcomes_and_keeps_their_order():
    first, second = paco.Err(1, OSError()), paco.Err(4, OSError())
    assert paco.partition(iter([paco.Ok(0, 0), first, paco.Ok(2, 2), paco.Ok(3, 3), second])) == (
        [paco.Ok(0, 0), paco.Ok(2, 2), paco.Ok(3, 3)],
        [first, second],
    )
    assert paco.partition([]) == ([], [])


def test_partition_refuses_values_that_are_no_outcomes():
    with pytest.raises(TypeError, match=r"outcomes must be Ok and Err values, got 5; settle the function: paco.map"):
        paco.partition([paco.Ok(1, 1), 5])
    with pytest.raises(TypeError, match=r"^paco.partition: outcomes must be an iterable, got None$"):
        paco.partition(None)


# ---- a run that is not finished in time


async def test_a_timeout_has_the_finished_outcomes_in_input_order():
    probe = Probe(invert, takes=lambda number: [9, 5, 4, 60][int(number)])
    with pytest.raises(paco.RunTimeout, match=r"^paco\.map: not finished within its timeout of 10 s, ") as caught:
        await paco.map(paco.settle(probe), [1, 3, 2, 0], timeout=10)
    assert [one.item for one in caught.value.outcomes] == [1, 2, 0]
    assert isinstance(caught.value, TimeoutError)
    assert probe.running == 0


async def test_a_timeout_of_a_run_without_settle_has_no_outcomes():
    with pytest.raises(paco.RunTimeout) as caught:
        await paco.map(slowly(5), [1, 2, 3], limit=1, timeout=10)
    assert caught.value.outcomes == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda fn: paco.each(fn, [1, 2, 3], 1, timeout=10),
        lambda fn: paco.some(fn, [1, 2, 3], 1, timeout=1),
        lambda fn: paco.race([lambda: fn(1)], timeout=1),
        lambda fn: paco.ConcurrentExecutor(coros=[fn(1)]).run(timeout=1),
    ],
    ids=["each", "some", "race", "ConcurrentExecutor"],
)
async def test_every_function_raises_run_timeout_and_those_without_results_have_no_outcomes(call):
    with pytest.raises(paco.RunTimeout) as caught:
        await call(paco.settle(slowly(5)))
    assert caught.value.outcomes == ()


@pytest.mark.parametrize(
    "call",
    [
        lambda fn: paco.each(fn, [1, 2, 3], 1, collect=True, timeout=11),
        lambda fn: paco.flat_map(fn, [1, [2, 3]], 1, timeout=11, initializer=["head"]),
        lambda fn: paco.gather(fn(1), lambda: fn(2), fn(3), limit=1, timeout=11),
        lambda fn: paco.series(fn(1), fn(2), fn(3), timeout=11),
        lambda fn: AsyncSource([1, 2, 3]) | paco.map(fn, limit=1, timeout=11),
        lambda fn: paco.map(fn, [1, 2, 3], paco.Limit(1), timeout=11),
    ],
    ids=["each", "flat_map", "gather", "series", "Stage", "map under a Limit"],
)
async def test_every_function_that_returns_a_list_has_finished_outcomes_in_its_timeout(call):
    with pytest.raises(paco.RunTimeout) as caught:
        await call(paco.settle(slowly(5)))
    assert caught.value.outcomes == (paco.Ok(1, 1), paco.Ok(2, 0.5))


async def test_a_timeout_of_zero_has_no_outcomes():
    with pytest.raises(paco.RunTimeout) as caught:
        await paco.map(paco.settle(slowly()), [1], timeout=0)
    assert caught.value.outcomes == ()


async def test_the_timeout_of_an_iterated_stream_has_the_undelivered_outcomes():
    probe = Probe(invert, takes=lambda number: {1: 1, 2: 2, 3: 2, 4: 60, 5: 3, 6: 3}[number])
    stream = paco.map(paco.settle(probe), [1, 2, 3, 4, 5, 6], limit=6, timeout=10)
    handed = []
    with pytest.raises(paco.RunTimeout) as caught:
        async for outcome in stream:
            handed.append(outcome.item)
            if outcome.item == 1:
                await asyncio.sleep(20)  # a slow consumer: two more wait by then, and are handed on
    assert handed == [1, 2, 3]
    assert [one.item for one in caught.value.outcomes] == [5, 6]


async def test_the_timeout_of_a_stream_as_completed_has_no_undelivered_outcomes():
    probe = Probe(invert, takes=lambda number: 60 if number == 3 else number)
    handed = []
    with pytest.raises(paco.RunTimeout) as caught:
        async for outcome in paco.map(paco.settle(probe), [1, 2, 3, 4], limit=3, timeout=10).as_completed():
            handed.append(outcome.item)
    assert (handed, caught.value.outcomes) == ([1, 2, 4], ())


def test_a_run_timeout_survives_pickling():
    error = pickle.loads(pickle.dumps(paco.RunTimeout("text", (paco.Ok(1, 2),))))  # noqa: S301 - our own
    assert (str(error), error.outcomes) == ("text", (paco.Ok(1, 2),))


# ---- a run that ends when too much fails


def bad(*numbers):
    """Return an async function that fails for some numbers, after a second."""

    def fn(number):
        if number in numbers:
            raise OSError(number)
        return number

    return Probe(fn, takes=1)


async def test_more_errors_than_max_errors_end_the_run_and_keep_the_finished_outcomes():
    probe = bad(1, 3, 5)
    with pytest.raises(paco.TooManyErrors) as caught:
        await paco.map(paco.settle(probe), range(100), limit=2).max_errors(2)
    assert str(caught.value) == "paco.map: 3 of 6 items failed, and max_errors is 2"
    assert [one.item for one in caught.value.outcomes] == [0, 1, 2, 3, 4, 5]
    assert caught.value.__cause__ is caught.value.outcomes[5].error
    assert (now(), probe.running) == (3, 0)


async def test_as_many_errors_as_max_errors_are_tolerated():
    outcomes = await paco.map(paco.settle(bad(1, 3)), range(6), limit=2).max_errors(2)
    assert len(outcomes) == 6


async def test_with_max_errors_of_zero_a_run_without_errors_succeeds():
    with pytest.raises(paco.TooManyErrors, match="1 of 2 items failed, and max_errors is 0"):
        await paco.map(paco.settle(bad(1)), range(6), limit=1).max_errors(0)


async def test_a_fraction_applies_from_twenty_finished_items_on():
    probe = bad(*range(15))
    with pytest.raises(paco.TooManyErrors, match=r"15 of 20 items failed, and max_errors is 0\.5"):
        await paco.map(paco.settle(probe), range(100), limit=1).max_errors(0.5)
    assert len(await paco.map(paco.settle(bad(*range(15))), range(19), limit=1).max_errors(0.5)) == 19


async def test_a_fraction_refers_to_the_finished_items():
    outcomes = await paco.map(paco.settle(bad(*range(71, 100))), range(100), limit=1).max_errors(0.29)
    assert len(outcomes) == 100
    with pytest.raises(paco.TooManyErrors, match="28 of 99 items failed"):
        await paco.map(paco.settle(bad(*range(71, 100))), range(100), limit=1).max_errors(0.28)


async def test_exceptions_count_with_return_exceptions():
    probe = bad(1, 2)
    with pytest.raises(paco.TooManyErrors) as caught:
        await paco.map(probe, range(10), limit=1, return_exceptions=True).max_errors(1)
    assert caught.value.outcomes == ()
    assert repr(caught.value.__cause__) == "OSError(2)"


async def test_exceptions_returned_by_the_function_do_not_count():
    async def fetch(number):
        return OSError(number)

    assert len(await paco.map(fetch, range(10)).max_errors(0)) == 10


async def test_without_settle_the_first_error_ends_the_run():
    with pytest.raises(OSError, match="1"):
        await paco.map(bad(1), range(10), limit=1).max_errors(5)


@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["int", "Limit"])
async def test_an_ordered_stream_delivers_earlier_outcomes_and_the_error_has_the_rest(limit):
    probe = Probe(lambda number: 1 / (number % 10), takes=lambda number: 60 if number == 3 else 1)
    stream = paco.map(paco.settle(probe), [1, 0, 3, 4, 10, 6], limit=limit).buffer(9).max_errors(1)
    handed = []
    with pytest.raises(paco.TooManyErrors, match="2 of 4 items failed") as caught:
        async for outcome in stream:
            handed.append(outcome.item)
    assert handed == [1, 0]
    assert [one.item for one in caught.value.outcomes] == [4, 10]


async def test_a_stream_as_completed_delivers_the_last_error_too():
    handed = []
    with pytest.raises(paco.TooManyErrors):
        async for outcome in paco.map(paco.settle(bad(1, 2)), range(9), limit=1).as_completed().max_errors(1):
            handed.append(outcome.item)
    assert handed == [0, 1, 2]


async def test_items_that_never_suspend_end_at_the_first_error_beyond_max_errors():
    seen = []

    async def fetch(number):
        seen.append(number)
        raise OSError

    with pytest.raises(paco.TooManyErrors):
        await paco.map(paco.settle(fetch), range(1000)).max_errors(10)
    assert len(seen) == 11


async def test_errors_while_the_run_ends_do_not_count_again():
    async def fetch(number):
        try:
            await asyncio.sleep(1 if number < 2 else 60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
        raise OSError(number)

    with pytest.raises(paco.TooManyErrors) as caught:
        await paco.map(paco.settle(fetch), range(5)).max_errors(1)
    assert not hasattr(caught.value, "__notes__")
    assert len(caught.value.outcomes) == 2


async def test_max_errors_combines_with_other_stream_methods_and_every_stream():
    async def fail():
        raise OSError

    for stream in (
        paco.map(bad(1), [1]).max_errors(0),
        paco.gather(fail, fail, return_exceptions=True).max_errors(1),
        paco.series(fail, fail, return_exceptions=True).max_errors(1),
        ([1] | paco.map(paco.settle(bad(1)))).buffer(1).max_errors(0).as_completed(),
        paco.flat_map(bad(1), [[1]], return_exceptions=True, initializer=[OSError()]).max_errors(0),
    ):
        with pytest.raises((paco.TooManyErrors, OSError)):
            await stream


@pytest.mark.parametrize(
    ("most", "error"),
    [
        (-1, ValueError),
        (0.0, ValueError),
        (1.0, ValueError),
        (1.5, ValueError),
        (float("nan"), ValueError),
        (True, TypeError),
        ("1", TypeError),
        (None, TypeError),
    ],
)
async def test_an_invalid_max_errors_is_refused_at_the_call(most, error):
    stream = paco.map(bad(), Source([1]))
    expected = (
        r"^paco\.map\.max_errors: most must be an int of 0 or more, or a float between 0 and 1 \(a fraction\), got"
    )
    with pytest.raises(error, match=expected):
        stream.max_errors(most)
    assert await stream == [1]


async def test_a_run_with_max_errors_creates_no_reference_cycle():
    class Item:
        pass

    async def fetch(item):
        await asyncio.sleep(0)
        if item is None:
            raise OSError
        return item

    gc.collect()
    gc.disable()
    try:
        for bad in (0, 3):
            items = [Item()] + [None] * bad
            seen = weakref.ref(items[0])
            with contextlib.suppress(paco.TooManyErrors):
                await paco.map(paco.settle(fetch), items).max_errors(1)
            del items
            assert seen() is None
    finally:
        gc.enable()


# ---- cancellation


@pytest.mark.parametrize("again", [None, 1, 2])
@pytest.mark.parametrize("limit", [2, 0, "Limit"])
def test_cancelled_at_every_step_nothing_is_left_running(limit, again, cancel_at_every_step):
    async def main():
        probe = Probe(invert, takes=lambda number: number + 1, cleanup=1)
        value = paco.Limit(2) if limit == "Limit" else limit
        try:
            stream = paco.map(paco.settle(paco.retry(probe, wait=0)), [1, 0, 2, 0, 3], limit=value, timeout=5)
            async with stream.max_errors(1) as outcomes:
                async for _ in outcomes:
                    pass
        except (paco.TooManyErrors, paco.RunTimeout):
            pass
        finally:
            assert probe.running == 0

    assert cancel_at_every_step(main, again=again) > 10
