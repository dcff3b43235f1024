"""Items that wait for the permit of their key: in order, without tasks, and not in the way of other keys."""

from __future__ import annotations

import asyncio
import contextvars
import operator

import pytest

import paco
from paco.testing import AsyncSource, Probe, now
from tests.turns import Turns

VAR = contextvars.ContextVar("VAR", default=None)
first = operator.itemgetter(0)


def nap(takes=1):
    return Probe(lambda item: item, takes=takes)


def by_key(make_limit=lambda: 1, **how):
    return paco.PerKey(first, make_limit, **how)


LIMITS = {
    "a number": by_key,
    "a short look-ahead": lambda: by_key(lookahead=4),
    "Limit": lambda: by_key(lambda: paco.Limit(1)),
    "Rate": lambda: by_key(lambda: paco.Rate(1) & paco.Limit(1)),
    "Adaptive": lambda: by_key(lambda: paco.Adaptive(start=1, max=1)),
    "and a count": lambda: by_key() & paco.Limit(3),
    "of two kinds": lambda: by_key() & paco.PerKey(len, lambda: paco.Limit(3)),
    "and a foreign limit": lambda: by_key() & asyncio.Semaphore(3),
}


@pytest.mark.parametrize("make_limit", LIMITS.values(), ids=LIMITS)
@pytest.mark.parametrize("make_source", [iter, AsyncSource], ids=["sync", "async"])
@pytest.mark.parametrize(
    "takes", [0, 1, lambda item: int(item[1:]) % 3], ids=["no time", "a second", "different times"]
)
async def test_items_of_a_key_start_in_order_and_one_at_a_time(make_limit, make_source, takes):
    items = [f"{'abcd'[number % 4]}{number}" for number in range(100)]
    probe, running = nap(takes), {}

    async def alone(item):
        running[item[0]] = running.get(item[0], 0) + 1
        assert running[item[0]] == 1
        try:
            return await probe(item)
        finally:
            running[item[0]] -= 1

    limit = make_limit()
    assert await paco.map(alone, make_source(items), limit=limit) == items
    # With two kinds of keys, an item may get the first and then wait for the second, while another overtakes it.
    for key in "" if make_limit is LIMITS["of two kinds"] else "abcd":
        assert [item for item in probe.started if item[0] == key] == [item for item in items if item[0] == key]
    assert await paco.map(alone, items[:4], limit=limit) == items[:4]  # every permit was returned


async def test_items_that_wait_have_no_tasks_but_the_first_of_each_key():
    tasks = []

    async def count(item):
        await asyncio.sleep(1)
        tasks.append(len(asyncio.all_tasks()))

    await paco.each(count, [f"{'ab'[number % 2]}{number}" for number in range(200)], limit=by_key())
    assert now() == 100
    assert max(tasks) <= 12  # this one, two that run, two in front, one that takes items, some that have nothing to do


async def test_the_key_of_an_item_is_asked_for_once():
    asked = []

    def key(item):
        asked.append(item)
        return item[0]

    items = [f"{'ab'[number % 2]}{number}" for number in range(100)]
    await paco.each(nap(), items, limit=paco.PerKey(key, lambda: 2))
    assert asked == items


async def test_no_turn_of_the_loop_is_lost_between_two_items_of_a_key():
    async with Turns() as turns:
        await paco.each(nap(0), ["a"] * 500, limit=by_key())
    assert turns.count < 500 + 200  # at the end of the source, each of the last 100 needs another one


async def test_two_runs_share_the_limit_of_a_key_in_turn():
    limit, order = by_key(), []

    async def note(item):
        order.append(item[1])
        await asyncio.sleep(1)

    runs = [paco.each(note, [f"a{name}"] * 20, limit=limit) for name in "xy"]
    await paco.gather(*runs)
    assert now() == 40
    assert "xxxxx" not in "".join(order)
    assert "yyyyy" not in "".join(order)


async def test_two_runs_share_the_limit_of_a_key_in_turn_once_items_with_context_variables_have_started():
    limit, order = by_key(), []

    def items():
        for number in range(25):
            if number < 6:
                VAR.set(number)  # each of these waits in a worker of its own
            yield "ax"

    async def note(item):
        order.append(item[1])
        await asyncio.sleep(1)

    await paco.gather(paco.each(note, items(), limit=limit), paco.each(note, ["ay"] * 20, limit=limit))
    assert "".join(order[8:40]) == "yxyxyxyx" * 4


class Renewing(paco.Limit):
    """A limit of one that does what it is told when it renews."""

    def __init__(self, act):
        super().__init__(1)
        self._act = act

    def renew(self, permit):
        return self._act()

    def renews(self, permit, own):
        return True


async def test_a_permit_that_is_not_renewed_goes_to_the_item_in_front():
    probe = nap()
    limit = paco.PerKey(first, lambda: Renewing(lambda: None), lookahead=4)
    items = [f"{'aab'[number % 3]}{number}" for number in range(60)]
    assert await paco.map(probe, items, limit=limit) == items
    assert [item for item in probe.started if item[0] == "a"] == [item for item in items if item[0] == "a"]
    assert now() == 40


async def test_a_limit_of_a_key_that_fails_when_it_renews_ends_the_run():
    def fail():
        raise OSError("the limit is broken")

    limit = paco.PerKey(first, lambda: Renewing(fail))
    with pytest.raises(OSError, match="the limit is broken") as caught:
        await paco.map(nap(), ["a"] * 200, limit=limit)
    assert caught.value.__notes__[0] == "paco.map: its limit"
    assert not limit.limit_of("a").in_flight


async def test_items_that_fail_are_followed_by_the_others_of_their_key():
    async def odd_fails(item):
        await asyncio.sleep(1)
        if int(item[1:]) % 2:
            raise OSError(item)
        return item

    results = await paco.map(odd_fails, [f"a{number}" for number in range(20)], limit=by_key(), return_exceptions=True)
    assert [str(result) for result in results] == [f"a{number}" for number in range(20)]
    assert now() == 20


async def test_retries_give_the_permit_of_their_key_to_the_next_item():
    tried = set()

    async def fails_at_first(item):
        await asyncio.sleep(1)
        if item not in tried:
            tried.add(item)
            raise OSError(item)
        return item

    items = [f"{'ab'[number % 2]}{number}" for number in range(20)]
    assert await paco.map(paco.retry(fails_at_first, wait=0.5), items, limit=by_key()) == items


@pytest.mark.parametrize("where", [0, 8, 15])
async def test_an_error_of_the_source_comes_after_the_items_before_it(where):
    def items():
        for number in range(30):
            if number == where + 6:
                raise OSError("broken")
            yield f"{'ab'[number % 2]}{number}"

    probe = nap()
    with pytest.raises(OSError, match="broken") as caught:
        await paco.map(probe, items(), limit=by_key(lookahead=4))
    assert caught.value.__notes__ == [f"paco.map: its source, after {where + 6} items"]
    assert len(probe.started) >= where + 1


async def test_a_new_key_starts_at_once_although_others_wait():
    probe = nap(lambda item: 1 if item[0] != "z" else 0)
    items = [*["a0"] * 50, "z1", *["a0"] * 50, "z2"]
    await paco.each(probe, items, limit=by_key(lookahead=5))
    starts = dict(zip(probe.started, probe.started_at, strict=True))
    assert starts["z2"] == now() - 5  # as soon as it was one of five that wait
    assert now() == 100


async def test_results_wait_for_room_in_a_slow_consumer():
    probe = nap(0)
    async with paco.map(probe, ["a"] * 100, limit=by_key(lookahead=3)).buffer(3) as results:
        assert await anext(results) == "a"
        await asyncio.sleep(10)
        assert len(probe.started) <= 1 + 3 + 3 + 3
        assert len([result async for result in results]) == 99


@pytest.mark.parametrize("make_limit", [*LIMITS.values(), lambda: paco.Limit(2)], ids=[*LIMITS, "no key"])
@pytest.mark.parametrize("setting", [range(60), range(0, 60, 3), [3]], ids=["all", "one key", "one item"])
async def test_a_context_variable_that_the_source_sets_for_some_items_is_seen_by_these(make_limit, setting):
    def items():
        for number in range(60):
            if number in setting:
                VAR.set(number)
            yield f"{'abc'[number % 3]}{number}"

    async def look(item):
        await asyncio.sleep(1 - int(item[1:]) % 2)
        return VAR.get()

    seen = await paco.map(look, items(), limit=make_limit())
    assert [seen[number] for number in setting] == list(setting)


async def test_items_wait_for_room_in_a_slow_consumer_while_their_keys_are_free():
    probe = nap(1)
    async with paco.map(probe, ["a"] * 100, limit=by_key(lookahead=3)).buffer(2) as results:
        assert await anext(results) == "a"
        await asyncio.sleep(50)
        assert len(probe.started) <= 1 + 2 + 3 + 1
        assert len([result async for result in results]) == 99


async def test_permits_are_passed_on_while_the_consumer_waits_for_an_earlier_item():
    probe, items = nap(lambda item: 10 if item == "a0" else 1), ["a0", *(f"b{number}" for number in range(1, 40))]
    stream = paco.map(probe, items, limit=by_key(lookahead=3)).buffer(100)
    assert [result async for result in stream] == items
    assert now() == 39


async def test_an_item_that_leaves_a_trace_passes_its_permit_on_by_a_release():
    seen = []

    async def marks(item):
        seen.append(VAR.get())
        await asyncio.sleep(1)
        VAR.set(item)
        return item

    items = [f"{'ab'[number % 2]}{number}" for number in range(60)]
    assert await paco.map(marks, items, limit=by_key(lookahead=4)) == items
    assert seen == [None] * 60
    assert now() == 30


@pytest.mark.parametrize("make_limit", [by_key, lambda: paco.Limit(2)], ids=["keys", "no key"])
@pytest.mark.parametrize("item_sets", [False, True])
async def test_context_variables_that_cannot_be_compared_are_no_error(make_limit, item_sets):
    class Incomparable:
        def __eq__(self, other):
            raise TypeError("not comparable")

        __hash__ = None

    def items():
        for number in range(12):
            VAR.set(Incomparable())
            yield f"a{number}"

    async def marks(item):
        await asyncio.sleep(1)
        if item_sets:
            VAR.set(Incomparable())
        return item

    assert await paco.map(marks, items(), limit=make_limit()) == [f"a{number}" for number in range(12)]
    assert await paco.map(marks, ["a1", "a2", "b3", "a4"], limit=make_limit()) == ["a1", "a2", "b3", "a4"]


def test_cancelled_at_every_step_no_permit_of_a_key_is_lost(cancel_at_every_step):
    limits = []

    async def main():
        limits.append(by_key(lookahead=3))
        items = [f"{'ab'[number % 2]}{number}" for number in range(12)]
        await paco.map(nap(lambda item: int(item[1:]) % 2), items, limit=limits[-1])

    assert cancel_at_every_step(main) > 10
    assert all(not limit.limit_of(key).in_flight for limit in limits for key in "ab")
