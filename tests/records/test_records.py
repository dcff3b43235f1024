"""What is below the journal and the command: JSON with and without orjson, keys and their records, the file."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import importlib.util
import json
import math
import os
import stat
import sys
import uuid
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco._records.earlier import EarlierRecords
from paco._records.file import RecordFile, _leave_all, _sync_folder
from paco._records.keys import NOWHERE, Index, Keys, Seen, canonical, digest
from paco._records.lines import FAST, NotJSONError, Span, _fast, decode, encode, failure, line, opening, success
from paco._records.maker import Maker, made_by
from paco.journal import JournalError

MAKER = Maker("fetch", "00")

#: Integers on both sides of what 64 bits hold.
BEYOND = st.integers(-(10**20), -(2**62)) | st.integers(2**63, 2**65)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | BEYOND | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner),
    max_leaves=8,
)


@pytest.fixture(params=["with orjson", "without"])
def lane(request, monkeypatch):
    if request.param == "without":
        monkeypatch.setattr("paco._records.lines.FAST", None)


# ---- values


@given(value=JSON)
def test_orjson_and_json_read_the_same_values(value):
    assert FAST is not None
    texts = [encode(value)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("paco._records.lines.FAST", None)
        texts.append(encode(value))
        read = [decode(text) for text in texts]
    read += [decode(text) for text in texts]
    assert all(json.dumps(one) == json.dumps(read[0]) for one in read)
    assert all(text.isascii() or text.decode().isprintable() for text in texts)


class Shade(enum.StrEnum):
    DARK = "dark"


class Mood(enum.Enum):
    DARK = "dark"


class Size(enum.IntEnum):
    BIG = 3


class Number(float):
    """A number of a type of its own."""


class Row(tuple):
    """What a database gives."""

    __slots__ = ()


class Latest(dict):
    """The last of several values, as the web frameworks have it: what it holds is not what it gives."""

    def items(self):
        return [(key, values[-1]) for key, values in super().items()]


class Lazy(list):
    """A list that is filled when it is read."""

    def __iter__(self):
        return iter(range(2))


class Tenant(int):
    """A number that looks like something else."""

    def __repr__(self):
        return f"tenant {int(self)}"


class Name(str):
    """Text that looks like something else."""

    __slots__ = ()

    def __str__(self):
        return f"name {self!r}"


@dataclasses.dataclass
class Page:
    _hidden: int
    seen: dt.datetime
    shade: Shade


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    ("value", "read"),
    [
        (
            Page(1, dt.datetime(2026, 1, 2, tzinfo=dt.UTC), Shade.DARK),
            {"_hidden": 1, "seen": "2026-01-02T00:00:00+00:00", "shade": "dark"},
        ),
        ([Number(1.5), Row((1, 2)), Span(1, None, 0.5, 2, "w")], [1.5, [1, 2], [1, None, 0.5, 2, "w"]]),
        ({1: 2**70, None: -(2**64), 2.5: True}, {"1": 2**70, "null": -(2**64), "2.5": True}),
        (-(2**63) - 1, -(2**63) - 1),
        ([1 - 10**19, {"n": {"m": (-(2**63) - 2,)}}], [1 - 10**19, {"n": {"m": [-(2**63) - 2]}}]),
        ({-(2**63) - 1: [], 2**64: {}}, {"-9223372036854775809": [], "18446744073709551616": {}}),
        ([Latest({"a": [1, 2]}), Lazy()], [{"a": 2}, [0, 1]]),
        ({"n": Tenant(2**70), "name": Name("x")}, {"n": 2**70, "name": "x"}),
        (uuid.UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        ("\ud800 \x9b é", "\ud800 \x9b é"),
        (1e300, 1e300),
        (12345678901234567890, 12345678901234567890),
        ({"a": math.nan, "b": {1, 2}}, {"a": None, "b": [1, 2]}),
        (None, None),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({1, "a"}), ["a", 1]),
        (PurePosixPath("a/b"), "a/b"),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(minutes=1), 60.0),
        (b"\xff\x00", "/wA="),
        (bytearray(b"hi"), "aGk="),
        (memoryview(b"hi"), "aGk="),
        (decimal.Decimal("1.10"), "1.10"),
        (Size.BIG, 3),
        ({1: {"a": [Mood.DARK]}}, {"1": {"a": ["dark"]}}),
        *[
            (
                {"a": [number, 1.5, True, "x"], "b": (Page(number, None, number),), number: 1},
                {"a": [None, 1.5, True, "x"], "b": [{"_hidden": None, "seen": None, "shade": None}], str(number): 1},
            )
            for number in (math.nan, math.inf, -math.inf)
        ],
    ],
)
def test_a_value_comes_back_the_same_with_and_without_orjson(value, read):
    again = decode(encode(value))
    assert again == read
    assert type(again) is type(read)


class Turned(frozenset):
    """A set in another order, as one of another process is."""

    def __iter__(self):
        return iter(list(super().__iter__())[::-1])


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    "values",
    [
        [frozenset({1}), frozenset({2}), frozenset({1, 2, 3})],
        [("a", frozenset({1, 2})), ("a", frozenset({2, 3})), 1],
        [Turned({1, 2}), Turned({3}), "b"],
        [1.5, math.nan, 0.5],
    ],
    ids=["sets", "tuples of sets", "turned sets", "NaN"],
)
def test_a_set_has_one_json_form_whatever_its_order_is(values):
    assert encode(Turned(values)) == encode(frozenset(values))


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("text", [b"", b"{", b"NaN", b'{"a":Infinity}', b'"\xff"', b"[" * 100_000, b"1 2"])
def test_invalid_json_is_a_value_error(text):
    with pytest.raises(ValueError, match=r"\S"):
        decode(text)


def test_without_orjson_the_standard_library_is_used(monkeypatch):
    monkeypatch.setitem(sys.modules, "orjson", None)
    assert _fast() is None


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize("value", [10**5000, [{"n": -(10**5000)}], {10**5000: 1}], ids=["plain", "nested", "a key"])
def test_a_number_with_more_digits_than_python_reads_is_refused(value):
    with pytest.raises(NotJSONError, match=r"4300 digits"):
        encode(value)


class Unknown:
    """Something without a JSON form."""


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([{"a": Unknown()}], r"test_records\.Unknown"),
        (object(), "type object"),
        (Page, "type"),
        ([{"x": pytest}], "module"),
        (Span(1, 1, object(), 1), "object"),
        ({(1, 2): 3}, "tuple"),
        ([math.nan, object()], "object"),
        ((loop := []).append(loop) or loop, "contains itself"),
    ],
)
def test_a_value_without_a_json_form_is_an_error_that_names_its_type(value, named):
    with pytest.raises(NotJSONError, match=named):
        encode(value)


@pytest.mark.usefixtures("lane")
@pytest.mark.parametrize(
    "value",
    [
        {1: "a", "1": "b"},
        [{"a": ({"true": 1, True: 2},)}],
        {None: 1, "null": 2},
        {1.5: 1, "1.5": 2},
        {-1: 1, "-1": 2},
        {math.nan: 1, float("nan"): 2},
        {math.inf: 1, "inf": 2, "a": math.nan},
        Page(1, {False: 1, "false": 2}, Shade.DARK),
    ],
)
def test_two_keys_that_become_one_are_refused(value):
    with pytest.raises(NotJSONError, match=r'an object has the key "\S+" twice'):
        encode(value)


@pytest.mark.parametrize("text", ["\x9b2J é", "\u202e", "\ud800", "\x1b[2J", "\u2028"])
def test_a_record_has_no_control_characters(text):
    assert encode(text).decode().isprintable()
    assert json.loads(encode(text)) == text
    assert encode("naïve 日本").decode() == '"naïve 日本"'


# ---- lines


@pytest.mark.parametrize("start", [0.0, 0.9999996, 1.0005, 1_700_000_000.115, 1_700_000_000.9999])
def test_the_start_of_an_item_is_formatted_like_the_standard_library(start):
    expected = dt.datetime.fromtimestamp(start, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = json.loads(line(opening(0, b"", b"1"), success(b"2"), Span(1, 0, start, 0.0)))
    assert record["start"] == expected


def test_a_record_has_the_input_the_result_the_times_and_further_fields():
    assert line(
        opening(7, b"\0\xff", b'{"url":"a"}'), success(b"[1]"), (1, 4, 0.0015, 12.34, None), b',"version":2'
    ) == (
        b'{"id":7,"key":"00ff","input":{"url":"a"},"ok":true,"result":[1],'
        b'"attempts":1,"slot":4,"start":"1970-01-01T00:00:00.001Z","ms":12.3,"version":2}\n'
    )


def test_the_record_of_an_error_has_its_type_and_message():
    record = json.loads(line(opening(0, b"", b'"x"'), failure("E", 'a "b"'), Span(0, None, 0, 0.0)))
    assert record["error"] == {"type": "E", "message": 'a "b"'}
    assert (record["ok"], record["slot"], record["attempts"]) == (False, None, 0)


class Panic(BaseException): ...


@pytest.mark.parametrize("kind", [ZeroDivisionError, Panic])
async def test_an_error_whose_str_fails_is_recorded_by_its_type(path, kind):
    class Hostile(Exception):
        def __str__(self):
            raise kind

    async def fails(item):
        raise Hostile

    await paco.map(fails, [1], return_exceptions=True).journal(path)
    assert '"message":"<Hostile whose str() failed>"' in path.read_text()


async def test_an_item_takes_the_lowest_free_slot(path):
    naps = [1, 3, 2, 9, 9]  # the first ends, then the third, in the same slot, then the second
    await paco.map(asyncio.sleep, naps, limit=3).journal(path)
    slots = {record["id"]: record["slot"] for record in map(json.loads, path.read_text().splitlines())}
    assert slots == {0: 0, 1: 1, 2: 2, 3: 0, 4: 2}


# ---- keys


def test_a_key_depends_on_the_content_and_not_on_the_order_of_fields():
    assert (
        canonical({"b": 1, "a": [1.0, "é"]}) == canonical({"a": [1.0, "é"], "b": 1}) == b'{"a":[1.0,"\\u00e9"],"b":1}'
    )
    assert canonical(Page(1, dt.date(2026, 1, 2), Shade.DARK)) == b'{"_hidden":1,"seen":"2026-01-02","shade":"dark"}'


def keys_of(keys, *values):
    return [keys.next(canonical(value)) for value in values]


def test_equal_items_have_different_keys_in_any_order():
    first = [key for key, _ in keys_of(Keys(), "a", "b", "a", "a", {"x": 1, "y": 2})]
    assert {len(key) for key in first} == {16}
    assert len(set(first)) == 5
    assert set(first) == {key for key, _ in keys_of(Keys(), {"y": 2, "x": 1}, "a", "a", "b", "a")}


def test_an_item_keeps_its_8_byte_key_of_an_earlier_version():
    keys, older = Keys(), [digest(canonical("a"), occurrence, 8) for occurrence in range(2)]
    for position, key in enumerate(older):
        keys.put(key, position)
    keys.put(digest(canonical("b"), 0, 16), 7)
    assert keys_of(keys, "a", "b", "a") == [(older[0], 0), (digest(canonical("b"), 0, 16), 7), (older[1], 1)]
    assert keys_of(keys, "a", "c") == [
        (digest(canonical("a"), 2, 16), NOWHERE),
        (digest(canonical("c"), 0, 16), NOWHERE),
    ]


def test_many_keys_are_those_that_items_get_one_by_one():
    contents = [canonical(value) for value in ("a", "b", "a", "a", 1, "b")]
    keys, alone = Keys(), Keys()
    assert keys.many(contents[:3]) + keys.many([]) + keys.many(contents[3:]) == [alone.next(one)[0] for one in contents]


def test_keys_of_repeated_items_collide_with_no_other_item():
    contents = [canonical(value) for value in ("a", "a 1", 1, [1], "1 1", {"a": 1})]
    keys = {digest(content, occurrence, 16) for content in contents for occurrence in range(20)}
    assert len(keys) == 20 * len(contents)


@given(st.lists(st.tuples(st.binary(min_size=16, max_size=16) | st.just(bytes(16)), st.integers(0, 2**40))))
def test_an_index_agrees_with_a_dict(pairs):
    index, model = Index(), {}
    for key, offset in pairs:
        assert index.get(key) == model.get(key, NOWHERE)
        index.put(key, offset)
        model[key] = offset
    assert [index.get(key) for key in model] == list(model.values())
    assert index.get(b"\1" * 16) == model.get(b"\1" * 16, NOWHERE)


def test_seen_numbers_are_found_however_many_there_are():
    seen = Seen()
    numbers = [number * 0x9E3779B97F4A7C15 % 2**64 for number in range(20_000)]
    assert not any(map(seen.add, numbers))
    assert all(map(seen.add, numbers))


def test_keys_of_one_shard_stay_distinct_as_it_grows():
    index = Index()
    keys = [(1024 * (number * 7919 % 101)).to_bytes(8) for number in range(1, 101)]
    for offset, key in enumerate(keys):
        index.put(key, offset)
        assert [index.get(key) for key in keys[: offset + 1]] == list(range(offset + 1))
    assert len(index._shards) == 1


@pytest.mark.slow
def test_an_index_takes_at_most_30_bytes_per_key_and_loses_none():
    index = Index()
    keys = [digest(b"%d" % number, 0, 16) for number in range(60_000)]
    for offset, key in enumerate(keys):
        index.put(key, offset)
        if offset >= 20_000 and offset % 1000 == 0:
            assert sum(sys.getsizeof(array) for pair in index._shards.values() for array in pair) / offset < 30
    assert all(index.get(key) == offset for offset, key in enumerate(keys))


# ---- the function


def wrapper(fn):
    @functools.wraps(fn)
    def wrapped(*args):
        return fn(*args)

    return wrapped


class Client:
    async def get(self, item):
        return item

    async def __call__(self, item):
        return item


async def fetch(item):
    return item


def test_a_function_is_identified_by_its_innermost_name_and_source():
    name, source, *_ = made_by(fetch)
    assert (name, len(source)) == ("fetch", 16)
    assert made_by(functools.partial(wrapper(functools.partial(wrapper(fetch))), 1)) == Maker(name, source)
    assert made_by(Client().get).name == "Client.get"
    assert made_by(Client()).name == "Client"
    assert made_by(Client()).source is not None
    assert made_by(lambda item: item).source is None
    assert made_by(len) == Maker("len", None)


def test_the_hash_of_a_source_ignores_indentation_and_changes_with_the_body(tmp_path):
    def load(text):
        path = tmp_path / "jobs.py"
        path.write_text(text)
        importlib.invalidate_caches()
        spec = importlib.util.spec_from_file_location("jobs", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        importlib.import_module("linecache").checkcache()
        return made_by(module.fetch)

    plain = load("async def fetch(item):\n    return item\n")
    indented = load("if True:\n    async def fetch(item):\n        return item\n")
    assert plain == indented
    assert load("async def fetch(item):\n    return item + 1\n").source != plain.source
    commented = "async def fetch(item):  # one\n    # two\n    return item  # three\n    # four\n"
    assert load(commented) == load(f"if True:\n    {commented.replace(chr(10), chr(10) + '    ')}") == plain
    text = 'async def fetch(item):\n    return """\n    # %s\n    """\n'
    assert load(text % "no comment").source != load(text % "another").source


def test_a_source_that_is_no_longer_one_has_a_hash(monkeypatch):
    for text in ("def f(:\n", "def f(\n", "  def f():\n pass\n"):
        monkeypatch.setattr("inspect.getsource", lambda _, text=text: text)
        assert len(made_by(fetch).source) == 16


# ---- the file


def opened(path, **how):
    records = unread(path, **how)
    records.load()
    return records


def unread(path, **how):
    file = RecordFile(str(path), "paco.map: the journal x")
    file.open()
    return EarlierRecords(file, MAKER, **{"version": None, **how})


def a_record(item, *, id=0, ok=True, **more):
    key = digest(canonical(item), 0, 16)
    outcome = success(encode(item)) if ok else failure("ValueError", "no")
    more = "".join(f",{json.dumps(name)}:{json.dumps(value)}" for name, value in more.items())
    return line(opening(id, key, encode(item)), outcome, Span(1, 0, 0.0, 1.0), more.encode())


def close(records):
    records._file.close()


def test_the_last_record_of_an_item_counts(path):
    path.write_bytes(a_record("a", ok=False) + a_record("b") + a_record("a", id=7))
    records = opened(path)
    entry, record = records.recall(5, "a")
    assert (record.ok, record.outcome) == (True, "a")
    assert (entry.position, entry.key, entry.text) == (5, record.key, b'"a"')
    assert records.recall(6, "c")[1] is None
    close(records)


def test_two_keys_with_the_same_first_64_bits_are_distinguished(path):
    key = digest(canonical("a"), 0, 16)
    path.write_bytes(line(opening(0, key[:8] + bytes(8), b'"z"'), success(b'"z"'), Span(1, 0, 0.0, 1.0)))
    records = opened(path)
    entry, record = records.recall(0, "a")
    assert (entry.key, record) == (key, None)
    close(records)


def test_records_of_the_command_are_read(path):
    path.write_bytes(line(opening(0, bytes.fromhex("77ab0c8e6f3d2b14"), b'"a"'), success(b"1"), Span(1, 0, 0.0, 1.0)))
    close(opened(path))


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_partial_last_line_of_a_record_is_cut_off(path, cut):
    whole = a_record("a") + a_record("b")
    path.write_bytes(whole + a_record("c")[: -1 - cut])
    close(opened(path))
    assert path.read_bytes() == whole


@pytest.mark.parametrize("rest", [b"\0" * 50, b'{"id":12\0\0\0', b"{", b'{"id"'])
def test_the_remains_of_a_power_loss_are_cut_off(path, rest):
    path.write_bytes(a_record("a") + rest)
    close(opened(path))
    assert path.read_bytes() == a_record("a")


def test_a_last_record_without_a_line_end_is_kept(path):
    path.write_bytes((a_record("a") + a_record("b"))[:-1])
    records = opened(path)
    assert records.recall(0, "b")[1].outcome == "b"
    close(records)
    assert path.read_bytes() == a_record("a") + a_record("b")


@pytest.mark.parametrize(
    "text",
    [
        b'{"id":1,"name":"somebody else\'s"}',
        b'{"id":1,"name":"somebody el',
        b'{"id":1,"nam',
        b'{"id":"x',
        b"notes",
        b'{"a":{"b":[',
        b"\xff\xfe",
        bytes(4096),
        b"\0",
        bytes(512) + b"\n" + bytes(512),
        b"\n" + bytes(512),
    ],
)
@pytest.mark.parametrize("strict", [True, False])
def test_a_file_of_another_kind_is_refused_and_unchanged(path, text, strict):
    path.write_bytes(text)
    records = unread(path, strict=strict)
    with pytest.raises(
        JournalError, match=r"is not a file of records: line \d is not a record \(.*\); use another file$"
    ):
        records.load()
    assert path.read_bytes() == text
    close(records)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (b"[1]", "it is not an object"),
        (b"nothing", r"\S"),
        (b'{"id":1,"ok":true,"result":1}', "its key is None"),
        (b'{"id":1,"key":"zz","ok":true,"result":1}', "hexadecimal"),
        (b'{"id":1,"key":"00","ok":true,"result":1}', "its key is '00'"),
        (b'{"id":1,"key":"0011223344556677","ok":true}', "neither a result nor an error"),
        (b'{"id":1,"key":"0011223344556677","ok":1,"result":1}', "neither a result nor an error"),
        (b'{"id":1,"key":"0011223344556677","ok":false,"error":"x"}', "neither a result nor an error"),
    ],
)
def test_the_error_for_a_damaged_line_has_its_number_and_says_what_to_do(path, damage, reason):
    path.write_bytes(a_record("a") + b"\n" + damage + b"\n" + a_record("b"))
    records = unread(path)
    with pytest.raises(
        JournalError, match=rf"is damaged: line 3 is not a record \(.*{reason}.*sed -i.bak 3d .*move the file"
    ):
        records.load()
    close(records)


def test_any_flipped_bit_is_refused_or_leaves_all_other_records_intact(path):
    lines = [a_record(word) for word in ("a", "b", "c")]
    whole = b"".join(lines)
    refused = 0
    for bit in range(8 * len(lines[0]), 8 * (len(lines[0]) + len(lines[1])), 3):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        records = unread(path)
        told = None
        try:
            records.load()
        except JournalError as error:
            told = str(error)
            refused += 1
        assert told is None or "line 2 is not a record" in told
        assert told is not None or [records.recall(0, word)[1].outcome for word in ("a", "c")] == ["a", "c"]
        close(records)
    assert refused > len(lines[1])


def test_a_file_that_changes_during_the_run_is_reported(path):
    path.write_bytes(a_record("a") + a_record("b"))
    records = opened(path)
    path.write_bytes(b"x" * 400)
    with pytest.raises(JournalError, match="was changed by another program during this run"):
        records.recall(0, "b")
    close(records)


def test_reading_can_be_stopped_early(path):
    path.write_bytes(a_record("a") + a_record("b"))
    file = RecordFile(str(path), "x", power=False)
    assert list(file.read()) == []
    file.open()
    lines = file.read()
    next(lines)
    file.stopped = True
    assert list(lines) == []
    file.close()
    file.close()
    assert file.line(0) == b""


def test_a_file_that_is_not_regular_is_refused():
    file = RecordFile("/dev/null", "paco.map: the journal /dev/null", power=False)
    with pytest.raises(JournalError, match="the journal /dev/null is not a regular file"):
        file.open()
    file.close()


def test_a_second_open_is_refused_until_the_first_is_closed(path):
    first, second = (RecordFile(str(path), "paco.map: the journal x", power=False) for _ in range(2))
    first.open()
    with pytest.raises(JournalError, match="the journal x is in use by another run; wait until that run ends"):
        second.open()
    second.close()
    path.read_bytes()  # whoever reads it does not unlock it
    with pytest.raises(JournalError):
        second.open()
    second.close()
    first.close()
    second.open()
    second.close()


def test_without_file_locks_opening_still_works(path, monkeypatch):
    monkeypatch.setattr("paco._base.system._fcntl", None)
    monkeypatch.setattr("paco._base.system._msvcrt", None)
    files = [RecordFile(str(path), "x", power=False) for _ in range(2)]
    for file in files:
        file.open()
    for file in files:
        file.close()


def test_a_new_file_can_be_read_by_its_owner_only(path):
    old = os.umask(0)
    try:
        close(opened(path))
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.posix
@pytest.mark.parametrize("name", ["fdatasync", "fsync"])
async def test_durable_power_syncs_each_group_and_the_folder_and_omits_file_times_if_possible(path, monkeypatch, name):
    synced = []

    def sync(descriptor):
        synced.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else path.read_bytes().count(b"\n"))

    monkeypatch.setattr("paco._base.system._fcntl", None)
    monkeypatch.delattr(os, "fdatasync", raising=False)
    monkeypatch.setattr(os, "fsync", sync)
    if name == "fdatasync":
        monkeypatch.setattr(os, name, lambda descriptor: synced.append(f"data {descriptor > 0}"), raising=False)
    await paco.map(fetch, [1]).journal(path, durable="power")
    assert synced == (["data True", "folder", "data True"] if name == "fdatasync" else [0, "folder", 1])


def test_a_folder_that_cannot_be_synced_is_not_an_error():
    _sync_folder("/nowhere/at/all")


def test_a_child_process_closes_the_file_whatever_its_parent_does(path):
    file = RecordFile(str(path), "x", power=False)
    file.open()
    _leave_all()
    second = RecordFile(str(path), "x", power=False)
    second.open()
    second.close()
    assert Path(path).exists()
