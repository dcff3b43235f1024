"""Results that wait for their records: each is delivered once every line that was added before it is written."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from paco._engine.run import Scheduler
    from paco._engine.sinks import InOrder
    from paco._records.group_commit import GroupCommit

#: The most results that are delivered in one turn of the loop: a millisecond of work, besides that of the consumer.
_BATCH: Final = 1000


class Delivery:
    """The store of a run with a journal. It holds a result back until its record is written.

    Args:
        sink: The sink of the run, whose store this becomes. It gets each result once its record is written.
    """

    def __init__(self, sink: InOrder) -> None:
        self._sink = sink
        self._window, sink.window = sink.window, 0  # nothing starts before the journal is read
        sink.store = self
        #: For each waiting result: how many lines must be written first, its index, and the result.
        self._held: deque[tuple[int, int, Any]] = deque()

    def begin(self, run: Scheduler, commit: GroupCommit) -> None:
        """Set the run, and the group commit that writes its lines."""
        self._run = run
        self._commit = commit

    def __setitem__(self, index: int, result: Any, /) -> None:
        """Store a result. It is delivered when every line that was added until now is written."""
        if self._run.ending():
            return  # the outcome of the run is already decided
        if self._commit.written == self._commit.added and not self._held:
            self._sink.results[index] = result
        else:
            self._held.append((self._commit.added, index, result))
            self.widen()

    def widen(self) -> None:
        """Widen the window of the run by the results that wait for their records; close it while too much waits.

        These results do not wait for the consumer, so they must not hold back the items that start next.
        """
        self._sink.window = 0 if self._commit.full else self._window + len(self._held)

    def deliver(self) -> bool:
        """Deliver the results whose lines are written; return whether some are left for the next turn of the loop."""
        held, written = self._held, self._commit.written
        for _ in range(min(_BATCH, len(held))):
            if held[0][0] > written:
                break
            _, index, result = held.popleft()
            self._sink.results[index] = result
        self.widen()
        self._run.release()
        return bool(held) and held[0][0] <= written

    def end(self) -> None:
        """Have the sink store results itself again, which releases the run."""
        self._sink.store = self._sink.results
