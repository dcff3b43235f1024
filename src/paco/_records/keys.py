"""Keys, which identify items, and an index from keys to the positions of their records."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import defaultdict
from hashlib import blake2b
from typing import Any, Final

from paco._records.values import convert

#: Always the encoder of the standard library: others write some floats differently, which would change the keys.
_CANONICAL = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=convert).encode
#: The bytes of a key. A record shows it as twice as many hex digits.
KEY_SIZE: Final = 16
#: The bytes of a key that earlier versions of the command wrote. The index compares only this many bytes.
SHORT_KEY: Final = 8
#: With ten million keys in this many shards, an insertion into an array moves 80 kB.
_SHARDS: Final = 1024
#: The position of a record that does not exist.
NOWHERE: Final = -1


def canonical(value: Any) -> bytes:
    """Return the canonical JSON form of a value: equal values have the same form, in whatever order their fields are.

    Raises:
        TypeError: The value has no JSON form.
        ValueError: The value contains itself.
        RecursionError: The value is nested too deeply.
    """
    return _CANONICAL(value).encode()


def digest(content: bytes, occurrence: int, size: int) -> bytes:
    """Return the key of an item: ``size`` bytes of BLAKE2b (RFC 7693).

    Args:
        content: The canonical form of what identifies the item.
        occurrence: How many equal items came before. From 1 on, a space and this number are hashed too. No canonical
            form ends like that, so the hashed bytes never equal those of another item.
        size: The bytes of the key.
    """
    if occurrence:
        content = b"%b %d" % (content, occurrence)
    return blake2b(content, digest_size=size).digest()


class Seen:
    """A set of 64-bit numbers that only grows.

    Memory: 9 to 14 bytes for each number, where a ``set`` of ints takes 60 to 100. The numbers are in sorted arrays,
    which are searched and moved in C. There are 1024 arrays, so an insertion moves little.
    """

    def __init__(self) -> None:
        self._shards = [array("Q") for _ in range(_SHARDS)]

    def add(self, number: int) -> bool:
        """Add a number; return whether it was in the set before."""
        shard = self._shards[number % _SHARDS]
        place = bisect_left(shard, number)
        if place < len(shard) and shard[place] == number:
            return True
        shard.insert(place, number)
        return False


class Index:
    """Maps keys to the positions of their records.

    Memory: 17 to 27 bytes for each key, where a ``dict`` takes 200. Sorted arrays, as in `Seen`, hold 64 bits of each
    key and 64 bits for its position. In one of 37 million files of a million keys, two keys share their 64 bits; the
    record at the position then has another key.
    """

    def __init__(self) -> None:
        self._shards: defaultdict[int, tuple[array[int], array[int]]] = defaultdict(lambda: (array("Q"), array("Q")))

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
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
    """Assigns each item its key, and finds the record of that key from an earlier run.

    Memory: 9 to 14 bytes for each item, about 200 for one that equals an earlier one, and 17 to 27 for each record.
    """

    def __init__(self) -> None:
        self._seen = Seen()
        self._index = Index()
        self._repeats: dict[bytes, int] = {}
        self._any = self._short = False  # whether there are records, and some with short keys

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
        self._index.put(key, position)
        self._any = True
        self._short = self._short or len(key) == SHORT_KEY

    def next(self, content: bytes) -> tuple[bytes, int]:
        """Return the key of the next item, and the position of its record or `NOWHERE`.

        An item that equals an earlier one gets a key of its own. An item that has a record with a short key keeps that
        key, so that all its records share one key.

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
