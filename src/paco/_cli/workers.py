"""The words that tell how it goes with the workers: a line for each, while there are few."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._view.console import fit
from paco._view.meter import count_of_workers
from paco._view.units import per_second

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from paco.events import Worker

#: Workers that have a line, at most.
_SHOWN = 5
#: Seconds that the rate is taken over, and that one which is lost is still shown.
_WINDOW = 10.0


class _Sample(NamedTuple):
    time: float
    done: dict[str, int]
    lost: set[str]


class WorkerLines:
    """Workers in words.

    Args:
        workers: They, by their names.
    """

    def __init__(self, workers: Mapping[str, Worker]) -> None:
        self._workers = workers
        self._samples: deque[_Sample] = deque()

    def look(self, now: float) -> None:
        """Note what each has done."""
        workers = self._workers.values()
        done = {worker.name: worker.done for worker in workers}
        self._samples.append(_Sample(now, done, {worker.name for worker in workers if worker.lost}))
        while self._samples[0].time < now - _WINDOW and len(self._samples) > 2:  # noqa: PLR2004 - that makes a rate
            self._samples.popleft()

    def _rate(self, worker: Worker) -> float:
        first, last = self._samples[0], self._samples[-1]
        done = last.done.get(worker.name, 0) - first.done.get(worker.name, 0)
        return done / (last.time - first.time) if last.time > first.time else 0.0

    def summary(self) -> str:
        """Return ``2 workers, 1 lost``; nothing before there are any."""
        return count_of_workers(self._workers)

    def lines(self, width: int, style: Callable[[str, str], str]) -> list[str]:
        """Return a line for each of the first, and one for the others; those that have been lost are the last."""
        before = self._samples[0].lost if self._samples else set[str]()
        there = [worker for worker in self._workers.values() if not worker.lost]
        gone = [worker for worker in self._workers.values() if worker.lost and worker.name not in before]
        more = 0
        if len(there) + len(gone) > _SHOWN:
            there, gone, more = there[: _SHOWN - 1], [], max(len(there) - _SHOWN + 1, 0)
        rest = _rest(more, sum(worker.lost for worker in self._workers.values()) - len(gone))
        name = dict(zip(self._workers, _short([fit(one, max(width // 3, 1)) for one in self._workers]), strict=True))
        rows = _columns([[name[worker.name], *self._words(worker)] for worker in there])
        marks = [f"{name[worker.name]}   lost: what it had is run again" for worker in gone]
        lines = [(row, "") for row in rows] + [(mark, "red") for mark in marks] + ([(rest, "dim")] if rest else [])
        return [style(f"  {line}"[:width], kind) for line, kind in lines]

    def _words(self, worker: Worker) -> list[str]:
        flight = [] if worker.in_flight is None else [f"in flight {worker.in_flight:,}"]
        failed = [f"failed {worker.failed:,}"] if worker.failed else []
        return [*flight, f"done {worker.done:,}", per_second(self._rate(worker)), *failed]

    def facts(self) -> list[dict[str, Any]]:
        """Return the figures, for a program that reads them."""
        return [
            {
                "worker": worker.name,
                "in_flight": worker.in_flight,
                "ok": worker.ok,
                "failed": worker.failed,
                "rate": round(self._rate(worker), 3),
                "lost": worker.lost,
            }
            for worker in self._workers.values()
        ]


def _rest(more: int, lost: int) -> str:
    parts = [f"and {more:,} more workers" if more else "", f"{lost:,} lost" if lost else ""]
    return "   ".join(filter(None, parts))


def _short(names: Sequence[str]) -> list[str]:
    """Return the names without the machine, where that is the same for all."""
    machines = {name.partition(" on ")[2] for name in names}
    return [name.partition(" on ")[0] for name in names] if len(machines) == 1 else list(names)


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines, the words below one another."""
    count = max(map(len, rows), default=0)
    widths = [max(len(row[at]) for row in rows if len(row) > at) for at in range(count)]
    return ["   ".join(text.ljust(width) for text, width in zip(row, widths, strict=False)).rstrip() for row in rows]
