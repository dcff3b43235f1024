"""Limits on when the next item may start: counts, rates, a limit per key, an adaptive limit, and combinations.

Pass a limit as ``limit=`` to any function that runs items. You can share a limit between calls, combine limits with
``&``, and change a limit while it is in use. `paco.limited` puts a limit on a single function.

The modules, each importing only from those above it::

    _slot                     a block that holds a permit
    _base                     the base of all limits
    _bucket  _rate            the arithmetic of a rate; starts per period
    _deadlock  _count         whether tasks wait for each other; items in flight
    _combine                  several limits at once
    _controller  _adaptive    how a limit follows what a server can do; a limit that does so
    _keys                     a limit for each key
    _gate  _budget            an early end of runs, and pauses; an early end when an amount is spent
"""

from __future__ import annotations

from paco.limits._adaptive import Adaptive
from paco.limits._base import AnyLimit, Limiter
from paco.limits._budget import Budget
from paco.limits._combine import Both
from paco.limits._controller import Decision
from paco.limits._count import Limit
from paco.limits._gate import Gate, GateClosed
from paco.limits._keys import PerKey
from paco.limits._rate import Rate

__all__ = [
    "Adaptive",
    "AnyLimit",
    "Both",
    "Budget",
    "Decision",
    "Gate",
    "GateClosed",
    "Limit",
    "Limiter",
    "PerKey",
    "Rate",
]
