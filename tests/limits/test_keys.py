"""`paco.PerKey`: a limit for each key."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import operator
import threading
from itertools import chain, repeat

import pytest

import paco
from paco.testing import AsyncSource, Probe, Source, now
from tests.counted import Counted

first = operator.itemgetter(0)


async def nap(seconds=0):
    await asyncio.sleep(seconds)


async def ten_seconds(item=None):
    await nap(10)
    return item


def same():
    return Probe(lambda item: item, takes=10)


def starts(probe):
    return list(zip(probe.started, probe.started_at, strict=True))


# ---- one limit for each key


@pytest.mark.parametrize("shape", [list, iter, Source, AsyncSource])
async def test_each_key_has_its_own_limit(shape):
    probe, limit = same(), paco.PerKey(first, lambda: 1)
    assert await paco.map(probe, shape(["a1", "a2", "b1", "b2", "c1"]), limit=limit) == ["a1", "a2", "b1", "b2", "c1"]
    assert sorted(starts(probe)) == [("a1", 0), ("a2", 10), ("b1", 0), ("b2", 10), ("c1", 0)]


async def test_items_with_the_same_key_start_in_source_order():
    probe = same()
    await paco.map(probe, ["a1", "b1", "a2", "b2", "a3", "b3", "a4"], limit=paco.PerKey(first, lambda: 1))
    assert [item for item in probe.started if item[0] == "a"] == ["a1", "a2", "a3", "a4"]
    assert now() == 40


@pytest.mark.parametrize(
    ("make_limit", "ends"),
    [
        (lambda: 2, 20),
        (lambda: 0, 10),
        (lambda: paco.Limit(2), 20),
        (lambda: paco.Rate(1) & 4, 13),
        (lambda: asyncio.Semaphore(2), 20),
        (lambda: paco.PerKey(len, lambda: 2), 20),
        (functools.partial(paco.Limit, 2), 20),
    ],
    ids=["number", "no limit", "count", "rate and count", "semaphore", "per key", "partial"],
)
async def test_the_limit_of_a_key_may_be_anything_that_limit_accepts(make_limit, ends):
    await paco.map(ten_seconds, ["a1", "a2", "a3", "a4"], limit=paco.PerKey(first, make_limit))
    assert now() == ends


async def test_calls_that_share_a_per_key_limit_share_the_limit_of_each_key():
    probe, limit = same(), paco.PerKey(first, lambda: 1)
    call = paco.limited(probe, limit)
    await paco.gather(paco.map(probe, ["a1", "b1"], limit=limit), paco.map(probe, ["a2"], limit=limit), call("a3"))
    assert now() == 30
    assert sorted(when for item, when in starts(probe) if item[0] == "a") == [0, 10, 20]


async def test_a_slot_takes_the_item_for_its_key():
    limit = paco.PerKey(first, lambda: 1)

    async def use(item):
        async with limit.slot(item):
            await nap(10)

    await paco.gather(use("a1"), use("a2"), use("b1"))
    assert now() == 20


async def test_the_limit_of_a_key_receives_the_item():
    limit = paco.PerKey(first, lambda: paco.Rate(1, burst=1, cost=lambda item: int(item[1])))
    await paco.map(nap_nothing, ["a1", "a5", "a1", "b1"], limit=limit)
    assert now() == 6


async def nap_nothing(_):
    await nap()


# ---- the look-ahead


async def test_a_busy_key_does_not_delay_others_within_the_look_ahead():
    probe = same()
    await paco.map(probe, ["a1", "a2", "a3", "b1"], limit=paco.PerKey(first, lambda: 1, lookahead=3))
    assert starts(probe) == [("a1", 0), ("b1", 0), ("a2", 10), ("a3", 20)]


async def test_beyond_the_look_ahead_other_keys_wait_until_a_waiting_item_starts():
    probe = same()
    await paco.map(probe, ["a1", "a2", "a3", "b1"], limit=paco.PerKey(first, lambda: 1, lookahead=2))
    assert starts(probe) == [("a1", 0), ("a2", 10), ("b1", 10), ("a3", 20)]


@pytest.mark.parametrize("lookahead", [1, 5])
async def test_no_more_items_are_taken_than_run_and_wait(lookahead):
    source, probe = Source(chain(repeat("a", 50), "b")), same()
    limit = paco.PerKey(first, lambda: 2, lookahead=lookahead)
    running = asyncio.ensure_future(paco.map(probe, source, limit=limit))
    await nap(5)
    assert source.pulled == 2 + lookahead
    await running
    assert now() == 250


async def test_the_default_look_ahead_is_100():
    assert paco.PerKey(first, lambda: 1).lookahead == 100


# ---- forgetting


async def test_a_key_is_kept_while_it_is_in_use():
    limit = paco.PerKey(first, lambda: 1)
    running = asyncio.ensure_future(paco.map(ten_seconds, ["a1", "a2", "b1"], limit=limit))
    await nap(5)
    assert sorted(limit.keys) == ["a", "b"]
    assert not limit.idle()
    await nap(10)
    assert limit.keys == ("a",)
    await running
    assert limit.keys == ()
    assert limit.idle()


async def test_a_key_is_forgotten_however_its_items_end():
    async def fail(_):
        raise ValueError

    limit = paco.PerKey(first, lambda: paco.Limit(1) & paco.Limit(2))
    await paco.map(fail, ["a1", "a2"], limit=limit, return_exceptions=True)
    assert limit.keys == ()
    with pytest.raises(TimeoutError):
        await paco.map(ten_seconds, ["a1", "a2", "b1"], limit=limit, timeout=5)
    assert limit.keys == ()


async def test_a_key_is_kept_while_its_rate_would_delay_an_item():
    limit = paco.PerKey(first, lambda: paco.Rate(1, per=60))
    probe = same()
    call = paco.limited(probe, limit)
    await call("a1")
    assert limit.keys == ("a",)
    await call("a2")
    assert starts(probe) == [("a1", 0), ("a2", 60)]


async def test_a_key_whose_rate_delays_nothing_is_forgotten_as_other_keys_come():
    limit = paco.PerKey(first, lambda: paco.Rate(1, per=60))
    call = paco.limited(nap_nothing, limit)
    for item in "abcdef":
        await call(item)
    assert limit.keys == tuple("abcdef")
    await nap(59)
    await call("g")
    assert len(limit.keys) == 7
    await nap(1)
    for _ in range(3):
        await call("g")
    assert limit.keys == ("g",)


async def test_a_pause_without_a_key_says_how_to_pause_that_of_one():
    keyed = paco.PerKey(len, lambda: paco.Rate(1))
    said = r"paused for a time; pause the limit of a key: keyed\.limit_of\(key\)\.pause\(seconds\)$"
    with pytest.raises(TypeError, match=said):
        (keyed & paco.Limit(2)).pause(1)


async def test_a_key_is_kept_while_its_rate_is_paused():
    limit = paco.PerKey(first, lambda: paco.Rate(1))
    probe = same()
    call = paco.limited(probe, limit)
    limit.limit_of("a").pause(100)
    await call("b1")
    await call("b2")
    await call("a1")
    assert starts(probe) == [("b1", 0), ("b2", 10), ("a1", 100)]


async def test_a_limit_from_limit_of_that_is_not_used_is_forgotten():
    limit = paco.PerKey(first, lambda: 1)
    assert limit.limit_of("a") is limit.limit_of("a")
    assert limit.keys == ("a",)
    await paco.limited(ten_seconds, limit)("b1")
    assert limit.keys == ()


async def test_the_limit_of_a_key_can_be_changed_while_it_is_in_use():
    probe, limit = same(), paco.PerKey(first, lambda: 1)
    running = asyncio.ensure_future(paco.map(probe, ["a1", "a2", "a3"], limit=limit))
    await nap(5)
    limit.limit_of("a").limit = 2
    await running
    assert starts(probe) == [("a1", 0), ("a2", 5), ("a3", 10)]


async def test_with_ever_new_keys_memory_is_bounded_by_the_rates_that_still_delay():
    limit = paco.PerKey(lambda item: item, lambda: paco.Rate(1, per=10))
    call, most = paco.limited(nap, limit), 0
    for number in range(300):
        await call(1 + number / 10**6)
        most = max(most, len(limit.keys))
    assert 10 <= most <= 15


async def test_a_foreign_limit_of_a_key_is_kept():
    limit = paco.PerKey(first, lambda: asyncio.Semaphore(1))
    await paco.map(nap_nothing, ["a1", "b1", "a2"], limit=limit)
    assert limit.keys == ("a", "b")
    assert not limit.idle()


async def test_a_rate_is_idle_when_it_would_behave_like_a_new_one():
    rate = paco.Rate(1, per=10, burst=2)
    assert rate.idle()
    await rate.acquire()
    assert not rate.idle()
    await nap(10)
    assert rate.idle()
    booking = await rate.reserve()
    assert not rate.idle()
    rate.release(booking)
    assert rate.idle()
    assert paco.Rate(1).idle()


async def test_a_rate_with_a_waiter_is_not_idle():
    rate = paco.Rate(1)
    rate.pause(0)
    assert rate.idle()
    rate.pause(10)
    assert not rate.idle()
    waiting = asyncio.ensure_future(rate.acquire())
    await nap(9.5)
    assert not rate.idle()
    await waiting
    assert now() == 10


def test_outside_its_loop_a_used_rate_is_not_idle():
    rate = paco.Rate(1)
    paco.testing.run(rate.acquire)
    assert not rate.idle()


async def test_a_count_and_a_combination_are_idle_when_no_permit_is_held():
    count = paco.Limit(1)
    both = count & paco.Rate(1)
    assert both.idle()
    async with both.slot():
        assert not count.idle()
        assert not both.idle()
    assert count.idle()
    assert not both.idle()  # the rate


# ---- beside other limits


@pytest.mark.parametrize("order", [operator.and_, lambda a, b: b & a])
async def test_an_item_that_waits_for_its_key_holds_no_permit_of_another_limit(order):
    probe, count = same(), paco.Limit(2)
    limit = order(paco.PerKey(first, lambda: 1), count)
    await paco.map(probe, ["a1", "a2", "a3", "b1", "b2"], limit=limit)
    assert starts(probe) == [("a1", 0), ("b1", 0), ("a2", 10), ("b2", 10), ("a3", 20)]
    assert count.in_flight == count.waiting == 0


async def test_a_rate_of_a_key_counts_starts_not_requests():
    probe, count = same(), paco.Limit(1)
    limit = paco.PerKey(first, lambda: paco.Rate(1, per=10)) & count
    permit = await count.acquire()
    running = asyncio.ensure_future(paco.map(probe, ["a1", "a2"], limit=limit))
    await nap(25)
    count.release(permit)
    await running
    assert starts(probe) == [("a1", 25), ("a2", 35)]


async def test_a_reservation_released_before_its_start_was_not_used():
    limit = paco.PerKey(first, lambda: paco.Rate(1, per=60))
    limit.release(await limit.reserve("a1"))
    assert limit.keys == ()
    await limit.acquire("a2")
    assert now() == 0


async def test_a_call_that_needs_the_key_it_already_holds_raises_a_deadlock_error():
    limit = paco.PerKey(first, lambda: 1)
    inner = paco.limited(ten_seconds, limit)
    with pytest.raises(RuntimeError, match=r"^paco\.Limit: deadlock"):
        await paco.map(inner, ["a1"], limit=limit)
    assert limit.keys == ()


# ---- what goes wrong


async def test_an_error_of_the_key_function_is_an_error_of_the_item_with_a_note():
    def host(item):
        return item[9]

    results = await paco.map(ten_seconds, ["a", [1] * 10], limit=paco.PerKey(host, lambda: 1), return_exceptions=True)
    assert results[1] == [1] * 10
    assert isinstance(results[0], IndexError)
    assert results[0].__notes__ == ["paco.PerKey: raised by its key function, host"]


async def test_an_error_of_make_limit_is_an_error_of_the_item_with_a_note():
    def expensive():
        raise OSError

    limit = paco.PerKey(first, expensive)
    with pytest.raises(OSError, match="raised by its make_limit function") as caught:
        await paco.map(ten_seconds, ["a"], limit=limit)
    assert caught.value.__notes__ == [
        "paco.PerKey: raised by its make_limit function, expensive",
        "paco.map: item 0: 'a'",
    ]
    assert limit.keys == ()


async def test_an_unhashable_key_is_an_error_of_the_item():
    def host(item):
        return [item]

    with pytest.raises(TypeError, match=r"^paco\.PerKey: the result of host\(item\) must be hashable, got \['a'\]"):
        await paco.map(ten_seconds, ["a"], limit=paco.PerKey(host, lambda: 1))


async def test_an_awaitable_key_is_an_error_of_the_item():
    async def look_up(item):
        return item

    def call(fn, item):
        return fn(item)

    limit = paco.PerKey(functools.partial(call, look_up), lambda: 1)
    message = r"the result of call\(item\) must be a key, not an awaitable, got <coroutine.*; make it a plain function"
    with pytest.raises(TypeError, match=message):
        await paco.map(ten_seconds, ["a"], limit=limit)
    assert limit.keys == ()


@pytest.mark.parametrize(("made", "error"), [(-1, ValueError), ("2", TypeError), (None, TypeError)])
async def test_the_result_of_make_limit_is_checked(made, error):
    def none():
        return made

    with pytest.raises(error, match=r"^paco\.PerKey: the result of none\(\) must be an int of 0 or more"):
        await paco.map(ten_seconds, ["a"], limit=paco.PerKey(first, none))


async def test_a_key_is_unused_after_its_limit_fails_at_the_release():
    class Broken(paco.Limiter):
        async def acquire(self, item=None):
            await nap()

        def idle(self):
            return True

        def release(self, permit, error=None):
            raise ZeroDivisionError

    limit = paco.PerKey(first, Broken)
    permit = await limit.acquire("a")
    with pytest.raises(ZeroDivisionError):
        limit.release(permit)
    assert limit.keys == ()


@pytest.mark.parametrize("arguments", [(None, first), (first, None), (first, 2), (ten_seconds, first)])
def test_arguments_that_are_no_plain_functions_are_refused_at_once(arguments):
    with pytest.raises(TypeError, match=r"^paco\.PerKey: (key|make_limit) must be a plain function, not an async one"):
        paco.PerKey(*arguments)


@pytest.mark.parametrize(("lookahead", "error"), [(0, ValueError), (True, TypeError), (1.5, TypeError)])
def test_an_invalid_look_ahead_is_refused_at_once(lookahead, error):
    with pytest.raises(error, match=r"^paco\.PerKey: lookahead must be an int of 1 or more, got "):
        paco.PerKey(first, paco.Rate, lookahead)


def test_its_repr_shows_the_key_function_and_the_number_of_keys():
    assert repr(paco.PerKey(first, lambda: 1)).startswith("<paco.PerKey by operator.itemgetter(0), 0 keys>")
    assert repr(paco.PerKey(len, lambda: 1)) == "<paco.PerKey by len, 0 keys>"


# ---- limits that differ from key to key


async def test_make_limit_gets_the_key_if_it_has_a_parameter_for_it():
    asked = []

    def limit_of(key):
        asked.append(key)
        return 2 if key == "a" else 1

    for make_limit, ends in [(limit_of, 20), (lambda key, /: 3, 10), (lambda n=1: n, 30), (lambda *n: len(n) + 1, 30)]:
        start = now()
        await paco.map(ten_seconds, ["a1", "a2", "a3", "b1", "b2"], limit=paco.PerKey(first, make_limit))
        assert now() - start == ends
    assert asked == ["a", "b"]
    unknown = functools.wraps(max)(lambda: 1)  # a function whose signature cannot be found
    assert await paco.map(ten_seconds, ["a"], limit=paco.PerKey(first, unknown)) == ["a"]


async def test_a_mapping_has_a_limit_for_each_key_and_one_for_all_others():
    limit = paco.PerKey(first, {"a": 2, None: 1})
    await paco.map(ten_seconds, ["a1", "a2", "b1", "c1"], limit=limit)
    assert now() == 10
    together = paco.PerKey(first, {None: paco.Limit(1)})
    await paco.map(ten_seconds, ["a1", "b1"], limit=together)
    assert now() == 30
    assert limit.keys == ()


async def test_a_key_that_a_mapping_lacks_is_an_error_of_the_item():
    limit = paco.PerKey(first, {"a": 2})
    results = await paco.map(ten_seconds, ["a1", "b1"], limit=limit, return_exceptions=True)
    assert results[0] == "a1"
    assert repr(results[1]) == repr(KeyError("paco.PerKey: no limit for the key 'b'; add one for it, or for None"))


def test_a_mapping_is_checked_and_copied_at_once():
    with pytest.raises(TypeError, match=r"^paco\.PerKey: the limit of 'a' must be an int of 0 or more, or a limit"):
        paco.PerKey(first, {"a": "2"})
    known = {"a": 2}
    limit = paco.PerKey(first, known)
    known["b"] = 3
    with pytest.raises(KeyError):
        limit.limit_of("b")
    assert limit.limit_of("a").limit == 2


# ---- cancelled


@pytest.mark.parametrize("again", [None, 0, 1])
@pytest.mark.parametrize(
    "make_limit",
    [lambda: 1, lambda: paco.Limit(2) & paco.Limit(1), lambda: paco.PerKey(len, int)],
    ids=["number", "two", "per key"],
)
def test_cancelled_at_every_step_no_key_is_left_in_use(make_limit, again, cancel_at_every_step):
    async def work():
        limit = paco.PerKey(first, make_limit, lookahead=2)
        try:
            await paco.map(Probe(lambda item: item, takes=1, cleanup=1), ["a1", "a2", "b1", "a3"], limit=limit)
        finally:
            assert limit.keys == ()

    assert cancel_at_every_step(work, again=again) > 10


@pytest.mark.parametrize("again", [None, 0, 1])
def test_a_limited_function_cancelled_at_every_step_leaves_no_key_in_use(again, cancel_at_every_step):
    async def work():
        limit = paco.PerKey(first, lambda: 1)
        call = paco.limited(Probe(lambda item: item, takes=1), limit & 2)
        try:
            await paco.gather(call("a1"), call("a2"), call("b1"))
        finally:
            assert limit.keys == ()

    assert cancel_at_every_step(work, again=again) > 10


async def test_a_thread_may_pause_the_rate_of_a_key():
    limit = paco.PerKey(first, lambda: paco.Rate(1, burst=9))

    def refused(item):
        if item == "a0":
            limit.limit_of("a").pause(30)
        return item

    probe = same()
    await paco.map(paco.threaded(refused), ["a0"], limit=limit)
    await paco.map(probe, ["a1", "b1"], limit=limit)
    assert sorted(starts(probe)) == [("a1", 30), ("b1", 0)]


async def test_a_key_that_a_thread_asks_for_at_the_same_time_has_one_limit():
    begun, ended = threading.Event(), threading.Event()

    def make(key):
        if threading.current_thread() is not threading.main_thread():
            begun.set()
            ended.wait(30)
        return paco.Limit(1)

    limit = paco.PerKey(first, make)
    asks = asyncio.ensure_future(asyncio.to_thread(limit.limit_of, "a"))
    await asyncio.to_thread(begun.wait, 30)
    held = limit.limit_of("a")
    ended.set()
    assert await asks is held


@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("where", ["key", "limit"])
async def test_an_error_of_a_key_or_of_its_limit_is_part_of_no_reference_cycle(where, watched):
    class Broken(Counted, Exception):
        pass

    class Breaks(paco.Limiter):
        async def acquire(self, item=None):
            await nap(1)
            raise Broken

    def key(item):
        if where == "key":
            raise Broken
        return item

    gc.collect()
    gc.disable()
    try:
        with paco.listening(lambda event: None) if watched else contextlib.nullcontext():
            results = await paco.map(nap, [1, 2], limit=paco.PerKey(key, Breaks), return_exceptions=True)
        assert [type(result) for result in results] == [Broken, Broken]
        del results
        await nap()
        assert Broken.alive == 0
    finally:
        gc.enable()
