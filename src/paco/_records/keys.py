"""What identifies an item, its content or what it is told to be known by; and where the record of a key is."""

from __future__ import annotations

import json
from array import array
from hashlib import blake2b
from typing import Any, Final

from paco._records.values import convert

#: Always by the standard library: another encoder writes the same floats differently, and the keys would be others.
_CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=convert).encode
_SHARDS: Final = 256
#: Of the places of a table this part is filled at most, and it grows by half.
_FULL: Final = 0.75
#: Stands for a record that there is not.
NOWHERE: Final = -1


def canonical(value: Any) -> bytes:
    """Return the one form in JSON that equal values have, whatever the order of their fields.

    Raises:
        TypeError: It has none.
        ValueError: It has none, since it holds itself.
        RecursionError: It is nested too deeply.
    """
    return _CANONICAL(value).encode()


def digest(content: bytes, occurrence: int, size: int) -> bytes:
    """Return ``size`` bytes of BLAKE2b (RFC 7693) over what identifies an item.

    The occurrence tells equal items apart: 0 for the first. No canonical form ends in a blank and a number, so what
    is hashed for a later one is not that of another item.
    """
    if occurrence:
        content = b"%b %d" % (content, occurrence)
    return blake2b(content, digest_size=size).digest()


class Index:
    """Where the record of each key is, and which keys have been asked for: 21 to 32 bytes for each.

    Open addressing with linear probing in arrays: 64 bits of the key and 64 of the value. (A ``dict`` takes 200 bytes.)
    That two of a million keys have the same 64 bits happens in one of 37 million journals. Then the record that is
    found has another key, which whoever reads it sees. There are 256 tables so that growing one moves 1/256 of the keys
    and holds the event loop up for milliseconds, not for seconds.
    """

    def __init__(self) -> None:
        self._numbers = [array("Q", bytes(8 * 8)) for _ in range(_SHARDS)]
        self._values = [array("Q", bytes(8 * 8)) for _ in range(_SHARDS)]
        self._filled = [0] * _SHARDS

    def put(self, key: bytes, offset: int) -> None:
        """Note where the record of a key is; the last one counts."""
        shard, place = self._place(key)
        self._values[shard][place] = 2 * (offset + 1)

    def get(self, key: bytes) -> int:
        """Return where the record of a key is, or `NOWHERE`."""
        shard, place = self._place(key)
        return self._values[shard][place] // 2 + NOWHERE

    def ask(self, key: bytes) -> tuple[bool, int]:
        """Return whether this has been asked before, and where the record of a key is, or `NOWHERE`."""
        shard, place = self._place(key)
        values = self._values[shard]
        value = values[place]
        if value % 2:
            return True, value // 2 + NOWHERE
        values[place] = value + 1
        return False, value // 2 + NOWHERE

    def _place(self, key: bytes) -> tuple[int, int]:
        """Return the table of a key and its place there, which is made if need be."""
        number = int.from_bytes(key[:8], "big") or 1  # 0 marks a free place
        shard = number % _SHARDS
        numbers = self._numbers[shard]
        place = _probe(numbers, number)
        if numbers[place] != number:
            self._filled[shard] += 1
            if self._filled[shard] > _FULL * len(numbers):
                self._grow(shard)
                numbers = self._numbers[shard]
                place = _probe(numbers, number)
            numbers[place] = number
        return shard, place

    def _grow(self, shard: int) -> None:
        numbers, values = self._numbers[shard], self._values[shard]
        size = len(numbers) * 3 // 2
        self._numbers[shard] = array("Q", bytes(8 * size))
        self._values[shard] = array("Q", bytes(8 * size))
        for number, value in zip(numbers, values, strict=True):
            if number:
                place = _probe(self._numbers[shard], number)
                self._numbers[shard][place] = number
                self._values[shard][place] = value


def _probe(numbers: array[int], number: int) -> int:
    """Return the place of a number, or the free one where it belongs."""
    place = (number // _SHARDS) % len(numbers)
    while (found := numbers[place]) != number and found:
        place += 1
        if place == len(numbers):
            place = 0
    return place
