"""Loops and wrappers whose functions raise, hang, are cancelled, or are used concurrently."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import paco
from paco.testing import now

PARTS = ("test", "assertion", "call")


class Parts:
    """The three functions of `whilst` and `until`, one of which fails at its nth call.

    Args:
        failing: The name of the function that fails.
        nth: The number of the call at which it fails.
        error: The exception that it raises.
    """

    def __init__(self, failing=None, nth=0, error=None):
        self.failing, self.nth, self.error = failing, nth, error
        self.trace = []
        self.open = 0

    async def part(self, name, result):
        count = self.trace.count(name)
        self.trace.append(name)
        self.open += 1
        try:
            await asyncio.sleep(1)
            if name == self.failing and count == self.nth:
                raise self.error
            return result
        finally:
            self.open -= 1

    async def call(self, *args, **kw):
        return await self.part("call", self.trace.count("call"))

    async def test(self):
        return await self.part("test", self.trace.count("call"))

    async def below_3(self, count):
        return await self.part("assertion", count < 3)

    async def reached_3(self, count):
        return await self.part("assertion", count >= 3)


REPEATS = {
    "whilst": lambda parts: paco.whilst(parts.call, parts.test, parts.below_3),
    "until": lambda parts: paco.until(parts.call, parts.test, parts.reached_3),
}
ROUND = ["test", "assertion", "call"]
ERRORS = [ValueError("no"), asyncio.CancelledError(), KeyboardInterrupt(), GeneratorExit(), StopAsyncIteration()]


@pytest.mark.parametrize("repeat", REPEATS)
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
async def test_an_error_of_any_function_in_any_round_ends_the_loop_there(repeat, error):
    for failing, nth in itertools.product(PARTS, range(3)):
        parts = Parts(failing, nth, error)
        with pytest.raises(type(error)) as caught:
            await REPEATS[repeat](parts)
        assert caught.value is error
        assert parts.trace == (ROUND * 3)[: 3 * nth + PARTS.index(failing) + 1]
        assert parts.open == 0


@pytest.mark.parametrize("repeat", REPEATS)
async def test_a_loop_cancelled_in_any_of_its_functions_makes_no_further_call(repeat):
    # Nine calls of a second each, and two more for the last test and its assertion, which end the loop.
    assert await REPEATS[repeat](Parts()) == [0, 1, 2]
    assert now() == 11
    for second in range(11):
        parts = Parts()
        task = asyncio.ensure_future(REPEATS[repeat](parts))
        await asyncio.sleep(second + 0.5)
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await asyncio.sleep(5)
        assert (parts.trace, parts.open) == ((ROUND * 4)[: second + 1], 0)


@pytest.mark.parametrize("repeat", REPEATS)
async def test_a_timeout_around_a_loop_ends_it_in_time(repeat):
    parts = Parts()
    with pytest.raises(TimeoutError):
        await paco.timeout(REPEATS[repeat](parts), 4.5)
    assert (now(), parts.open, parts.trace) == (4.5, 0, [*ROUND, *ROUND[:2]])


@pytest.mark.parametrize("repeat", REPEATS)
async def test_a_verdict_without_a_truth_value_is_an_error(repeat):
    class Undecided:
        def __bool__(self):
            raise ArithmeticError("undecided")

    function = getattr(paco, repeat)
    for parts in ((paco.constant(1), paco.constant(Undecided())), (paco.constant(1),) * 2 + (lambda _: Undecided(),)):
        with pytest.raises(ArithmeticError, match="undecided"):
            await function(*parts)


async def test_a_loop_that_is_never_awaited_warns_once_and_closing_it_calls_nothing():
    parts = Parts()
    for repeat in REPEATS.values():
        repeat(parts).close()
    assert parts.trace == []


# ---- compose and the other wrappers


class Link:
    """An async function that takes a second and appends its name to its argument."""

    def __init__(self, name, error=None):
        self.name, self.error = name, error
        self.calls = self.cleaned = 0

    async def __call__(self, text=""):
        self.calls += 1
        try:
            await asyncio.sleep(1)
        finally:
            self.cleaned += 1
        if self.error is not None:
            raise self.error
        return text + self.name


@pytest.mark.parametrize("failing", range(4))
async def test_an_error_of_any_link_ends_the_chain_and_the_links_after_it_are_not_called(failing):
    error = ValueError("no")
    links = [Link(str(number), error if number == failing else None) for number in range(4)]
    with pytest.raises(ValueError, match="no") as caught:
        await paco.compose(*reversed(links))("x")
    assert caught.value is error
    assert [link.calls for link in links] == [1] * (failing + 1) + [0] * (3 - failing)
    assert now() == failing + 1


@pytest.mark.parametrize("cancelled", range(4))
async def test_a_chain_is_cancelled_in_its_running_link(cancelled):
    links = [Link(str(number)) for number in range(4)]
    task = asyncio.ensure_future(paco.compose(*reversed(links))("x"))
    await asyncio.sleep(cancelled + 0.5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert [link.calls for link in links] == [link.cleaned for link in links]
    assert sum(link.calls for link in links) == cancelled + 1


async def test_one_chain_is_used_by_many_at_once():
    chain = paco.compose(Link("c"), Link("b"), Link("a"))
    results = await paco.map(chain, ["1", "2", "3", "4"], limit=2)
    assert results == ["1abc", "2abc", "3abc", "4abc"]
    assert now() == 6


def synchronous(link):
    def call(*args):
        return link(*args)

    return call


WRAPPERS = {
    "apply": lambda link: paco.apply(link, "x"),
    "partial": lambda link: paco.partial(link, "x"),
    "thunk": paco.thunk,
    "compose": paco.compose,
    "wraps": paco.wraps,
    "wraps of a sync function": lambda link: paco.wraps(synchronous(link)),
    "curry": paco.curry(1),
    "defer": lambda link: paco.defer(link, 0),
    "timeout": lambda link: paco.timeout(link, 9),
    "throttle": paco.throttle,
    "once": paco.once,
    "times": paco.times(2),
    "once that runs in the caller": lambda link: paco.once(link, raise_exception=True),
}


@pytest.mark.parametrize("name", WRAPPERS)
async def test_a_wrapper_raises_the_original_error_without_its_own_frames(name):
    error = ValueError("no")
    link = Link("a", error)
    wrapped = WRAPPERS[name](link)
    args = ["x"] if name == "curry" else []
    with pytest.raises(ValueError, match="no") as caught:
        await wrapped(*args)
    assert caught.value is error
    assert error.__cause__ is None
    assert error.__context__ is None
    assert not hasattr(error, "__notes__")


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", [name for name in WRAPPERS if name not in {"once", "times"}])
async def test_a_wrapper_in_the_callers_task_passes_on_keyboard_interrupt_and_system_exit(name, error):
    # If a wrapper runs its function in another task, these exceptions leave through the event loop itself.
    async def ends():
        raise error("now")

    wrapped = WRAPPERS[name](ends)
    if name == "curry":
        wrapped = paco.curry(0)(ends)
    if name in {"apply", "partial"}:
        wrapped = getattr(paco, name)(ends)
    with pytest.raises(error, match="now"):
        await wrapped()


@pytest.mark.parametrize("name", WRAPPERS)
async def test_a_wrapper_is_cancelled_by_a_timeout_around_it_after_the_cleanup(name):
    link = Link("a")
    wrapped = WRAPPERS[name](link)
    args = ["x"] if name == "curry" else []
    with pytest.raises(TimeoutError):
        await paco.timeout(wrapped(*args), 0.5)
    assert (link.calls, link.cleaned, now()) == (1, 1, 0.5)


async def test_the_steps_of_a_curried_function_are_used_by_many_at_once():
    async def add(first, second, third):
        await asyncio.sleep(1)
        return first + second + third

    ten = paco.curry(add)(10)
    twenty = ten(10)
    assert await paco.map(twenty, range(5)) == [20, 21, 22, 23, 24]
    assert await paco.gather(*(ten(number)(number) for number in range(3))) == [10, 12, 14]
    assert now() == 2


async def test_a_constant_cancelled_during_its_delay_returns_its_value_to_the_next_caller():
    value = paco.constant(object(), delay=2)
    with pytest.raises(TimeoutError):
        await paco.timeout(value, 1)()
    first, second = await paco.gather(value(), value())
    assert first is second
    assert now() == 3
