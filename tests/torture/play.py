"""Run a scenario on virtual time, and record its events."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import itertools
from typing import TYPE_CHECKING, Any

import paco
from paco.testing import run
from tests.torture.log import Log
from tests.torture.sources import SOURCES
from tests.torture.workloads import CALLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from tests.torture.workloads import Scenario, Stage

VAR: contextvars.ContextVar[object] = contextvars.ContextVar("VAR", default="unset")

#: Seconds; longer than anything can still run after a call has returned.
LONG = 100_000


class Abort(BaseException):
    """An error that is not an ``Exception``."""


class OddError(Exception):
    def __repr__(self):
        raise ValueError("no repr")

    __str__ = __repr__


class Leaving(Exception):
    """Raised by a consumer inside its loop."""


ERRORS: dict[str, Callable[[str], BaseException]] = {
    "error": ValueError,
    "odd error": OddError,
    "abort": Abort,
    "stop iteration": StopIteration,
    "stop async iteration": StopAsyncIteration,
    "generator exit": GeneratorExit,
    "cancelled error": asyncio.CancelledError,
}


_played = itertools.count(1)


def play(scenario: Scenario) -> Log:
    """Run a scenario with a leak check, and return its log."""
    log = Log(scenario)
    run(lambda: _play(log))
    for event in log.events:
        _bare(event.error)  # otherwise the tasks of thousands of runs accumulate
    if next(_played) % 200 == 0:
        gc.collect()  # the leak check freezes garbage, which makes it old: without this it accumulates
    return log


async def _play(log: Log) -> None:
    asyncio.get_running_loop().set_exception_handler(
        lambda _, context: log.reports.append((context["message"], _bare(context.get("exception"))))
    )
    caller = asyncio.create_task(_call(log), name="caller")
    canceller = asyncio.create_task(_cancel(log, caller), name="canceller")
    await asyncio.wait([caller])
    if caller.cancelled():  # cancelled before its first step
        log.error = asyncio.CancelledError()
        log.cancelling = caller.cancelling()
        log.note("return")
    canceller.cancel()
    await asyncio.wait([canceller])
    await asyncio.sleep(LONG)
    log.note("settled")


def _bare(error: BaseException | None) -> BaseException | None:
    """Remove the traceback of an error and its contexts: its frames would keep dropped objects alive."""
    cut = error
    while cut is not None and cut.__traceback__ is not None:
        cut.__traceback__ = None
        cut = cut.__context__
    return error


async def _call(log: Log) -> None:
    VAR.set("caller")
    try:
        log.result = await _consumed(build(log), log)
        if log.scenario.last.verb == "wait":
            done, pending = log.result
            log.result, log.pending = [outcome(future) for future in done], list(pending)
    except BaseException as error:
        log.error = _bare(error)
    finally:
        log.cancelling = asyncio.current_task().cancelling()
        log.alive = [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("paco.")]
        log.note("return")


def outcome(future: asyncio.Future[Any]) -> Any:
    """Return the result or exception of a done future, or ``"cancelled"``."""
    return "cancelled" if future.cancelled() else future.exception() or future.result()


async def _cancel(log: Log, caller: asyncio.Task[None]) -> None:
    plan = log.scenario.cancel
    if plan is None:
        return
    await asyncio.sleep(plan.at)
    for steps in [plan.steps] if plan.again is None else [plan.steps, plan.again]:
        for _ in range(steps):
            await asyncio.sleep(0)
        if caller.cancel():
            log.note("cancel caller")
            log.cancels += 1


# ---- the consumer


async def _consumed(made: Any, log: Log) -> Any:
    consumer = log.scenario.consumer
    if log.scenario.consumer.completed:
        made = made.as_completed()
    if consumer.buffer is not None:
        made = made.buffer(consumer.buffer)
    if consumer.form == "await":
        return await made
    if consumer.form == "for":
        return await _take(made, log)
    async with made as stream:
        return await _take(stream, log)


async def _take(stream: AsyncIterator[Any], log: Log) -> list[Any]:
    consumer, taken = log.scenario.consumer, log.taken
    async for result in stream:
        log.note("take", item=len(taken))
        pause = consumer.pauses[len(taken) % len(consumer.pauses)]
        taken.append(result)
        if pause is not None:
            await asyncio.sleep(pause)
        if len(taken) == consumer.leaves_after:
            log.note("leave")
            if consumer.leaves_by == "raise":
                raise Leaving
            break
    return taken


# ---- the call


def build(log: Log) -> Any:
    """Return the call, or the pipeline, of a scenario."""
    scenario = log.scenario
    if scenario.last.verb in CALLS:
        return _calling(log, scenario.last)
    made: Any = SOURCES[scenario.source.kind](log)
    for number, stage in enumerate(scenario.stages):
        made = _over_items(log, number, stage, made)
    return made


def _over_items(log: Log, number: int, stage: Stage, source: Any) -> Any:
    options = dict(stage.options)
    if stage.timeout is not None:
        options["timeout"] = stage.timeout
    if stage.catch:
        options["return_exceptions"] = True
    if stage.verb != "reduce":
        options["limit"] = stage.limit

    async def fn(item: Any) -> Any:
        return await perform(log, number, item)

    async def combine(total: Any, item: Any) -> str:
        return f"({total} {await perform(log, number, item)})"

    return getattr(paco, stage.verb)(combine if stage.verb == "reduce" else fn, source, **options)


def _calling(log: Log, stage: Stage) -> Any:
    """Return a call over coroutine functions and coroutine objects, alternately."""

    def function(number: int) -> Callable[[], Coroutine[Any, Any, Any]]:
        return lambda: perform(log, 0, number)

    functions = [function(number) for number in range(log.scenario.source.count)]
    calls = [one() if number % 2 else one for number, one in enumerate(functions)]
    options = dict(stage.options) | {"timeout": stage.timeout}
    if stage.catch:
        options["return_exceptions"] = True
    if stage.verb in {"gather", "wait"}:
        options["limit"] = stage.limit
    return getattr(paco, stage.verb)(calls, **options)


# ---- the items


async def perform(log: Log, stage: int, number: int) -> Any:
    """Run an item: leave its mark, nap, end as planned, and record all of it."""
    item = log.scenario.stages[stage].item(number)
    log.note("start", stage, number)
    try:
        await _leave_mark(log, stage, number)
        for nap in item.naps:
            await asyncio.sleep(nap)
        if item.ends == "cancels itself":
            await _cancel_itself(log, stage, number)
        elif item.ends != "result":
            raise log.failed(ERRORS[item.ends](f"{stage}:{number}"), stage, number)
    except asyncio.CancelledError:
        if log.of("error", stage=stage) and log.of("error", stage=stage)[-1].item == number:
            raise  # the item raised it itself
        log.note("cancel", stage, number)
        await _clean_up(log, stage, number)
        if "return" not in item.when_cancelled:
            raise
    finally:
        log.note("end", stage, number)
    return item.verdict if log.scenario.stages[stage].verb in {"filter", "filterfalse", "some", "every"} else number


async def _cancel_itself(log: Log, stage: int, number: int) -> None:
    asyncio.current_task().cancel()
    try:
        await asyncio.sleep(0)
    except asyncio.CancelledError as error:
        raise log.failed(error, stage, number) from None


async def _leave_mark(log: Log, stage: int, number: int) -> None:
    task, mark = asyncio.current_task(), log.scenario.stages[stage].item(number).mark
    if log.scenario.last.verb not in CALLS and VAR.get() != "caller":
        log.note("foreign context", stage, number)
    if mark == "variable":
        VAR.set(number)
    elif mark == "name":
        task.set_name(f"{task.get_name()} {number}")
    elif mark == "cancelling":
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            pass


async def _clean_up(log: Log, stage: int, number: int) -> None:
    how = log.scenario.stages[stage].item(number).when_cancelled
    if "clean up" in how:
        try:
            await asyncio.sleep(2)
        except asyncio.CancelledError:
            log.note("cancel", stage, number)
            raise
    if "fail" in how:
        raise log.failed(ValueError(f"cleanup of {stage}:{number}"), stage, number)
