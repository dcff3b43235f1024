"""Where results go: a list, nowhere, or a stream that hands them on in input order or as they are completed.

A worker stores with ``sink.store[index] = result`` (for a list and a dict one bytecode, which is why it is not a
method) and asks ``sink.room(started)`` below which index items may start. That one number is the backpressure.
"""

from __future__ import annotations

import sys
from collections import deque
from typing import Any, Final, Protocol

#: The result of an item that is passed over: ``filter`` gives it for an item that it drops.
SKIP: Final = object()
#: What a stream's sink gives when the next result is not there yet.
NOTHING: Final = object()

#: A list grows by this many places at a time, filled in as results come, in whatever order.
_PLACES: Final = [None] * 64


class Store(Protocol):
    """Takes the result of the item with an index."""

    def __setitem__(self, index: int, result: Any, /) -> None: ...


class Sink(Protocol):
    """What the engine asks of the place where results go."""

    @property
    def store(self) -> Store: ...

    def room(self, started: int) -> int:
        """Return the index below which items may start, ``started`` being how many have."""
        ...

    def freeze(self) -> None:
        """Hear that the run is ending early: what comes now comes after its outcome."""
        ...


class Keep:
    """All results, as one list in the order of the input; with ``gaps`` where some may be `SKIP`."""

    __slots__ = ("_gaps", "store")

    def __init__(self, head: tuple[Any, ...] = (), *, gaps: bool = False) -> None:
        self.store: list[Any] = list(head)
        self._gaps = gaps

    def room(self, started: int) -> int:
        """Make places for the next items: a list has always room."""
        if started >= len(self.store):
            self.store.extend(_PLACES)
        return len(self.store)

    def freeze(self) -> None:
        """Do nothing: an ended run has no list."""

    def results(self, started: int) -> list[Any]:
        """Return the results of a run that has ended, ``started`` items and all."""
        del self.store[started:]
        return [result for result in self.store if result is not SKIP] if self._gaps else self.store


class Drop:
    """No results: a run for its effects, in constant memory."""

    __slots__ = ()

    @property
    def store(self) -> Store:
        return self

    def __setitem__(self, index: int, result: Any) -> None:
        """Forget the result."""

    def room(self, started: int) -> int:
        return sys.maxsize

    def freeze(self) -> None:
        """Do nothing: there is nothing to keep apart."""


class InOrder:
    """Results for one consumer, in input order.

    Args:
        window: Items that may have been started and not been taken, at most.
        most: Results that may wait, about: no item starts while there are as many.
        head: Results that come first.
    """

    __slots__ = ("most", "results", "store", "taken", "window")

    def __init__(self, window: int, most: int, head: tuple[Any, ...] = ()) -> None:
        self.results: dict[int, Any] = dict(enumerate(head))
        self.store: Store = self.results
        self.taken: int = 0
        self.window: int = window
        self.most: int = most

    def room(self, started: int) -> int:
        return started if self.waiting() >= self.most else self.taken + self.window

    def waiting(self) -> int:
        """Return how many results wait for the consumer."""
        return len(self.results)

    def freeze(self) -> None:
        """Keep what is there; the workers go on to fill a store that nobody reads."""
        self.results = self.results.copy()

    def ready(self) -> bool:
        """Say whether the next result is there."""
        return self.taken in self.results

    def take(self) -> Any:
        """Remove and return the next result, or `NOTHING` when it is not there yet."""
        result = self.results.pop(self.taken, NOTHING)
        if result is not NOTHING:
            self.taken += 1
        return result


class AsCompleted(InOrder):
    """Results for one consumer, in the order in which they were completed.

    A dict keeps the order of insertion, but taking its first entry again and again is quadratic: what is there is moved
    to a deque in one go, whenever that has run empty.
    """

    __slots__ = ("_batch",)

    def __init__(self, window: int, most: int, head: tuple[Any, ...] = ()) -> None:
        super().__init__(window, most, head)
        self._batch: deque[Any] = deque()

    def waiting(self) -> int:
        return len(self.results) + len(self._batch)

    def ready(self) -> bool:
        return bool(self._batch or self.results)

    def take(self) -> Any:
        batch = self._batch
        if not batch:
            if not self.results:
                return NOTHING
            batch.extend(self.results.values())
            self.results.clear()
        self.taken += 1
        return batch.popleft()
