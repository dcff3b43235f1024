"""How long items took: quantiles of any number of times, in little memory."""

from __future__ import annotations

import math
from collections import Counter

_GROWTH = 1.02
_LOG_GROWTH = math.log(_GROWTH)
#: What takes less is as good as nothing; it has no logarithm either.
_LEAST = 1e-7


class Latencies:
    """A histogram whose buckets grow by 2 %: each quantile is exact to 1 %, from some 1,000 counts at most.

    The algorithm is DDSketch (Masson, Rim and Lee, VLDB 2019) without its limit on buckets: between 0.1 us and a day
    there are no more than 1,400.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        #: The longest of all, in seconds.
        self.longest = 0.0

    def add(self, seconds: float) -> None:
        """Count a time."""
        self.longest = max(self.longest, seconds)
        self._counts[math.ceil(math.log(max(seconds, _LEAST)) / _LOG_GROWTH)] += 1

    def quantile(self, share: float) -> float:
        """Return the time, in seconds, that ``share`` of all have not exceeded; 0 if there are none."""
        rank = share * (self._counts.total() - 1)
        for bucket in sorted(self._counts):
            rank -= self._counts[bucket]
            if rank < 0:
                return min(2 * _GROWTH**bucket / (_GROWTH + 1), self.longest)
        return 0.0
