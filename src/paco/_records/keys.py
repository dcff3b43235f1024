"""The keys of items: their canonical forms, whether an equal item came before, and where the record of a key is."""

from __future__ import annotations

import json
import re
from array import array
from bisect import bisect_left
from collections import defaultdict
from hashlib import blake2b
from struct import Struct, unpack
from typing import TYPE_CHECKING, Any, Final, cast

from paco._records.lines import SAME, SHORT_KEY, convert, scalar

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: Always the encoder of the standard library: others write some floats differently, which would change the keys.
_CANONICAL, _READABLE = (
    json.JSONEncoder(ensure_ascii=ascii, sort_keys=True, separators=(",", ":"), default=convert).encode
    for ascii in (True, False)
)
#: Returns the number that the first 64 bits of a key are.
_as_number: Final = Struct(">Q").unpack_from
#: Two lone surrogates that together, in the escapes of JSON, are one character.
_PAIR: Final = re.compile("[\ud800-\udbff][\udc00-\udfff]")
#: The member, in a canonical form, that names a type which JSON does not have.
_TYPE: Final = "\0type"
#: The bytes of a key. A record shows it as twice as many hex digits.
KEY_SIZE: Final = 16
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
    if (known := scalar(value)) is not None:
        return known
    text = _CANONICAL(value)
    if "\\ud" in text and _PAIR.search(readable := _READABLE(value)):
        return readable.encode(errors="surrogatepass")
    return text.encode()


def distinct(value: Any) -> Any:
    """Return a value whose canonical form no value of another type has.

    In it, what JSON would return with another type (a set as a list, an enum as its value) is an object that names the
    type. The rest, which is all that can be read from JSON, stays the same.

    Raises:
        TypeError: The value has no JSON form.
        RecursionError: The value contains itself, or is nested too deeply.
    """
    kind = cast("Any", type(value))
    if kind in SAME or kind is float:
        return value
    if kind is list:
        return list(map(distinct, value))
    if kind is not dict:
        return {_TYPE: kind.__qualname__, "": distinct(convert(value))}
    inner = dict(zip(value, map(distinct, value.values()), strict=True))
    keys = {type(key).__qualname__ for key in value}
    return inner if keys <= {"str"} and _TYPE not in value else {_TYPE: f"dict of {sorted(keys)}", "": inner}


#: A copy of a hash takes half the time of a new one.
_new_hash: Final = blake2b(digest_size=KEY_SIZE).copy


def digest(content: bytes, occurrence: int, size: int) -> bytes:
    """Return the key of an item: ``size`` bytes of BLAKE2b (RFC 7693) of the canonical form of what identifies it.

    If equal items came before, a space and their number are hashed too. No canonical form ends like that, so the hashed
    bytes never equal those of another item.
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
        self._shards: defaultdict[int, array[int]] = defaultdict(lambda: array("Q"))

    def add(self, number: int) -> bool:
        """Add a number; return whether it was in the set before."""
        return bool(self.add_all((number,)))

    def add_all(self, numbers: Iterable[int]) -> list[int]:
        """Add numbers one after the other; return the indices of those that were in the set before."""
        known: list[int] = []
        shards, search = self._shards, bisect_left
        for index, number in enumerate(numbers):
            shard = shards[number % _SHARDS]
            place = search(shard, number)
            if place < len(shard) and shard[place] == number:
                known.append(index)
            else:
                shard.insert(place, number)
        return known


class Index:
    """Maps keys to the positions of their records.

    Memory: 17 to 27 bytes for each key, where a ``dict`` takes 200. Sorted arrays, as in `Seen`, hold 64 bits of each
    key and 64 bits for its position. In one of 37 million files of a million keys, two keys share their 64 bits; the
    record at the position then has another key.
    """

    def __init__(self) -> None:
        self._shards: defaultdict[int, tuple[array[int], array[int]]] = defaultdict(lambda: (array("Q"), array("Q")))

    def put(self, key: bytes, position: int) -> int:
        """Store the position of the record of a key; return the earlier position that it replaces, or `NOWHERE`."""
        number: int = _as_number(key)[0]
        numbers, positions = self._shards[number % _SHARDS]
        place = bisect_left(numbers, number)
        if place == len(numbers) or numbers[place] != number:
            numbers.insert(place, number)
            positions.insert(place, position)
            return NOWHERE
        earlier, positions[place] = positions[place], position
        return earlier

    def get(self, key: bytes) -> int:
        """Return the position of the record of a key, or `NOWHERE`."""
        number: int = _as_number(key)[0]
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
        #: Whether there are records.
        self.any: bool = False
        self._short = False  # whether some have short keys
        #: Whether the last item equals an earlier one.
        self.repeats: bool = False

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
        self._index.put(key, position)
        self.any = True
        self._short = self._short or len(key) == SHORT_KEY

    def next(self, content: bytes) -> tuple[bytes, int]:
        """Return the key of the next item by the canonical form of what identifies it, and the position of its record.

        The position may be `NOWHERE`. An item that equals an earlier one gets a key of its own. An item that has a
        record with a short key keeps that key, so that all its records share one key.
        """
        occurrence, hashed = 0, _new_hash()
        hashed.update(content)
        key = hashed.digest()
        self.repeats = self._seen.add(_as_number(key)[0])
        if self.repeats:
            occurrence = self._occurrence(key)
            key = digest(content, occurrence, KEY_SIZE)
        if not self.any:
            return key, NOWHERE
        position = self._index.get(key)
        if self._short and position == NOWHERE:
            older = digest(content, occurrence, SHORT_KEY)
            if (position := self._index.get(older)) != NOWHERE:
                return older, position
        return key, position

    def many(self, contents: Sequence[bytes]) -> list[bytes]:
        """Return the keys of the next items, as `next` does, if there are no records; that takes half the time."""
        keys: list[bytes] = []
        for content in contents:
            hashed = _new_hash()
            hashed.update(content)
            keys.append(hashed.digest())
        numbers = unpack(f">{2 * len(keys)}Q", b"".join(keys))[::2]
        for index in self._seen.add_all(numbers):
            keys[index] = digest(contents[index], self._occurrence(keys[index]), KEY_SIZE)
        return keys

    def _occurrence(self, key: bytes) -> int:
        """Return how many items before had the same key."""
        self._repeats[key] = occurrence = self._repeats.get(key, 0) + 1
        return occurrence
