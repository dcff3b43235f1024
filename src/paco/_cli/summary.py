"""The end of a run in words: how many, how fast, how long each, what failed, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._view.console import fit, safe
from paco._view.units import duration, latency, per_second

if TYPE_CHECKING:
    from paco._cli.tally import Tally

_FAILURES = "  failures  "
_QUANTILES = (50, 90, 95, 99)


def summary(
    tally: Tally, total: int | None, seconds: float, *, width: int, found: int = 0, again: str = ""
) -> list[str]:
    """Return the lines; the first goes on from a word such as ``done``.

    Args:
        tally: What was counted.
        total: How many items there are, if that is known.
        seconds: How long it took.
        width: Columns of a line.
        found: The limit that was found, if one was.
        again: The command line that runs what is left, if there is any.
    """
    lines = [f"in {duration(seconds)}    {_counts(tally, total, seconds)}"]
    if tally.longest:
        times = [f"p{percent} {latency(tally.quantile(percent))}" for percent in _QUANTILES]
        lines.append(f"  latency   {'   '.join(times)}   max {latency(tally.longest)}")
    if found:
        lines.append(f"  limit     {found:,}   (auto)")
    if tally.failed:
        lines += _failures(tally, width - len(_FAILURES))
    return [*lines, safe(f"  again     {again}")] if again else lines


def _counts(tally: Tally, total: int | None, seconds: float) -> str:
    whole = total is None or total == tally.done + tally.skipped
    parts = [f"{tally.done:,} items" if whole else f"{tally.done:,} of {total:,} items"]
    parts += [f"{tally.ok:,} ok", f"{tally.failed:,} failed"]
    for count, word in ((tally.skipped, "skipped"), (tally.retried, "retried"), (tally.cancelled, "cancelled")):
        parts += [f"{count:,} {word}"] if count else []
    parts += [per_second(tally.done / seconds)] if seconds > 0 else []
    return "   ".join(parts)


def _failures(tally: Tally, width: int) -> list[str]:
    """Return the kinds of failures side by side, in as many lines as that takes."""
    lines = [""]
    for kind in tally.kinds():
        text = fit(kind, width)
        if len(lines[-1]) + len(text) + 3 > width and lines[-1]:
            lines.append("")
        lines[-1] += f"   {text}" if lines[-1] else text
    return [(" " * len(_FAILURES) if number else _FAILURES) + line for number, line in enumerate(lines)]
