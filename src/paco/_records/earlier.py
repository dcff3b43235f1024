"""The records of earlier runs: keys, which identify items, and finding a record."""

from __future__ import annotations

import json
import re
import warnings
from array import array
from binascii import hexlify
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from operator import attrgetter
from shlex import quote
from struct import Struct
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from paco._base.check import shorten
from paco._records.file import JournalError, RecordFile, begins_as_record, is_torn
from paco._records.lines import OPENING, SAME, SHORT_KEY, NotJSONError, Record, convert, encode, parse, scalar

if TYPE_CHECKING:
    from paco._records.maker import Maker

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
#: Passed as a version, accepts records of every version.
ANY_VERSION: Final = object()
#: Matches the names of functions that mean nothing else to sed and a shell.
_SAFE: Final = re.compile(r"[\w.<>]+").fullmatch
#: What identifies an item: the name of a field, or a function of the item; ``None`` for its content.
ItemKey: TypeAlias = Callable[[Any], object] | str | None


# ---- keys


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
        self._any = self._short = False  # whether there are records, and some with short keys
        #: Whether the last item equals an earlier one.
        self.repeats: bool = False

    def put(self, key: bytes, position: int) -> None:
        """Store the position of the record of a key, in place of an earlier position."""
        self._index.put(key, position)
        self._any = True
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


# ---- the records


class EarlierRecords:
    """Finds the records of earlier runs by the keys of this run's items. `Keys` says how much memory that takes.

    Args:
        file: The file of the records.
        maker: The function of the run. Results of another function are refused, and its failures are ignored.
        key: What identifies an item.
        version: Records of another version are ignored, and so are those that know their items by another field.
        strict: Whether a torn record in the middle of the file is refused. If not, it is skipped.
    """

    def __init__(
        self, file: RecordFile, maker: Maker, *, key: ItemKey = None, version: object = ANY_VERSION, strict: bool = True
    ) -> None:
        self._file = file
        self._maker = maker
        self._known_by = _field(key) if isinstance(key, str) else key
        self._unique = key is not None  # whether to warn of an item that equals an earlier one
        self._version = version
        self._strict = strict
        #: The keys of the items and the records. A position is twice the offset of the record, plus 1 if it is ok.
        self.keys = Keys()
        #: Whether there are results, and the source of the function has changed since the last record.
        self.changed: bool = False
        #: Whether any record has a result.
        self.succeeded: bool = False
        #: The names of the arguments that a recorded result was made with other values of.
        self.differing: set[str] = set()
        #: The names of other fields by which records know their items, which are not used.
        self.others: set[str] = set()

    def load(self) -> None:
        """Read the open file. Cut off a torn last line, or add its missing line end. Any thread may call this.

        Raises:
            OSError: The file cannot be read or written.
            JournalError: The file cannot be used; the message says what to do.
        """
        maker, source = self._maker, None
        known = False  # whether a record came before
        for number, (offset, line) in enumerate(self._file.read(), 1):
            record = None if line.isspace() else self._parsed(number, offset, line, after_record=known)
            if record is None:
                continue
            known = True
            if not line.endswith(b"\n"):
                self._file.append([b"\n"])
            function = record.fields.get("function")
            if function not in (None, maker.name):  # not a set: the field may hold any JSON, even a list
                if record.ok:
                    raise JournalError(self._of_another(number, function))
                continue
            source = record.fields.get("source")
            if self._version is ANY_VERSION or record.fields.get("version") == self._version:
                self._put(record, offset)
        self.changed = self.succeeded and None not in (source, maker.source) and source != maker.source

    def _put(self, record: Record, offset: int) -> None:
        """Have a record found by its key, unless it knows its item by another field: two fields may have one value."""
        maker, by = self._maker, record.fields.get("by")
        if None not in (by, maker.by) and by != maker.by:
            self.others.add(shorten(by))
            return
        self.keys.put(record.key, 2 * offset + record.ok)
        self.succeeded = self.succeeded or record.ok
        if record.ok and maker.arguments is not None:
            recorded, given = record.fields.get("arguments"), maker.arguments
            known = cast("dict[str, object]", recorded if isinstance(recorded, dict) else {})
            self.differing |= {name for name in {*known, *given} if known.get(name) != given.get(name)}

    def _of_another(self, number: int, function: object) -> str:
        """Return the message for a result of another function, with the command that renames it in all records."""
        file, name = self._file, self._maker.name
        text = (
            f"{file.title} has the results of another function: line {number} was made by {function}, and this is "
            f"{name}; use another file"
        )
        if not (isinstance(function, str) and _SAFE(function) and _SAFE(name)):
            return text
        rename = rf's/\(.*\)"function":"{function}"/\1"function":"{name}"/'
        return f"{text}, or if it was only renamed, rename it there: sed -i.bak {quote(rename)} {quote(file.path)}"

    def _parsed(self, number: int, offset: int, line: bytes, *, after_record: bool) -> Record | None:
        """Return the record in a line, or ``None`` if it is torn."""
        try:
            return parse(line)
        except ValueError as error:
            torn, last = is_torn(line, after_record=after_record), not line.endswith(b"\n")
            if torn and last:
                self._file.cut(offset)
            elif self._strict or not torn:
                raise JournalError(self._no_record(number, line, error, after_record=after_record)) from None
            return None

    def _no_record(self, number: int, line: bytes, error: ValueError, *, after_record: bool) -> str:
        """Return the message for a line that is not a record: damage, or a file of another kind."""
        file, why = self._file, f"line {number} is not a record ({error})"
        if not after_record and not begins_as_record(line):
            return f"{file.title} is not a file of records: {why}; use another file"
        return (
            f"{file.title} is damaged: {why}; delete that line to run its item again "
            f"(sed -i.bak {number}d {quote(file.path)}), or move the file away to start afresh"
        )

    def recall(self, position: int, item: Any) -> tuple[bytes, Record | None]:
        """Return the start of a new record for the item at a position, and the last record of its key, if there is one.

        Raises:
            TypeError: What identifies the item has no JSON form.
            JournalError: The file was changed after `load` read it.
        """
        text = scalar(item)
        key, place = self.keys.next(text if text is not None and self._known_by is None else self._identity(item))
        if self.keys.repeats and self._unique:
            self._warn(item)
        record = None if place == NOWHERE else self._record(place // 2)
        if text is None:
            try:
                text = encode(item)
            except NotJSONError:
                text = encode(shorten(item))
        head = OPENING % (position, hexlify(key), text)
        return head, record if record is not None and record.key == key else None

    def _identity(self, item: Any) -> bytes:
        """Return the canonical form of what identifies an item."""
        known_by = item if self._known_by is None else self._known_by(item)
        try:
            return canonical(distinct(known_by))
        except (TypeError, ValueError, RecursionError) as error:
            raise TypeError(
                f"{self._file.title} must recognize {shorten(item)} on a later run, but {shorten(known_by)} has no "
                f"JSON form ({error}); say what identifies an item: key='id', or key=lambda item: item.id"
            ) from None

    def _warn(self, item: Any) -> None:
        self._unique = False
        known_by = item if self._known_by is None else self._known_by(item)
        warnings.warn(
            f"{self._file.title} gets a key twice: it is {shorten(known_by)} for an earlier item and for "
            f"{shorten(item)}; a later run tells such items apart by their order alone, so give a unique key",
            stacklevel=2,
        )

    def _record(self, offset: int) -> Record:
        try:
            return parse(self._file.line(offset))
        except ValueError as error:
            raise JournalError(
                f"{self._file.title} was changed by another program during this run: the record at byte "
                f"{offset} is gone ({error}); start the run again"
            ) from None


def _field(name: str) -> Callable[[Any], object]:
    """Return a function that returns a field of an item: a value of a mapping, or an attribute."""
    attribute = attrgetter(name)

    def field(item: Any) -> object:
        return cast("Mapping[str, object]", item)[name] if isinstance(item, Mapping) else attribute(item)

    return field
