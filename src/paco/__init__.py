"""Run an async function over many items, with control: limits, timeouts, streams, pipelines, and nothing left running.

The layers, from the bottom up; a module imports only from those before it:

    _types  _check  _errors         words that all share; argument checks; what becomes of errors
    _turn  _nursery                 how long runs may hold the loop; tasks that end together
    _source  _sinks  _engine        where items come from, where results go, and the scheduler between them
    _answer  _stream  _stage        what the functions return: one result, or many; and pipelines of them
    _flat  _mapping  _selecting     functions over items, nested ones too
    _jobs  _groups  _executor       groups of coroutines, and the futures of their calls
    _decorator  _shared             what the decorators have in common
    _loops  _timing  _functions     loops, time, and functions of functions
    _run                            from sync code
    _records  journal               used, not imported: what is remembered of each item, in a file
    testing  _cli                   likewise: virtual time for tests; the command
"""

from __future__ import annotations

from paco._errors import ItemCancelled
from paco._executor import ConcurrentExecutor, concurrent
from paco._functions import apply, compose, constant, curry, identity, once, partial, thunk, times, wraps
from paco._groups import gather, race, series, wait
from paco._loops import interval, until, whilst
from paco._mapping import each, flat_map, map, repeat
from paco._run import run
from paco._selecting import dropwhile, every, filter, filterfalse, reduce, some
from paco._stage import Stage
from paco._stream import Stream
from paco._timing import TimeoutLimit, defer, throttle, timeout

__version__ = "0.1.0"

__all__ = [
    "ConcurrentExecutor",
    "ItemCancelled",
    "Stage",
    "Stream",
    "TimeoutLimit",
    "apply",
    "compose",
    "concurrent",
    "constant",
    "curry",
    "defer",
    "dropwhile",
    "each",
    "every",
    "filter",
    "filterfalse",
    "flat_map",
    "gather",
    "identity",
    "interval",
    "map",
    "once",
    "partial",
    "race",
    "reduce",
    "repeat",
    "run",
    "series",
    "some",
    "throttle",
    "thunk",
    "timeout",
    "times",
    "until",
    "wait",
    "whilst",
    "wraps",
]
