"""What is run: functions whose own work is next to nothing, so that what is measured is the cost of running them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

#: Items in flight at most, in every measurement.
LIMIT = 100

Fn = Callable[[int], Coroutine[Any, Any, int]]


async def _instant(item: int) -> int:
    return item


async def _sleep_0(item: int) -> int:
    await asyncio.sleep(0)
    return item


@dataclass(frozen=True)
class Workload:
    """A function to be run over items."""

    name: str
    fn: Fn


INSTANT = Workload("(a) returns at once", _instant)
SLEEP_0 = Workload("(b) await asyncio.sleep(0)", _sleep_0)
WORKLOADS = (INSTANT, SLEEP_0)


def lazily(count: int) -> Iterable[int]:
    """Yield the items one at a time: a source that holds no memory itself."""
    yield from range(count)
