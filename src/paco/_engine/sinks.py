"""Where results go: a list, nowhere, or a stream that hands them on in input order or as they are completed.

A worker stores with ``sink.store[index] = result`` (for a list and a dict one bytecode, which is why it is not a
method) and asks ``sink.room(started)`` below which index items may start. That one number is the backpressure.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from paco._engine.outcomes import Err, TooManyErrors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from paco._base.types import OnError
    from paco._engine.nursery import Nursery


class _Skip:
    """The type of `SKIP`, which is the same object in every process."""

    def __reduce__(self) -> str:
        return "SKIP"


#: The result of an item that is passed over: ``filter`` gives it for an item that it drops.
SKIP: Final = _Skip()
#: What a stream's sink gives when the next result is not there yet.
NOTHING: Final = object()

#: A list grows by this many places at a time, filled in as results come, in whatever order.
_PLACES: Final = [None] * 64
#: A fraction is judged from so many results on: of two results one error is nothing to go by.
_ENOUGH: Final = 20


class Store(Protocol):
    """Takes the result of the item with an index."""

    def __setitem__(self, index: int, result: Any, /) -> None: ...


class Sink(Protocol):
    """What the engine asks of the place where results go."""

    store: Store

    def room(self, started: int) -> int:
        """Return the index below which items may start, ``started`` being how many have."""
        ...

    def freeze(self) -> None:
        """Hear that the run is ending early: what comes now comes after its outcome."""
        ...

    def left(self) -> Iterable[Any]:
        """Return the results that nobody is handed if the run ends now, in their order, and fillers."""
        ...


class Collector(Protocol):
    """Takes errors, where a run collects them."""

    def failed(self, index: int, error: BaseException, /) -> bool:
        """Keep the error of an item; true where the others go on."""
        ...


class Keep:
    """All results, as one list in the order of the input; with ``gaps`` where some may be `SKIP`."""

    __slots__ = ("_gaps", "_results", "store")

    def __init__(self, head: tuple[Any, ...] = (), *, gaps: bool = False) -> None:
        self._results: list[Any] = list(head)
        self.store: Store = self._results
        self._gaps = gaps

    def room(self, started: int) -> int:
        """Make places for the next items: a list has always room."""
        if started >= len(self._results):
            self._results.extend(_PLACES)
        return len(self._results)

    def freeze(self) -> None:
        """Do nothing: an ended run has no list."""

    def left(self) -> Iterable[Any]:
        return self._results

    def results(self, started: int) -> list[Any]:
        """Return the results of a run that has ended, ``started`` items and all."""
        del self._results[started:]
        return [result for result in self._results if result is not SKIP] if self._gaps else self._results


class _Forget:
    """Forgets every result."""

    __slots__ = ()

    def __setitem__(self, index: int, result: Any, /) -> None: ...


#: The store of a run whose results nobody wants.
FORGET: Final = _Forget()


class Drop:
    """No results: a run for its effects, in constant memory."""

    __slots__ = ("store",)

    def __init__(self) -> None:
        self.store: Store = FORGET

    def room(self, started: int) -> int:
        return sys.maxsize

    def freeze(self) -> None:
        """Do nothing: there is nothing to keep apart."""

    def left(self) -> Iterable[Any]:
        return ()


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

    def left(self) -> Iterable[Any]:
        """Return what waits behind a result that is not there; those before it will be taken."""
        missing = self.taken
        while missing in self.results:
            missing += 1
        return [result for index, result in sorted(self.results.items()) if index > missing]

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

    def left(self) -> Iterable[Any]:
        return ()  # all that is there will be taken

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


class Judged:
    """A store that judges: too many errors among the results end the run.

    Args:
        name: The operation, for the message: ``map``.
        store: Where the results go.
        most: How many errors are borne: a count, or a fraction of the results, once there are `_ENOUGH` of them.
        on_error: What becomes of an item's exception: where it is the result, it counts.
    """

    __slots__ = ("_errors", "_kinds", "_last", "_most", "_name", "_results", "_run", "_store")

    def __init__(self, name: str, store: Store, most: float, on_error: OnError) -> None:
        self._name = name
        self._store = store
        self._most = most
        self._kinds = (Err, Exception) if on_error == "return" else (Err,)
        self._results = self._errors = 0
        self._last: Any = None  # the last error

    def ends(self, run: Nursery) -> None:
        """Name the run that is to end, which leads to here: held strongly, it would be a cycle."""
        self._run = weakref.ref(run)

    def __setitem__(self, index: int, result: Any, /) -> None:
        """Store the result first: what has been finished, when the run ends with it, holds it too."""
        self._store[index] = result
        self._results += 1
        if isinstance(result, self._kinds):
            self._errors += 1
            self._last = cast("Any", result).error if isinstance(result, Err) else result
        run = self._run()
        if self._is_too_much() and run is not None and not run.ending():
            said = f"paco.{self._name}: {self._errors} of {self._results} items failed, and max_errors is {self._most}"
            error = TooManyErrors(said, run.outcomes())
            error.__cause__ = self._last
            run.fail(error)

    def _is_too_much(self) -> bool:
        if isinstance(self._most, int):
            return self._errors > self._most
        return self._results >= _ENOUGH and self._errors / self._results > self._most
