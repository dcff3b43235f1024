"""The tables of a full run: one for each workload, shape, limit and setting."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from benchmarks import shapes, workloads
from benchmarks.measure import Setting
from benchmarks.workloads import LIMIT, Workload

if TYPE_CHECKING:
    from benchmarks.shapes import Shape

#: Items per run in the tables for other limits and loops, because there are many.
FEW = 10_000


@dataclass(frozen=True)
class Table:
    """One workload in one form under one limit: paco and each of the peers.

    Args:
        workload: The function to run.
        shape: The form of the call, and the peers that have it.
        setting: The event loop.
        limit: The largest number of items in flight, 0 for no limit.
        items: The largest number of items per run.
        rounds: A factor for the number of rounds.
        peers: The names of the measured peers; empty for all of the shape.
    """

    workload: Workload
    shape: Shape
    setting: Setting
    limit: int = LIMIT
    items: int = 100_000
    rounds: float = 1.0
    peers: frozenset[str] = frozenset()

    def labels(self, peer: str) -> tuple[str, ...]:
        """Return the words that select a comparison."""
        return (self.workload.key, self.shape.name, limit_name(self.limit), self.setting.name, peer)


def limit_name(limit: int) -> str:
    """Return a limit in words."""
    return f"limit {limit:,}" if limit else "no limit"


def plan(setting: Setting) -> list[Table]:
    """Return all tables in the order in which they are printed."""
    fast = (workloads.INSTANT, workloads.SLEEP_0, workloads.FUTURE)
    by_use = (shapes.LIST, shapes.ORDERED, shapes.AS_COMPLETED)
    tables = [
        Table(workload, shape, setting, items=30_000 if workload is workloads.FUTURE else 100_000)
        for workload, shape in product(fast, by_use)
    ]
    tables += [
        Table(workload, shape, setting, limit, FEW // 2, 0.6)
        for workload, shape, limit in product(fast, by_use, (1, 10, 1000, 0))
    ]
    tables += [
        Table(workloads.TIMER, shapes.AT_ONCE, setting, 100, FEW, 0.6),
        Table(workloads.TIMER, shapes.AT_ONCE, setting, 1000, FEW, 0.6),
        Table(workloads.ECHO, shapes.AT_ONCE, setting, LIMIT, FEW),
        Table(workloads.HTTP, shapes.AT_ONCE, setting, LIMIT, 2_000, 6),
        Table(workloads.SLOW_CONSUMER, shapes.SLOW_CONSUMER, setting, 10, 100, 0.6),
        Table(workloads.SLOW_HEAD, shapes.SLOW_HEAD, setting, 4, 100, 0.6),
        Table(workloads.SLOW_HEAD, shapes.SLOW_HEAD_BUFFERED, setting, 4, 100, 0.6),
        Table(workloads.PIPELINE, shapes.PIPELINE, setting, LIMIT, FEW),
        Table(workloads.INSTANT, shapes.LISTENERS, setting),
        Table(workloads.SLEEP_0, shapes.LISTENERS, setting),
    ]
    others = [Setting(loop, eager) for loop, eager in product(("asyncio", "uvloop"), (False, True))]
    some = frozenset({shapes.BARE.name, shapes.GATHER.name, shapes.STREAMABLE.name})
    tables += [
        Table(workload, shape, other, LIMIT, FEW, 1, some)
        for other, workload, shape in product(others, fast, by_use[:2])
        if setting == Setting() and other != setting and other.possible
    ]
    return tables


def selected(patterns: list[str], labels: tuple[str, ...]) -> bool:
    """Return whether one of the patterns fits. A pattern is words between slashes, each of which must be in a label.

    A single letter must be the key of the workload. Without patterns everything is selected.
    """
    return not patterns or any(all(_fits(word, labels) for word in pattern.split("/")) for pattern in patterns)


def _fits(word: str, labels: tuple[str, ...]) -> bool:
    return any(word == label or (len(word) > 1 and word in label) for label in labels)
