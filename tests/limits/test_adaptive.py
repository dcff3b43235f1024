"""`paco.Adaptive`: a limit that finds its value by itself, against simulated servers on virtual time.

An ordinary run meets each kind of server in a few ways; with ``PACO_TEST_ADAPTIVE=all`` in the environment, in all, and
three times.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import os
import random
from collections import deque

import aiohttp
import pytest
from aiohttp import web

import paco
from paco import testing
from paco.limits import Decision
from paco.testing import now


class Busy(Exception):
    pass


async def nap(seconds=0):
    await asyncio.sleep(seconds)


# ---- servers


class Server:
    """A server that works on so many requests at once.

    Args:
        most: How many.
        takes: A function of a random number generator that tells the seconds for a request.
        refuses: Whether it refuses what is too much, after 20 ms. If not, that waits in line.
        rate: Requests that it takes in a second, spread over it by a bucket of as many; the others are refused.
    """

    def __init__(self, most, takes, *, refuses=False, rate=math.inf, seed=1):
        self.seed = seed
        self.most, self.rate = most, rate
        self.done, self.refused = [], []
        self._takes, self._refuses, self._random = takes, refuses, random.Random(seed)  # noqa: S311 - to be repeatable, not secret
        self._working, self._line = 0, deque()
        self._level, self._filled = 0.0, 0.0

    async def __call__(self, _):
        if self._is_too_much():
            self.refused.append(now())
            await nap(0.02)
            raise Busy
        if self._working >= self.most:
            await self._wait()
        else:
            self._working += 1
        await nap(self._takes(self._random))
        self._working -= 1
        self._go_on()
        self.done.append(now())

    def _is_too_much(self):
        if self.rate < math.inf:
            self._level = max(self._level - (now() - self._filled) * self.rate, 0)
            self._filled = now()
            if self._level + 1 > self.rate:
                return True
        if self._refuses and self._working >= self.most:
            return True
        self._level += 1
        return False

    async def _wait(self):
        turn = asyncio.get_running_loop().create_future()
        self._line.append(turn)
        await turn

    def _go_on(self):
        while self._line and self._working < self.most:
            turn = self._line.popleft()
            if not turn.done():
                self._working += 1
                turn.set_result(None)

    def change(self, most):
        self.rate *= most / self.most
        self.most = most
        self._level = min(self._level, self.rate)
        self._go_on()


def steady(dice):
    return dice.uniform(0.095, 0.105)


def exponential(dice):
    return dice.expovariate(10)


def refuses(most, takes, seed=1):
    return Server(most, takes, refuses=True, seed=seed)


def keeps_waiting(most, takes, seed=1):
    return Server(most, takes, seed=seed)


def has_a_rate_too(most, takes, seed=1):
    return Server(most, takes, refuses=True, rate=6 * most, seed=seed)


KINDS = [refuses, keeps_waiting, has_a_rate_too]
SECONDS = 20
ALL = os.environ.get("PACO_TEST_ADAPTIVE") == "all"


def meetings(*choices):
    """Combine all choices, with three seeds; in an ordinary run a third, with one, in which each choice still is."""
    places = [range(1, 4 if ALL else 2), *(range(len(some)) for some in choices)]
    return [
        (seed, *(some[place] for some, place in zip(choices, at, strict=True)))
        for seed, *at in itertools.product(*places)
        if ALL or sum(at) % 3 == 0
    ]


async def use(server, limit, *changes, seconds=SECONDS):
    """Send it requests without end, each again until it is served, for some seconds before and after each change."""
    dice = random.Random(server.seed)  # noqa: S311 - to be repeatable, not secret
    call = paco.retry(server, attempts=10**9, on=lambda _: dice.uniform(0.01, 0.03))
    running = asyncio.ensure_future(paco.each(call, itertools.count(), limit=limit))
    for change in changes:
        await nap(seconds)
        change()
    await nap(seconds)
    running.cancel()
    await asyncio.wait([running])


def served(server, since):
    return sum(since <= when < since + SECONDS for when in server.done)


def possible(kind, most):
    """Return how many requests can be served with any limit: as many as there is time for, and as the rate allows.

    To the rate of a server the bucket is added, which may have been empty before.
    """
    return min(most * 10 * SECONDS, kind(most, steady).rate * (SECONDS + 1))


# ---- it finds the limit: on one Python, since it is arithmetic, and on all with a real server below


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind", "takes", "start"), meetings(KINDS, [steady, exponential], [1, 500]))
def test_from_any_start_throughput_is_within_15_percent_of_the_best_fixed_limit(seed, kind, takes, start):
    server = kind(20, takes, seed)
    testing.run(use(server, paco.Adaptive(start=start, drop_on=Busy)))
    assert served(server, 0) >= 0.85 * possible(kind, 20)


CHANGES = [(10, 25), (25, 10), *([(20, 50), (50, 20)] if ALL else [])]


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "kind", "takes", "change"), meetings(KINDS, [steady, exponential], CHANGES))
def test_the_limit_follows_a_server_that_becomes_faster_or_slower(seed, kind, takes, change):
    before, after = change
    server = kind(before, takes, seed)
    testing.run(use(server, paco.Adaptive(drop_on=Busy), lambda: server.change(after)))
    assert served(server, 0) >= 0.85 * possible(kind, before)
    assert served(server, SECONDS) >= 0.85 * possible(kind, after)


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 500])
def test_few_items_are_refused_once_the_limit_is_found(start):
    server = refuses(20, exponential)
    limit = paco.Adaptive(start=start, drop_on=Busy)
    testing.run(use(server, limit))
    later = sum(when > 5 for when in server.refused), sum(when > 5 for when in server.done)
    assert later[0] < later[1] / 5
    assert all(10 <= decision.limit <= 25 for decision in limit.history if decision.when > 5)


@pytest.mark.slow
@pytest.mark.parametrize("start", [1, 500])
def test_the_queue_stays_short_once_the_limit_is_found(start):
    server = keeps_waiting(20, steady)
    limit = paco.Adaptive(start=start)
    testing.run(use(server, limit, seconds=40))
    later = [decision for decision in limit.history if decision.when > 25]
    assert all(10 <= decision.limit <= 60 for decision in later)
    assert all(decision.short <= 0.25 for decision in later)
    assert sum(decision.short for decision in later) < 0.15 * len(later)  # of which the work is 0.1


@pytest.mark.slow
def test_uniformly_slower_items_are_not_mistaken_for_a_queue():
    def takes(dice):
        return steady(dice) * (5 if now() > SECONDS else 1)

    server = refuses(20, takes)
    testing.run(use(server, paco.Adaptive(drop_on=Busy), lambda: None))
    assert served(server, 0) >= 0.85 * possible(refuses, 20)
    assert served(server, SECONDS) >= 0.85 * possible(refuses, 20) / 5


@pytest.mark.slow
def test_one_hanging_item_in_a_hundred_does_not_lower_the_limit():
    def takes(dice):
        return 3 if dice.random() < 0.01 else steady(dice)

    server = keeps_waiting(20, takes)
    testing.run(use(server, paco.Adaptive()))
    assert served(server, 0) >= 0.85 * possible(keeps_waiting, 20) * 0.1 / 0.129


# ---- step by step


class Items:
    """Items in flight under a limit, which end when and how the test says."""

    def __init__(self, limit):
        self.limit, self.running = limit, deque()

    async def begin(self, count=None):
        """Begin as many as the limit allows."""
        count = self.limit.limit - len(self.running) if count is None else count
        self.running += [await self.limit.acquire() for _ in range(count)]

    def end(self, count=None, error=None):
        """End the first ones."""
        for _ in range(len(self.running) if count is None else count):
            self.limit.release(self.running.popleft(), error)

    def end_last(self, error=None):
        self.limit.release(self.running.pop(), error)

    async def rounds(self, count, takes=1.0):
        """Have as many as the limit allows end together, so many times."""
        for _ in range(count):
            await self.begin()
            await nap(takes)
            self.end()


def told(limit):
    return [(decision.why, decision.limit) for decision in limit.history]


async def test_the_limit_is_tested_lower_first_and_then_doubles_until_overload():
    limit = paco.Adaptive(start=12)
    await Items(limit).rounds(9)
    assert told(limit) == [("lower", 8), ("found", 12), ("grow", 24), ("grow", 48), ("grow", 96)]
    assert limit.history[0] == Decision(2.0, 8, "lower", 1.0, 0.0, 1)


async def test_a_start_of_1_is_not_tested_lower():
    limit = paco.Adaptive(start=1)
    await Items(limit).rounds(5)
    assert told(limit) == [("grow", 2), ("grow", 4), ("grow", 8), ("grow", 16)]


async def test_an_unused_limit_does_not_grow():
    limit = paco.Adaptive(start=10)
    items = Items(limit)
    for _ in range(100):
        await items.begin(4)
        await nap(1)
        items.end()
    assert not limit.history


async def test_a_limit_whose_items_wait_for_another_limit_does_not_grow():
    limit = paco.Adaptive(start=10)
    await paco.map(nap, [10] * 100, limit=limit & paco.Rate(0.1))
    assert not limit.history


async def test_the_wait_for_another_limit_does_not_count_as_latency():
    limit, count = paco.Adaptive(start=1), paco.Limit(1)
    both, permit = limit & count, await count.acquire()
    waiting = asyncio.ensure_future(both.acquire())
    await nap(100)
    count.release(permit)
    permit = await waiting
    await nap(1)
    both.release(permit)
    await Items(limit).rounds(1)
    assert limit.history[0].short == 1


async def test_the_limit_stays_between_min_and_max():
    limit = paco.Adaptive(start=5, min=4, max=9, drop_on=Busy)
    items = Items(limit)
    await items.rounds(20)
    assert limit.limit == 9
    for _ in range(10):
        await items.begin()
        await nap(1)
        items.end(1)
        items.end(error=Busy())
    assert limit.limit == 4
    assert {decision.limit for decision in limit.history} <= set(range(4, 10))


async def test_items_that_take_no_time_do_not_lower_the_limit():
    limit = paco.Adaptive(start=1)
    await Items(limit).rounds(20, takes=0)
    assert limit.limit == 1000
    await Items(limit).rounds(20)
    assert limit.limit == 1000


async def test_after_a_cut_the_growth_step_rises_by_one_every_other_round():
    limit = paco.Adaptive(start=100, drop_on=Busy)
    items = Items(limit)
    await items.rounds(6)
    assert limit.limit == 200
    await items.begin()
    await nap(1)
    items.end(100)
    for _ in range(21):
        items.end_last(Busy())
    items.end()
    await items.rounds(7)
    grown = [("grow", 171), ("grow", 172), ("grow", 174), ("grow", 176), ("grow", 179), ("grow", 182)]
    assert told(limit)[3:] == [("drop", 170), *grown]


def when_told(limit):
    return [(decision.when, decision.why) for decision in limit.history]


async def learned(limit):
    """Have a limit of 20 know what 1 second is."""
    items = Items(limit)
    await items.rounds(4)
    assert told(limit)[-1] == ("found", 20)
    return items


def adaptive(**given):
    return paco.Adaptive(**{"start": 20, "drop_on": Busy, **given})


async def test_a_cut_sets_95_percent_of_what_the_server_carried():
    """The 15th was refused, so 14 were carried."""
    limit = adaptive()
    items = await learned(limit)
    await items.begin()
    await nap(0.1)
    for _ in range(2):  # are tolerated
        items.end_last(Busy())
    first, refused = items.running.popleft(), items.running[13]
    items.running.remove(refused)
    limit.release(first)  # it has succeeded meanwhile
    limit.release(refused, Busy())
    assert told(limit)[-1] == ("drop", 13)


async def test_one_drop_in_ten_is_tolerated():
    limit = adaptive()
    items = await learned(limit)
    await items.begin()
    items.end_last(Busy())
    items.end_last(Busy())
    await nap(1)
    items.end()
    await items.rounds(2)
    assert told(limit)[2:] == [("grow", 40)]
    await items.begin()
    for _ in range(4):
        items.end_last(Busy())
    assert told(limit)[3:] == []
    items.end_last(Busy())
    assert told(limit)[3:] == [("drop", 33)]


async def test_a_cut_halves_the_limit_at_most():
    limit = adaptive(start=500)
    items = Items(limit)
    await items.begin()
    for error in [None] * 3 + [Busy()] * 497:
        items.end(1, error)
    assert told(limit) == [("drop", 250)]


async def test_drops_of_the_same_moment_count_once():
    limit = adaptive(start=500)
    items = Items(limit)
    await items.begin()
    await nap(0.5)
    items.end(error=Busy())
    await items.begin()
    items.end(error=Busy())
    assert told(limit) == [("drop", 250)]


async def test_items_that_began_before_a_cut_never_cause_another_one():
    limit = adaptive(start=100)
    items = Items(limit)
    await items.begin()
    await nap(1)
    items.end(1)
    for error in [Busy()] * 50 + [None] * 5:
        items.end(1, error)
    await nap(1000)
    items.end(error=Busy())
    assert len(limit.history) == 1


async def test_a_server_that_refuses_everything_causes_a_cut_in_each_cool_down():
    limit = adaptive(start=512, cooldown=4)
    items = Items(limit)
    for _ in range(33):
        await items.begin()
        await nap(0.5)
        items.end(error=Busy())
    assert [(decision.when, decision.limit) for decision in limit.history] == [
        (0.5, 256),
        (5.0, 128),
        (9.5, 64),
        (14.0, 32),
    ]


async def test_after_a_success_the_next_cut_can_follow_a_round_trip_later():
    limit = adaptive(cooldown=60)
    items = await learned(limit)
    start = now()
    for _ in range(8):
        await items.begin()
        await nap(0.25)
        items.end(len(items.running) // 3, Busy())
        await nap(0.75)
        items.end()
    assert [when - start for when, why in when_told(limit) if why == "drop"] == [0.25, 2.25, 4.25, 6.25]


async def test_with_a_cool_down_of_0_each_burst_of_drops_causes_a_cut():
    limit = adaptive(start=512, cooldown=0)
    items = Items(limit)
    for _ in range(5):
        await items.begin()
        await nap(0.5)
        items.end(error=Busy())
    assert told(limit) == [("drop", 256), ("drop", 128), ("drop", 64), ("drop", 32), ("drop", 16)]


async def test_slow_items_cause_a_test_and_a_queue_is_removed_from_the_limit():
    limit = adaptive()
    items = await learned(limit)
    await items.rounds(2)
    assert limit.limit == 40
    await items.rounds(2, takes=2)
    assert told(limit)[3:] == [("lower", 13)]
    await items.rounds(2)
    assert told(limit)[4:] == [("found", 20)]
    await items.rounds(6)
    assert told(limit)[5:] == [("grow", 21), ("grow", 22), ("grow", 24), ("grow", 26), ("grow", 29)]


async def test_if_fewer_items_are_as_slow_the_limit_returns_to_its_old_value():
    limit = adaptive()
    items = await learned(limit)
    await items.rounds(2)
    await items.rounds(4, takes=2)
    assert told(limit)[3:] == [("lower", 13), ("found", 40)]
    await items.rounds(2, takes=2)
    assert told(limit)[5:] == [("grow", 80), ("grow", 160)]


async def test_if_fewer_items_are_faster_than_ever_the_limit_is_tested_even_lower():
    limit = adaptive(start=40)
    items = Items(limit)
    await items.rounds(2, takes=10)
    await items.rounds(3)
    assert told(limit) == [("lower", 26), ("lower", 17)]
    await items.rounds(1)
    assert told(limit)[2:] == [("found", 26)]


@pytest.mark.slow
async def test_from_far_above_what_a_server_works_on_the_limit_is_tested_lower_until_nothing_waits():
    """From 500 at a server of 20 that lets the others wait, there is nothing but a line."""
    limit, server = adaptive(start=500), keeps_waiting(20, steady)
    await use(server, limit)
    lower = [decision.limit for decision in itertools.takewhile(lambda one: one.why == "lower", limit.history)]
    assert len(lower) > 5
    assert 10 < lower[-1] < 20


async def test_a_drop_during_a_test_cuts_the_limit_from_before_the_test():
    limit = adaptive(start=30)
    items = Items(limit)
    await items.rounds(2)
    assert told(limit) == [("lower", 20)]
    await items.begin()
    await nap(1)
    items.end(15)
    for _ in range(3):
        items.end_last(Busy())
    assert told(limit)[-1] == ("drop", 16)  # 0.95 of 17
    items.end()


async def test_slow_items_in_a_round_with_drops_cause_no_test():
    limit = adaptive()
    items = await learned(limit)
    await items.rounds(2)
    for _ in range(6):
        await items.begin()
        items.end_last(Busy())
        await nap(4)
        items.end()
    assert {why for why, _ in told(limit)[2:]} == {"grow"}


@pytest.mark.parametrize("error", [asyncio.CancelledError(), OSError(), KeyboardInterrupt(), GeneratorExit()])
async def test_cancelled_and_otherwise_failed_items_are_no_samples(error):
    limit = adaptive()
    items = Items(limit)
    for _ in range(100):
        await items.begin()
        await nap(1)
        items.end(error=error)
    assert not limit.history
    assert (limit.in_flight, limit._controller.round_trip) == (0, math.inf)


async def test_cancelled_items_of_a_run_are_no_samples():
    limit = adaptive()
    with pytest.raises(TimeoutError):
        await paco.map(nap, [10] * 100, limit=limit, timeout=5)
    assert not limit.history
    assert limit.in_flight == 0


async def test_one_item_counts_for_at_most_five_times_the_average():
    limit = adaptive(start=1, max=1)
    items = Items(limit)
    await items.rounds(3)
    await items.rounds(1, takes=1000)
    assert limit._controller.round_trip == pytest.approx((1 + 1 + 5) / 3)  # the first one was before the average began


async def test_history_is_bounded():
    limit = adaptive(start=512, cooldown=0)
    items = Items(limit)
    for _ in range(300):
        await items.begin()
        items.end(error=Busy())
        await items.rounds(4)
    assert len(limit.history) == 1000


# ---- which errors are drops


@pytest.mark.parametrize(
    "drop_on",
    [Busy, (OSError, Busy), lambda error: isinstance(error, Busy), lambda error: error.args == ()],
    ids=["kind", "kinds", "function", "another function"],
)
async def test_drop_on_accepts_an_error_class_several_or_a_function(drop_on):
    limit = adaptive(drop_on=drop_on)
    items = Items(limit)
    await items.begin()
    items.end(10, ValueError("other"))
    assert not limit.history
    items.end(error=Busy())
    assert told(limit) == [("drop", 10)]


@pytest.mark.parametrize("drop_on", [None, ()])
async def test_without_drop_on_no_error_is_a_drop(drop_on):
    limit = adaptive(drop_on=drop_on)
    items = Items(limit)
    await items.begin()
    items.end(error=Busy())
    assert not limit.history


async def test_an_error_of_the_drop_on_function_ends_the_run_and_the_permit_is_released():
    def fail(_):
        raise ZeroDivisionError

    async def refuse(_):
        raise Busy

    limit = adaptive(drop_on=fail)
    with pytest.raises(ZeroDivisionError):
        await paco.map(refuse, range(10), limit=limit)
    assert limit.in_flight == len(limit._flights) == 0


async def test_the_limit_learns_from_each_attempt_of_a_retried_item():
    attempts = itertools.count()

    async def refuse(item):
        if next(attempts) < 15:
            raise Busy
        return item

    limit = adaptive(start=10)
    assert await paco.map(paco.retry(refuse, attempts=9, wait=1), range(10), limit=limit) == list(range(10))
    assert told(limit)[0] == ("drop", 5)


# ---- what it says, and refuses


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"start": 0}, ValueError, "start must be an int of 1 or more, got 0"),
        ({"min": 0}, ValueError, "min must be an int of 1 or more, got 0"),
        ({"max": True}, TypeError, "max must be an int of 1 or more, got True"),
        ({"start": 2.5}, TypeError, r"start must be an int of 1 or more, got 2\.5"),
        ({"start": 5, "min": 6}, ValueError, "start must be from min to max, got 5 for 6 to 1000"),
        ({"max": 9}, ValueError, "start must be from min to max, got 20 for 1 to 9"),
        ({"cooldown": -1}, ValueError, r"cooldown must be seconds \(a number of 0 or more\), got -1"),
        ({"cooldown": None}, TypeError, r"cooldown must be seconds \(a number of 0 or more\), got None"),
        ({"drop_on": 429}, TypeError, "drop_on must be a plain function, not an async one, got 429"),
        ({"drop_on": nap}, TypeError, "drop_on must be a plain function, not an async one, got <function nap"),
        ({"drop_on": KeyboardInterrupt}, TypeError, "drop_on must be an Exception class, a tuple of them, or a plain"),
        ({"drop_on": (Busy, 429)}, TypeError, r"function that takes the error, got \(<class .*Busy'>, 429\)$"),
    ],
)
def test_wrong_arguments_are_refused_at_the_call(given, error, message):
    with pytest.raises(error, match=r"^paco\.Adaptive: .*" + message):
        adaptive(**given)


async def test_repr_and_attributes_show_its_state():
    limit = paco.Adaptive(start=3)
    assert repr(limit) == "<paco.Adaptive 3, 0 in flight>"
    async with limit.slot():
        assert repr(limit) == "<paco.Adaptive 3, 1 in flight>"
        assert (limit.limit, limit.in_flight, limit.waiting, limit.free) == (3, 1, 0, 2)
    assert (limit.most, limit.lookahead) == (3, 0)
    assert repr(limit & paco.Rate(5)) == "<paco.Adaptive 3, 0 in flight> & <paco.Rate 5 per 1.0 s, 0 waiting>"
    with pytest.raises(AttributeError):
        limit.limit = 5


async def test_an_unused_permit_is_no_sample():
    limit = adaptive(start=1)
    for _ in range(10):
        limit.release(await limit.reserve())
    assert (limit.in_flight, limit._controller.round_trip) == (0, math.inf)


async def test_a_permit_is_not_renewed_if_the_limit_was_cut_after_the_question():
    limit = paco.Adaptive(start=2)
    permits = [limit.try_reserve() for _ in range(2)]
    for permit in permits:
        limit.begin(permit)
    assert limit.renews(permits[0], None)
    limit._count.limit = 1
    assert limit.renew(permits[0]) is None
    for permit in permits:
        limit.release(permit)
    assert limit.in_flight == 0


async def test_first_come_first_served():
    limit, order = paco.Adaptive(start=1), []

    async def one(number):
        async with limit.slot():
            order.append(number)
            await nap(1)

    await paco.gather(map(one, range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_an_adaptive_limit_of_a_key_is_forgotten_a_minute_after_its_use():
    limit = paco.PerKey(lambda item: item, paco.Adaptive)
    call = paco.limited(nap, limit)
    await call(1)
    await nap(50)
    await call(2)
    assert limit.keys == (1, 2)
    await nap(20)
    await call(3)
    assert limit.keys == (2, 3)
    assert paco.Adaptive().idle()


def test_outside_a_loop_an_adaptive_limit_is_never_idle():
    assert not paco.Adaptive().idle()


def test_in_another_loop_the_limit_keeps_what_it_has_learned():
    limit = adaptive(cooldown=10**6)

    async def refused():
        items = Items(limit)
        await nap(100)
        await items.begin()
        items.end(error=Busy())

    testing.run(refused)
    testing.run(Items(limit).rounds(1))
    assert told(limit) == [("drop", 10)]
    testing.run(refused)
    assert told(limit) == [("drop", 10), ("drop", 5)]


@pytest.mark.parametrize("again", [None, 0, 1])
def test_cancelled_at_every_step_no_permit_is_lost(again, cancel_at_every_step):
    async def work():
        limit = paco.Adaptive(start=2, drop_on=Busy)
        call = paco.limited(testing.Probe(lambda item: item, takes=1, cleanup=1), limit & 3)
        try:
            await paco.gather(paco.map(nap, [1] * 3, limit=limit), call(1), call(2))
        finally:
            assert limit.in_flight == limit.waiting == len(limit._flights) == 0

    assert cancel_at_every_step(work, again=again) > 10


# ---- a real server


class HttpServer:
    """An HTTP server that works on ten requests at a time, for 50 ms each, and refuses the others."""

    def __init__(self):
        self.working = self.served = self.refused = 0

    async def answer(self, request):
        if self.working >= 10:
            self.refused += 1
            return web.Response(status=429, headers={"Retry-After": "0.05"})
        self.working += 1
        await nap(0.05)
        self.working -= 1
        self.served += 1
        return web.Response(text=request.match_info["number"])

    @contextlib.asynccontextmanager
    async def running(self):
        """Give its address and a client."""
        app = web.Application()
        app.router.add_get("/{number}", self.answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(f"http://127.0.0.1:{runner.addresses[0][1]}", connector=connector) as client:
            yield client
        await runner.cleanup()


@pytest.mark.realtime
@pytest.mark.parametrize("start", [1, 100])
async def test_with_a_real_server_and_retry_all_items_succeed_and_few_are_refused(start):
    server = HttpServer()
    limit = adaptive(start=start, cooldown=0.1)  # the run takes less than a second, the default

    async def fetch(number):
        async with client.get(f"/{number}") as response:
            if response.status == 429:
                raise Busy(float(response.headers["Retry-After"]))
            return await response.text()

    call = paco.retry(fetch, attempts=10**6, on=lambda error: error.args[0])
    async with server.running() as client:
        results = await paco.map(call, range(150), limit=limit)
    assert results == [str(number) for number in range(150)]
    assert server.served == 150
    assert server.refused < 1000
    assert limit.limit < 40
