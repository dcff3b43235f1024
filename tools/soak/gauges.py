"""Gauges for growth (memory, blocks, objects), and a listener for reports of the interpreter and of asyncio."""

from __future__ import annotations

import gc
import linecache
import re
import statistics
import sys
import warnings
from array import array
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tools.soak.items import Result, Violation

if TYPE_CHECKING:
    import asyncio

#: Expected reports: errors that no caller can receive any more. Only runs that were left early may cause them.
_OWED: Final = re.compile(r"failed after the caller stopped waiting|more failed while stopping|closing its source")
#: The number of batches from which on growth is judged.
_ENOUGH: Final = 20
_RUN: Final = re.compile(r"\brun (\d+):")


def resident() -> float:
    """Return the resident memory of this process in MiB: the current value from /proc, or else the peak."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return pages * 4096 / 2**20


class Gauge:
    """One number per batch. The first tenth of a soak is warm-up and does not count.

    Growth is the difference between the medians of the first and the last tenth of the remaining batches. It is allowed
    up to ``share`` times the first median plus ``slack``.

    Args:
        name: The name of the number in messages.
        share: The allowed growth, relative to the first median.
        slack: The allowed growth in absolute terms, added to the relative one.
    """

    def __init__(self, name: str, share: float, slack: float) -> None:
        self.name = name
        self._share = share
        self._slack = slack
        self._seen = array("d")

    def note(self, value: float) -> None:
        """Record the number after a batch."""
        self._seen.append(value)

    def ends(self) -> tuple[float, float]:
        """Return the medians of the first tenth after the warm-up and of the last tenth."""
        warm = self._seen[len(self._seen) // 10 :]
        tenth = max(len(warm) // 10, 1)
        return statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])

    def has_grown(self) -> bool:
        """Return whether the growth is more than allowed; ``False`` until there are enough batches to judge."""
        if len(self._seen) < _ENOUGH:
            return False
        first, last = self.ends()
        return last - first > first * self._share + self._slack

    def __str__(self) -> str:
        if not self._seen:
            return f"{self.name} not measured"
        first, last = self.ends()
        return f"{self.name} {first:,.0f} -> {last:,.0f}"


class Memory:
    """The gauges of this process. Each allowance is the variation observed without a leak."""

    def __init__(self) -> None:
        self.gauges = (
            Gauge("RSS MiB", 0.05, 8),
            Gauge("blocks", 0.005, 500),
            Gauge("objects", 0.005, 200),
        )

    def note(self) -> None:
        """Collect garbage, then record all gauges.

        Raises:
            Violation: A result is alive, or a number has grown.
        """
        linecache.clearcache()  # the source lines that tracebacks and debug mode have cached
        gc.collect()
        if alive := list(Result.alive):
            held = sorted({type(one).__name__ for one in gc.get_referrers(alive[0]) if one is not alive})
            raise Violation(f"{len(alive)} results are alive after their batch; the first is held by {', '.join(held)}")
        values = (resident(), sys.getallocatedblocks(), len(gc.get_objects()))
        for gauge, value in zip(self.gauges, values, strict=True):
            gauge.note(value)
            if gauge.has_grown():
                raise Violation(f"{gauge} from the first tenth of the batches to the last")

    def __str__(self) -> str:
        return ", ".join(map(str, self.gauges))


class Ear:
    """A listener that records the reports of asyncio and the interpreter, and judges which runs may cause them."""

    def __init__(self) -> None:
        self._reports: list[str] = []
        sys.unraisablehook = self._unraisable
        warnings.simplefilter("error")  # a warning given while an object is dropped reaches the unraisable hook

    def _unraisable(self, args: Any) -> None:
        self._reports.append(
            f"{args.exc_type.__name__}: {args.exc_value}, {args.err_msg or 'ignored in'} {args.object!r}"
        )

    def report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Record a report; the exception handler of each event loop."""
        self._reports.append(f"{context['message']} {context.get('exception')!r}")

    def judge(self, names: dict[int, str], left: set[int]) -> None:
        """Check the reports since the last call.

        Args:
            names: The names of the runs, by number.
            left: The runs that may cause reports: they were left or had their result before all items ended.

        Raises:
            Violation: There is an unexpected report.
        """
        reports, self._reports = self._reports, []
        for text in reports:
            named = {int(number) for number in _RUN.findall(text)}
            if not (_OWED.search(text) and named <= left):
                raise Violation(f"unexpected report: {text}; of {[names.get(number) for number in named]}")
