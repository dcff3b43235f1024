"""What identifies an item: a hash of its content and, for equal items, of how often it came before."""

from __future__ import annotations

from array import array
from typing import Any

from paco._records._keys import canonical, digest

_SHARDS = 256
_DIGEST = 8


class Seen:
    """A set of 64-bit hashes that only grows, in 12 to 24 bytes each (a ``set`` of ints takes 60 to 100).

    Open addressing with linear probing in arrays. There are 256 of them so that growing one moves 1/256 of the hashes:
    with ten million items that holds the event loop up for some milliseconds and not for seconds.
    """

    def __init__(self) -> None:
        self._tables = [array("Q", bytes(8 * 8)) for _ in range(_SHARDS)]
        self._filled = [0] * _SHARDS

    def add(self, number: int) -> bool:
        """Add a hash and return whether it was there before."""
        number = number or 1  # 0 marks a free place
        shard = number % _SHARDS
        if 3 * self._filled[shard] >= 2 * len(self._tables[shard]):
            self._grow(shard)
        if _put(self._tables[shard], number):
            self._filled[shard] += 1
            return False
        return True

    def _grow(self, shard: int) -> None:
        old = self._tables[shard]
        self._tables[shard] = new = array("Q", bytes(2 * 8 * len(old)))
        for number in old:
            if number:
                _put(new, number)


def _put(table: array[int], number: int) -> bool:
    mask = len(table) - 1
    place = (number // _SHARDS) & mask
    while found := table[place]:
        if found == number:
            return False
        place = (place + 1) & mask
    table[place] = number
    return True


class Keys:
    """Gives each item its key. Memory: 12 to 24 bytes an item, and some 150 for one that came more than once."""

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
