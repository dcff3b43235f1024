"""Figures as a person reads them: rates, times, shares."""

from __future__ import annotations

#: Items per second above which no decimals are shown.
_MANY = 100


def per_second(rate: float) -> str:
    """Return ``497/s``, ``2.5/s``."""
    return f"{rate:,.0f}/s" if rate >= _MANY or not rate else f"{rate:.3g}/s"


def clock(seconds: float) -> str:
    """Return a time to come as on a clock: ``1:18``, ``2:03:20``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def duration(seconds: float) -> str:
    """Return how long a run took: ``9.4s``, ``3m 22s``, ``1h 05m``."""
    minutes, rest = divmod(round(seconds), 60)
    if not minutes:
        return f"{seconds:.1f}s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {rest:02}s"


def latency(seconds: float) -> str:
    """Return how long an item took, in three digits at most: ``85us``, ``181ms``, ``1.2s``, ``3m 22s``."""
    if seconds >= 99.5:  # noqa: PLR2004 - where three digits of seconds would begin
        return duration(seconds)
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= 0.9995 * size:
            return f"{seconds / size:.3g}{unit}"
    return f"{seconds / 1e-6:.2g}us" if seconds else "0s"


def share(part: float, whole: float) -> str:
    """Return ``61%``, ``0.4%`` where whole ones would say nothing, ``<0.1%`` for still less; ``0%`` of nothing."""
    percent = 100 * part / whole if whole else 0.0
    if 0 < percent < 0.05:  # noqa: PLR2004 - what rounds to nothing
        return "<0.1%"
    return f"{percent:.1f}%" if 0 < percent < 0.95 else f"{percent:.0f}%"  # noqa: PLR2004 - what rounds to a whole one


def compact(count: float) -> str:
    """Return a count for an axis: ``500``, ``2.5k``, ``10M``."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:g}{unit}"
    return f"{count:g}"
