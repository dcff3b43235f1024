"""The counts of a run of the command, and its summary."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._view.console import fit, safe
from paco._view.units import Sketch, duration, latency, per_second

if TYPE_CHECKING:
    from paco._cli.formats import Problem
    from paco._cli.output import Earlier

_KINDS = 8
_FAILURES = "  failures  "
_QUANTILES = (50, 90, 95, 99)


class Tally:
    """Counts items by how they ended.

    Args:
        earlier: The records of earlier runs, if this run resumes.
    """

    def __init__(self, earlier: Earlier | None = None) -> None:
        self.earlier = earlier
        self.started = 0
        self.ok = 0
        self.failed = 0
        self.cancelled = 0
        #: The number of further attempts of all items.
        self.retried = 0
        #: The durations of the items, failed ones included, in seconds.
        self.latencies = Sketch()
        #: Adds the duration of an item.
        self.took = self.latencies.add
        self._kinds: dict[str, tuple[int, str | None]] = {}

    @property
    def done(self) -> int:
        """Items that succeeded or failed."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        """Items in flight."""
        return self.started - self.done - self.cancelled

    @property
    def skipped(self) -> int:
        """Items skipped because of records of earlier runs."""
        return 0 if self.earlier is None else self.earlier.skipped

    def fail(self, problem: Problem) -> None:
        """Count a failure by its type. Keep the message as long as all failures of the type have the same."""
        self.failed += 1
        count, message = self._kinds.get(problem.type, (0, problem.message))
        self._kinds[problem.type] = count + 1, message if message == problem.message else None

    def kinds(self) -> list[str]:
        """Return texts such as ``311 TimeoutError`` or ``64 HTTPError: 503``, the most frequent first."""
        ranked = sorted(self._kinds.items(), key=lambda kind: -kind[1][0])
        texts = [f"{count:,} {name}{': ' + fit(text, 50) if text else ''}" for name, (count, text) in ranked]
        return texts[:_KINDS] + ([f"and {len(texts) - _KINDS} other"] if len(texts) > _KINDS else [])


def summary(
    tally: Tally, total: int | None, seconds: float, *, width: int, found: int = 0, again: str = ""
) -> list[str]:
    """Return the lines of a summary; the first one goes after a word such as ``done``.

    Args:
        tally: The counts.
        total: The number of items, if known.
        seconds: The duration of the run.
        width: The columns of a line.
        found: The last limit of ``--limit auto``; otherwise 0.
        again: The command line that runs the items left, if there are any.
    """
    lines = [f"in {duration(seconds)}    {_counts(tally, total, seconds)}"]
    if longest := tally.latencies.longest():
        times = [f"p{percent} {latency(tally.latencies.quantile(percent / 100))}" for percent in _QUANTILES]
        lines.append(f"  latency   {'   '.join(times)}   max {latency(longest)}")
    if found:
        lines.append(f"  limit     {found:,}   (auto)")
    if tally.failed:
        lines += _failures(tally, width - len(_FAILURES))
    return [*lines, safe(f"  again     {again}")] if again else lines


def _counts(tally: Tally, total: int | None, seconds: float) -> str:
    whole = total is None or total == tally.done + tally.skipped
    parts = [f"{tally.done:,} items" if whole else f"{tally.done:,} of {total:,} items"]
    parts += [f"{tally.ok:,} ok", f"{tally.failed:,} failed"]
    for count, word in ((tally.skipped, "skipped"), (tally.retried, "retried"), (tally.cancelled, "cancelled")):
        parts += [f"{count:,} {word}"] if count else []
    parts += [per_second(tally.done / seconds)] if seconds > 0 else []
    return "   ".join(parts)


def _failures(tally: Tally, width: int) -> list[str]:
    """Return lines that show the kinds of failures side by side."""
    lines = [""]
    for kind in tally.kinds():
        text = fit(kind, width)
        if len(lines[-1]) + len(text) + 3 > width and lines[-1]:
            lines.append("")
        lines[-1] += f"   {text}" if lines[-1] else text
    return [(" " * len(_FAILURES) if number else _FAILURES) + line for number, line in enumerate(lines)]
