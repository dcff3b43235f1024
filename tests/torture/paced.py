"""paco with a limit object in place of each number."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import anyio
from aiolimiter import AsyncLimiter

import paco
from tests.torture.ours import PACO

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.torture.kit import Library

#: Functions that return a limit object equivalent to a number.
KINDS: dict[str, Callable[[int], Any]] = {
    "count": paco.Limit,
    "two counts": lambda count: paco.Limit(count) & paco.Limit(count + 1),
    "semaphore": asyncio.BoundedSemaphore,
    "semaphore & count": lambda count: paco.Limit(count + 1) & asyncio.BoundedSemaphore(count),
    "rate & count": lambda count: paco.Limit(count) & paco.Rate(10**9, burst=10**6),
    "aiolimiter & count": lambda count: paco.Limit(count) & AsyncLimiter(10**9, 1),
    "adaptive": lambda count: paco.Adaptive(start=count, min=count, max=count),
    "per key & count": lambda count: paco.PerKey(lambda _: None, lambda: count, lookahead=1) & paco.Limit(count + 1),
    "CapacityLimiter": anyio.CapacityLimiter,
}


def paced(kind: str, made: list[Any]) -> Library:
    """Return paco with limit objects of one kind, each of which is appended to ``made``."""

    def limit(number: Any) -> Any:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number < 10**6:
            return number  # no limit, or an invalid one
        made.append(KINDS[kind](number))
        return made[-1]

    def with_it(form: Any) -> Any:
        return lambda fn, source, number, *more: form(fn, source, limit(number), *more)

    forms = ("collect", "ordered", "completed", "plain", "outcomes", "within")
    return replace(PACO, name=f"paco, {kind}", **{name: with_it(getattr(PACO, name)) for name in forms})


def permits_out(limit: Any) -> int:
    """Return how many permits of a limit are held or waited for."""
    if isinstance(limit, anyio.CapacityLimiter):
        return limit.statistics().borrowed_tokens + limit.statistics().tasks_waiting
    if isinstance(limit, asyncio.Semaphore):
        return limit._bound_value - limit._value
    if isinstance(limit, paco.PerKey):
        return len(limit.keys)
    if isinstance(limit, paco.Limit | paco.Adaptive):
        return limit.in_flight + limit.waiting
    if hasattr(limit, "parts"):
        return sum(map(permits_out, limit.parts))
    return permits_out(limit._manager) if hasattr(limit, "_manager") else 0
