"""Run an async function over many items, with limits, timeouts, streams and pipelines; nothing is left running.

    >>> async def double(number):
    ...     return 2 * number
    >>> paco.run(paco.map(double, [1, 2, 3], limit=2))
    [2, 4, 6]

The names; ``help(paco.map)`` shows a description and an example of each:

    items         map each flat_map filter filterfalse dropwhile some every reduce repeat batch Inbox
    streams       Stream Stage iterate run
    coroutines    gather series race wait ConcurrentExecutor concurrent
    limits        Limit Rate PerKey Adaptive Gate Budget Limiter limited
    failures      retry hedge settle Ok Err partition RunTimeout TooManyErrors ItemCancelled GateClosed
    time          timeout TimeoutLimit deadline
    functions     threaded wraps once times throttle defer interval whilst until
                  compose partial apply curry thunk constant identity
    listeners     progress trace listening current Current

The modules ``paco.events``, ``paco.limits``, ``paco.journal``, ``paco.remote`` and ``paco.testing`` have more.
"""

# The rooms, from the bottom up. A module imports only from rooms above its own in this list, and those marked "on use"
# are imported when they are needed, not by `import paco`. `docs/design.md` describes them.
#
#     _base             building blocks: types, argument checks, errors, clocks, deadlines
#     limits  events    limits, which decide when the next item may start; events, which listeners receive
#     _engine           the scheduler of every run
#     _stream           what the functions return: a stream, a single result, or a stage of a pipeline
#     _functions        the public functions, by theme
#     testing           on use: virtual time for tests
#     _view             on use: progress display
#     _pictures         on use: reports and traces of finished runs
#     _records          on use: records of finished items, in a file
#     journal           on use: journals, which let a run resume
#     remote            on use: processes and clusters that run items
#     _exec             on use: programs that run for items
#     _cli              on use: the command

from __future__ import annotations

from typing import TYPE_CHECKING

from paco import events as events
from paco import limits as limits
from paco._base import __version__ as __version__
from paco._base.deadline import deadline
from paco._base.errors import ItemCancelled
from paco._engine.here import Current, current
from paco._engine.outcomes import Err, Ok, RunTimeout, TooManyErrors, partition, settle
from paco._functions.batch import batch
from paco._functions.compose import apply, compose, constant, curry, identity, once, partial, thunk, times, wraps
from paco._functions.executor import ConcurrentExecutor, concurrent
from paco._functions.filter import dropwhile, every, filter, filterfalse, reduce, some
from paco._functions.flat import flat_map, repeat
from paco._functions.gather import gather, race, series, wait
from paco._functions.inbox import Inbox
from paco._functions.iterate import iterate
from paco._functions.listeners import progress, trace
from paco._functions.loops import interval, until, whilst
from paco._functions.map import each, map
from paco._functions.retry import hedge, retry
from paco._functions.run import run
from paco._functions.threads import threaded
from paco._functions.timeout import TimeoutLimit, timeout
from paco._functions.timing import defer, limited, throttle
from paco._stream.plan import Stage
from paco._stream.stream import Stream
from paco.events import listening
from paco.limits import Adaptive, Budget, Gate, GateClosed, Limit, Limiter, PerKey, Rate

if TYPE_CHECKING:
    from paco import journal as journal
    from paco import remote as remote
    from paco import testing as testing
else:  # a type checker would accept every name

    def __getattr__(name: str) -> object:
        """Import a module of paco when it is first used, so that ``import paco`` does not."""
        if name not in {"journal", "remote", "testing"}:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return import_module(f"paco.{name}")


__all__ = [
    "Adaptive",
    "Budget",
    "ConcurrentExecutor",
    "Current",
    "Err",
    "Gate",
    "GateClosed",
    "Inbox",
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
    "batch",
    "compose",
    "concurrent",
    "constant",
    "current",
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
    "iterate",
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
    "threaded",
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
