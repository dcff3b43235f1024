"""Run an async function over many items, with control: limits, timeouts, streams, pipelines, and nothing left running.

The layers, from the bottom up; a module imports only from those before it:

    _types  _check  _errors         words that all share; argument checks; what becomes of errors
    _decorator  _clock  limits      what decorators have in common; clocks; what decides when the next item may start
    _places  events                 where items run, and what is told to listeners
    _outcomes  _deadline            what became of an item; an end that all calls keep to
    _turn  _nursery  _crew          how long runs may hold the loop; tasks that end together; workers and their slots
    _source  _sinks  _engine        where items come from, where results go, and the scheduler between them
    _paced  _watched  _plan         the same under a limit object; the same with listeners; what a run will do
    _answer  _stream  _stage        what the functions return: one result, or many; and pipelines of them
    _flat  _mapping  _selecting     functions over items, nested ones too
    _jobs  _groups  _executor       groups of coroutines, and the futures of their calls
    _shared                         calls that several callers share
    _loops  _timing  _functions     loops, time, and functions of functions
    _limited                        limits on functions
    _retries  _hedging              more than one attempt at a call: one after the other, and beside each other
    _listeners                      the listeners that come with it
    _run                            from sync code
    testing                         used, not imported: virtual time for tests
    _console  _figures              used, not imported: what people are shown
    _meter  _progress  _pictures    used, not imported: how runs go, and how they went
    _records  journal               used, not imported: what is remembered of each item, in a file
    remote                          used, not imported: items that run elsewhere
    _cli                            used, not imported: the command
"""

from __future__ import annotations

from paco._deadline import deadline
from paco._errors import ItemCancelled
from paco._executor import ConcurrentExecutor, concurrent
from paco._functions import apply, compose, constant, curry, identity, once, partial, thunk, times, wraps
from paco._groups import gather, race, series, wait
from paco._hedging import hedge
from paco._limited import limited
from paco._listeners import progress, trace
from paco._loops import interval, until, whilst
from paco._mapping import each, flat_map, map, repeat
from paco._outcomes import Err, Ok, RunTimeout, TooManyErrors, partition, settle
from paco._retries import retry
from paco._run import run
from paco._selecting import dropwhile, every, filter, filterfalse, reduce, some
from paco._stage import Stage
from paco._stream import Stream
from paco._timing import TimeoutLimit, defer, throttle, timeout
from paco.events import listening
from paco.limits import Adaptive, Limit, Limiter, PerKey, Rate

__version__ = "0.1.0"

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
