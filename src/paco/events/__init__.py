"""Events of a run: its start and end, and those of each of its items.

A *listener* is any callable that is not async; it is called with each event. In a `listening` block, it is called for
every run that starts inside the block, including nested calls, pipelines and tasks, because such listeners are kept in
a context variable. With `install`, it is called for every run of the process. A run that starts without listeners pays
nothing: its function is not even wrapped.

The modules, each importing only from those above it::

    _kinds                          what listeners see: a run, and the kinds of events
    _listeners                      listeners of a block or of the process
    _wrappers                       what wrappers around a function tell listeners

Examples:
    >>> from paco.events import ItemEnded
    >>> async def half(number):
    ...     return 1 / number
    >>> def show(event):
    ...     print(event.run.name, event.item, event.outcome)
    >>> with paco.listening(show, ItemEnded):
    ...     paco.run(paco.map(half, [2, 0], return_exceptions=True))
    map 2 ok
    map 0 failed
    [0.5, ZeroDivisionError('division by zero')]
"""

from __future__ import annotations

from paco._base.deadline import clock
from paco._base.item import Worker
from paco.events._kinds import (
    Event,
    ItemEnded,
    ItemRetried,
    ItemStarted,
    Outcome,
    Run,
    RunEnded,
    RunStarted,
    Waiting,
)
from paco.events._listeners import install, listening
from paco.events._wrappers import failed, retried, skipped

__all__ = [
    "Event",
    "ItemEnded",
    "ItemRetried",
    "ItemStarted",
    "Outcome",
    "Run",
    "RunEnded",
    "RunStarted",
    "Waiting",
    "Worker",
    "clock",
    "failed",
    "install",
    "listening",
    "retried",
    "skipped",
]
