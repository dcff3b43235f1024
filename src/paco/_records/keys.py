"""Keys: what identifies an item, and where the record of a key is."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import defaultdict
from hashlib import blake2b
from typing import Any, Final

from paco._records.values import convert

#: Always the standard library: another encoder writes some floats differently, which would change their keys.
_CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=convert).encode
#: Bytes of a key; a record has twice as many hex digits.
KEY_SIZE: Final = 16
#: Bytes of the keys that earlier versions of the command wrote. The index compares this many bytes.
SHORT_KEY: Final = 8
#: So many that an insertion into one of them moves 80 kB where there are ten million keys.
_SHARDS: Final = 1024
#: The position of a record that does not exist.
NOWHERE: Final = -1


def canonical(value: Any) -> bytes:
    """Return the one JSON form of a value: equal values have the same, whatever the order of their fields.

    Raises:
        TypeError: The value has no JSON form.
        ValueError: The value holds itself.
        RecursionError: The value is nested too deeply.
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


class Seen:
    """A set of 64-bit numbers that only grows.

    It takes 9 to 14 bytes for each, where a ``set`` of ints takes 60 to 100: sorted arrays, searched and moved in C,
    and so many that no insertion moves much.
    """

    def __init__(self) -> None:
        self._shards = [array("Q") for _ in range(_SHARDS)]

    def add(self, number: int) -> bool:
        """Add a number and return whether it was there before."""
        shard = self._shards[number % _SHARDS]
        place = bisect_left(shard, number)
        if place < len(shard) and shard[place] == number:
            return True
        shard.insert(place, number)
        return False


class Index:
    """Maps keys to the positions of their records.

    It takes 17 to 27 bytes for each, where a ``dict`` takes 200: sorted arrays, as in `Seen`, of 64 bits of each key
    and 64 of its position. Two of a million keys have the same 64 bits in one of 37 million files; the record at the
    position then has another key.
    """

    def __init__(self) -> None:
        self._shards: defaultdict[int, tuple[array[int], array[int]]] = defaultdict(lambda: (array("Q"), array("Q")))

    def put(self, key: bytes, position: int) -> None:
        """Note the position of the record of a key; the last one counts."""
        number = int.from_bytes(key[:SHORT_KEY])
        numbers, positions = self._shards[number % _SHARDS]
        place = bisect_left(numbers, number)
        if place == len(numbers) or numbers[place] != number:
            numbers.insert(place, number)
            positions.insert(place, position)
        else:
            positions[place] = position

    def get(self, key: bytes) -> int:
        """Return the position of the record of a key, or `NOWHERE`."""
        number = int.from_bytes(key[:SHORT_KEY])
        numbers, positions = self._shards[number % _SHARDS]
        place = bisect_left(numbers, number)
        return positions[place] if place < len(numbers) and numbers[place] == number else NOWHERE


class Keys:
    """Gives each item its key, and finds the record that an earlier run has left of it.

    Memory: 9 to 14 bytes for each item, some 200 for one that is equal to an earlier one, 17 to 27 for each record.
    """

    def __init__(self) -> None:
        self._seen = Seen()
        self._index = Index()
        self._repeats: dict[bytes, int] = {}
        self._any = self._short = False  # whether there are records, and keys of an earlier version

    def put(self, key: bytes, position: int) -> None:
        """Note the position of a record; the last one of a key counts."""
        self._index.put(key, position)
        self._any = True
        self._short = self._short or len(key) == SHORT_KEY

    def next(self, content: bytes) -> tuple[bytes, int]:
        """Return the key of the next item, and the position of its record, or `NOWHERE`.

        An item that is equal to an earlier one gets a key of its own. An item keeps a key that an earlier version gave
        it, so that its records can be grouped by their key.

        Args:
            content: The canonical form of what identifies the item.
        """
        occurrence, key = 0, digest(content, 0, KEY_SIZE)
        if self._seen.add(int.from_bytes(key[:SHORT_KEY])):
            self._repeats[key] = occurrence = self._repeats.get(key, 0) + 1
            key = digest(content, occurrence, KEY_SIZE)
        if not self._any:
            return key, NOWHERE
        position = self._index.get(key)
        if self._short and position == NOWHERE:
            older = digest(content, occurrence, SHORT_KEY)
            if (position := self._index.get(older)) != NOWHERE:
                return older, position
        return key, position
