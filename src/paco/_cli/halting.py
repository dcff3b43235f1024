"""Whether so much fails that the run is to end early."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._cli.words import Halt

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._cli.tally import Tally

#: Without a rule a run ends early only if nothing at all succeeds: a wrong URL, a password that has expired.
_FIRST = 20
_NEVER = Halt("never")


class Halting:
    """Judges after each failure.

    A share is one of all items, as GNU parallel means it, and not of those that have ended: 10 % of a million are
    100,000 failures. While nobody knows how many items there are, it is not reached.

    Args:
        rule: ``--halt``; ``None`` for the one that holds by default.
        tally: What has failed.
        total: How many items there are, as far as that is known.
    """

    def __init__(self, rule: Halt | None, tally: Tally, total: Callable[[], int | None]) -> None:
        # The items that failed in earlier runs come first in this one, and say nothing about the others.
        proven = rule is None and tally.earlier is not None and tally.earlier.succeeded
        self._rule = _NEVER if proven else rule
        self._tally = tally
        self._total = total
        #: Whether what runs is to be cancelled too.
        self.now = rule is not None and rule.when == "now"
        #: Whether the first error is what has to be told.
        self.all_failed = False

    def reason(self) -> str:
        """Return why the run is to end here, or nothing if it is not."""
        rule, failed = self._rule, self._tally.failed
        if rule is None:
            self.all_failed = failed >= _FIRST and not self._tally.ok
            return f"the first {failed} items all failed (--halt never: go on)" if self.all_failed else ""
        if rule.when == "never" or failed < self._enough(rule):
            return ""
        return f"{failed:,} item{' has' if failed == 1 else 's have'} failed (--halt {rule})"

    def _enough(self, rule: Halt) -> float:
        """Return how many failures are enough."""
        if not rule.share:
            return rule.fail
        total = self._total()
        return float("inf") if total is None else max(rule.share * total, 1)
