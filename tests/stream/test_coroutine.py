"""What the functions with one result return, before it has started: driven, dropped, closed, cancelled."""

from __future__ import annotations

import asyncio

import pytest

import paco
from paco.testing import Source


async def same(item):
    return item


async def step(total, item):
    return total + item


async def rows():
    return [1, 2]


CALLS = {
    "each": lambda: paco.each(same, rows()),
    "some": lambda: paco.some(same, rows()),
    "every": lambda: paco.every(same, rows()),
    "reduce": lambda: paco.reduce(step, rows()),
    "race": lambda: paco.race([same(1), same(2)]),
    "wait": lambda: paco.wait(same(1), same(2)),
    "pipeline": lambda: [1] | paco.map(same) | paco.reduce(step),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


@each_call
async def test_a_call_cancelled_before_its_first_step_closes_its_arguments(call):
    task = asyncio.create_task(call())
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()


@each_call
async def test_a_call_closed_before_its_first_step_closes_its_arguments(call):
    call().close()


@each_call
async def test_a_dropped_call_warns_once_and_names_itself(call):
    with pytest.warns(RuntimeWarning) as told:
        call()
    lines = [str(warning.message).partition("\n")[0] for warning in told]  # where it was made follows
    assert lines == [f"coroutine '{CALLED[call]}' was never awaited"]


CALLED = {call: f"paco.{name.replace('pipeline', 'reduce')}" for name, call in CALLS.items()}


@each_call
async def test_a_call_is_accepted_wherever_a_coroutine_is(call):
    expected = await call()
    results = [await asyncio.create_task(call()), await asyncio.wait_for(call(), 5), *await asyncio.gather(call())]
    if CALLED[call] != "paco.wait":  # whose futures are others each time
        assert results == [expected] * 3


def test_a_call_runs_as_the_main_coroutine():
    assert asyncio.run(paco.some(same, [0, 1])) is True
    assert paco.run(paco.reduce(step, [1, 2])) == 3


async def test_its_repr_names_the_call():
    answer = paco.some(same, [1])
    assert repr(answer) == "<paco.some coroutine, not started>"
    assert answer.__name__ == "paco.some"
    await answer
    assert repr(answer) == "<paco.some coroutine, started>"
    with pytest.raises(RuntimeError, match="already awaited"):
        await answer


async def test_an_exception_can_be_thrown_into_a_call():
    source = Source([1]).generator()
    answer = paco.each(same, source)
    with pytest.raises(KeyError, match="thrown"):
        answer.throw(KeyError, KeyError("thrown"))
    assert next(source, None) is None
    with pytest.raises(KeyError):
        paco.each(same, [1]).throw(KeyError)


async def test_a_running_call_can_be_closed_like_any_coroutine():
    ended = []

    async def work(item):
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(item)

    answer = paco.each(work, range(3))
    answer.send(None)
    await asyncio.sleep(1)
    answer.close()
    await asyncio.sleep(1)
    assert sorted(ended) == [0, 1, 2]
