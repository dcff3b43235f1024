"""The kinds of runs: each function makes a random call of the API, together with its expected outcome."""

from __future__ import annotations

import asyncio
import collections
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import paco
from tools.soak.items import ERROR, Log, Result, Source, Violation, Work, shown

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable


@dataclass
class Case:
    """One call of the API that has not been made yet."""

    name: str
    #: Makes the call, awaits it, and returns the value to compare.
    call: Callable[[], Awaitable[Any]]
    #: Returns whether that value is right. Not called if the call has raised.
    right: Callable[[Any], bool]
    #: Whether the call may return although an item or the source fails: it is left early, or has its result before.
    lenient: bool = False
    #: Whether items may still run when the call is left early: a stream that is iterated without ``async with``.
    drops: bool = False


class Bag:
    """Results in any order."""

    def __init__(self, of: Iterable[Any]) -> None:
        self._counts = collections.Counter(of)

    def holds(self, some: list[Any], count: int) -> bool:
        """Return whether ``some`` are ``count`` of these results, none of them more often than it occurs."""
        return len(some) == count and collections.Counter(some) <= self._counts


def _equals(expected: Any) -> Callable[[Any], bool]:
    return lambda got: bool(got == expected)


async def _iterated(results: Any, leaves_after: int | None, pauses: list[float | None]) -> list[Any]:
    """Take results with pauses, and leave after some of them."""
    got: list[Any] = []
    async for result in results:
        got.append(shown(result))
        pause = pauses[len(got) % len(pauses)]
        if pause is not None:
            await asyncio.sleep(pause)
        if len(got) == leaves_after:
            break
    return got


def _consumed(log: Log, name: str, stream: paco.Stream[Any], expected: list[Any]) -> Case:
    """Return a case that consumes a stream in one of the possible ways."""
    dice = log.random
    how = dice.choice(["await", "await", "with", "with", "for", "completed", "await completed"])
    drops = how in {"for", "completed"}
    leaves_after = dice.choice([None, None, 1, 3, 10]) if drops or how == "with" else None
    pauses: list[float | None] = dice.choice([[None], [None], [0], [None, 0.002], [0.0005]])
    if "completed" in how:
        stream = stream.as_completed()
    if not how.startswith("await") and log.chance(0.4):
        stream = stream.buffer(dice.choice([0, 1, 2, 5]))
    holder = [stream]  # the call takes the stream out, so that the last reference can be dropped
    del stream

    async def call() -> list[Any]:
        if how.startswith("await"):
            return [shown(result) for result in await holder.pop()]
        if drops:
            return await _iterated(holder.pop(), leaves_after, pauses)
        async with holder.pop() as results:
            return await _iterated(results, leaves_after, pauses)

    def right(got: list[Any]) -> bool:
        complete = expected[:leaves_after]
        return Bag(expected).holds(got, len(complete)) if "completed" in how else got == complete

    return Case(f"{name}, {how}", call, right, lenient=leaves_after is not None, drops=drops)


def _items(log: Log) -> tuple[Any, range]:
    count = log.count()
    return Source(log, count).made(), range(count)


def mapped(log: Log) -> Case:
    """`paco.map`."""
    work = Work(log, log.limit())
    source, items = _items(log)
    stream = paco.map(work, source, work.limit, timeout=log.timeout, return_exceptions=log.catch)
    return _consumed(log, "map", stream, [work.predict(item) for item in items])


def flat_mapped(log: Log) -> Case:
    """`paco.flat_map` over nested lists."""
    work = Work(log, log.limit())
    count = log.count()
    nested = [[Result(2 * index), [[Result(2 * index + 1)]]] for index in range(count)]
    stream = paco.flat_map(work, nested, work.limit, timeout=log.timeout, return_exceptions=log.catch)
    return _consumed(log, "flat_map", stream, [work.predict(item) for item in range(2 * count)])


def repeated(log: Log) -> Case:
    """`paco.repeat`."""
    log.timeout, log.catch = None, False
    work = Work(log, log.limit())
    times, step = log.count() + 1, log.random.choice([1, 3])
    stream = paco.repeat(work, times, step, work.limit)
    return _consumed(log, "repeat", stream, [work.predict(item) for item in range(1, times + 1, step)])


def selected(log: Log) -> Case:
    """`paco.filter`, `paco.filterfalse` and `paco.dropwhile`."""
    log.timeout, log.catch = None, False
    functions: list[tuple[str, Any, Any]] = [("filter", paco.filter, log.limit()), ("dropwhile", None, 1)]
    functions.append(("filterfalse", paco.filterfalse, log.limit()))
    name, choose, limit = log.random.choice(functions)
    source, items = _items(log)
    if choose is None:
        work = Work(log, limit, lambda item: item % 7 < 3)
        dropped = next((item for item in items if item % 7 >= 3), len(items))
        return _consumed(log, name, paco.dropwhile(work, source), list(items[dropped:]))
    work = Work(log, limit, lambda item: item % 3 == 0)
    kept = [item for item in items if (item % 3 == 0) is (name == "filter")]
    return _consumed(log, name, choose(work, source, limit=limit), kept)


def piped(log: Log) -> Case:
    """A pipeline of two or three stages, each with its own limit."""
    log.timeout, catch, log.catch = None, log.catch, False
    first, last = Work(log, log.limit()), Work(log, log.limit())
    test = Work(log, log.limit(), lambda item: item % 4 != 1)
    source, items = _items(log)
    stages = paco.map(first, limit=first.limit) | paco.filter(test, limit=test.limit)
    kept = [item for item in items if item % 4 != 1]
    if log.chance(0.5):
        return _consumed(log, "map | filter", source | stages, kept)
    last.catches = catch
    expected = [last.predict(item) for item in kept]
    stream = source | stages | paco.map(last, limit=last.limit, return_exceptions=catch)
    return _consumed(log, "map | filter | map", stream, expected)


def each(log: Log) -> Case:
    """`paco.each`, with and without results."""
    work, collect = Work(log, log.limit()), log.chance(0.5)
    source, items = _items(log)
    call = paco.each(work, source, work.limit, None, collect, log.timeout, log.catch)

    async def results() -> Any:
        done = await call
        return done if done is None else [shown(result) for result in done]

    return Case("each", results, _equals([work.predict(item) for item in items] if collect else None))


def reduced(log: Log) -> Case:
    """`paco.reduce`."""
    log.timeout, log.catch = None, False
    source, items = _items(log)
    work = Work(log, 1)

    async def add(total: int, item: Any) -> int:
        return total + int(shown(await work(item)))

    call = paco.reduce(add, source, right=log.chance(0.3), initializer=0)
    return Case("reduce", lambda: call, _equals(sum(items)))


def judged(log: Log) -> Case:
    """`paco.some` and `paco.every`: the first deciding result or error ends the run."""
    log.catch = False
    threshold, verdict = log.random.choice([2, 30, 1000]), log.chance(0.5)
    source, items = _items(log)
    work = Work(log, log.limit(), lambda item: (item >= threshold) is verdict)
    if not verdict:
        log.timeout = None
    found = len(items) > threshold

    def right(got: bool) -> bool:
        decided = (kind for _, kind, value in log.events if kind == "raised" or value is verdict)
        return got is (found is verdict) and next(decided, "") == ("returned" if found else "")

    if verdict:
        call = paco.some(work, source, work.limit, log.timeout)
        return Case("some", lambda: call, right, lenient=found)
    call = paco.every(work, source, work.limit)
    return Case("every", lambda: call, right, lenient=found)


def _calls(work: Work, count: int) -> list[Any]:
    """Make coroutine objects and coroutine functions."""

    def made(index: int) -> Any:
        kind = work.log.random.choice(["object", "object", "function"])
        return work(index) if kind == "object" else lambda: work(index)

    return [made(index) for index in range(count)]


def gathered(log: Log) -> Case:
    """`paco.gather` and `paco.series`."""
    work = Work(log, log.random.choice([log.limit(), 1]))
    count = log.count() + 1
    expected = [work.predict(item) for item in range(count)]
    if work.limit == 1:
        stream = paco.series(*_calls(work, count), timeout=log.timeout, return_exceptions=log.catch)
        return _consumed(log, "series", stream, expected)
    stream = paco.gather(_calls(work, count), limit=work.limit, timeout=log.timeout, return_exceptions=log.catch)
    return _consumed(log, "gather", stream, expected)


def raced(log: Log) -> Case:
    """`paco.race`: it returns the first result or raises the first error."""
    log.catch = False
    work = Work(log)
    call = paco.race(_calls(work, log.count() + 1), timeout=log.timeout)

    async def winner() -> Any:
        return shown(await call)

    def right(got: Any) -> bool:
        first = next((event for event in log.events if event[1] != "ended"), None)
        return first is not None and first[1:] == ("returned", got)

    return Case("race", winner, right, lenient=True)


def _outcomes(futures: Iterable[asyncio.Future[Any]]) -> list[Any]:
    """Return the outcomes of futures that are all done, sorted."""
    return sorted(str(ERROR if future.exception() else shown(future.result())) for future in futures)


def _retrieved(future: asyncio.Future[Any]) -> None:
    """Retrieve the exception of a future, so that asyncio does not report it if the waiting code is cancelled."""
    if not future.cancelled():
        future.exception()


async def _ended(work: Work) -> None:
    """Wait until no item runs, even if cancelled meanwhile: a cancelled future is done before its coroutine ends."""
    cancelled = None
    while work.running:
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled


def waited(log: Log) -> Case:
    """`paco.wait`: items that are pending when it returns continue, and are awaited or cancelled here."""
    work, when = Work(log, log.limit()), log.random.choice(["FIRST_COMPLETED", "FIRST_EXCEPTION", None])
    if when is not None:
        log.cancelling = 0  # the future of a cancelled item is cancelled, so it has no outcome to compare
    log.timeout = None
    count, cancels = log.count() + 1, log.chance(0.3)
    given: Any = {} if when is None else {"return_when": when}
    call = paco.wait(_calls(work, count), limit=work.limit, return_exceptions=log.catch, **given)

    async def outcomes() -> Any:
        done, pending = await call
        try:
            for future in done | pending:
                future.add_done_callback(_retrieved)
            if pending and not cancels:
                await asyncio.wait(pending)
        finally:
            for future in pending:
                future.cancel()
            await _ended(work)
        return _outcomes(done if cancels else done | pending)

    def right(got: list[str]) -> bool:
        expected = Bag(str(work.predict(item)) for item in range(count))
        return expected.holds(got, len(got) if cancels else count)

    return Case("wait", outcomes, right, lenient=when is not None)


def executed(log: Log) -> Case:
    """`ConcurrentExecutor`: one or two rounds of `add` and `run`, with listeners. Its futures hold the errors."""
    log.timeout, log.catch = None, False
    work, count = Work(log, log.limit()), log.count() + 1
    log.cancelling = 0  # as for `wait`
    rounds = log.random.choice([1, 1, 2])
    heard: list[str] = []

    async def note(*_: Any) -> None:
        heard.append("task")

    async def run() -> Any:
        executor = paco.ConcurrentExecutor(work.limit)
        executor.on("task.finish", note)
        executor.on("task.error", note)
        got: list[str] = []
        for part in range(rounds):
            futures = [executor.add(work, part * count + index) for index in range(count)]
            done, pending = await executor.run()
            if pending or set(futures) != done:
                raise Violation("the executor returned before all futures were done")
            got += _outcomes(done)
        if len(heard) != rounds * count:
            raise Violation(f"there must be {rounds * count} events, one for each coroutine, got {len(heard)}")
        return sorted(got)

    expected = sorted(str(work.predict(item)) for item in range(rounds * count))
    return Case("executor", run, _equals(expected), lenient=True)


def shared(log: Log) -> Case:
    """`paco.once` with concurrent callers, one of which may be cancelled."""
    log.timeout, log.catch = None, False
    work = Work(log, 1, tame=True)
    once = paco.once(work.__call__)
    callers = log.random.choice([1, 3, 10])
    impatient = log.chance(0.5) and callers > 1

    async def run() -> Any:
        tasks = [asyncio.create_task(once(7)) for _ in range(callers)]
        try:
            await asyncio.sleep(0)
            if impatient:
                tasks[0].cancel()
            await asyncio.wait(tasks)
        except asyncio.CancelledError:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            raise
        return [shown(task.result()) for task in tasks[impatient:]], len(work.started)

    return Case("once", run, _equals(([7] * (callers - impatient), 1)))


def timed(log: Log) -> Case:
    """`paco.timeout` and `paco.defer` around one call, with `paco.interval` and `paco.until` at the same time."""
    work, seconds = Work(log, 1), log.random.choice([0, 0.0005, 0.01, 5])
    log.cancelling = log.stubborn = 0  # the call runs in the task that may be cancelled, and must not hide it
    log.timeout, log.catch = seconds, False
    once = paco.timeout(paco.defer(work.__call__, 0), seconds)
    ticks: list[int] = []

    async def tick() -> int:
        ticks.append(1)
        return len(ticks)

    async def enough() -> bool:
        return len(ticks) >= 4

    async def run() -> Any:
        timer = paco.interval(tick, 0.0005)()
        try:
            result = shown(await once(3))
            await paco.until(tick, enough)
        finally:
            timer.cancel()
            await asyncio.wait([timer])
        return result

    return Case("timeout", run, _equals(work.predict(3)))


CASES: Final[list[Callable[[Log], Case]]] = [
    mapped, mapped, mapped, mapped, flat_mapped, repeated, selected, selected, piped, piped, each, reduced, judged,
    gathered, raced, waited, executed, shared, timed,
]  # fmt: skip
