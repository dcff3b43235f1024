"""Results that wait for their records: each is handed on when the lines that were there when it came are written."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from paco._engine.run import Run
    from paco._engine.sinks import InOrder
    from paco._records.group_commit import GroupCommit

#: Results that are handed on in one turn of the loop, at most: a millisecond of work, and what the consumer does.
_BATCH: Final = 1000


class Delivery:
    """The store of a run with a journal.

    Args:
        sink: Where a result goes when its record is written.
    """

    def __init__(self, sink: InOrder) -> None:
        self._sink = sink
        self._window, sink.window = sink.window, 0  # nothing starts before the journal has been read
        sink.store = self
        self._held: deque[tuple[int, int, Any]] = deque()  # results, each with its index, after the lines it waits for

    def begin(self, run: Run, commit: GroupCommit) -> None:
        """Be for a run, whose lines go there."""
        self._run = run
        self._commit = commit

    def __setitem__(self, index: int, result: Any, /) -> None:
        """Take a result; it is handed on when all lines that there are now have been written."""
        if self._run.ending():
            return  # it comes after the outcome of the run
        if self._commit.written == self._commit.added and not self._held:
            self._sink.results[index] = result
        else:
            self._held.append((self._commit.added, index, result))
            self.widen()

    def widen(self) -> None:
        """Do not count what waits for its record as what waits for the consumer, unless too much does."""
        self._sink.window = 0 if self._commit.full else self._window + len(self._held)

    def hand_on(self) -> bool:
        """Hand on what was waiting for the lines that are written; true if there is more than a turn should do."""
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
        """Let go of the run."""
        self._sink.store = self._sink.results
