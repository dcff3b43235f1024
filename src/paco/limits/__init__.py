"""What decides when the next item may start: counts, rates, a limit per key, one that adapts, all of them at once.

Give them as ``limit=`` to any function over items, share them between calls, combine them with ``&``, change them while
they are in use; or put one on a function with `paco.limited`.
"""

from __future__ import annotations

from paco.limits._adaptive import Adaptive
from paco.limits._base import Limiter
from paco.limits._combine import AnyLimit, checked
from paco.limits._controller import Decision
from paco.limits._count import Limit
from paco.limits._keys import PerKey
from paco.limits._rate import Rate

__all__ = ["Adaptive", "AnyLimit", "Decision", "Limit", "Limiter", "PerKey", "Rate", "checked"]
