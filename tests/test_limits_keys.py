"""`PerKey`: a limit for each key, and what is forgotten."""

from __future__ import annotations

import asyncio

import pytest

import paco
from paco.testing import Probe, Source, now


def nap():
    return Probe(lambda item: item, takes=1)


def first(item):
    return item[0]


async def test_each_key_has_a_limit_of_its_own():
    probe, running = nap(), {}

    async def noted(item):
        running[item[0]] = running.get(item[0], 0) + 1
        assert running[item[0]] <= 2
        result = await probe(item)
        running[item[0]] -= 1
        return result

    items = ["a1", "a2", "a3", "b1", "b2", "b3", "a4"]
    assert await paco.map(noted, items, limit=paco.PerKey(first, lambda: 2)) == items
    assert (probe.peak, now()) == (4, 2)


async def test_a_busy_key_does_not_hold_up_the_others():
    probe = nap()
    items = ["a1", "a2", "a3", "b1", "c1"]
    assert await paco.map(probe, items, limit=paco.PerKey(first, lambda: paco.Limit(1))) == items
    assert probe.started == ["a1", "b1", "c1", "a2", "a3"]
    assert now() == 3


@pytest.mark.parametrize("lookahead", [1, 3])
async def test_so_many_items_wait_for_their_keys_at_most(lookahead):
    source = Source(f"a{number}" for number in range(100))
    limit = paco.PerKey(first, lambda: paco.Limit(1), lookahead=lookahead)
    running = asyncio.ensure_future(paco.each(nap(), source, limit=limit))
    await asyncio.sleep(0.5)
    assert source.pulled == 1 + lookahead
    running.cancel()
    await asyncio.wait([running])
    assert len(limit) == 0


async def test_what_waits_for_a_key_holds_no_slot_of_another_limit():
    probe, count = nap(), paco.Limit(2)
    items = ["a1", "a2", "a3", "b1"]
    await paco.each(probe, items, limit=count & paco.PerKey(first, lambda: paco.Limit(1)))
    assert probe.started == ["a1", "b1", "a2", "a3"]


async def test_two_calls_share_the_limits_of_the_keys():
    probe, limit = nap(), paco.PerKey(first, lambda: 1)
    await paco.gather(paco.each(probe, ["a1", "b1"], limit=limit), paco.each(probe, ["a2", "b2"], limit=limit))
    assert (probe.peak, now(), len(limit)) == (2, 2, 0)


async def test_keys_that_are_at_rest_are_forgotten():
    limit = paco.PerKey(lambda item: item, lambda: paco.Limit(1))
    most = 0

    async def work(item):
        nonlocal most
        most = max(most, len(limit))
        await asyncio.sleep(0)

    await paco.each(work, range(1000), limit=limit & paco.Limit(5))
    assert most <= 5 + 100
    assert len(limit) == 0
    assert limit.idle


async def test_a_rate_is_forgotten_when_it_would_hold_nobody_up():
    limit = paco.PerKey(lambda item: item, lambda: paco.Rate(1, per=10))
    await paco.each(nap(), [1, 2], limit=limit)
    assert len(limit) == 2
    assert not limit.idle
    await paco.each(nap(), [1], limit=limit)
    assert now() == 11  # the second start of 1 at 10
    await asyncio.sleep(20)
    assert limit.idle
    await paco.each(nap(), range(10, 14), limit=limit)
    assert len(limit) == 4  # 1 and 2 are not among them


async def test_limits_that_cannot_tell_are_kept():
    limit = paco.PerKey(lambda item: item, lambda: asyncio.Semaphore(1))
    await paco.each(nap(), [1, 2, 1], limit=limit)
    assert (len(limit), limit.idle) == (2, False)
    both = paco.PerKey(lambda item: item, lambda: paco.Limit(1) & paco.Limit(2))
    await paco.each(nap(), [1, 2, 1], limit=both)
    assert (len(both), both.idle) == (0, True)


async def test_errors_of_its_functions_are_errors_of_the_item():
    def key(item):
        return {"bad": [], "none": None}.get(item) if item in {"bad", "none"} else 1 // item

    results = await paco.map(nap(), [1, 0, "bad", "none"], limit=paco.PerKey(key, lambda: 1), return_exceptions=True)
    assert [results[0], type(results[1]), results[3]] == [1, ZeroDivisionError, "none"]
    assert str(results[2]) == "paco.PerKey: key must return something hashable, but key returned []"
    for made, error in (("2", TypeError), (0, ValueError)):
        with pytest.raises(error, match=r"paco\.PerKey: what make_limit\(\) returns must be"):
            await paco.map(nap(), [1], limit=paco.PerKey(key, lambda made=made: made))


async def test_a_limit_of_a_key_that_fails_leaves_nothing():
    class Refuses(paco.Limiter):
        async def acquire(self, item=None):
            raise OSError(item)

    limit = paco.PerKey(lambda item: item, Refuses)
    results = await paco.map(nap(), [1, 2], limit=limit, return_exceptions=True)
    assert list(map(str, results)) == ["1", "2"]
    assert len(limit) == 0


async def test_it_goes_on_a_function_too():
    probe = nap()
    careful = paco.limited(probe, paco.PerKey(first, lambda: 1))
    assert await paco.gather(careful("a1"), careful("a2"), careful("b1")) == ["a1", "a2", "b1"]
    assert probe.started == ["a1", "b1", "a2"]


def test_it_says_what_it_is():
    assert repr(paco.PerKey(first, lambda: 1)) == "<paco.PerKey first, 0 keys>"


@pytest.mark.parametrize("arguments", [("host", lambda: 1), (first, 1), (first, lambda: 1, 0), (first, lambda: 1, "2")])
def test_bad_arguments_are_refused(arguments):
    with pytest.raises((TypeError, ValueError), match=r"^paco\.PerKey: (key|make_limit|lookahead) must be"):
        paco.PerKey(*arguments)
