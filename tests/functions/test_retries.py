"""`paco.retry`: which attempts are made and when, what is raised in the end, and what happens to slots meanwhile."""

from __future__ import annotations

import asyncio
import gc
import inspect
import itertools
import math
import random
import weakref

import pytest
import stamina
import tenacity
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco.testing import Probe, now


class Busy(Exception):
    """What a server answers that wants to be left alone for a while."""

    def __init__(self, seconds=None):
        super().__init__(seconds)
        self.seconds = seconds


class Flaky:
    """An async function of an item that fails so many times for each item, and then succeeds.

    Args:
        failures: How many times; or a function of the item that tells.
        takes: Seconds for each attempt.
        error: Makes the error.
    """

    def __init__(self, failures=2, *, takes=0, error=OSError):
        self.failures, self.takes, self.error = failures, takes, error
        self.calls, self.times, self.running, self.peak = {}, [], 0, 0

    async def __call__(self, item=0):
        self.times.append(now())
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            await asyncio.sleep(self.takes)
        finally:
            self.running -= 1
        count = self.calls[item] = self.calls.get(item, 0) + 1
        if count <= (self.failures(item) if callable(self.failures) else self.failures):
            raise self.error(item, count)
        return item


@pytest.fixture
def longest(monkeypatch):
    """Draw the longest pause each time, and note the bounds that were drawn between."""
    bounds = []

    def uniform(low, high):
        bounds.append((low, high))
        return high

    monkeypatch.setattr(random, "uniform", uniform)
    return bounds


def notes(caught):
    return getattr(caught.value, "__notes__", [])


# ---- which attempts are made, and when


async def test_a_call_that_succeeds_is_made_once():
    fetch = Flaky(0)
    assert await paco.retry(fetch)("page") == "page"
    assert (fetch.calls, now()) == ({"page": 1}, 0)


async def test_each_back_off_is_random_up_to_a_bound_that_doubles_up_to_max_wait(longest):
    fetch = Flaky(5)
    assert await paco.retry(fetch, attempts=6, wait=1, max_wait=5)() == 0
    assert longest == [(0, 1), (0, 2), (0, 4), (0, 5), (0, 5)]
    assert fetch.times == [0, 1, 3, 7, 12, 17]


async def test_the_defaults_are_three_attempts_and_back_off_from_a_tenth_of_a_second(longest):
    with pytest.raises(OSError, match="3"):
        await paco.retry(Flaky(3))()
    assert longest == [(0, 0.1), (0, 0.2)]


async def test_back_offs_are_random_within_their_bounds():
    seen = set()
    for _ in range(20):
        begin = now()
        await paco.retry(Flaky(1), wait=1)()
        seen.add(now() - begin)
    assert len(seen) == 20
    assert all(0 <= pause <= 1 for pause in seen)


async def test_with_a_wait_of_0_attempts_follow_at_once():
    fetch = Flaky(2)
    await paco.retry(fetch, wait=0, max_wait=0)()
    assert fetch.times == [0, 0, 0]


async def test_thousands_of_attempts_do_not_overflow(longest):
    assert await paco.retry(Flaky(2000), attempts=2001, wait=1)() == 0
    assert longest[-1] == (0, 10)


async def test_every_attempt_gets_the_same_arguments():
    seen = []

    async def fetch(*args, **kw):
        seen.append((args, kw))
        if len(seen) < 3:
            raise OSError

    await paco.retry(fetch)(1, key=2)
    assert seen == [((1,), {"key": 2})] * 3


async def test_each_call_has_its_own_attempts():
    fetch = Flaky(2, takes=1)
    await paco.gather(*(paco.retry(fetch, wait=0)(item) for item in range(3)))
    assert fetch.calls == {0: 3, 1: 3, 2: 3}


# ---- which errors are retried


@pytest.mark.parametrize("on", [OSError, (KeyError, OSError), lambda error: isinstance(error, OSError)])
async def test_only_errors_named_by_on_are_retried(on):
    assert await paco.retry(Flaky(2), on=on)() == 0
    fetch = Flaky(2, error=ValueError)
    with pytest.raises(ValueError, match="1") as caught:
        await paco.retry(fetch, on=on)()
    assert fetch.calls == {0: 1}
    assert notes(caught) == ["paco.retry: gave up after 1 attempt and 0 s: on does not retry this error"]


@pytest.mark.parametrize("no", [None, False])
async def test_an_on_function_that_returns_none_or_false_prevents_a_retry(no):
    with pytest.raises(OSError, match="1"):
        await paco.retry(Flaky(2), on=lambda _: no)()


async def test_seconds_returned_by_on_are_waited_exactly_even_beyond_max_wait(longest):
    fetch = Flaky(3, error=lambda item, count: Busy([30, 0, 2.5][count - 1]))
    assert await paco.retry(fetch, attempts=4, on=lambda error: error.seconds, max_wait=1)() == 0
    assert fetch.times == [0, 30, 30, 32.5]
    assert longest == []


async def test_on_is_called_once_with_each_error_including_the_last():
    seen = []

    def on(error):
        seen.append(error.args[1])
        return True

    with pytest.raises(OSError, match="3"):
        await paco.retry(Flaky(9), on=on)()
    assert seen == [1, 2, 3]


@pytest.mark.parametrize("on", [Exception, paco.GateClosed, lambda _: 1.0], ids=["Exception", "GateClosed", "seconds"])
async def test_a_closed_gate_is_not_asked_again(on):
    gate, calls = paco.Gate(), []

    async def fetch(page):
        calls.append(page)

    gate.close()
    with pytest.raises(paco.GateClosed) as caught:
        await paco.retry(paco.limited(fetch, gate), on=on)("page")
    assert (calls, now()) == ([], 0)
    assert notes(caught) == ["paco.retry: gave up after 1 attempt and 0 s: a closed gate does not open again"]


async def test_an_error_in_on_is_raised_together_with_the_error_of_the_attempt():
    def on(error):
        raise LookupError("judge")

    with pytest.raises(LookupError, match="judge") as caught:
        await paco.retry(Flaky(1), on=on)()
    assert isinstance(caught.value.__context__, OSError)


@pytest.mark.parametrize("answer", ["5", [], -1, float("nan")])
async def test_an_invalid_result_of_on_is_an_error_that_lists_valid_ones(answer):
    expected = (
        r"^paco\.retry: what on\(error\) returns must be True, False, None or seconds \(a number of 0 or more\), got"
    )
    with pytest.raises((TypeError, ValueError), match=expected):
        await paco.retry(Flaky(1), on=lambda _: answer)()


async def test_an_async_function_as_on_is_refused():
    async def on(error):
        return True

    with pytest.raises(TypeError, match=r"what on\(error\) returns must be .*, got <coroutine object"):
        await paco.retry(Flaky(1), on=on)()


class Exit(BaseException):
    """What is no Exception."""


@pytest.mark.parametrize("error", [asyncio.CancelledError, Exit])
async def test_a_base_exception_is_never_retried(error):
    fetch = Flaky(2, error=lambda *_: error())
    with pytest.raises(error) as caught:
        await paco.retry(fetch, on=lambda _: True)()
    assert fetch.calls == {0: 1}
    assert notes(caught) == []


async def test_a_cancelled_call_makes_no_further_attempt():
    fetch = Probe(lambda item: item, takes=10)
    calling = asyncio.ensure_future(paco.retry(fetch)(1))
    await asyncio.sleep(5)
    calling.cancel()
    await asyncio.wait([calling])
    assert calling.cancelled()
    assert (fetch.started, now()) == ([1], 5)


class Stubborn:
    """An async function that waits for 10 s and, when it is cancelled, raises another error in place of that."""

    def __init__(self):
        self.times = []

    async def __call__(self, item=0):
        self.times.append(now())
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            raise OSError("connection lost") from None


@pytest.mark.parametrize("wrap", [paco.retry, lambda fetch: paco.retry(paco.hedge(fetch, 60))], ids=["retry", "hedge"])
async def test_a_cancelled_call_that_raises_another_error_makes_no_further_attempt(wrap):
    fetch = Stubborn()
    calling = asyncio.ensure_future(wrap(fetch)())
    await asyncio.sleep(5)
    calling.cancel()
    with pytest.raises((OSError, asyncio.CancelledError)):
        await calling
    assert (fetch.times, now()) == ([0], 5)


async def test_the_note_of_such_an_error_says_that_the_call_was_cancelled():
    with pytest.raises(OSError, match="connection lost") as caught:
        await paco.timeout(paco.retry(Stubborn()), 5)()
    assert notes(caught) == ["paco.retry: gave up after 1 attempt and 5 s: the call was cancelled"]


@pytest.mark.parametrize(
    "end",
    [
        lambda fetch: paco.map(paco.retry(fetch), [1, 2], limit=2, timeout=5),
        lambda fetch: paco.map(paco.timeout(paco.retry(fetch), 5), [1, 2], limit=2),
        lambda fetch: paco.gather(paco.retry(fetch)(), paco.timeout(asyncio.sleep(10), 5)),
        lambda fetch: paco.map(paco.settle(paco.retry(fetch)), [1, 2], limit=paco.Limit(2), timeout=5),
    ],
    ids=["timeout of the run", "timeout of the item", "error of another", "settled"],
)
async def test_a_run_that_ends_makes_no_further_attempts_at_items_that_raise_another_error(end):
    fetch = Stubborn()
    with pytest.raises((OSError, TimeoutError)):
        await end(fetch)
    assert set(fetch.times) == {0}
    assert now() == 5


async def test_a_cancelled_call_whose_task_group_fails_makes_no_further_attempt():
    async def fetch():
        async with asyncio.TaskGroup() as group:
            group.create_task(stubborn())
            group.create_task(stubborn())

    stubborn = Stubborn()
    with pytest.raises(ExceptionGroup):
        await paco.timeout(paco.retry(fetch), 5)()
    assert stubborn.times == [0, 0]


async def test_an_attempt_that_times_out_inside_is_retried(longest):
    async def fetch():
        times.append(now())
        async with asyncio.timeout(1):
            await asyncio.sleep(10)

    times = []
    with pytest.raises(TimeoutError):
        await paco.timeout(paco.retry(fetch, wait=1), 60)()
    assert times == [0, 2, 5]


async def test_an_attempt_whose_task_group_fails_is_retried(longest):
    """On Python 3.11 and 3.12, a group whose child fails at its end leaves ``cancelling()`` above 0 (gh-116720)."""

    async def fail():
        await asyncio.sleep(1)
        raise OSError

    async def fetch():
        times.append(now())
        if len(times) == 2:
            async with asyncio.timeout(1):
                await asyncio.sleep(10)
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    times = []
    with pytest.raises(ExceptionGroup):
        await paco.retry(fetch, wait=1)()
    assert times == [0, 2, 5]


# ---- what is raised in the end


async def test_the_last_exception_is_raised_unchanged_with_a_note_of_attempts_and_time(longest):
    errors = [OSError("first"), OSError("second"), OSError("third")]
    left = iter(errors)

    async def fetch():
        await asyncio.sleep(1)
        raise next(left)

    with pytest.raises(OSError, match="third") as caught:
        await paco.retry(fetch, wait=1)()
    assert caught.value is errors[2]
    assert caught.value.__context__ is None
    assert notes(caught) == ["paco.retry: gave up after 3 attempts and 6 s"]


@pytest.mark.parametrize("where", ["at the end", "not to be retried", "deadline"])
async def test_a_handled_error_is_part_of_no_reference_cycle(where, longest):
    class Local:
        pass

    locals_ = []

    async def fetch():
        local = Local()
        locals_.append(weakref.ref(local))
        await asyncio.sleep(1)
        raise OSError

    async def call():
        on = ValueError if where == "not to be retried" else OSError
        with paco.deadline(1.5 if where == "deadline" else None):
            await paco.retry(fetch, attempts=2, on=on, wait=1)()

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            await call()
        assert all(local() is None for local in locals_)
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("options", "wanted", "note"),
    [
        ({}, 86_400, "a wait of 86,400 s was asked for, and longest is 300 s"),
        ({}, 300.5, "a wait of 300.5 s was asked for, and longest is 300 s"),
        ({}, math.inf, "a wait of inf s was asked for, and longest is 300 s"),
        ({"longest": math.inf}, math.inf, "a wait of inf s was asked for, and longest is inf s"),
        ({"longest": 0}, 1, "a wait of 1 s was asked for, and longest is 0 s"),
    ],
)
@pytest.mark.parametrize("within", [False, True])
async def test_a_longer_wait_than_longest_ends_the_attempts(options, wanted, note, within):
    fetch = Flaky()
    patient = paco.retry(fetch, on=lambda error: wanted, **options)
    with pytest.raises(OSError) as caught:  # noqa: PT011 - it has no text
        await (paco.map(patient, [1], limit=1) if within else patient(1))
    assert notes(caught)[0] == f"paco.retry: gave up after 1 attempt and 0 s: {note}"
    assert now() == 0


@pytest.mark.parametrize(("options", "wanted"), [({}, 300), ({"longest": 1e6}, 86_400), ({"longest": math.inf}, 1e9)])
async def test_a_wait_of_longest_at_most_is_made(options, wanted):
    answers = iter([OSError(), "page"])

    async def fetch():
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert await paco.retry(fetch, on=lambda error: wanted, **options)() == "page"
    assert now() == wanted


async def test_longest_does_not_bound_the_back_off(monkeypatch):
    monkeypatch.setattr("random.uniform", lambda low, high: high)
    with pytest.raises(OSError):  # noqa: PT011 - it has no text
        await paco.retry(Flaky(), attempts=2, wait=600, max_wait=600)(1)
    assert now() == 600


# ---- seconds for each attempt


async def test_each_attempt_has_its_timeout_and_ends_before_the_next_begins(longest):
    fetch = Probe(lambda item: item, takes=lambda item: 60, cleanup=1)
    with pytest.raises(TimeoutError, match=r"^paco\.retry: fetch did not finish within 5 s") as caught:
        await paco.retry(named(fetch), timeout=5, wait=2)(1)
    assert fetch.started_at == [0, 8, 18]  # 5 s, 1 s of cleanup, 2 s of back-off; then 4 s
    assert fetch.peak == 1
    assert notes(caught) == ["paco.retry: gave up after 3 attempts and 24 s"]


def named(probe):
    async def fetch(item):
        return await probe(item)

    return fetch


async def test_an_attempt_that_ends_in_time_is_left_alone():
    assert await paco.retry(Flaky(1, takes=4), timeout=5)() == 0


# ---- the budget


async def outcomes(call, count):
    """Make calls one after the other; tell how many succeeded, and the notes of the others."""
    succeeded, told = 0, []
    for item in range(count):
        try:
            await call(item)
            succeeded += 1
        except OSError as error:
            told += error.__notes__
    return succeeded, told


async def test_a_budget_allows_ten_retries_and_then_a_share_of_the_calls():
    fetch = Flaky(10**9)
    retried = paco.retry(fetch, budget=0.25, wait=0)
    _, told = await outcomes(retried, 100)
    assert sum(fetch.calls.values()) == 100 + 10 + 25
    spent = "paco.retry: gave up after 1 attempt and 0 s: the budget of 0.25 retries for each call is spent"
    assert spent in told


async def test_a_budget_accumulates_at_most_a_hundred_retries():
    fetch = Flaky(lambda item: 0 if item < 1_000 else 10**9)
    retried = paco.retry(fetch, attempts=2, budget=0.5, wait=0)
    await outcomes(retried, 1_000)  # which would pay for 500
    for item in range(1_000, 1_500):
        with pytest.raises(OSError):  # noqa: PT011 - any of them
            await retried(item)
    repeated = sum(fetch.calls.values()) - 1_500
    assert repeated == 100 + 250 - 1  # the first call pays into a full bucket; then one retry for two calls


async def test_an_exhausted_budget_is_refilled_by_calls():
    fetch = Flaky(10**9)
    retried = paco.retry(fetch, attempts=11, budget=0.5, wait=0)
    await outcomes(retried, 1)  # takes all ten
    before = sum(fetch.calls.values())
    await outcomes(retried, 4)
    assert sum(fetch.calls.values()) - before == 4 + 2


async def test_without_a_budget_every_call_has_all_its_attempts():
    fetch = Flaky(2)
    assert await outcomes(paco.retry(fetch, wait=0), 200) == (200, [])


# ---- in a run: slots


@pytest.mark.parametrize("make_limit", [lambda: 1, lambda: paco.Limit(1)], ids=["int", "Limit"])
async def test_an_item_in_back_off_gives_its_slot_to_another_one(make_limit, longest):
    fetch = Flaky(lambda item: item == 0, takes=10)
    results = await paco.map(paco.retry(fetch, wait=10), range(4), limit=make_limit())
    assert results == [0, 1, 2, 3]
    assert fetch.times == [0, 10, 20, 30, 40]  # item 1 runs from 10 to 20, while item 0 rests
    assert list(fetch.calls) == [0, 1, 2, 3]
    assert (now(), fetch.peak) == (50, 1)


async def test_a_source_in_back_off_has_no_slot_to_give(longest):
    fetch = paco.retry(Flaky(1), wait=10)

    async def source():
        for number in range(3):
            yield await fetch(number)

    assert await paco.map(paco.wraps(str), source(), limit=1) == ["0", "1", "2"]
    assert now() == 30


async def test_a_slot_released_in_back_off_is_used_for_a_later_item_of_an_async_source(longest):
    fetch = Flaky(lambda item: item == 0, takes=10)
    source = paco.testing.AsyncSource(range(4))
    assert await paco.map(paco.retry(fetch, wait=10), source, limit=1) == [0, 1, 2, 3]
    assert fetch.times == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(("make_limit", "end"), [(lambda: 2, 14), (lambda: paco.Limit(2), 13)], ids=["int", "Limit"])
async def test_the_limit_applies_to_attempts_and_is_used_while_others_are_in_back_off(make_limit, end, longest):
    fetch = Flaky(1, takes=1)
    results = await paco.map(paco.retry(fetch, wait=4), range(6), limit=make_limit())
    assert results == list(range(6))
    assert fetch.peak == 2
    assert len(fetch.times) == 12
    # 18 if all kept their slots. Of the six two have to, as two others rest already; under a limit they rest as well,
    # and nothing new begins.
    assert now() == end


@pytest.mark.parametrize("make_limit", [lambda: 3, lambda: paco.Limit(3)], ids=["int", "Limit"])
async def test_at_most_as_many_items_as_the_limit_are_in_back_off_so_that_memory_is_bounded(make_limit, longest):
    fetch = Flaky(1, takes=1)
    source = paco.testing.Source(range(1000))
    running = asyncio.ensure_future(paco.map(paco.retry(fetch, wait=100, max_wait=100), source, limit=make_limit()))
    await asyncio.sleep(50)
    assert source.pulled == 6  # three rest, three more wait in their slots
    running.cancel()
    await asyncio.wait([running])
    assert fetch.running == 0


async def test_an_item_that_resumes_from_back_off_lets_another_enter_it(longest):
    fetch = Flaky(1, takes=0)
    await paco.map(paco.retry(fetch, wait=10), range(4), limit=1)
    # Item 0 rests and item 1 has to keep the slot, until 10. The same then with items 2 and 3.
    assert fetch.times == [0, 0, 10, 10, 10, 10, 20, 20]


async def test_a_slot_that_waits_for_the_source_is_free_for_an_item_that_resumes(longest):
    async def source():
        yield 0
        yield 1
        await asyncio.sleep(100)
        yield 2

    fetch = Flaky(lambda item: item == 0, takes=1)
    await paco.map(paco.retry(fetch, wait=5), source(), limit=2)
    assert fetch.times == [0, 0, 6, 101]


async def test_after_an_item_times_out_in_back_off_the_limit_is_not_exceeded(longest):
    times = []

    async def one(item):
        if item == 0:
            await paco.timeout(paco.retry(Flaky(9, takes=0), wait=10), 5)(item)
        times.append(now())
        await asyncio.sleep(10)

    await paco.map(paco.settle(one), range(3), limit=1)
    assert times == [0, 10]  # and not 5, when item 0 ended beside item 1


async def test_an_item_that_times_out_as_its_slot_becomes_free_leaves_it_to_the_next_one(longest):
    times = []

    async def one(item):
        if item == 0:
            await paco.timeout(paco.retry(Flaky(9, takes=0), wait=10), 15)(item)
        times.append(now())
        await asyncio.sleep(15)

    await paco.map(paco.settle(one), range(3), limit=1)
    assert times == [0, 15]


async def test_after_a_limit_was_lowered_items_start_although_many_are_in_back_off(longest):
    """Else a limit that is low for a moment, as `Adaptive` is when it looks, idles until they come back."""
    limit = paco.Limit(10)
    fetch = Flaky(lambda item: item < 10 or item == 20, takes=1)  # item 20 joins them later
    running = asyncio.ensure_future(paco.map(paco.retry(fetch, wait=100, max_wait=100), range(30), limit=limit))
    await asyncio.sleep(1.5)
    limit.limit = 2
    assert await running == list(range(30))
    assert fetch.times[:20] == [0] * 10 + [1] * 10
    assert fetch.times[20:30] == [2 + number // 2 for number in range(10)]
    assert fetch.times[30:] == [101 + number // 2 for number in range(11)]


async def test_a_lowered_limit_bounds_the_items_in_back_off_once_those_of_before_have_returned():
    limit, fetch = paco.Limit(10), Flaky(1, takes=1)

    async def source():
        for number in range(100):
            if number == 10:
                await asyncio.sleep(10)
                limit.limit = 2
            yield number

    retried = paco.retry(fetch, on=lambda error: 1 if error.args[0] < 10 else 200)
    running = asyncio.ensure_future(paco.map(retried, source(), limit=limit))
    await asyncio.sleep(100)
    assert len(fetch.calls) == 10 + 4  # under a limit of two, as many rest as have run and rested
    running.cancel()
    await asyncio.wait([running])


async def test_a_limit_that_fails_when_an_item_enters_back_off_ends_the_run():
    class Broken(paco.Limit):
        def release(self, permit, error=None):
            raise ValueError("closed")

    with pytest.raises(ValueError, match="closed") as caught:
        await paco.map(paco.retry(Flaky(9), on=lambda _: 100), [1], limit=Broken(1))
    assert caught.value.__notes__ == ["paco.map: its limit"]
    assert now() == 0


async def test_an_item_does_not_rest_after_its_limit_has_failed_in_a_run_that_is_ending():
    class Stubborn(paco.Limit):
        async def release(self, permit, error=None):
            try:
                await asyncio.sleep(10 if error.args == (0,) else 0)
            except asyncio.CancelledError:
                raise OSError("closed") from None

    async def fail(item):
        await asyncio.sleep(item)
        raise ValueError(item)

    with pytest.raises(ValueError, match="1"):
        await paco.map(
            paco.retry(fail, on=lambda error: 100 if error.args[0] == 0 else None), [0, 1], limit=Stubborn(2)
        )
    assert now() == 1


@pytest.mark.parametrize("pause", [0, 7])
@pytest.mark.parametrize("count", [None, 1, 2, 100])
async def test_every_attempt_pays_the_rate(count, pause):
    rate = paco.Rate(1, per=1)
    fetch = Flaky(2)
    limit = rate if count is None else rate & paco.Limit(count)
    await paco.map(paco.retry(fetch, on=lambda _: pause), range(8), limit=limit)
    assert len(fetch.times) == 24
    assert all(after - before >= 1 for before, after in itertools.pairwise(fetch.times))
    if count is None or pause == 0:
        assert now() <= 24 + pause  # and the rate is used


async def test_under_a_rate_alone_an_item_in_back_off_does_not_hold_others_up_however_many_run(longest, monkeypatch):
    monkeypatch.setattr("paco._engine.permits._RESTING", 3)
    fetch = Flaky(lambda item: item == 0, takes=50)
    await paco.map(paco.retry(fetch, wait=200, max_wait=200), range(100), limit=paco.Rate(1))
    assert fetch.times == [*range(100), 250]


@pytest.mark.slow
async def test_under_a_rate_alone_no_item_starts_while_a_thousand_are_in_back_off(longest):
    source = paco.testing.Source(range(5000))
    fetch = paco.retry(Flaky(9, takes=0), wait=10**6, max_wait=10**6)
    running = asyncio.ensure_future(paco.map(fetch, source, limit=paco.Rate(100, per=1)))
    await asyncio.sleep(100)
    running.cancel()
    await asyncio.wait([running])
    assert source.pulled == 2000  # each has failed once


async def test_in_back_off_an_item_holds_no_permit_of_a_limit(longest):
    shared = paco.Limit(1)
    fetch, other = Flaky(1, takes=1), Flaky(0, takes=1)
    first = asyncio.ensure_future(paco.map(paco.retry(fetch, wait=10), [1], limit=shared))
    await asyncio.sleep(0.5)
    await paco.map(other, range(3), limit=shared)
    assert (other.times, now()) == ([1, 2, 3], 4)
    assert await first == [1]
    assert (fetch.times, now()) == ([0, 11], 12)


@pytest.mark.parametrize("make_limit", [lambda: 1, lambda: paco.Limit(1)], ids=["int", "Limit"])
async def test_an_item_that_times_out_in_back_off_continues_without_a_slot(make_limit):
    fetch = Flaky(lambda item: 2 * (item == 0), takes=1)

    async def one(item):
        try:
            return await paco.timeout(paco.retry(fetch, on=lambda _: 10), 5)(item)
        except TimeoutError:
            return await paco.retry(fetch, on=lambda _: 10)(item)

    limit = make_limit()
    assert await paco.map(one, range(3), limit=limit) == [0, 1, 2]
    assert fetch.times == [0, 1, 2, 5, 16]
    if limit != 1:
        assert (limit.in_flight, limit.waiting) == (0, 0)


async def test_an_item_that_times_out_in_back_off_lets_another_start(longest):
    fetch = Flaky(lambda item: item < 2)
    retried = paco.retry(fetch, wait=100, max_wait=100)

    async def one(item):
        try:
            return await paco.timeout(retried, 5 if item == 0 else 1000)(item)
        except TimeoutError:
            await asyncio.sleep(45)

    await paco.map(one, range(3), limit=paco.Limit(1))
    assert fetch.times == [0, 0, 5, 100]  # until then, as many items rest as may run and rest


async def test_a_foreign_limit_is_released_for_the_back_off_and_acquired_again(longest):
    semaphore = asyncio.Semaphore(1)
    fetch = Flaky(lambda item: item == 0, takes=10)
    assert await paco.map(paco.retry(fetch, wait=10), range(4), limit=semaphore) == [0, 1, 2, 3]
    assert fetch.times == [0, 10, 20, 30, 40]
    assert not semaphore.locked()


async def test_an_item_whose_slot_is_taken_waits_for_one(longest):
    fetch = Flaky(lambda item: item == 0, takes=10)
    await paco.map(paco.retry(fetch, wait=5), range(3), limit=1)
    assert fetch.times == [0, 10, 20, 30]


async def test_a_deadline_while_an_item_waits_for_a_slot_raises_its_last_error(longest):
    fetch = Flaky(lambda item: item == 0, takes=10)

    async def one(item):
        with paco.deadline(18 if item == 0 else None):
            return await paco.retry(fetch, wait=5)(item)

    with pytest.raises(OSError, match="1") as caught:
        await paco.map(one, range(4), limit=1)
    assert caught.value.args == (0, 1)
    assert now() == 20  # it has waited for a slot from 15 on
    assert notes(caught)[0].endswith(": the deadline comes before the next attempt")


async def test_a_stream_delivers_other_results_while_the_first_item_is_in_back_off(longest):
    fetch = Flaky(lambda item: item == 0, takes=1)
    stream = paco.map(paco.retry(fetch, wait=100, max_wait=100), range(3), limit=2).as_completed()
    assert [(item, now()) async for item in stream] == [(1, 1), (2, 2), (0, 102)]


@given(
    failures=st.lists(st.integers(0, 3), max_size=20),
    limit=st.integers(1, 4),
    counted=st.booleans(),
    takes=st.integers(0, 3),
    pause=st.integers(0, 5),
)
async def test_every_item_has_its_attempts_and_its_result_and_the_limit_holds(failures, limit, counted, takes, pause):
    fetch = Flaky(lambda item: failures[item], takes=takes)
    source = paco.testing.Source(range(len(failures)))
    most = 0

    async def one(item):
        nonlocal most
        most = max(most, source.pulled - finished)
        return await fetch(item)

    async def whole(item):
        nonlocal finished
        try:
            return await paco.retry(one, attempts=4, on=lambda _: pause)(item)
        finally:
            finished += 1

    finished = 0
    results = await paco.map(whole, source, limit=paco.Limit(limit) if counted else limit)
    assert results == list(range(len(failures)))
    assert fetch.calls == {item: count + 1 for item, count in enumerate(failures)}
    assert fetch.peak <= limit
    assert most <= 2 * limit  # as many rest as run


@given(
    plans=st.lists(st.tuples(st.integers(0, 3), st.none() | st.integers(1, 9)), max_size=12),
    limit=st.integers(1, 3),
    takes=st.integers(0, 2),
    pause=st.integers(1, 5),
)
async def test_no_new_item_starts_while_the_limit_is_used_even_after_timeouts_in_back_off(plans, limit, takes, pause):
    awake, beside = set(), []

    async def attempt(item):
        awake.add(item)
        if item not in fetch.calls:
            beside.append(len(awake))
        try:
            return await fetch(item)
        except OSError:
            awake.discard(item)
            raise

    async def one(item):
        call = paco.retry(attempt, attempts=4, on=lambda _: pause)
        try:
            await paco.timeout(call, plans[item][1])(item)
        except TimeoutError:
            awake.add(item)
            await asyncio.sleep(takes + 1)
        finally:
            awake.discard(item)

    fetch = Flaky(lambda item: plans[item][0], takes=takes)
    await paco.each(one, range(len(plans)), limit=limit)
    assert all(number <= limit for number in beside)


async def test_against_a_server_that_refuses_excess_requests_all_items_succeed(longest):
    running, log = 0, []

    async def server(item):
        nonlocal running
        if running == 5:
            log.append((item, 429))
            raise Busy(seconds=2)
        running += 1
        try:
            await asyncio.sleep(1)
        finally:
            running -= 1
        log.append((item, 200))
        return item

    fetch = paco.retry(server, attempts=100, on=lambda error: error.seconds)
    assert await paco.map(fetch, range(300), limit=20) == list(range(300))
    served = [item for item, status in log if status == 200]
    assert sorted(served) == list(range(300))
    assert len(log) > 300


async def test_the_run_adds_its_note_after_that_of_the_attempts():
    with pytest.raises(OSError, match="7") as caught:
        await paco.map(paco.retry(Flaky(9), wait=0), [7])
    assert notes(caught) == ["paco.retry: gave up after 3 attempts and 0 s", "paco.map: item 0: 7"]


# ---- the packages that people have already


async def test_a_function_under_tenacity_runs_in_a_map():
    fetch = Flaky(2, takes=1)
    wait = tenacity.wait_fixed(5)
    retried = tenacity.retry(stop=tenacity.stop_after_attempt(3), wait=wait, reraise=True)(fetch.__call__)
    assert await paco.map(retried, range(4), limit=2) == [0, 1, 2, 3]
    assert fetch.peak == 2
    assert now() == 26  # it keeps its slot while it waits: two rounds of three attempts


async def test_settle_keeps_an_error_that_tenacity_raises():
    retried = tenacity.retry(stop=tenacity.stop_after_attempt(2))(Flaky(9).__call__)
    (outcome,) = await paco.map(paco.settle(retried), [1])
    assert isinstance(outcome.error, tenacity.RetryError)


async def test_a_function_under_stamina_runs_in_a_map():
    fetch = Flaky(2, takes=1)
    retried = stamina.retry(on=OSError, attempts=3, wait_initial=5, wait_jitter=0, wait_exp_base=1)(fetch.__call__)
    assert await paco.map(retried, range(4), limit=2) == [0, 1, 2, 3]
    assert (fetch.peak, now()) == (2, 26)


async def test_a_run_inside_tenacity_can_be_cancelled():
    retried = tenacity.retry(wait=tenacity.wait_fixed(5))(Flaky(10**9).__call__)
    with pytest.raises(TimeoutError):
        await paco.map(retried, range(4), limit=2, timeout=12)
    assert now() == 12


# ---- as a decorator


async def test_it_is_a_decorator_bare_and_with_options(longest):
    @paco.retry
    async def bare(item, *, key=0):
        """Fetch."""
        return await fetch(item)

    @paco.retry(2, on=OSError, wait=7)
    async def with_options(item):
        return await fetch(item)

    fetch = Flaky(1)
    assert await bare(1, key=2) == 1
    assert await with_options(2) == 2
    assert now() == 0.1 + 7
    assert (bare.__name__, bare.__doc__) == ("bare", "Fetch.")
    assert str(inspect.signature(bare)) == "(item, *, key=0)"
    assert inspect.iscoroutinefunction(bare)
    assert await paco.retry(fn=fetch)(2) == 2


async def test_it_decorates_methods():
    class Client:
        def __init__(self):
            self.calls = 0

        @paco.retry(wait=0)
        async def fetch(self, url):
            self.calls += 1
            if self.calls == 1:
                raise OSError
            return url

    assert await Client().fetch("url") == "url"


async def test_a_plain_function_that_returns_an_awaitable_is_called_for_each_attempt():
    fetch = Flaky(2)
    assert await paco.retry(lambda item: fetch(item + 1), wait=0)(4) == 5
    assert fetch.calls == {5: 3}


async def test_an_error_raised_by_the_call_itself_is_retried_too():
    calls = []

    def fetch(item):
        calls.append(item)
        if len(calls) < 3:
            raise OSError
        return Flaky(0)(item)

    assert await paco.retry(fetch, wait=0)(1) == 1


async def test_a_function_that_returns_no_awaitable_is_called_once_and_reported():
    calls = []
    with pytest.raises(TypeError, match=r"^paco\.retry: append must be a coroutine function, but it returned None"):
        await paco.retry(calls.append)(1)
    assert calls == [1]


# ---- bad input


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"attempts": 0}, ValueError, "attempts must be an int of 1 or more, got 0"),
        ({"attempts": 1.5}, TypeError, "attempts must be an int of 1 or more, got 1.5"),
        (
            {"on": ()},
            TypeError,
            "on must be a type of Exception, a tuple of types, or a function of the",
        ),
        ({"on": KeyboardInterrupt}, TypeError, "on must be a type of Exception"),
        ({"on": (OSError, BaseException)}, TypeError, "on must be a type of Exception"),
        ({"on": OSError()}, TypeError, "on must be a type of Exception"),
        ({"on": int}, TypeError, "on must be a type of Exception"),
        ({"on": None}, TypeError, "on must be a type of Exception"),
        ({"wait": -1}, ValueError, "wait must be seconds"),
        ({"wait": None}, TypeError, "wait must be seconds"),
        ({"max_wait": float("nan")}, ValueError, "max_wait must be seconds"),
        ({"wait": 20}, ValueError, "max_wait must not be less than wait, got 10.0 and 20"),
        ({"timeout": "1"}, TypeError, "timeout must be seconds"),
        ({"timeout": -1}, ValueError, "timeout must be seconds"),
        ({"longest": None}, TypeError, "longest must be seconds"),
        ({"longest": -1}, ValueError, "longest must be seconds"),
        ({"budget": 0}, ValueError, "budget must be a number above 0 or None, got 0"),
        ({"budget": True}, TypeError, "budget must be a number above 0 or None, got True"),
        ({"budget": float("inf")}, ValueError, "budget must be a number above 0 or None, got inf"),
    ],
)
def test_bad_options_are_refused_at_the_call(options, error, message):
    for call in (lambda: paco.retry(Flaky(), **options), lambda: paco.retry(**options)):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value).startswith(f"paco.retry: {message}")


def test_an_argument_that_is_no_function_is_refused_at_the_call():
    with pytest.raises(TypeError, match=r"^paco\.retry: fn must be a coroutine function, got 'fetch'$"):
        paco.retry("fetch")
    with pytest.raises(TypeError, match=r"^paco\.retry: fn must be a coroutine function, got None$"):
        paco.retry(None)
    with pytest.raises(TypeError, match="pass the function, not the call"):
        paco.retry(Flaky()(1))


# ---- cancellation


class Steps:
    """Work that fails once for each item, in steps of the loop, and knows when too many run."""

    def __init__(self, limit):
        self.limit, self.running, self.seen = limit, 0, set()

    async def __call__(self, item):
        self.running += 1
        assert self.running <= self.limit + 1  # one that was cancelled in its back-off may end beside the others
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        finally:
            self.running -= 1
        if item not in self.seen:
            self.seen.add(item)
            raise OSError
        return item


@pytest.mark.parametrize("again", [None, 1, 3])
@pytest.mark.parametrize("limit", [1, 2, "Limit", "Rate", "Rate & Limit"])
def test_cancelled_at_every_step_of_a_run_nothing_is_left_and_no_permit_is_lost(limit, again, cancel_at_every_step):
    made = []

    def make():
        limits = {
            "Limit": paco.Limit(2),
            "Rate": paco.Rate(100, burst=2),
            "Rate & Limit": paco.Rate(100) & paco.Limit(2),
        }
        return limits.get(limit, limit)

    async def main():
        value, work = make(), Steps(2)
        made.append(value)
        try:
            await paco.map(paco.retry(work, wait=0.01), range(3), limit=value)
        finally:
            assert work.running == 0
        if limit == "Limit":
            assert (value.in_flight, value.waiting) == (0, 0)

    assert cancel_at_every_step(main, again=again) > 20
    if limit == "Limit":
        assert all((value.in_flight, value.waiting) == (0, 0) for value in made)


def test_cancelled_at_every_step_a_call_makes_no_further_attempt(cancel_at_every_step):
    async def main():
        fetch = Flaky(9, takes=1)
        try:
            await paco.retry(fetch, timeout=5, budget=0.5)(1)
        except OSError:
            assert fetch.calls == {1: 3}
        finally:
            assert fetch.running == 0

    assert cancel_at_every_step(main, again=1) > 10
