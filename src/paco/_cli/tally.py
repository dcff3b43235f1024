"""What is counted while a run goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._view.console import fit
from paco._view.meter import Sketch

if TYPE_CHECKING:
    from paco._cli.formats import Problem
    from paco._cli.resume import Earlier

_KINDS = 8


class Tally:
    """What has been started and how it ended.

    Args:
        earlier: What earlier runs have left, if this one goes on from there.
    """

    def __init__(self, earlier: Earlier | None = None) -> None:
        self.earlier = earlier
        self.started = 0
        self.ok = 0
        self.failed = 0
        self.cancelled = 0
        #: Further attempts, over all items.
        self.retried = 0
        #: How long the items took, failed ones as well, and the longest of all; in seconds.
        self.latencies = Sketch()
        self.longest = 0.0
        self._kinds: dict[str, tuple[int, str | None]] = {}

    @property
    def done(self) -> int:
        """The items that have a record."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        """The items that run."""
        return self.started - self.done - self.cancelled

    @property
    def skipped(self) -> int:
        """The items that were not to be run again."""
        return 0 if self.earlier is None else self.earlier.skipped

    def took(self, seconds: float) -> None:
        """Count how long an item took."""
        self.latencies.add(seconds)
        self.longest = max(self.longest, seconds)

    def quantile(self, percent: int) -> float:
        """Return the seconds that so many percent of the items did not exceed."""
        return min(self.latencies.quantile(percent / 100), self.longest)

    def fail(self, problem: Problem) -> None:
        """Count a failure by its type and, as long as they all have the same, its message."""
        self.failed += 1
        count, message = self._kinds.get(problem.type, (0, problem.message))
        self._kinds[problem.type] = count + 1, message if message == problem.message else None

    def kinds(self) -> list[str]:
        """Return ``311 TimeoutError``, ``64 HTTPError: 503``, the most frequent first."""
        ranked = sorted(self._kinds.items(), key=lambda kind: -kind[1][0])
        texts = [f"{count:,} {name}{': ' + fit(text, 50) if text else ''}" for name, (count, text) in ranked]
        return texts[:_KINDS] + ([f"and {len(texts) - _KINDS} other"] if len(texts) > _KINDS else [])
