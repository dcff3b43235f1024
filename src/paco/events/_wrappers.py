"""What wrappers around the function of a run tell its listeners: of retries, failures and skipped items."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from paco._base.item import item_here, place, tried, worker_here
from paco.events._kinds import ItemRetried
from paco.events._listeners import current, installed, listeners

if TYPE_CHECKING:
    from paco._base.item import Item


def retrying(attempt: int, error: BaseException | None, pause: float) -> None:
    """Send an `ItemRetried` to the listeners of the run whose item runs here, and to those of this context."""
    if asyncio._get_running_loop() is None:  # a thread that an item has started
        return
    run = current.get()
    around = () if run is None else run.subscriptions
    here = place() or (-1, None)
    for one in dict.fromkeys((*around, *installed, *listeners.get())):
        if ItemRetried in one.kinds:
            one.tell(ItemRetried(run, here[1], attempt, error, pause))


def retried(error: BaseException | None = None, *, attempt: int = 1, pause: float = 0.0) -> None:
    """Count one more attempt at the item that runs in this task, and tell listeners of `ItemRetried`.

    For wrappers that retry, after an attempt that has failed. `paco.retry` does this by itself.

    Args:
        error: What the attempt raised.
        attempt: The number of the attempt, from 1.
        pause: The seconds until the next attempt.

    Examples:
        >>> async def stubborn(number):
        ...     paco.events.retried()
        ...     return number
        >>> with paco.listening(lambda ended: print(ended.attempts), paco.events.ItemEnded):
        ...     paco.run(paco.map(stubborn, [5]))
        2
        [5]
    """
    retrying(attempt, error, pause)
    tried()


def failed(error: BaseException) -> None:
    """Mark the item that runs in this task as failed, although its function will return.

    For wrappers that turn an error into a value. Listeners and the limit object of the run get the error. If the run
    has neither, nothing happens.

    Examples:
        >>> async def settled(number):
        ...     paco.events.failed(ValueError(number))
        >>> with paco.listening(lambda ended: print(ended.outcome), paco.events.ItemEnded):
        ...     paco.run(paco.map(settled, [5]))
        failed
        [None]
    """
    item = _noted_item()
    if item is not None:
        item.error = error


def skipped() -> None:
    """Mark the item that runs in this task as skipped: its result, or its error, was made at an earlier time.

    For wrappers that look results up, such as a cache. Does nothing if the run has no listeners.

    Examples:
        >>> cache = {5: 25}
        >>> async def cached(number):
        ...     paco.events.skipped()
        ...     return cache[number]
        >>> with paco.listening(lambda ended: print(ended.outcome, ended.skipped), paco.events.ItemEnded):
        ...     paco.run(paco.map(cached, [5]))
        ok True
        [25]
    """
    item = _noted_item()
    if item is not None:
        item.skipped = True


def _noted_item() -> Item | None:
    """Return the record of the item that runs in this task, if listeners or a limit object read it."""
    worker = worker_here()
    return None if worker is None or (worker.item is None and current.get() is None) else item_here()
