"""What must not grow: memory, blocks, objects; and what nobody may hear: reports of the interpreter and of asyncio."""

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

#: Reports of errors that nobody was left to receive: they are owed for a run that had been left, and for no other.
_OWED: Final = re.compile(r"failed after its results had been abandoned|more failed meanwhile|closing its source")
#: Batches before growth is judged.
_ENOUGH: Final = 20
_RUN: Final = re.compile(r"\brun (\d+):")


def resident() -> float:
    """Return the memory of this process in MiB: now where /proc tells it, else at most so far."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return pages * 4096 / 2**20


class Gauge:
    """One number after each batch. The first tenth of a soak is warm-up, and does not count.

    Args:
        name: For the message.
        share: Growth from the first to the last tenth, as medians, that is noise: a share of the first.
        slack: The same, absolute, which is added.
    """

    def __init__(self, name: str, share: float, slack: float) -> None:
        self.name = name
        self._share = share
        self._slack = slack
        self._seen = array("d")

    def note(self, value: float) -> None:
        """Write down the number after a batch."""
        self._seen.append(value)

    def ends(self) -> tuple[float, float]:
        """Return the median of the first tenth after the warm-up, and that of the last."""
        warm = self._seen[len(self._seen) // 10 :]
        tenth = max(len(warm) // 10, 1)
        return statistics.median(warm[:tenth]), statistics.median(warm[-tenth:])

    def has_grown(self) -> bool:
        """Apply the rule, once there are enough batches to tell growth from noise."""
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
    """The gauges of this process; the reason for each allowance is how much it was seen to sway without a leak."""

    def __init__(self) -> None:
        self.gauges = (
            Gauge("RSS MiB", 0.05, 8),
            Gauge("blocks", 0.005, 500),
            Gauge("objects", 0.005, 200),
        )

    def note(self) -> None:
        """Measure; what only waits for the collector is no leak.

        Raises:
            Violation: A result is alive, or a number has grown.
        """
        linecache.clearcache()  # source lines that tracebacks and the debug mode have read
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
    """Hears what asyncio and the interpreter report, and knows which runs may cause a report."""

    def __init__(self) -> None:
        self._heard: list[str] = []
        sys.unraisablehook = self._unraisable
        warnings.simplefilter("error")  # one that is given while an object is dropped ends in the unraisable hook

    def _unraisable(self, told: Any) -> None:
        self._heard.append(
            f"{told.exc_type.__name__}: {told.exc_value}, {told.err_msg or 'ignored in'} {told.object!r}"
        )

    def report(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Be the exception handler of a loop."""
        self._heard.append(f"{context['message']} {context.get('exception')!r}")

    def judge(self, names: dict[int, str], left: set[int]) -> None:
        """Forget what was heard.

        Args:
            names: What the runs were.
            left: Those that may have been reported: those that were left, or decided, before their end.

        Raises:
            Violation: Something else was reported.
        """
        heard, self._heard = self._heard, []
        for text in heard:
            named = {int(number) for number in _RUN.findall(text)}
            if not (_OWED.search(text) and named <= left):
                raise Violation(f"reported: {text}; of {[names.get(number) for number in named]}")
