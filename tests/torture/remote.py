"""paco with its items elsewhere: in workers that are only pretended, on virtual time, and in real ones.

The pretended ones are benches, as each process has one, in the loop of the scenario. What travels to them is not copied,
so that a scenario may watch what its items do; all else is what happens with processes: chunks, their orders and
reports, the shares of the limit, cancellation, errors. That what travels survives pickling is for the real ones to show.
"""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import paco
from paco.remote import _pickles
from paco.remote._host import Bench
from paco.remote._wire import Report
from tests.torture.ours import PACO

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Future

    import pytest

    from tests.torture.kit import Library

NUMBERS = itertools.count()


class Held(bytes):
    """Bytes that hold a value itself, not a copy of it."""

    value: Any


def hold(value: Any) -> Held:
    held = Held(next(NUMBERS).to_bytes(8))
    held.value = value
    return held


def copy_nothing(patch: pytest.MonkeyPatch) -> None:
    """Have functions, items, results and errors travel as themselves."""
    for name in ("dumps", "dump_error"):
        patch.setattr(_pickles, name, hold)
    patch.setattr(_pickles, "dump_function", lambda name, fn: hold(fn))
    patch.setattr(_pickles, "loads", lambda held: held.value)
    patch.setattr(Report, "dump", lambda report: report)
    patch.setattr(Report, "load", lambda report: report)


class Pretended:
    """An engine of two workers, in this loop."""

    flag = ""
    slots = 128
    processes = apart = 2

    def __init__(self) -> None:
        self.benches = itertools.cycle([Bench(), Bench()])

    async def open(self) -> None:
        await asyncio.sleep(0)

    def submit(self, *chunk: bytes) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(next(self.benches).work(*chunk), asyncio.get_running_loop())

    def lost(self, error: BaseException) -> None:
        return None

    def cancel(self, run: str, futures: list[Any]) -> None:
        for _ in range(self.processes):
            next(self.benches).cancel(run)

    async def close(self) -> None:
        await asyncio.sleep(0)


def remote(name: str, on: Callable[[Any], Any], limit: Callable[[Any], Any] = lambda number: number) -> Library:
    """Return paco with each stream moved elsewhere.

    Args:
        name: As on the scorecard.
        on: Moves a stream.
        limit: Returns what stands for a number as limit.
    """

    def stream(fn: Any, source: Any, number: Any, **options: Any) -> Any:
        return on(paco.map(fn, source, limit(number), **options))

    async def collect(fn: Any, source: Any, number: Any) -> list[Any]:
        return await stream(fn, source, number)

    async def outcomes(fn: Any, source: Any, number: Any) -> list[Any]:
        return await stream(fn, source, number, return_exceptions=True)

    async def within(fn: Any, source: Any, number: Any, seconds: float) -> list[Any]:
        return await stream(fn, source, number, timeout=seconds)

    return replace(
        PACO,
        name=f"paco, {name}",
        collect=collect,
        ordered=stream,
        completed=lambda *given: stream(*given).as_completed(),
        plain=stream,
        outcomes=outcomes,
        within=within,
    )


def counted(number: Any) -> Any:
    """Return a limit object for a number that is a limit: then items are handed over one by one."""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 10**6:
        return number
    return paco.Limit(number)


def pretended(stream: Any) -> Any:
    """Do what `Stream.on` does, with an engine that has no public form."""
    return stream._become(engine=Pretended)


IN_CHUNKS = remote("in chunks", pretended)
ONE_BY_ONE = remote("one by one", pretended, counted)
