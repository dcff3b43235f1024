"""Every public function cancelled at every step of the loop, once and twice: everything ends, nothing is swallowed."""

from __future__ import annotations

import asyncio
import inspect
import itertools

import pytest

import paco
from paco.testing import AsyncSource, Source
from tests.torture.waiting import ended

#: The public names without a case, and the reasons.
NOT_CANCELLED = {
    "GateClosed": "an exception",
    "ItemCancelled": "an exception",
    "RunTimeout": "an exception",
    "TooManyErrors": "an exception",
    "Ok": "a value",
    "Err": "a value",
    "Current": "a value",
    "current": "it awaits nothing",
    "iterate": "it blocks its thread: test_iterate.py interrupts it",
    "threaded": "threads take real time: test_threads.py cancels calls",
    "partition": "it awaits nothing",
    "run": "it blocks its thread, so that nobody can cancel it: test_api_run.py interrupts it",
    "concurrent": "another name of ConcurrentExecutor",
    "identity": "another name of constant",
}

#: The least number of cancellation points in a whole run of this module.
LEAST = 5_000


# ---- functions to run, and what they record


class Work:
    """An async function of one item that takes some steps, and some more to clean up.

    Args:
        last: A function that item 2 calls at its end.
        cleanup: The number of steps of the cleanup.
        cleaned: A function to call after the cleanup.
    """

    def __init__(self, last=None, *, cleanup=1, cleaned=None):
        self.running = self.cancels = 0
        self.left_running = False
        self._last, self._cleanup, self._cleaned = last, cleanup, cleaned

    async def __call__(self, item=1, *_):
        self.running += 1
        try:
            for _ in range(item % 3):
                await asyncio.sleep(0)
            if item == 2 and self._last is not None:
                self._last()
            return item
        finally:
            try:
                for _ in range(self._cleanup):
                    await asyncio.sleep(0)
                if self._cleaned is not None:
                    self._cleaned()
            finally:
                self.running -= 1
                self.cancels = max(self.cancels, asyncio.current_task().cancelling())

    async def add(self, total, item):
        return total + await self(item)

    async def true(self, item=1):
        await self(item)
        return True


class Stubborn(Work):
    """Work that suppresses its cancellation, and continues for a step."""

    async def __call__(self, item=1, *_):
        try:
            return await super().__call__(item)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return item


class Slow(Work):
    """Work that takes some seconds, and records an item that was left running after a cancellation."""

    def __init__(self):
        super().__init__()
        self._caller = asyncio.current_task()

    async def __call__(self, item=1, *_):
        for _ in range(2):
            known = self._caller.cancelling() > 0
            await asyncio.sleep(1)
            self.left_running |= known
        return await super().__call__(item)


def fail():
    raise ValueError("failed")


def cancel_itself():
    raise asyncio.CancelledError


WORKS = {
    "works": Work,
    "fails": lambda: Work(fail),
    "cleans up for long": lambda: Work(fail, cleanup=4),
    "fails in its cleanup": lambda: Work(cleaned=fail),
    "ends cancelled by itself": lambda: Work(cancel_itself),
    "suppresses its cancellation": Stubborn,
    "takes its time": Slow,
}
EXPECTED = (ValueError, TimeoutError, paco.ItemCancelled, paco.TooManyErrors)


async def numbers_closed_slowly():
    try:
        for number in range(4):
            yield number
            await asyncio.sleep(0)
    finally:
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def awaited_numbers():
    await asyncio.sleep(0)
    return range(4)


SOURCES = {
    "list": lambda: list(range(4)),
    "generator": lambda: Source(range(4)).generator(),
    "async generator": lambda: AsyncSource(range(4)).generator(),
    "iterator": lambda: Source(range(4)),
    "async iterator": lambda: AsyncSource(range(4), delay=0.1),
    "async generator closed slowly": numbers_closed_slowly,
    "awaitable": awaited_numbers,
    "stream": lambda: paco.map(Work(), range(4), limit=2),
    "source that fails": lambda: Source(range(3), error=ValueError("source")).generator(),
    "async source that fails": lambda: AsyncSource(range(3), error=ValueError("source")).generator(),
}
THREE_SOURCES = ["list", "generator", "async generator"]


def is_left_alone_or_closed(source):
    """Return whether a generator was closed and any other iterator was not. (The leak check finds async generators.)"""
    if inspect.isgenerator(source):
        return inspect.getgeneratorstate(source) in {inspect.GEN_CREATED, inspect.GEN_CLOSED}
    return not getattr(source, "closed", False)


# ---- the cases; the first word of each name is the name of the function


async def iterate(stream, *, leave_after=None):
    async with stream as results:
        seen = 0
        async for _ in results:
            await asyncio.sleep(0)
            seen += 1
            if seen == leave_after:
                break


async def iterate_plainly(stream):
    async for _ in stream:  # after a cancelled body, cleanup happens in the next steps of the loop
        pass


async def inside(block, work, source):
    with block:
        await (source | paco.map(work, limit=2) | paco.each(work, limit=1))


class Bar:
    def update(self, n):
        pass


OVER_ITEMS = {
    "map": lambda work, source: paco.map(work, source, limit=2),
    "map without a limit": paco.map,
    "map with a timeout": lambda work, source: paco.map(work, source, limit=2, timeout=0.3),
    "map with exceptions as results": lambda work, source: paco.map(work, source, limit=2, return_exceptions=True),
    "each": lambda work, source: paco.each(work, source, limit=2),
    "each that collects": lambda work, source: paco.each(work, source, limit=2, collect=True),
    "filter": lambda work, source: paco.filter(work, source, limit=2),
    "filter with an assertion": lambda work, source: paco.filter(work, source, work, limit=2),
    "filterfalse": lambda work, source: paco.filterfalse(work, source, limit=2),
    "flat_map": lambda work, source: paco.flat_map(work, source, limit=2),
    "dropwhile": paco.dropwhile,
    "reduce": lambda work, source: paco.reduce(work.add, source, initializer=0),
    "reduce from the right": lambda work, source: paco.reduce(work.add, source, right=True),
    "some": lambda work, source: paco.some(work, source, limit=2),
    "every": lambda work, source: paco.every(work.true, source, limit=2),
    "race of a stream": lambda work, source: paco.race(paco.map(make_runner(work), source)),
    "Stream in order": lambda work, source: iterate(paco.map(work, source, limit=2)),
    "Stream as completed": lambda work, source: iterate(paco.map(work, source, limit=3).as_completed()),
    "Stream with a buffer of one": lambda work, source: iterate(paco.map(work, source, limit=2).buffer(1)),
    "Stream left early": lambda work, source: iterate(paco.map(work, source, limit=2), leave_after=2),
    "Stream without a block": lambda work, source: iterate_plainly(paco.map(work, source, limit=2)),
    "Stream with max_errors": lambda work, source: iterate(paco.map(paco.settle(work), source, limit=2).max_errors(0)),
    "settle": lambda work, source: paco.map(paco.settle(work), source, limit=2, timeout=0.3),
    "retry in a run": lambda work, source: paco.map(paco.retry(work, attempts=2, wait=0.1), source, limit=2),
    "map under a count": lambda work, source: paco.map(work, source, limit=paco.Limit(2)),
    "map under a rate": lambda work, source: paco.map(work, source, limit=paco.Rate(4, burst=2)),
    "each under two limits": lambda work, source: paco.each(work, source, limit=paco.Rate(4) & asyncio.Semaphore(2)),
    "Stream under a limit": lambda work, source: iterate(paco.map(work, source, limit=paco.Limit(2)).buffer(1)),
    "retry under a limit": lambda work, source: paco.map(paco.retry(work, wait=0), source, limit=paco.Limit(2)),
    "hedge in a run": lambda work, source: paco.map(paco.hedge(work, 0), source, limit=2),
    "Stage": lambda work, source: source | paco.map(work, limit=2) | paco.filter(work) | paco.each(work, limit=1),
    "listening": lambda work, source: inside(paco.listening(lambda _: None), work, source),
    "trace": lambda work, source: inside(paco.trace(), work, source),
    "progress": lambda work, source: inside(paco.progress(Bar()), work, source),
    "batch": lambda work, source: (
        source | paco.map(work, limit=2) | paco.batch(3, within=0.5) | paco.each(len_of(work))
    ),
    "Stream in lists": lambda work, source: iterate(paco.map(work, source, limit=2).batch(2)),
    "Stream that is drained": lambda work, source: paco.map(work, source, limit=2).drain(),
    "Gate": lambda work, source: paco.map(work, source, limit=2 & paco.Gate()),
    "Budget": lambda work, source: paco.map(work, source, limit=2 & paco.Budget(3, cost=1)),
    "PerKey in a run": lambda work, source: paco.map(work, source, limit=paco.PerKey(lambda item: item % 2, lambda: 1)),
    "Stage of streams": lambda work, source: iterate(source | paco.flat_map(work, limit=2) | paco.map(work, limit=1)),
}


def make_runner(work):
    async def runner(item):
        return lambda: work(item)

    return runner


def len_of(work):
    return lambda found: work(len(found))


async def fill(work):
    """Add to an inbox from an item of the run that reads it."""
    inbox = paco.Inbox([1, 2])

    async def grow(item):
        inbox.add(*range(3, 6) if item == 2 else ())
        await work(item)

    await paco.map(grow, inbox, limit=2)


async def execute(work):
    executor = paco.ConcurrentExecutor(limit=2)
    futures = [executor.add(work, number) for number in range(5)]
    try:
        async with executor:
            await asyncio.sleep(0)
    finally:
        assert all(future.done() for future in futures)
        assert not executor.is_running()
        for future in futures:
            if not future.cancelled():
                future.exception()  # retrieved


async def run_executor(work):
    executor = paco.ConcurrentExecutor(limit=2, coros=[lambda: work(2), lambda: work(1)])
    executor.on("task.error", lambda task, error: work(1))
    try:
        await executor.run(timeout=0.3, return_exceptions=True)
    finally:
        assert not executor.is_running()


async def wait_and_go_on(work):
    """Cancel the futures that `wait` returns as pending, and wait for them."""
    _, pending = await paco.wait(*(work(number) for number in range(5)), limit=2, timeout=0)
    for future in pending:
        future.cancel()
    await ended(asyncio.ensure_future(asyncio.sleep(1)))


GROUPS = {
    "gather": lambda work: paco.gather(*(work(number) for number in range(5)), limit=2),
    "gather of a generator of functions": lambda work: paco.gather(paco.partial(work, n) for n in range(3)),
    "gather with a timeout": lambda work: paco.gather([work(2), asyncio.sleep(9)], timeout=1),
    "series": lambda work: paco.series(*(work(number) for number in range(3))),
    "series of a generator": lambda work: paco.series(work(number) for number in range(3)),
    "race": lambda work: paco.race([work(2), work(1), work(2)]),
    "race with a timeout": lambda work: paco.race([asyncio.sleep(9), asyncio.sleep(8)], None, 1),
    "wait": lambda work: paco.wait(*(work(number) for number in range(5)), limit=2),
    "wait of a list": lambda work: paco.wait([lambda: work(2), lambda: work(1)], return_exceptions=True),
    "wait of which some is pending": wait_and_go_on,
    "repeat": lambda work: paco.repeat(work, 5, limit=2),
    "ConcurrentExecutor as a block": execute,
    "ConcurrentExecutor": run_executor,
    "hedge": lambda work: paco.hedge(work, 0)(2),
    "hedge with a delay": lambda work: paco.hedge(work, 0.5, extra=2)(2),
    "Inbox": fill,
    "map of maps": lambda work: paco.map(lambda _: paco.map(work, range(3)), range(2), limit=2),
}


async def limited(work):
    async with paco.TimeoutLimit(1):
        await work(2)
        await asyncio.sleep(9)


async def under_a_deadline(work):
    with paco.deadline(1):
        await paco.map(work, [1, 2])
        await paco.timeout(work)(9)


async def in_slots(limit, work):
    async with limit.slot():
        await work(2)
    async with limit.slot(1):
        await work(1)


async def called_twice(calls):
    await calls(2)
    await calls(2)


async def shared(wrapper, work):
    """Call from two tasks, one of which is cancelled together with the test."""
    calls = wrapper(work)
    other = asyncio.ensure_future(calls(1))
    try:
        await calls(2)
    finally:
        other.cancel()
        await ended(other)


async def loop_while(work, repeat, verdict):
    left = itertools.count(3, -1)

    async def more():
        await work(1)
        return (next(left) > 0) is verdict

    await repeat(lambda: work(1), more, work_judge)


async def work_judge(verdict):
    await asyncio.sleep(0)
    return verdict


WRAPPERS = {
    "Limit": lambda work: in_slots(paco.Limit(1), work),
    "Rate": lambda work: in_slots(paco.Rate(1), work),
    "Adaptive": lambda work: in_slots(paco.Adaptive(start=1), work),
    "PerKey": lambda work: in_slots(paco.PerKey(repr, lambda: 1), work),
    "Limiter made of several": lambda work: in_slots(paco.Limit(1) & paco.Rate(1) & asyncio.Lock(), work),
    "limited": lambda work: called_twice(paco.limited(work, 1)),
    "limited with two callers": lambda work: shared(lambda fn: paco.limited(fn, paco.Limit(1)), work),
    "TimeoutLimit": limited,
    "timeout of a function": lambda work: paco.timeout(work, 1)(2),
    "timeout of a coroutine object": lambda work: paco.timeout(work(2), 1),
    "timeout that comes": lambda work: paco.timeout(paco.defer(work, 5), 1)(2),
    "deadline": under_a_deadline,
    "retry": lambda work: paco.retry(work, wait=0.1)(2),
    "retry with a timeout": lambda work: paco.retry(work, timeout=0.5, wait=0.1, budget=0.5)(2),
    "settle of a call": lambda work: paco.settle(work)(2),
    "defer": lambda work: paco.defer(work, 1)(2),
    "throttle": lambda work: called_twice(paco.throttle(work, limit=1)),
    "once": lambda work: called_twice(paco.once(work)),
    "once with two callers": lambda work: shared(paco.once, work),
    "once that returns a value": lambda work: called_twice(paco.once(work, return_value=1)),
    "times": lambda work: called_twice(paco.times(work, 2)),
    "times with two callers": lambda work: shared(paco.times(2), work),
    "interval": lambda work: paco.interval(work, 1, 3)(2),
    "whilst": lambda work: loop_while(work, paco.whilst, verdict=True),
    "until": lambda work: loop_while(work, paco.until, verdict=False),
    "apply": lambda work: paco.apply(work, 2)(),
    "partial": lambda work: paco.partial(work, 2)(),
    "curry": lambda work: paco.curry(2)(work)(2)(1),
    "compose": lambda work: paco.compose(work, work, work)(2),
    "constant": lambda work: paco.constant(1, delay=1)(),
    "thunk": lambda work: paco.thunk(work)(),
    "wraps": lambda work: paco.wraps(lambda: work(2))(),
}


CALLS = {**OVER_ITEMS, **GROUPS, **WRAPPERS}


def report(loop, context):
    """Ignore reports of a stream whose cancelled consumer can no longer receive its errors."""
    if not context["message"].startswith("paco."):
        loop.default_exception_handler(context)


def cases():
    """Yield (call, source, work, again): all pairs of a call, a source and a work, for all combinations take a minute.

    Each call is also cancelled a second time, while it cleans up.
    """
    product = itertools.product
    long = "cleans up for long"
    for number, call in enumerate(OVER_ITEMS):
        for turn, work in enumerate(WORKS):
            yield call, THREE_SOURCES[(number + turn) % 3], work, None
        yield call, THREE_SOURCES[number % 3], long, 1 + number % 2
    yield from product(["map", "Stream in order", "Stage"], list(SOURCES)[3:], ["works"], (None,))
    yield from product(GROUPS, (None,), WORKS, (None,))
    for number, call in enumerate(GROUPS):
        yield call, None, long, (0, 1, 3)[number % 3]
    # In the caller's own task the function decides what happens to a cancellation.
    yield from product(WRAPPERS, (None,), ["works", "fails", "takes its time"], (None,))
    yield from product(WRAPPERS, (None,), [long], (1,))


CASES = [
    pytest.param(*case, marks=[pytest.mark.slow] if number % 3 or case[-1] is not None else [])
    for number, case in enumerate(cases())
]
cancelled_at = {}


@pytest.fixture(scope="module", autouse=True)
def enough_points():
    """Check the number of points of a whole run. A selection of the tests has fewer."""
    yield
    points = sum(cancelled_at.values())
    assert points >= LEAST or len(cancelled_at) < len(CASES)


async def checked(call, source=None, work="works", start=lambda awaitable: awaitable):
    """Make one call, and check that nothing runs and everything is closed when it has ended."""
    worker = WORKS[work]()
    if call.startswith("St"):
        asyncio.get_running_loop().set_exception_handler(report)
    items = () if source is None else (SOURCES[source](),)
    workers_of_its_own = call not in WRAPPERS
    try:
        await start(CALLS[call](worker, *items))
    except EXPECTED:
        pass
    finally:
        assert (worker.running, worker.left_running) == (0, False)
        assert worker.cancels <= 1 or not workers_of_its_own
        assert all(map(is_left_alone_or_closed, items))


@pytest.mark.parametrize(("call", "source", "work", "again"), CASES)
def test_cancelled_at_every_step(call, source, work, again, cancel_at_every_step):
    points = cancel_at_every_step(lambda: checked(call, source, work), again=again)
    assert points > 4
    cancelled_at[call, source, work, again] = points


#: Without the cases in which a coroutine of this module holds the stream: if it never starts, neither does the stream.
TASKS = [call for call in CALLS if not call.startswith("Stream") and call != "Stage of streams"]


@pytest.mark.parametrize("call", TASKS)
def test_cancelled_as_a_task_at_every_step_including_before_the_first(call, cancel_at_every_step):
    source = "generator" if call in OVER_ITEMS else None
    assert cancel_at_every_step(lambda: checked(call, source, start=asyncio.ensure_future)) > 4


def test_every_public_name_has_a_cancellation_case_or_a_reason():
    assert len(CALLS) == len(OVER_ITEMS) + len(GROUPS) + len(WRAPPERS)
    functions = {call.partition(" ")[0] for call in CALLS}
    assert functions | NOT_CANCELLED.keys() == set(paco.__all__)
    assert not functions & NOT_CANCELLED.keys()
    assert paco.concurrent is paco.ConcurrentExecutor
    assert paco.identity is paco.constant
