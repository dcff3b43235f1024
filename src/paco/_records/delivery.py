"""Results that wait for their lines: held back until these are written, then brought to the sink of the run."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from paco._engine.sinks import Drop, InOrder
    from paco._records.group_commit import GroupCommit

#: The most results that are delivered in one turn of the loop: a millisecond of work, besides that of the consumer.
_BATCH: Final = 1000


class Delivery:
    """Brings results to the sink of a run with a journal, each when the line of its item is written.

    The run stores results in a dict, which is emptied when the next group of lines begins: so a result costs no call.
    """

    def __init__(self, sink: InOrder, commit: GroupCommit) -> None:
        self._sink = sink
        self._commit = commit
        self._window = sink.window
        self._held: dict[int, Any] = {}  # results whose lines come with the next group, as the workers store them
        self._group: dict[int, Any] = {}  # results whose lines are being written
        self._ready: Iterator[tuple[int, Any]] = iter(())  # results whose lines are written
        #: The number of results whose lines are written, and that are not delivered yet.
        self.left: int = 0
        self._delivered = 0  # results that were delivered in this turn
        self._begun = False  # nothing starts before the journal is read
        sink.store, sink.late = self._held, self

    def window(self) -> int:
        """Widen that of the sink by the results here: they do not wait for the consumer, so they hold back no item."""
        if not self._begun or self._commit.full:
            return 0
        return self._window + len(self._held) + len(self._group) + self.left + self._delivered

    def freeze(self) -> None:
        """Ignore what is stored from now on: the outcome of the run is decided. Workers keep their dict."""
        self._held = self._held.copy()

    def group(self) -> None:
        """Note that the lines of the results that wait until now are written next."""
        self._group = self._held.copy()
        self._held.clear()

    def has_results(self) -> bool:
        """Return whether there are results that wait for no line."""
        return bool(self._held) and self._commit.added == self._commit.written

    def deliver(self) -> bool:
        """Deliver results whose lines are written, and let more items start; return false if there are none."""
        self._begun = True
        if not self.left:
            ready, self._group = self._group, {}
            if self.has_results():
                ready.update(self._held)
                self._held.clear()
            self._ready, self.left = iter(ready.items()), len(ready)
        self._delivered = count = min(self.left, _BATCH)
        if count:
            self._sink.add(islice(self._ready, count))
            self.left -= count
            if not self.left:
                self._ready = iter(())  # the iterator would keep the results alive
        self._commit.run.release()
        return count > 0

    def end(self) -> None:
        """Have the sink store results itself again, which releases the run."""
        self._sink.store, self._sink.late = self._sink.results, None


class Drain:
    """Holds items back as a `Delivery` does, in a run whose results are discarded."""

    left: int = 0

    def __init__(self, sink: Drop, commit: GroupCommit) -> None:
        self._sink, self._commit = sink, commit
        self._begun = False
        sink.late = self

    def window(self) -> int:
        return int(self._begun and not self._commit.full)

    def freeze(self) -> None:
        """Do nothing: no results are kept."""

    def group(self) -> None:
        """Do nothing: no results wait."""

    def has_results(self) -> bool:
        return False

    def deliver(self) -> bool:
        """Let more items start; return false, since there are no results."""
        self._begun = True
        self._commit.run.release()
        return False

    def end(self) -> None:
        """Hold back nothing more."""
        self._sink.late = None
