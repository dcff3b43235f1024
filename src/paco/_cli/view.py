"""The words that tell how a run goes."""

from __future__ import annotations

import sys
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from paco._view.console import fit
from paco._view.units import clock, latency, per_second, share

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import paco
    from paco import events
    from paco._cli.tally import Tally
    from paco._cli.workers import WorkerLines

    #: Puts a text into a style.
    Style: TypeAlias = Callable[[str, str], str]
    #: Words, and the style that they are shown in.
    Part: TypeAlias = tuple[str, str]

#: Seconds that the rate and the waiting are taken over, so that they and the eta follow a change.
_WINDOW = 10.0
_BAR, _SHORTEST_BAR = 30, 8
_QUANTILES = (50, 95, 99)


class _Sample(NamedTuple):
    time: float
    done: int
    waited: tuple[float, ...]


class _Far(NamedTuple):
    """How far it is: as a share of all, and in words."""

    part: float | None
    percent: str
    counted: str
    eta: str


class View:
    """A run in words.

    Args:
        tally: What has been counted.
        total: How many items there are, as far as that is known.
        title: What to call the run.
        limit: That of the run.
        cap: The highest rate, as it was said.
    """

    def __init__(
        self,
        tally: Tally,
        total: Callable[[], int | None],
        *,
        title: str = "",
        limit: int | paco.Limiter = 0,
        cap: str = "",
    ) -> None:
        self._tally = tally
        self._total = total
        self._title = title
        self._limit = limit
        self._cap = cap
        self._samples: deque[_Sample] = deque()
        #: A word about what goes on, shown first.
        self.state = ""
        #: The run, which knows what it waits for.
        self.run: events.Run | None = None
        #: Those who have the items, by their names; ``None`` for this process.
        self.workers: WorkerLines | None = None

    def look(self, now: float) -> None:
        """Note how far it is."""
        waited = () if self.run is None else tuple(self.run.waited.values())
        self._samples.append(_Sample(now, self._tally.done, waited))
        while self._samples[0].time < now - _WINDOW and len(self._samples) > 2:  # noqa: PLR2004 - that makes a rate
            self._samples.popleft()
        if self.workers is not None:
            self.workers.look(now)

    def _rate(self) -> float:
        first, last = self._samples[0], self._samples[-1]
        return (last.done - first.done) / (last.time - first.time) if last.time > first.time else 0.0

    def _waiting(self) -> str:
        """Return what kept the next item from starting for most of the time lately."""
        first, last = self._samples[0].waited or (0.0,) * 99, self._samples[-1].waited
        if self.run is None or not last:
            return ""
        spent = dict(zip(self.run.waited, (now - then for then, now in zip(first, last, strict=False)), strict=True))
        most = max(spent, key=lambda reason: spent[reason])
        return f"waiting on {most} {share(spent[most], sum(spent.values()))}" if spent[most] > 0 else ""

    def _most(self) -> int:
        """Return how many items may be in flight now; 0 for no limit."""
        most = self._limit if isinstance(self._limit, int) else self._limit.most
        return 0 if most == sys.maxsize else most

    def _flight(self) -> str:
        """Return how many items are in flight, and how many may be."""
        most = self._most()
        return f"{self._tally.in_flight:,}{f'/{most:,}' if most else ''}"

    # ---- words

    def _far(self) -> _Far:
        done, total, rate = self._tally.done + self._tally.skipped, self._total(), self._rate()
        part = done / total if total else None
        eta = f"eta {clock(max(total - done, 0) / rate)}" if total is not None and rate else ""
        counted = f"{done:,}/{total:,}" if total is not None else f"{done:,} done"
        return _Far(part, f"{part:.0%}" if part is not None else "", counted, eta)

    def line(self, width: int, style: Style) -> str:
        """Return one line, as much of it as there is room for."""
        tally, far = self._tally, self._far()
        parts = _said(
            (self.state, "bold"),
            (far.percent, "bold"),
            (far.counted, ""),
            (f"{tally.ok:,} ok", "green"),
            (f"{tally.failed:,} failed", "red" if tally.failed else ""),
            (per_second(self._rate()), ""),
            (f"{self._flight()} in flight", ""),
            (far.eta, ""),
            (self._waiting(), ""),
            ("" if self.workers is None else self.workers.summary(), ""),
        )
        return _joined(parts, width, style, 2, "  ")

    def lines(self, width: int, style: Style) -> list[str]:
        """Return the lines that are repainted: how far, how fast, how long each."""
        tally = self._tally
        cap = f" (cap {self._cap})" if self._cap else ""
        failed = f"failed {tally.failed:,}{f' ({share(tally.failed, tally.done)})' if tally.failed else ''}"
        pace = [
            (f"rate {per_second(self._rate())}{cap}", ""),
            (f"in flight {self._flight()}", ""),
            (f"ok {tally.ok:,}", "green"),
            (failed, "red" if tally.failed else ""),
        ]
        times = [(f"p{percent} {latency(tally.quantile(percent))}", "") for percent in _QUANTILES if tally.longest]
        retried = f"retried {tally.retried:,}" if tally.retried else ""
        long = _said(*times, (retried, ""), (self._waiting(), "bold"))
        lines = [self._head(width, style), *(_joined(parts, width, style, 3, "  ") for parts in (pace, long))]
        return [*filter(None, lines), *(self.workers.lines(width, style) if self.workers is not None else [])]

    def _head(self, width: int, style: Style) -> str:
        far = self._far()
        title = fit(self._title, max(width // 3, 1))
        parts = _said((self.state, "bold"), (title, "bold"))
        rest = _said((far.percent, "bold"), (far.counted, ""), (far.eta, ""))
        room = min(width - sum(len(text) + 2 for text, _ in [*parts, *rest]), _BAR)
        if far.part is None or room < _SHORTEST_BAR:
            return _joined([*parts, *rest], width, style, 2, "")
        full = round(min(far.part, 1) * room)
        bar = style("━" * full, "green") + style("─" * (room - full), "dim")
        return "  ".join([*(style(*one) for one in parts), bar, *(style(*one) for one in rest)])

    def facts(self) -> dict[str, Any]:
        """Return the figures, for a program that reads them."""
        tally, total, rate = self._tally, self._total(), self._rate()
        left = None if total is None else max(total - tally.done - tally.skipped, 0)
        return {
            "done": tally.done,
            "total": total,
            "ok": tally.ok,
            "failed": tally.failed,
            "skipped": tally.skipped,
            "retried": tally.retried,
            "in_flight": tally.in_flight,
            "limit": self._most() or None,
            "rate": round(rate, 3),
            "eta": round(left / rate, 1) if left is not None and rate else None,
            **{f"p{percent}": round(tally.quantile(percent), 6) for percent in _QUANTILES},
            **({} if self.workers is None else {"workers": self.workers.facts()}),
        }


def _said(*parts: Part) -> list[Part]:
    return [part for part in parts if part[0]]


def _joined(parts: Sequence[Part], width: int, style: Style, gap: int, start: str) -> str:
    """Return the first parts, as many as there is room for."""
    line, room = start, width - len(start)
    for number, (text, kind) in enumerate(parts):
        room -= len(text) + gap * bool(number)
        if room < 0:
            break
        line += " " * gap * bool(number) + style(text, kind)
    return line if line != start else ""
