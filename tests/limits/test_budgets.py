"""`paco.Budget`: what may be spent."""

from __future__ import annotations

import asyncio
import math
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import testing
from paco.testing import Source


async def second(item):
    await asyncio.sleep(1)
    return item


async def test_a_budget_of_a_number_for_each_item_is_never_exceeded_by_a_rounding():
    for limit in (paco.Budget(5.00, cost=0.1), 7 & paco.Budget(5.00, cost=0.1)):
        assert len(await paco.map(second, range(1000), limit=limit)) == 50


async def test_items_pay_what_a_function_says_once_each_and_the_last_one_may_exceed():
    asked = []

    def price(item):
        asked.append(item)
        return item

    budget, source = paco.Budget(10, cost=price), Source(range(1000))
    assert await paco.map(second, source, limit=2 & budget & paco.Rate(5)) == [0, 1, 2, 3, 4]
    assert asked == [0, 1, 2, 3, 4]
    assert source.pulled == 5
    assert (budget.spent, budget.left) == (10, 0)
    assert repr(budget) == "<paco.Budget 10 of 10 spent>"


async def test_a_charge_closes_the_gate_and_what_runs_finishes():
    budget = paco.Budget(3)

    async def ask(item):
        await asyncio.sleep(1)
        budget.charge(1)
        return item

    assert await paco.map(ask, range(1000), limit=2 & budget) == [0, 1, 2, 3, 4]
    assert (budget.spent, budget.left, budget.gate.closed) == (5, -2, True)


async def test_what_was_estimated_too_high_is_given_back_but_a_spent_budget_stays_closed():
    budget = paco.Budget(10, cost=4)

    async def ask(item):
        budget.charge(-3)
        return item

    assert await paco.map(ask, range(1000), limit=1 & budget) == list(range(7))
    budget.charge(-5)
    assert budget.left == 8
    assert budget.gate.closed
    assert await paco.map(ask, range(1000), limit=budget) == []


async def test_calls_share_a_budget_and_are_refused_when_it_is_spent():
    budget = paco.Budget(2, cost=len)
    call = paco.limited(second, budget)
    assert await call("a") == "a"
    assert await paco.map(second, ["b", "c"], limit=budget) == ["b"]
    with pytest.raises(paco.GateClosed):
        await call("d")


async def test_a_budget_can_be_paused_through_its_gate():
    budget = paco.Budget(100, cost=1)
    budget.gate.pause()
    asyncio.get_running_loop().call_later(5, budget.gate.resume)
    assert await paco.map(second, range(3), limit=budget & 3) == [0, 1, 2]
    assert testing.now() == 6


async def test_every_attempt_pays_and_what_did_not_start_does_not():
    budget, tries = paco.Budget(100, cost=1), []

    async def flaky(item):
        tries.append(item)
        if len(tries) < 4:
            raise OSError
        return item

    assert await paco.map(paco.retry(flaky, attempts=9), [1], limit=budget & 2) == [1]
    assert budget.spent == 4
    with pytest.raises(TimeoutError):
        await paco.map(second, range(9), limit=budget & paco.Rate(1, per=1000), timeout=10)
    assert budget.spent == 5


@pytest.mark.parametrize(
    "make",
    [lambda budget: budget & 5, lambda budget: paco.PerKey(lambda _: 1, lambda: budget & 5)],
    ids=["shared", "PerKey"],
)
async def test_no_item_makes_another_attempt_after_the_budget_is_spent(make):
    budget, calls = paco.Budget(1.00), []

    async def ask(item):
        calls.append(testing.now())
        await asyncio.sleep(1)
        budget.charge(0.10)  # billed, although the answer is unusable
        raise ValueError(item)

    careful = paco.settle(paco.retry(ask, attempts=5, on=lambda error: 20))
    failed = await paco.map(careful, range(10), limit=make(budget))
    assert calls == [0] * 5 + [1] * 5  # five more begin while the first ones rest
    notes = {note for one in failed for note in one.error.__notes__}
    assert notes == {
        "paco.retry: gave up after 1 attempt and 21 s: the budget in its limit is spent",
        "paco.retry: gave up after 1 attempt and 1 s: the budget in its limit is spent",
    }


async def test_an_attempt_that_waits_while_others_spend_the_budget_does_not_start_and_is_not_paid():
    budget, calls = paco.Budget(3, cost=1), []

    async def ask(item):
        calls.append(item)
        await asyncio.sleep(10 if item else 1)
        if not item:
            raise ValueError

    async def charge():
        await asyncio.sleep(5)
        budget.charge(1)

    others = asyncio.ensure_future(charge())
    done = await paco.map(paco.settle(paco.retry(ask, on=lambda _: 1)), [0, 1], limit=1 & budget)
    await others
    assert calls == [0, 1]
    assert [type(one) for one in done] == [paco.Err, paco.Ok]
    assert budget.spent == 3


async def test_the_attempt_that_spends_the_budget_runs():
    budget, calls = paco.Budget(3, cost=1), []

    async def ask(item):
        calls.append(item)
        if len(calls) < 3:
            raise OSError
        return item

    assert await paco.map(paco.retry(ask, attempts=9), [7], limit=1 & budget) == [7]
    assert budget.gate.closed


async def test_a_budget_around_a_run_and_a_task_of_an_item_ends_their_retries():
    async def ask(_):
        calls.append(testing.now())
        await asyncio.sleep(1)
        budget.charge(1)
        raise OSError

    async def inner_run(item):
        await paco.map(paco.retry(ask, attempts=9, on=lambda _: 1), [item], limit=2)

    async def task(item):
        await asyncio.create_task(paco.retry(ask, attempts=9, on=lambda _: 1)(item))

    for fn in (inner_run, task):
        calls, budget = [], paco.Budget(2)
        [error] = await paco.map(fn, [1], limit=budget & 1, return_exceptions=True)
        assert error.__notes__[0].endswith("gave up after 2 attempts and 3 s: the budget in its limit is spent")
        assert len(calls) == 2


async def test_a_gate_lets_what_was_taken_make_all_its_attempts():
    gate, budget, calls = paco.Gate(), paco.Budget(100), []

    async def ask(item):
        calls.append(item)
        if len(calls) < 3:
            gate.close()
            budget.gate.close()
            raise OSError
        return item

    assert await paco.map(paco.retry(ask, attempts=3), [1], limit=gate & budget) == [1]


async def test_a_budget_for_each_key_fails_the_items_that_come_after_it():
    tenants = paco.PerKey(lambda item: item[0], lambda: paco.Budget(2, cost=1))
    results = await paco.map(second, ["a1", "a2", "b1", "a3"], limit=tenants, return_exceptions=True)
    assert results[:3] == ["a1", "a2", "b1"]
    assert isinstance(results[3], paco.GateClosed)
    assert tenants.keys == ("a", "b")
    assert paco.Budget(2).idle()


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        ((0,), ValueError, "amount must be a number above 0, got 0"),
        (("5",), TypeError, "amount must be a number above 0, got '5'"),
        ((5, -1), ValueError, "cost must be a finite number of 0 or more, got -1"),
        ((5, math.nan), ValueError, "cost must be a finite number of 0 or more, got nan"),
        ((5, second), TypeError, "cost must be a plain function, not an async one, got"),
        ((5, "1"), TypeError, "cost must be a finite number of 0 or more, got '1'"),
    ],
    ids=lambda value: "" if isinstance(value, tuple | type) else value,
)
def test_what_a_budget_refuses(wrong, error, says):
    with pytest.raises(error, match=f"^paco.Budget: {says}"):
        paco.Budget(*wrong)


async def test_what_a_charge_and_a_cost_refuse():
    budget = paco.Budget(5, cost=lambda item: item)
    for wrong, error in ((math.inf, ValueError), (math.nan, ValueError), ("1", TypeError), (None, TypeError)):
        with pytest.raises(error, match=r"^paco\.Budget\.charge: amount must be a finite number, got"):
            budget.charge(wrong)
    results = await paco.map(second, [-1, "1", 1], limit=budget, return_exceptions=True)
    assert [type(result) for result in results] == [ValueError, TypeError, int]
    assert budget.spent == 1


def test_cancelled_at_every_step_what_is_spent_is_what_started(cancel_at_every_step):
    async def main():
        started, budget = [], paco.Budget(4, cost=1)

        async def note(item):
            started.append(item)
            await asyncio.sleep(1)

        try:
            await paco.map(note, range(10), limit=2 & budget & paco.Rate(10))
        finally:
            assert budget.spent == len(started)

    cancel_at_every_step(main)


@given(
    amount=st.integers(1, 30),
    estimates=st.lists(st.integers(0, 5), min_size=20, max_size=20),
    corrections=st.lists(st.integers(-2, 4), min_size=20, max_size=20),
    limit=st.integers(1, 4),
    runs=st.integers(1, 3),
)
def test_a_budget_is_exceeded_at_most_by_what_was_in_flight_or_taken(amount, estimates, corrections, limit, runs):
    async def main():
        budget = paco.Budget(amount, cost=lambda item: estimates[item])
        spent_at_start, open_at_start = [], []

        async def ask(item):
            open_at_start.append(not budget.gate.closed)
            spent_at_start.append(budget.spent)
            await asyncio.sleep(1 + item % 3)
            budget.charge(max(corrections[item], -estimates[item]))
            return item

        sources = [Source(range(20)) for _ in range(runs)]
        results = await paco.gather(*(paco.map(ask, source, limit=limit & budget) for source in sources))
        assert [len(result) for result in results] == [source.pulled for source in sources]
        # The item that spends the budget sees it closed; after it, at most the one that each run has taken starts.
        late = [begun for begun in open_at_start if not begun]
        assert len(late) <= 1 + runs
        if any(source.pulled < 20 for source in sources):
            assert budget.gate.closed

    testing.run(main)


@pytest.mark.realtime
def test_no_charge_of_several_threads_is_lost(monkeypatch):
    budget, before = paco.Budget(1e9), sys.getswitchinterval()
    monkeypatch.setattr(paco.limits._budget.check, "finite", slow)
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(budget.charge, [1] * 2000))
    finally:
        sys.setswitchinterval(before)
    assert budget.spent == 2000


def slow(_name, _parameter, value):
    """Return the amount after other threads had a turn."""
    time.sleep(0)
    return value


async def test_a_thread_may_charge_and_close_the_budget_of_a_run():
    def ask(prompt):
        budget.charge(2)
        return prompt

    budget = paco.Budget(5)
    results = await paco.map(paco.threaded(ask), range(9), limit=1 & budget)
    assert results == list(range(len(results)))
    assert 3 <= len(results) <= 4  # one more may have been taken when the third closed the gate
