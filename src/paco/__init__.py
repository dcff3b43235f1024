"""Run an async function over many items, with control: limits, timeouts, streams, pipelines, and nothing left running.

The rooms, from the bottom up; a module imports only from those before its own:

    _base             what all rooms share: types, argument checks, errors, clocks, deadlines
    limits  events    what decides when the next item may start; what is told to listeners
    _engine           the scheduler of every run
    _stream           what the functions return: one result, or many; and pipelines of them
    _functions        the functions of the API, by theme
    testing           used, not imported: virtual time for tests
    _view             used, not imported: what people are shown of a run
    _pictures         used, not imported: how runs went
    _records          used, not imported: what is remembered of each item, in a file
    journal           used, not imported: the same for a run
    remote            used, not imported: items that run elsewhere
    _cli              used, not imported: the command
"""

from __future__ import annotations

from paco._base import __version__ as __version__
from paco._base.deadline import deadline
from paco._base.errors import ItemCancelled
from paco._engine.outcomes import Err, Ok, RunTimeout, TooManyErrors, partition, settle
from paco._functions.compose import apply, compose, constant, curry, identity, once, partial, thunk, times, wraps
from paco._functions.executor import ConcurrentExecutor, concurrent
from paco._functions.filter import dropwhile, every, filter, filterfalse, reduce, some
from paco._functions.gather import gather, race, series, wait
from paco._functions.hedge import hedge
from paco._functions.limited import limited
from paco._functions.listeners import progress, trace
from paco._functions.loops import interval, until, whilst
from paco._functions.map import each, flat_map, map, repeat
from paco._functions.retry import retry
from paco._functions.run import run
from paco._functions.timing import TimeoutLimit, defer, throttle, timeout
from paco._stream.stage import Stage
from paco._stream.stream import Stream
from paco.events import listening
from paco.limits import Adaptive, Limit, Limiter, PerKey, Rate

__all__ = [
    "Adaptive",
    "ConcurrentExecutor",
    "Err",
    "ItemCancelled",
    "Limit",
    "Limiter",
    "Ok",
    "PerKey",
    "Rate",
    "RunTimeout",
    "Stage",
    "Stream",
    "TimeoutLimit",
    "TooManyErrors",
    "apply",
    "compose",
    "concurrent",
    "constant",
    "curry",
    "deadline",
    "defer",
    "dropwhile",
    "each",
    "every",
    "filter",
    "filterfalse",
    "flat_map",
    "gather",
    "hedge",
    "identity",
    "interval",
    "limited",
    "listening",
    "map",
    "once",
    "partial",
    "partition",
    "progress",
    "race",
    "reduce",
    "repeat",
    "retry",
    "run",
    "series",
    "settle",
    "some",
    "throttle",
    "thunk",
    "timeout",
    "times",
    "trace",
    "until",
    "wait",
    "whilst",
    "wraps",
]
