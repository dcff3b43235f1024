"""What identifies an item: a hash of its content and, for equal items, of how often it came before."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Any, Final

from paco._records.keys import canonical, digest

#: So many that to insert into one of them moves 10 kB where there are ten million hashes.
_SHARDS: Final = 4096
_DIGEST = 8


class Seen:
    """A set of 64-bit hashes that only grows, in some 10 bytes each (a ``set`` of ints takes 60 to 100).

    Sorted arrays, which are searched and moved in C: in a third of the time of a table that is probed in Python, and
    none ever grows all at once.
    """

    def __init__(self) -> None:
        self._tables = [array("Q") for _ in range(_SHARDS)]

    def add(self, number: int) -> bool:
        """Add a hash and return whether it was there before."""
        table = self._tables[number % _SHARDS]
        place = bisect_left(table, number)
        if place < len(table) and table[place] == number:
            return True
        table.insert(place, number)
        return False


class Keys:
    """Gives each item its key. Memory: some 10 bytes an item, and some 150 for one that came more than once."""

    def __init__(self) -> None:
        self._seen = Seen()
        self._repeats: dict[bytes, int] = {}

    def key(self, value: Any) -> str:
        """Return 16 hex digits that depend on the content, not on the position: reordered input keeps its keys."""
        content = canonical(value)
        key = digest(content, 0, _DIGEST)
        if self._seen.add(int.from_bytes(key)):
            occurrence = self._repeats[key] = self._repeats.get(key, 0) + 1
            key = digest(content, occurrence, _DIGEST)
        return key.hex()
