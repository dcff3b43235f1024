"""The journal: what is recorded is handed on again, the rest runs, and nothing is handed on before it is recorded."""

from __future__ import annotations

import asyncio
import base64
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import errno
import functools
import gc
import inspect
import io
import itertools
import json
import math
import os
import shlex
import subprocess
import threading
import time
import warnings
import weakref
from contextlib import aclosing, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import journal
from paco._records import delivery, group_commit
from paco._records.file import RecordFile
from paco.events import ItemEnded
from paco.journal import JournalError, RecordedError
from paco.testing import AsyncSource, Probe, Source, now, run
from tests.patience import PATIENCE


def records(path):
    text = path.read_text()
    assert not text or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def results(path):
    return {record["input"]: record.get("result") for record in records(path)}


async def same(item):
    return item


async def turn(item):
    await asyncio.sleep(0)
    return item


def double():
    return Probe(lambda item: 2 * item, takes=1)


def briefly():
    """Do the same in little time, on a real clock."""
    return Probe(lambda item: 2 * item, takes=0.01)


async def collect(stream):
    """Iterate a stream and return what it gives."""
    return [result async for result in stream]


async def collect_in_a_block(stream):
    async with stream as results:
        return [result async for result in results]


USES = {"await": lambda stream: stream, "async for": collect, "async with": collect_in_a_block}


KINDS = {
    "list": list,
    "generator": lambda items: Source(items).generator(),
    "async iterator": AsyncSource,
    "async generator": lambda items: AsyncSource(items).generator(),
}


# ---- remembering


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("kind", KINDS)
async def test_recorded_results_are_delivered_again_and_the_other_items_run(path, use, kind):
    fn = double()
    assert await USES[use](paco.map(fn, KINDS[kind]([1, 2, 3]), limit=2).journal(path)) == [2, 4, 6]
    assert await USES[use](paco.map(fn, KINDS[kind]([0, 3, 1, 4, 2]), limit=2).journal(path)) == [0, 6, 2, 8, 4]
    assert fn.started == [1, 2, 3, 0, 4]
    assert results(path) == {0: 0, 1: 2, 2: 4, 3: 6, 4: 8}


@pytest.mark.parametrize("use", ["async for", "async with"])
async def test_as_completed_delivers_recorded_results_at_once(path, use):
    fn = Probe(lambda item: item, takes=lambda item: item)
    await paco.map(fn, [2, 4]).journal(path)
    assert await USES[use](paco.map(fn, [3, 4, 1, 2]).as_completed().journal(path)) == [4, 2, 1, 3]
    assert await paco.map(fn, [9, 4]).journal(path).as_completed() == [4, 9]


@pytest.mark.parametrize(
    "again",
    [[3, 1, 2], [0, 1, 2, 3, 4], [2], [], [1, 1, 2, 3, 3]],
    ids=["reordered", "grown", "shrunk", "empty", "doubled"],
)
async def test_a_changed_input_resumes_by_the_content_of_its_items(path, again):
    fn = double()
    await paco.map(fn, [1, 2, 3]).journal(path)
    assert await paco.map(fn, again).journal(path) == [2 * item for item in again]
    new = again.copy()
    for item in (1, 2, 3):
        with suppress(ValueError):
            new.remove(item)
    assert fn.started[3:] == new


@dataclasses.dataclass
class Spot:
    x: int


class Mood(enum.Enum):
    DARK = "dark"


class Shade(enum.StrEnum):
    DARK = "dark"


ALIKE = {
    "sequences": [[1, 2], (1, 2), {1, 2}, frozenset({1, 2}), [1, [2]], [1, (2,)]],
    "objects": [{"x": 1}, Spot(1), collections.OrderedDict(x=1), {"x": True}, [["x", 1]]],
    "keys": [{"1": 0}, {1: 0}, {1.0: 0}, {True: 0}, {"true": 0}, {None: 0}, {"null": 0}],
    "text": ["dark", Mood.DARK, Shade.DARK, [Mood.DARK], ["dark"], Path("dark")],
    "bytes": ["aGk=", b"hi", bytearray(b"hi"), base64.b64encode(b"hi")],
    "times": ["2026-01-02", dt.date(2026, 1, 2), 60.0, dt.timedelta(minutes=1), 60, decimal.Decimal(60), "60"],
    "numbers": [None, math.nan, math.inf, 0, False, 0.0, -0.0, "0", 2**64, float(2**64), -(2**63) - 1, -(2.0**63)],
    "surrogates": ["\ud83d\ude00", "\U0001f600", ["\ud83d\ude00"], {"\ud83d\ude00": 0}, {"\U0001f600": 0}],
    "names": [{1}, {"\0type": "set", "": [1]}, {"\0type": "dict of ['str']", "": {"\0type": "set", "": [1]}}],
}


@pytest.mark.parametrize("kind", ALIKE)
@pytest.mark.parametrize("how", [{}, {"key": lambda item: item}], ids=["content", "key"])
async def test_items_with_the_same_json_form_keep_their_results_in_any_order(path, kind, how):
    async def name(item):
        return f"{type(item)} {item!a}"

    async def forbid(item):
        raise AssertionError(item)

    forbid.__wrapped__ = name
    names = await paco.map(name, ALIKE[kind]).journal(path, **how)
    assert len(set(names)) == len(names)
    assert await paco.map(forbid, ALIKE[kind][::-1]).journal(path, **how) == names[::-1]


@pytest.mark.parametrize("key", ["id", lambda row: row["id"]], ids=["field", "function"])
async def test_a_key_that_is_given_twice_is_told_once(path, key):
    rows = [{"id": 1, "v": value} for value in "abc"]
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"run\.jsonl gets a key twice: it is 1 for .* and for {'id': 1, 'v': 'b'}"
        ) as told:
            assert await paco.map(same, rows, limit=1).journal(path, key=key) == rows
        assert len(told) == 1


async def test_equal_items_are_distinguished(path):
    count = itertools.count()
    fn = Probe(lambda item: f"{item}{next(count)}")
    first = await paco.map(fn, ["a", "b", "a", "a"], limit=1).journal(path)
    assert first == ["a0", "b1", "a2", "a3"]
    assert await paco.map(fn, ["a", "a", "a", "a", "b"], limit=1).journal(path) == ["a0", "a2", "a3", "a4", "b1"]
    assert len({record["key"] for record in records(path)}) == 5


LETTERS = st.lists(st.sampled_from("abcde"), max_size=12)


@given(LETTERS, LETTERS, st.integers(0, 8), st.sampled_from([0, 1, 3]))
def test_a_run_interrupted_at_any_point_is_completed_by_the_next_run_in_any_order(
    tmp_path_factory, one, other, point, limit
):
    path = tmp_path_factory.mktemp("journal") / "run.jsonl"
    count, handed = itertools.count(), []

    async def fn(item):
        await asyncio.sleep(ord(item) % 3)
        return f"{item}{next(count)}"

    async def left():
        async with paco.map(fn, one, limit=limit).journal(path) as stream:
            async for result in stream:
                handed.append(result)
                if len(handed) > point:
                    break

    run(left)
    again = run(paco.map(fn, other, limit=limit).journal(path))
    assert [result[0] for result in again] == other
    assert len(set(again)) == len(again)
    assert {*handed, *again} <= {record["result"] for record in records(path)}
    for letter in "abcde":  # as many of those handed on come again as there are such items
        before = {result for result in handed if result[0] == letter}
        assert len(before & set(again)) >= min(len(before), other.count(letter))


@dataclasses.dataclass
class Point:
    x: int
    when: dt.date


@pytest.mark.parametrize(
    ("value", "read"),
    [
        (Point(1, dt.date(2026, 1, 2)), {"x": 1, "when": "2026-01-02"}),
        ((1, {2}), [1, [2]]),
        (math.nan, None),
        ({1: b"x"}, {"1": "eA=="}),
        (True, True),
        (None, None),
        ("é\ud800", "é\ud800"),
        (2**80, 2**80),
        (-(2**63) - 1, -(2**63) - 1),
        ([{"n": (1 - 10**19,)}, 1.0], [{"n": [1 - 10**19]}, 1.0]),
        ({-(2**63) - 1: [2**64]}, {"-9223372036854775809": [2**64]}),
        ("\ud83d\ude00 \\ud83d", "\U0001f600 \\ud83d"),
    ],
)
async def test_a_result_has_its_json_form_in_the_first_run_too(path, value, read):
    async def fn(item):
        return value

    for _ in range(2):
        (result,) = await paco.map(fn, [0]).journal(path)
        assert result == read
        assert type(result) is type(read)


def share(people):
    """Return how much each gets."""
    if not people:
        raise ValueError("shared by nobody")
    return 10 // people


async def test_a_record_has_the_input_the_result_and_the_times(path):
    fn = Probe(share, takes=1.5)
    await paco.map(fn, [5, 0], return_exceptions=True).journal(path, version=3)
    good, bad = records(path)
    starts = good.pop("start"), bad.pop("start")
    assert all(
        abs((dt.datetime.now(dt.UTC) - dt.datetime.fromisoformat(start)).total_seconds()) < 60 for start in starts
    )
    assert good == {
        "id": 0, "key": good["key"], "input": 5, "ok": True, "result": 2,
        "attempts": 1, "slot": 0, "ms": 1500.0, "function": "Probe", "source": good["source"], "version": 3,
    }  # fmt: skip
    assert bad == {
        "id": 1, "key": bad["key"], "input": 0, "ok": False,
        "error": {"type": "ValueError", "message": "shared by nobody"},
        "attempts": 1, "slot": 1, "ms": 1500.0, "function": "Probe", "source": good["source"], "version": 3,
    }  # fmt: skip
    assert len(bytes.fromhex(good["key"])) == len(bytes.fromhex(bad["key"])) == 16
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_record_has_the_item_as_it_was_before_it_ran(path):
    async def fn(item):
        return item.pop("x")

    assert await paco.map(fn, [{"x": 1}]).journal(path) == [1]
    assert await paco.map(fn, [{"x": 1}]).journal(path) == [1]
    assert records(path)[0]["input"] == {"x": 1}


async def test_every_function_that_returns_a_stream_supports_journals(path):
    assert await paco.flat_map(same, [1, [2]], initializer=[0]).journal(path) == [0, 1, 2]
    assert await paco.flat_map(same, [[2], 3], initializer=[7]).journal(path) == [7, 2, 3]
    assert len(records(path)) == 3
    fn = double()
    assert await paco.repeat(fn, 3).journal(path.with_name("repeat")) == [2, 4, 6]
    stream = paco.each(fn, [1], collect=True)
    assert await stream.journal(path.with_name("repeat")) == [2]
    assert fn.started == [1, 2, 3]


async def test_nothing_starts_before_the_stream_is_used(path):
    stream = paco.map(same, [1]).journal(path)
    await asyncio.sleep(1)
    assert not path.exists()
    assert await stream == [1]


async def test_a_journal_without_items_is_an_empty_file(path):
    assert await paco.map(same, []).journal(path) == []
    assert path.read_bytes() == b""


async def test_a_journal_works_the_same_without_orjson(path, monkeypatch):
    fn = double()
    await paco.map(fn, [1, 2]).journal(path)
    monkeypatch.setattr("paco._records.lines.FAST", None)
    assert await paco.map(fn, [1, 2, 3]).journal(path) == [2, 4, 6]
    monkeypatch.undo()
    assert await paco.map(fn, [1, 2, 3]).journal(path) == [2, 4, 6]
    assert fn.started == [1, 2, 3]


# ---- what an item is known by


@pytest.mark.parametrize("key", ["id", lambda item: item["id"]], ids=["a field", "a function"])
async def test_an_item_is_identified_by_its_key(path, key):
    fn = Probe(lambda item: item["seen"])
    await paco.map(fn, [{"id": 1, "seen": 1}, {"id": 2, "seen": 1}]).journal(path, key=key)
    again = await paco.map(fn, [{"id": 2, "seen": 2}, {"id": 3, "seen": 2}]).journal(path, key=key)
    assert again == [1, 2]
    assert [record["input"]["id"] for record in records(path)] == [1, 2, 3]


class Row:
    """Something that JSON cannot hold."""

    @staticmethod
    def id_of(item):
        return "row"

    def __init__(self, id):
        self.id = id

    def __repr__(self):
        return f"<Row {self.id}>"


async def test_an_item_without_a_json_form_is_identified_by_its_key(path):
    fn = Probe(lambda row: row.id)
    for _ in range(2):
        assert await paco.map(fn, [Row(1), Row(2)]).journal(path, key="id") == [1, 2]
    assert len(fn.started) == 2
    assert [record["input"] for record in records(path)] == ["<Row 1>", "<Row 2>"]


async def test_the_records_of_another_field_skip_no_item_and_that_is_told(path):
    rows = [{"id": 1, "to": 2}, {"id": 2, "to": 1}]
    fn = Probe(lambda row: row["id"])
    await paco.map(fn, rows).journal(path, key="id")
    with pytest.warns(
        UserWarning, match=r"run\.jsonl has records of another key: they know their items by 'id', not by 'to', and"
    ):
        assert await paco.map(fn, rows).journal(path, key="to") == [1, 2]
    assert await paco.map(fn, rows).journal(path, key=lambda row: row["to"]) == [1, 2]  # it may be the same field
    assert len(fn.started) == 4
    assert [record["by"] for record in records(path)] == ["id", "id", "to", "to"]
    with pytest.warns(UserWarning, match=r"know their items by 'id', 'to', not by their whole content, and are not"):
        assert await paco.map(fn, rows).journal(path) == [1, 2]
    with pytest.warns(UserWarning, match=r"know their items by 'to', their whole content, not by 'id', and are not"):
        assert await paco.map(fn, rows).journal(path, key="id") == [1, 2]
    assert len(fn.started) == 6


NESTED = functools.reduce(lambda inner, _: [inner], range(100_000), [])
LOOP = []
LOOP.append(LOOP)


@pytest.mark.parametrize("item", [Row(1), {1: 2, "a": 3}, LOOP, NESTED], ids=["object", "keys", "loop", "nested"])
@pytest.mark.parametrize("catch", [False, True])
async def test_an_item_without_a_json_form_or_a_key_ends_the_run_with_an_error_that_says_what_to_do(path, item, catch):
    fn = Probe(lambda _: 1)
    with pytest.raises(
        TypeError, match=r"^paco\.map: the journal .*run\.jsonl must recognize .* has no JSON form .*key='id'"
    ) as told:
        await paco.map(fn, ["a", item], limit=1, return_exceptions=catch).journal(path)
    assert any(note.startswith("paco.map: item 1: ") for note in told.value.__notes__)
    assert fn.started == ["a"]
    assert results(path) == {"a": 1}


@pytest.mark.parametrize(
    ("key", "error", "said"),
    [
        ("other", AttributeError, "key='other': each item needs this field"),
        (lambda item: item["x"], TypeError, "its key= function, <lambda>"),
        (lambda item: 1 / 0, ZeroDivisionError, "its key= function, <lambda>"),
    ],
)
async def test_an_error_of_the_key_function_ends_the_run(path, key, error, said):
    with pytest.raises(error) as caught:
        await paco.map(same, [Row(1)], return_exceptions=True).journal(path, key=key)
    assert caught.value.__notes__[0] == f"paco.map: the journal {path}: raised by {said}"


async def test_a_missing_field_of_a_mapping_ends_the_run(path):
    with pytest.raises(KeyError, match="other") as caught:
        await paco.map(same, [{"id": 1}]).journal(path, key="other")
    assert caught.value.__notes__ == [
        f"paco.map: the journal {path}: raised by key='other': each item needs this field",
        "paco.map: item 0: {'id': 1}",
    ]


@pytest.mark.parametrize("make", [lambda limit: limit, lambda limit: limit & 9], ids=["alone", "combined"])
async def test_items_of_one_key_of_a_limit_do_not_wait_for_those_of_another(path, make):
    ends = {}

    async def work(item):
        key, number = item
        await asyncio.sleep(10 if key == "a" else 1)
        ends[key, number] = now()
        return number

    items = [("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 2), ("b", 3)]
    await paco.map(work, items, limit=make(paco.PerKey(lambda item: item[0], lambda: paco.Limit(1)))).journal(path)
    assert [round(ends[item]) for item in items] == [10, 20, 30, 1, 2, 3, 4]


async def test_an_item_with_a_record_does_not_wait_for_others_of_its_key(path):
    async def work(item):
        await asyncio.sleep(10)
        return item

    await paco.map(work, ["a3"]).journal(path)
    began, limit = now(), paco.PerKey(lambda item: item[0], lambda: 1)
    stream = paco.map(work, ["a1", "a2", "a3", "a4"], limit=limit).journal(path).as_completed()
    assert [(item, round(now() - began)) async for item in stream] == [("a3", 0), ("a1", 10), ("a2", 20), ("a4", 30)]


async def test_an_inbox_does_not_have_a_batch_delivered_while_results_wait_for_their_lines(path):
    stream = paco.map(turn, paco.Inbox(range(5)), limit=2).journal(path).batch(3)
    assert [batch async for batch in stream] == [[0, 1, 2], [3, 4]]


async def test_a_key_that_fails_while_the_run_is_ending_is_reported(path):
    def source():
        yield 1
        stream.__upstream__().abandon()
        yield Row(2)

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    async with paco.map(turn, source(), limit=1).journal(path) as stream:
        assert await collect(stream) == [1]
    assert "1 more failed while stopping: item 1: TypeError" in told[0]


# ---- more than JSON


async def test_encode_and_decode_convert_values_without_a_json_form(path):
    fn = Probe(lambda item: complex(item, 1))
    for _ in range(2):
        stream = paco.map(fn, [1, 2]).journal(
            path, encode=lambda z: [z.real, z.imag], decode=lambda pair: complex(*pair)
        )
        assert await stream == [1 + 1j, 2 + 1j]
    assert fn.started == [1, 2]
    assert results(path) == {1: [1.0, 1.0], 2: [2.0, 1.0]}


async def test_an_item_without_a_json_form_can_be_identified_by_a_key(path):
    fn = Probe(lambda item: item["id"], takes=1)
    items = [{"id": 1, "size": 10**5000}, {"id": 2, "size": object()}]
    for _ in range(2):
        assert await paco.map(fn, items).journal(path, key="id") == [1, 2]
    assert fn.started == items


@pytest.mark.parametrize("part", ["encode", "decode"])
async def test_a_conversion_that_fails_is_an_error_of_its_item(path, part):
    stream = paco.map(same, [1, 0], return_exceptions=True).journal(path, **{part: lambda value: 1 / value})
    first, second = await stream
    assert first == 1
    assert isinstance(second, ZeroDivisionError)
    assert [record["ok"] for record in records(path)] == [True, False]


async def test_a_conversion_that_fails_for_a_recorded_result_is_an_error_of_its_item(path):
    await paco.map(same, [1, 0]).journal(path)
    with pytest.raises(ZeroDivisionError) as told:
        await paco.map(same, [1, 0]).journal(path, decode=lambda value: 1 / value)
    assert told.value.__notes__ == ["paco.map: item 1: 0"]


async def test_a_result_that_json_cannot_hold_is_an_error_that_names_its_type(path):
    async def fn(item):
        return Row(item) if item else item

    with pytest.raises(TypeError, match=r"JSON cannot hold a value of type tests\.records\.test_journal\.Row") as told:
        await paco.map(fn, [0, 1], limit=1).journal(path)
    assert told.value.__notes__ == ["paco.map: item 1: 1"]
    assert [record["ok"] for record in records(path)] == [True, False]


# ---- errors


class Failing:
    """Fails for some items."""

    def __init__(self, *items):
        self.items = set(items)
        self.started = []

    async def __call__(self, item):
        self.started.append(item)
        await asyncio.sleep(1)
        if item in self.items:
            raise ValueError(f"no {item}")
        return item


async def test_failed_items_run_again(path):
    fn = Failing(2)
    first = await paco.map(fn, [1, 2, 3], return_exceptions=True).journal(path)
    assert repr(first) == "[1, ValueError('no 2'), 3]"
    fn.items.clear()
    assert await paco.map(fn, [1, 2, 3]).journal(path) == [1, 2, 3]
    assert fn.started == [1, 2, 3, 2]
    assert await paco.map(fn, [1, 2, 3]).journal(path) == [1, 2, 3]
    assert fn.started == [1, 2, 3, 2]


async def test_the_first_error_ends_the_run_and_is_recorded_with_the_finished_results(path):
    fn = Failing(2)
    error = None
    try:
        await paco.map(fn, [1, 2, 3], limit=1).journal(path)
    except ValueError as raised:
        error = raised
    assert error.args == ("no 2",)
    assert error.__notes__ == ["paco.map: item 1: 2"]
    assert [record["ok"] for record in records(path)] == [True, False]
    fn.items.clear()
    assert await paco.map(fn, [1, 2, 3], limit=1).journal(path) == [1, 2, 3]
    assert fn.started == [1, 2, 2, 3]


async def test_recorded_errors_that_are_not_run_again_are_delivered_with_the_same_text(path):
    fn = Failing(2)
    seen = []
    for _ in range(2):
        items = await paco.map(fn, [1, 2], return_exceptions=True).journal(path, retry_errors=False)
        error = items[1]
        assert isinstance(error, RecordedError)
        seen.append((error.type, error.message, str(error), error.args))
    assert seen == [("ValueError", "no 2", "ValueError: no 2", ("ValueError", "no 2"))] * 2
    assert fn.started == [1, 2]
    assert str(RecordedError("TimeoutError", "")) == "TimeoutError"


async def test_a_fresh_error_that_is_not_run_again_has_the_error_itself_as_its_cause(path):
    (error,) = await paco.map(Failing(2), [2], return_exceptions=True).journal(path, retry_errors=False)
    assert repr(error.__cause__) == "ValueError('no 2')"


async def test_a_recorded_error_ends_the_run_that_it_is_delivered_in(path):
    fn = Failing(2)
    with pytest.raises(ValueError, match="no 2"):  # itself, since it is not a result
        await paco.map(fn, [1, 2], limit=1).journal(path, retry_errors=False)
    with pytest.raises(RecordedError, match="ValueError: no 2") as told:
        await paco.map(fn, [1, 2], limit=1).journal(path, retry_errors=False)
    assert told.value.__notes__ == ["paco.map: item 1: 2"]
    assert fn.started == [1, 2]


async def test_an_item_that_ends_cancelled_by_itself_is_recorded_as_an_error(path):
    async def fn(item):
        raise asyncio.CancelledError

    with pytest.raises(paco.ItemCancelled):
        await paco.map(fn, [1]).journal(path)
    assert records(path)[0]["error"]["type"] == "ItemCancelled"


async def test_a_stop_iteration_is_an_error_with_its_cause(path):
    def fn(item):
        raise StopIteration

    with pytest.raises(RuntimeError, match="an item raised StopIteration, which ends iterators") as told:
        await paco.map(fn, [1]).journal(path)
    assert isinstance(told.value.__cause__, StopIteration)
    assert records(path)[0]["error"]["type"] == "RuntimeError"


async def test_a_function_that_returns_no_awaitable_gets_the_same_error_as_without_a_journal(path):
    def plain(item):
        return item

    with pytest.raises(TypeError, match=r"^paco\.map: .*plain must be a coroutine function"):
        await paco.map(plain, [1]).journal(path)


async def test_cancelled_items_have_no_record_unless_they_still_return_a_result(path):
    async def fn(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            if item == 3:
                return "late"
            if item == 4:
                raise ValueError from None  # reported, since nobody is there to receive it
            raise
        return item

    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    async with paco.map(fn, [1, 2, 3, 4]).journal(path) as stream:
        assert await anext(stream) == 1
    assert results(path) == {1: 1, 3: "late"}
    assert told == ["paco.map: 1 more failed while stopping: item 3: ValueError()"]
    assert await paco.map(fn, [3, 2]).journal(path) == ["late", 2]


async def test_an_error_keeps_neither_the_run_nor_its_results_alive(path):
    class Kept(dict):
        __slots__ = ("__weakref__",)

    async def fn(item):
        await asyncio.sleep(item)
        if item:
            raise ValueError
        return 0

    alive = []

    def decode(value):
        kept = Kept()
        alive.append(weakref.ref(kept))
        return kept

    gc.disable()
    try:
        for how in ({}, {"retry_errors": False}):
            results = await paco.map(fn, [0, 1], return_exceptions=True).journal(path, decode=decode, **how)
            error = results.pop()
            while error is not None:
                assert error.__traceback__ is None or "paco/_" not in error.__traceback__.tb_frame.f_code.co_filename
                error = error.__cause__
            del results
            path.unlink()
        for _ in range(3):
            await asyncio.sleep(0)
        assert [one() for one in alive] == [None] * len(alive)
    finally:
        gc.enable()


@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["number", "object"])
async def test_neither_a_run_that_has_ended_nor_its_records_are_kept_alive(path, limit, monkeypatch):
    made = []
    for module, kind in (
        (journal, journal.EarlierRecords),
        (journal, journal.GroupCommit),
        (group_commit, group_commit.Delivery),
    ):

        def make(*args, kind=kind, **how):
            made.append(kind(*args, **how))
            return made[-1]

        monkeypatch.setattr(module, kind.__name__, make)
    gc.disable()
    try:
        for _ in range(2):
            stream = paco.map(turn, range(5), limit=limit).journal(path)
            assert await collect(stream) == list(range(5))
            alive = [weakref.ref(stream._consumer.run), *map(weakref.ref, made)]
            del stream
            made.clear()
            await asyncio.sleep(0)
            assert [one() for one in alive] == [None] * 4
    finally:
        gc.enable()


async def test_a_delivered_result_of_a_journal_is_not_kept_alive(path):
    class Kept(list):
        __slots__ = ("__weakref__",)

    gc.disable()
    try:
        stream = paco.map(turn, range(5), limit=2).journal(path, decode=lambda value: Kept())
        async for result in stream:
            kept = weakref.ref(result)
            del result
            assert kept() is None
    finally:
        gc.enable()


# ---- attempts, outcomes, limits


def flaky(*failures):
    """Return a function whose items fail so many times before they end well."""
    left = dict(enumerate(failures))

    async def fetch(item):
        await asyncio.sleep(1)
        left[item] -= 1
        if left[item] >= 0:
            raise ValueError(f"no {item}")
        return {"item": item}

    return fetch


async def test_a_record_counts_the_attempts(path):
    fetch = paco.retry(flaky(0, 2, 9), attempts=3, wait=0)
    await paco.map(fetch, range(3), return_exceptions=True).journal(path)
    assert {record["input"]: (record["attempts"], record["ok"]) for record in records(path)} == {
        0: (1, True),
        1: (3, True),
        2: (3, False),
    }


async def test_the_attempts_of_runs_within_an_item_are_not_those_of_the_item(path):
    async def fetch(item):
        return await paco.map(paco.retry(flaky(1, 2), wait=0), range(2))

    await paco.map(fetch, [1]).journal(path)
    assert records(path)[0]["attempts"] == 1


@pytest.mark.parametrize("more", [(), (0, None, None, False, 5)], ids=["plain", "with an argument"])
async def test_recorded_outcomes_are_delivered_as_outcomes(path, more):
    async def fetch(item, plus=0):
        await asyncio.sleep(2)
        return (Row.id_of(item), share(item["n"]), plus)

    items = [{"n": 1}, {"n": 0}]
    seen = []
    for _ in range(2):
        good, bad = await paco.map(paco.settle(fetch), items, *more).journal(path, retry_errors=False)
        assert good == paco.Ok(items[0], ["row", 10, *(more[-1:] or [0])], 1)
        assert good.item is items[0]
        assert isinstance(bad, paco.Err)
        assert (bad.item, bad.attempts, str(bad.error)) == (items[1], 1, "ValueError: shared by nobody")
        assert [good.elapsed, bad.elapsed] == [2, 2]
        seen.append([good.start, bad.start])
    assert seen[1] == pytest.approx(seen[0], abs=0.0015)
    assert [record["ms"] for record in records(path)] == [2000, 2000]


async def test_failed_outcomes_run_again_and_have_the_original_error(path):
    fetch = flaky(0, 1)
    first = await paco.map(paco.settle(fetch), range(2)).journal(path)
    assert repr(first[1].error) == "ValueError('no 1')"
    again = await paco.map(paco.settle(fetch), range(2)).journal(path)
    assert again == [paco.Ok(0, {"item": 0}), paco.Ok(1, {"item": 1})]
    assert [record["input"] for record in records(path)] == [0, 1, 1]


async def test_outcomes_whose_value_cannot_be_recorded_or_read_are_errors(path):
    async def fetch(item):
        return Row(1) if item else item

    for decode in (None, lambda value: 1 / value):
        good, bad = await paco.map(paco.settle(fetch), [0, 1]).journal(path, decode=decode)
        assert isinstance(good, paco.Err if decode else paco.Ok)
        assert "JSON cannot hold a value of type tests.records.test_journal.Row" in str(bad.error)
    assert isinstance(good.error, ZeroDivisionError)


async def test_a_record_written_by_hand_is_accepted(path):
    await paco.map(paco.settle(same), [1, 2]).journal(path)
    lines = []
    for record, start in zip(records(path), ["yesterday", None], strict=True):
        lines.append({name: record[name] for name in ("id", "key", "input", "ok", "result")} | {"start": start})
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    for outcome in await paco.map(paco.settle(same), [1, 2]).journal(path):
        assert (outcome.value, outcome.attempts, outcome.start, outcome.elapsed) == (outcome.item, 1, 0, 0)


async def test_an_outcome_caused_by_the_end_of_the_run_is_not_recorded(path):
    async def fetch(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
            if item == 3:
                return "late"
            raise ValueError from None

    async with paco.map(paco.settle(fetch), [1, 2, 3]).journal(path) as stream:
        await anext(stream)
    assert results(path) == {1: None, 3: "late"}


@pytest.mark.parametrize(
    "order", [lambda stream: stream, lambda stream: stream.as_completed()], ids=["in order", "not"]
)
async def test_the_error_that_ends_an_awaited_list_has_the_finished_outcomes(path, order):
    fn = paco.settle(Probe(lambda item: 1 / item, takes=abs))
    with pytest.raises(paco.RunTimeout) as told:
        await order(paco.map(fn, [1, 20, 3, 0, 4], timeout=10).journal(path))
    assert sorted(outcome.item for outcome in told.value.outcomes) == [0, 1, 3, 4]
    again = order(paco.map(fn, [1, 20, 3, 0, 4, 0]).max_errors(1).journal(path.with_name("other")))
    with pytest.raises(paco.TooManyErrors) as told:
        await again
    assert [outcome.item for outcome in told.value.outcomes] == [0, 0]


LIMITS = {
    "count": lambda: paco.Limit(3),
    "rate": lambda: paco.Rate(1, cost=lambda item: 1),
    "both": lambda: paco.Rate(1) & paco.Limit(5),
    "semaphore": lambda: asyncio.Semaphore(2),
    "keys": lambda: paco.PerKey(bool, lambda: 2),
}


@pytest.mark.parametrize("limit", LIMITS)
async def test_recorded_items_do_not_wait_for_a_limit(path, limit):
    fn = Probe(lambda item: 2 * item, takes=0)
    assert await paco.map(fn, range(20), limit=LIMITS[limit]()).journal(path) == list(range(0, 40, 2))
    began, fn = now(), Probe(lambda item: 2 * item, takes=0)
    again = LIMITS[limit]()
    assert await paco.map(fn, [*range(10), 20, 21, *range(10, 20), 22], limit=again).journal(path) == [
        *range(0, 20, 2),
        40,
        42,
        *range(20, 40, 2),
        44,
    ]
    assert fn.started == [20, 21, 22]
    assert now() - began == (2 if limit in {"rate", "both"} else 0)
    assert await collect(paco.map(fn, range(25), limit=again).journal(path)) == list(range(0, 50, 2))


async def test_every_attempt_pays_the_rate_and_counts_in_the_record(path):
    fetch = paco.retry(flaky(0, 2, 0), wait=0)
    assert len(await paco.map(fetch, range(3), limit=paco.Rate(1, per=10)).journal(path)) == 3
    assert now() == 41
    assert [record["attempts"] for record in records(path)] == [1, 1, 3]


async def test_a_limit_that_fails_ends_the_run_and_forgets_the_item(path):
    class Broken(paco.Limiter):
        async def acquire(self, item=None):
            raise OSError("no limit")

    with pytest.raises(OSError, match="no limit"):
        await paco.map(same, [1], limit=Broken()).journal(path)
    assert await paco.map(same, [1], limit=paco.Limit(1)).journal(path) == [1]


async def test_an_item_without_a_json_form_under_a_limit_ends_the_run(path):
    with pytest.raises(TypeError, match="has no JSON form"):
        await paco.map(same, [1, Row(2)], limit=paco.Limit(1), return_exceptions=True).journal(path)
    assert results(path) == {1: 1}


# ---- being watched


@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["number", "object"])
async def test_recorded_results_have_the_events_of_successful_items(path, limit):
    fn, seen = Failing(2), []
    await paco.map(fn, range(3), limit=limit, return_exceptions=True).journal(path)
    with paco.listening(lambda event: seen.append((event.item, event.outcome, event.elapsed)), ItemEnded):
        await paco.map(fn, range(4), limit=limit, return_exceptions=True).journal(path)
    assert sorted(seen) == [(0, "ok", 0), (1, "ok", 0), (2, "failed", 1), (3, "ok", 1)]
    bar = Source([])
    bar.update = lambda count: setattr(bar, "pulled", bar.pulled + count)
    with paco.progress(bar):
        await paco.map(fn, range(4), limit=limit, return_exceptions=True).journal(path)
    assert bar.pulled == 4


SLOW_KINDS = [pytest.param(kind, marks=pytest.mark.slow) for kind in ("workers", "workers, object")]


@pytest.mark.parametrize("kind", ["number", "object", "settled", *SLOW_KINDS])
@pytest.mark.realtime
def test_items_with_a_recorded_result_are_counted_apart(path, kind):
    limit = paco.Limit(2) if "object" in kind else 2
    fn = paco.settle(half) if kind == "settled" else half

    def stream(items):
        made = paco.map(fn, items, limit=limit, return_exceptions=True).journal(path, retry_errors=False)
        return made.on(1) if "workers" in kind else made

    paco.run(stream([0, 1]))
    seen = []
    with paco.trace() as trace, paco.listening(seen.append, ItemEnded):
        paco.run(stream([0, 1, 2, 0]))
    (watched,) = trace.runs
    assert sorted((event.item, event.outcome, event.skipped) for event in seen) == [
        (0, "failed", False),
        (0, "failed", True),
        (1, "ok", True),
        (2, "ok", False),
    ]
    assert (watched.ok, watched.failed, watched.skipped, watched.done, watched.in_flight) == (1, 1, 2, 2, 0)
    assert repr(trace) == "<paco trace: runs 1, items 2>"
    assert repr(watched).endswith("2 of 4 done, 1 failed, 2 skipped>")
    assert ">skipped</span><b>2<" in trace._repr_html_()


async def half(number):
    return 1 / number


async def test_an_item_whose_recorded_result_is_not_decoded_has_failed(path):
    def refuse(_):
        raise ValueError("no such value")

    await paco.map(same, [1]).journal(path)
    with paco.trace() as trace, pytest.raises(ValueError, match="no such value"):
        await paco.map(same, [1]).journal(path, decode=refuse)
    assert (trace.runs[0].failed, trace.runs[0].skipped) == (1, 0)


# ---- what made the results


async def test_a_journal_of_another_function_is_refused(path):
    await paco.map(same, [1]).journal(path)
    fn = Probe(lambda item: item)
    with pytest.raises(
        JournalError,
        match=r"^paco\.map: the journal .* of another function: line 1 was made by same, and this is Probe",
    ):
        await paco.map(fn, [1]).journal(path)
    assert fn.started == []


@pytest.mark.posix
@pytest.mark.filterwarnings("ignore:.*has changed since")
async def test_the_message_says_how_to_keep_the_results_of_a_renamed_function(tmp_path):
    async def fetch(item):
        return {"function": "fetch", "item": item}

    async def get(item):
        raise AssertionError

    path, items = tmp_path / "it's one.jsonl", [1, '"function":"fetch"']
    first = await paco.map(fetch, items).journal(path, version=1)
    with pytest.raises(JournalError, match="use another file, or if it was only renamed, rename it there: sed") as told:
        await paco.map(get, items).journal(path, version=1)
    command = shlex.split(str(told.value).partition("rename it there: ")[2])
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert await paco.map(get, items).journal(path, version=1) == first


async def test_a_name_that_a_shell_or_sed_might_run_is_not_in_a_command(path):
    await paco.map(same, [1]).journal(path)
    for name in ("a/e;id", "a'", "$(id)", "a b", "&", ""):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"function": name}) + "\n")
        with pytest.raises(JournalError) as told:
            await paco.map(same, [1]).journal(path)
        assert str(told.value).endswith("and this is same; use another file")


async def test_failures_of_another_function_do_not_matter(path):
    async def fails(item):
        raise ValueError(item)

    await paco.map(fails, [1, 2], return_exceptions=True).journal(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert await paco.map(same, [1, 2]).journal(path, retry_errors=False) == [1, 2]


async def test_a_warning_points_at_the_line_that_called_journal(path, monkeypatch):
    made_by(monkeypatch, "old")
    await paco.map(same, [1]).journal(path)
    made_by(monkeypatch, "new")
    stream = paco.map(same, [1]).journal(path)
    line = inspect.currentframe().f_lineno - 1
    with pytest.warns(UserWarning, match="has changed") as told:
        await stream
    assert [(one.filename, one.lineno) for one in told] == [(__file__, line)]


async def test_a_function_with_failures_only_may_change_without_a_warning(path, monkeypatch):
    async def fails(item):
        raise ValueError(item)

    made_by(monkeypatch, "old")
    await paco.map(fails, [1], return_exceptions=True).journal(path)
    made_by(monkeypatch, "new")
    assert await paco.map(same, [1]).journal(path) == [1]


async def test_arguments_partials_and_decorators_do_not_change_the_identity_of_a_function(path):
    async def fetch(item, *more):
        return [item, *more]

    assert await paco.map(fetch, [1]).journal(path) == [[1]]
    assert await paco.map(functools.partial(fetch), [1]).journal(path) == [[1]]
    assert await paco.map(functools.partial(fetch), [1, 2], 0, None, None, False, 5).journal(path) == [[1], [2, 5]]
    assert await paco.map(paco.timeout(fetch, 9), [1, 3]).journal(path) == [[1], [3]]


ORIGINAL = journal.made_by


def made_by(monkeypatch, source):
    monkeypatch.setattr(journal, "made_by", lambda fn: ORIGINAL(fn)._replace(name="fetch", source=source))


async def test_a_changed_function_resumes_with_one_warning(path, monkeypatch):
    fn = double()
    made_by(monkeypatch, "old")
    await paco.map(fn, [1]).journal(path)
    made_by(monkeypatch, "new")
    with pytest.warns(
        UserWarning, match=r"^paco\.map: the journal .*: fetch has changed since the last record was written"
    ) as told:
        assert await paco.map(fn, [1, 2]).journal(path) == [2, 4]
    assert len(told) == 1
    assert await paco.map(fn, [1, 2]).journal(path) == [2, 4]  # the last record is of the new source
    made_by(monkeypatch, None)
    assert await paco.map(fn, [1, 2]).journal(path) == [2, 4]
    assert fn.started == [1, 2]


async def test_a_warning_that_is_an_error_ends_the_run_before_it_starts(path, monkeypatch):
    fn = double()
    made_by(monkeypatch, "old")
    await paco.map(fn, [1]).journal(path)
    made_by(monkeypatch, "new")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="has changed"):
            await paco.map(fn, [1, 2]).journal(path)
    assert fn.started == [1]


async def test_another_version_runs_everything_again(path):
    fn = double()
    await paco.map(fn, [1, 2]).journal(path)
    await paco.map(fn, [1, 2]).journal(path, version="b")
    assert fn.started == [1, 2, 1, 2]
    await paco.map(fn, [1, 2]).journal(path, version="b")
    await paco.map(fn, [1, 2]).journal(path)
    assert fn.started == [1, 2, 1, 2]


# ---- the file


@pytest.mark.parametrize("use", USES)
async def test_a_second_run_with_the_same_file_is_refused(path, use):
    fn = Probe(lambda item: item)
    async with paco.map(turn, itertools.count(), limit=1).journal(path) as stream:
        await anext(stream)
        with pytest.raises(JournalError, match=r"^paco\.map: the journal .* is in use by another run"):
            await USES[use](paco.map(fn, [1]).journal(path))
    assert fn.started == []
    assert await paco.map(turn, [1, 2]).journal(path) == [1, 2]


async def test_a_damaged_file_is_refused_before_anything_runs(path):
    await paco.map(same, [1, 2, 3]).journal(path)
    lines = path.read_text().splitlines(keepends=True)
    lines[1] = lines[1].replace('"result"', '"resul')
    path.write_text("".join(lines))
    started = []

    async def fn(item):
        started.append(item)
        return item

    fn.__wrapped__ = same
    with pytest.raises(JournalError, match=r"is damaged: line 2 is not a record .*sed -i.bak 2d"):
        await paco.map(fn, [1, 2, 3]).journal(path)
    assert started == []
    path.write_text(lines[0] + lines[2])
    assert await paco.map(fn, [1, 2, 3]).journal(path) == [1, 2, 3]
    assert started == [2]


async def test_a_partial_last_line_is_cut_off_and_its_item_runs_again(path):
    await paco.map(same, [1, 2]).journal(path)
    os.truncate(path, path.stat().st_size - 10)
    assert await paco.map(same, [1, 2]).journal(path) == [1, 2]
    assert results(path) == {1: 1, 2: 2}


@pytest.mark.parametrize("name", ["", "missing/run.jsonl"], ids=["a folder", "in a missing folder"])
async def test_the_error_of_a_file_that_cannot_be_opened_has_its_name(tmp_path, name):
    fn = Probe(lambda item: item)
    with pytest.raises(OSError, match=str(tmp_path)) as told:
        await paco.map(fn, [1]).journal(tmp_path / name)
    assert told.value.__notes__ == ["paco.map: its journal"]
    assert fn.started == []


async def test_a_record_that_another_program_changes_during_the_run_ends_it(path):
    await paco.map(same, [1, 2, 3]).journal(path)

    async def spoil(item):
        with path.open("r+b") as file:  # without truncating it first, which another test is about
            file.write(b"{}\n" * 500)

    spoil.__wrapped__ = same
    with pytest.raises(JournalError, match="was changed by another program"):
        await paco.map(spoil, [*range(10, 20), 1], limit=1, return_exceptions=True).journal(path)


# ---- when results are handed on


async def test_the_first_result_is_delivered_at_once_and_later_ones_in_groups(path, monkeypatch):
    assert group_commit._GROUP_SECONDS == 0.02
    monkeypatch.setattr(
        group_commit, "_GROUP_SECONDS", 20
    )  # far more than a thread takes to write, whatever else is going on
    seen, began = [], time.monotonic()
    fn = Probe(lambda item: item, takes=lambda item: item)
    async for item in paco.map(fn, [100, 105, 115, 130, 200, 201]).journal(path):
        seen.append((item, now()))
    assert time.monotonic() - began < 10  # no group waits in real time
    at_the_end = (201, 201)  # there is nothing more to wait for
    assert seen == [(100, 100), (105, 120), (115, 120), (130, 140), (200, 200), at_the_end]


async def test_no_result_is_delivered_before_it_is_in_the_file(path):
    def written():
        lines = path.read_text().split("\n")[:-1]  # the thread may be writing the next group
        return {json.loads(line)["input"] for line in lines}

    async for item in paco.map(turn, range(50), limit=10).journal(path):
        assert item in written()
    async for item in paco.map(turn, range(200, 150, -1), limit=10).journal(path).as_completed():
        assert item in written()
    other = path.with_name("other")
    async for error in paco.map(Failing(9), [9], return_exceptions=True).journal(other):
        assert isinstance(error, ValueError)
        assert len(records(other)) == 1


class SlowDisk:
    """Holds each group of lines back until it is released."""

    def __init__(self, monkeypatch):
        self.release = threading.Event()
        self.groups = []
        append = RecordFile.append

        def slow(file, lines):
            self.groups.append(len(lines))
            assert self.release.wait(PATIENCE)
            append(file, lines)

        monkeypatch.setattr(RecordFile, "append", slow)


async def test_the_slot_of_an_item_is_free_while_its_record_is_being_written(path, monkeypatch):
    disk = SlowDisk(monkeypatch)

    async def fn(item):
        await asyncio.sleep(0)
        if item == 50:
            disk.release.set()
        return item

    assert await paco.map(fn, range(100), limit=2).journal(path) == list(range(100))
    assert disk.groups[0] <= 2
    assert sum(disk.groups) == 100


async def test_waiting_for_the_disk_does_not_count_as_waiting_for_the_consumer(path, monkeypatch):
    disk, seen = SlowDisk(monkeypatch), []
    source = Source(range(100))

    async def fn(item):
        await asyncio.sleep(0)
        if item == 60:
            disk.release.set()
        return item

    async with paco.map(fn, source, limit=2).buffer(1).journal(path) as stream:
        async for item in stream:
            seen.append(item)
    assert seen == list(range(100))


async def test_a_slow_disk_delays_new_items(path, monkeypatch):
    monkeypatch.setattr(group_commit, "_FULL_BYTES", 100_000)
    disk, source = SlowDisk(monkeypatch), Source(itertools.count())
    large, many = "x" * 10_000, asyncio.Event()

    async def fn(item):
        if item == 9:
            many.set()
        await asyncio.sleep(0)
        return large

    async with paco.map(fn, source, limit=3).journal(path) as stream:
        first = asyncio.ensure_future(anext(stream))
        await many.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.pulled <= 10 + 3
        disk.release.set()
        assert await first == large
        for _ in range(9):
            assert await anext(stream) == large
        await asyncio.sleep(1)
        assert source.pulled > 13


async def test_a_slow_disk_delays_the_items_of_a_run_whose_results_nobody_takes(path, monkeypatch):
    monkeypatch.setattr(group_commit, "_FULL_BYTES", 100_000)
    disk, source, many = SlowDisk(monkeypatch), Source(range(50)), asyncio.Event()

    async def fn(item):
        if item == 9:
            many.set()
        await asyncio.sleep(0)
        return "x" * 10_000

    for limit in (3, paco.Limit(3)):
        drained = asyncio.ensure_future(paco.map(fn, source, limit=limit).journal(path).drain())
        await many.wait()
        for _ in range(100):
            await asyncio.sleep(0)
        assert source.pulled <= 10 + 3
        disk.release.set()
        assert await drained == 50
        assert len(records(path)) == 50
        disk, source, many = SlowDisk(monkeypatch), Source(range(50)), asyncio.Event()
        path.unlink()


async def test_a_drained_run_starts_nothing_before_the_journal_is_read_and_ends_with_all_records(path):
    assert await paco.map(Probe(lambda item: item, takes=0), range(5), limit=2).journal(path).drain() == 5
    probe = Probe(lambda item: item, takes=0)
    assert await paco.map(probe, range(8), limit=2).journal(path).drain() == 8
    assert probe.started == [5, 6, 7]
    assert results(path) == {item: item for item in range(8)}
    path.write_text("no record\n")
    with pytest.raises(JournalError, match="is not a file of records"):
        await paco.map(probe, range(9), limit=2).journal(path).drain()
    assert probe.started == [5, 6, 7]


async def test_a_recorded_dict_is_delivered_as_it_was_when_it_was_recorded(path):
    kept = []

    async def fn(value):
        kept.append({"a": value, "b": None, "c": "\u00e9", "d": True})
        return kept[-1]

    async with paco.map(fn, [1, 2**70, "x", "\ud83d\udc4d"], limit=1).journal(path) as stream:
        found = []
        async for one in stream:
            found.append(one)
            for given in kept:
                given["a"] = "changed"
    again = await paco.map(fn, [1, 2**70, "x", "\ud83d\udc4d"], limit=1).journal(path)
    assert (
        found == again == [{"a": value, "b": None, "c": "\u00e9", "d": True} for value in (1, 2**70, "x", "\U0001f44d")]
    )


async def test_a_slow_consumer_delays_new_items(path):
    for order in (lambda stream: stream, lambda stream: stream.as_completed()):
        source, taken = Source(itertools.count()), 0
        async with order(
            paco.map(Probe(lambda item: item, takes=1), source, limit=2).buffer(3).journal(path)
        ) as stream:
            async for _ in stream:
                taken += 1
                await asyncio.sleep(100)
                assert source.pulled - taken in {5, 6, 7}  # two more, started while two records were being written
                if taken == 4:
                    break
        path.unlink()


async def test_many_results_are_delivered_in_several_turns(path, monkeypatch):
    monkeypatch.setattr(delivery, "_BATCH", 3)
    disk = SlowDisk(monkeypatch)

    async def fn(item):
        await asyncio.sleep(0)
        if item == 19:
            disk.release.set()
        return item

    assert await collect(paco.map(fn, range(20), limit=20).journal(path)) == list(range(20))


async def test_a_large_group_is_written_without_delay(path, monkeypatch):
    monkeypatch.setattr(group_commit, "_GROUP_SECONDS", 20)
    monkeypatch.setattr(group_commit, "_GROUP_BYTES", 1000)
    fn = Probe(lambda item: "x" * 600, takes=lambda item: item)
    seen = []
    async for _ in paco.map(fn, [10, 11, 12, 50]).journal(path):
        seen.append(now())
    assert seen == [10, 12, 12, 50]


async def test_an_awaited_list_does_not_stall_behind_a_slow_item(path):
    fn = Probe(lambda item: item, takes=lambda item: 100 if item == 0 else 1)
    assert await paco.map(fn, range(100), limit=2).journal(path) == list(range(100))
    assert now() == 100


async def test_a_slow_item_of_an_ordered_stream_holds_delivery_not_recording(path):
    fn = Probe(lambda item: item, takes=lambda item: 10 if item == 0 else 1)
    async with paco.map(fn, range(100), limit=2).buffer(4).journal(path) as stream:
        await anext(stream)
        assert now() == 10
        assert len(records(path)) == 1 + 6  # of them one started while another's record was being written


async def test_durable_power_syncs_the_file_before_delivery(path, monkeypatch):
    synced = []
    monkeypatch.setattr("paco._base.system.sync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    async for _ in paco.map(turn, range(20), limit=3).journal(path, durable="power"):
        assert synced[-1] >= len(path.read_bytes().splitlines()[0])
    assert synced[-1] == path.stat().st_size


# ---- disks that fail


class FullDisk:
    """A disk with room for so many bytes: what does not fit is written in part."""

    def __init__(self, monkeypatch, room):
        self.room, self.write = room, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, descriptor, data):
        part = bytes(data[: self.room])
        if not part:
            raise OSError(errno.ENOSPC, "No space left on device")
        self.room -= len(part)
        return self.write(descriptor, part)


@pytest.mark.parametrize("room", [0, 1, 200, 1000, 3000])
@pytest.mark.parametrize("use", USES)
async def test_a_full_disk_fails_the_run_once_and_all_delivered_results_are_in_the_file(path, monkeypatch, room, use):
    handed = []
    fn = Probe(lambda item: item, takes=lambda item: item % 7)

    async def consume(stream):
        async with aclosing(stream):
            async for item in stream:
                handed.append(item)

    with monkeypatch.context() as patch:
        FullDisk(patch, room)
        with pytest.raises(OSError, match=r"No space left on device: '.*run\.jsonl'") as told:
            await (consume if use == "async for" else USES[use])(paco.map(fn, range(50), limit=5).journal(path))
    assert told.value.__notes__ == ["paco.map: its journal"]
    known = results(path)
    assert set(handed) <= set(known)
    assert len(known) < 50
    assert not fn.running
    started = len(fn.started)
    assert await paco.map(fn, range(50), limit=5).journal(path) == list(range(50))
    assert len(fn.started) - started == 50 - len(known)


async def test_a_disk_that_fails_at_the_very_end_fails_the_run(path, monkeypatch):
    def fail(file, lines):
        raise OSError(errno.EIO, "Input/output error", file.path)

    monkeypatch.setattr(RecordFile, "append", fail)
    with pytest.raises(OSError, match="Input/output error"):
        await paco.map(same, [1]).journal(path)


async def test_a_disk_error_in_a_failing_run_is_mentioned_in_a_note(path, monkeypatch):
    def fail(file, lines):
        raise OSError(errno.EIO, "Input/output error", file.path)

    monkeypatch.setattr(RecordFile, "append", fail)
    with pytest.raises(ValueError, match="no 1") as told:
        await paco.map(Failing(1), [1]).journal(path)
    assert any("1 more failed while stopping: its journal: OSError" in note for note in told.value.__notes__)


async def test_items_that_end_after_the_disk_has_failed_leave_nothing(path, monkeypatch):
    async def fn(item):
        try:
            await asyncio.sleep(item)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        return item

    FullDisk(monkeypatch, 0)
    with pytest.raises(OSError, match="No space left"):
        await paco.map(fn, [1, 100, 100]).journal(path)
    assert now() == 6
    assert path.read_bytes() == b""


# ---- files that other programs take away


def renamed(path):
    path.rename(path.with_name("old"))


def replaced(path):
    path.with_name("new").write_bytes(path.read_bytes())
    path.with_name("new").replace(path)


def emptied(path):
    path.write_bytes(b"")


def shortened(path):
    os.truncate(path, path.stat().st_size - 1)


def without_its_folder(path):
    path.parent.rename(path.parent.with_name("moved"))


LOSSES = [os.unlink, renamed, replaced, emptied, shortened, without_its_folder]


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("settled", [False, True])
async def test_the_loss_of_the_file_is_told_at_once_and_fails_the_run_at_its_end(tmp_path, lose, settled):
    path, seen = tmp_path / "folder" / "run.jsonl", []
    path.parent.mkdir()

    async def fn(item):
        await asyncio.sleep(1)
        if item == 3:
            lose(path)
        return item

    stream = paco.map(paco.settle(fn) if settled else fn, range(10), limit=1).journal(path)
    with (
        pytest.raises(JournalError, match=r"run\.jsonl was deleted, renamed, replaced or truncated by another program"),
        warnings.catch_warnings(record=True) as told,
    ):
        warnings.simplefilter("always")
        async for item in stream:
            seen.append(item.value if settled else item)
            assert bool(told) == (len(seen) >= 4)
    assert seen == list(range(10))
    assert ["run.jsonl was deleted, renamed, replaced or truncated" in str(one.message) for one in told] == [True]


@pytest.mark.parametrize("lose", LOSSES)
async def test_the_loss_of_the_file_after_the_last_record_fails_the_run(tmp_path, lose):
    path = tmp_path / "folder" / "run.jsonl"
    path.parent.mkdir()

    async def source():
        yield 1
        await asyncio.sleep(1)
        lose(path)

    with pytest.raises(JournalError, match="was deleted, renamed, replaced or truncated"):
        await paco.map(same, source()).journal(path)


async def test_a_file_that_stays_at_its_path_is_not_lost(tmp_path, monkeypatch):
    real, link, moved = (tmp_path / name for name in ("real", "link", "moved"))
    real.mkdir()
    link.symlink_to("real")

    async def fn(item):
        await asyncio.sleep(1)
        if item == 1:
            (real / "run.jsonl").write_text((real / "run.jsonl").read_text() + "\n")
            os.chdir("/")
        if item == 2:
            real.rename(moved)
            link.unlink()
            link.symlink_to("moved")
        return item

    for _ in range(2):
        monkeypatch.chdir(tmp_path)
        assert await paco.map(fn, range(5), limit=1).journal("link/run.jsonl") == list(range(5))


async def test_a_path_that_cannot_be_looked_at_any_more_says_nothing_about_the_file(path, monkeypatch):
    async def fn(item):
        monkeypatch.setattr(Path, "stat", forbidden)
        return item

    def forbidden(_):
        raise PermissionError

    assert await paco.map(fn, range(5)).journal(path) == list(range(5))


# ---- file systems without locks


@pytest.mark.posix
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
async def test_a_file_that_cannot_be_locked_is_told_and_used(path, monkeypatch, number):
    monkeypatch.setattr("fcntl.flock", failing_with(number))
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"the journal .*run\.jsonl cannot be locked") as told:
            assert await paco.map(same, [1, 2]).journal(path) == [1, 2]
        assert len(told) == 1


def failing_with(number):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.posix
@pytest.mark.parametrize("name", ["fcntl.flock", "os.fstat", "os.fdatasync", "os.ftruncate", "os.write"])
async def test_every_error_of_the_file_has_its_name(path, monkeypatch, name):
    path.write_text('{"id":0,"key":"0011223344556677","ok":true,"result":1}\n{"id":1')
    with monkeypatch.context() as patch:
        patch.setattr(name, failing_with(errno.EIO))
        with pytest.raises(OSError, match=rf"{os.strerror(errno.EIO)}: '.*run\.jsonl'"):
            await paco.map(same, [1, 2]).journal(path, durable="power")


class BadDisk(io.FileIO):
    """A file on a disk that cannot be read."""

    def readinto(self, _):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("later", [False, True])
async def test_an_error_of_reading_has_the_name_of_the_file(path, monkeypatch, later):
    await paco.map(same, ["x" * 100_000, 1]).journal(path)

    bad = BadDisk.readinto
    if later:
        monkeypatch.setattr(BadDisk, "readinto", io.FileIO.readinto)
    monkeypatch.setattr("paco._records.file.io.FileIO", BadDisk)

    async def source():
        monkeypatch.setattr(BadDisk, "readinto", bad)
        yield "x" * 100_000

    with pytest.raises(OSError, match=r"Input/output error: '.*run\.jsonl'"):
        await paco.map(same, source()).journal(path)


# ---- leaving, and being cancelled


async def test_breaking_out_of_a_stream_leaves_its_file_intact_and_closed(path):
    fn = double()
    async with paco.map(fn, range(100), limit=3).journal(path) as stream:
        async for item in stream:
            if item >= 6:
                break
    assert len(records(path)) >= 4
    assert await paco.map(fn, range(5), limit=3).journal(path) == [0, 2, 4, 6, 8]


async def test_a_dropped_stream_closes_its_file_within_some_turns(path):
    async for _ in paco.map(double(), range(100), limit=3).journal(path):
        break
    while True:
        try:
            assert await paco.map(double(), range(3)).journal(path) == [0, 2, 4]
        except JournalError:
            await asyncio.sleep(0.001)
        else:
            break


async def test_an_unused_stream_does_not_touch_the_file(path):
    stream = paco.map(same, [1]).journal(path)
    stream.close()
    async with paco.map(same, [1]).journal(path):
        pass
    assert not path.exists()


async def test_finished_results_are_in_the_file_after_a_timeout(path):
    fn = Probe(lambda item: item, takes=lambda item: item)
    with pytest.raises(TimeoutError):
        await paco.map(fn, [1, 2, 30], timeout=10).journal(path)
    assert results(path) == {1: 1, 2: 2}
    assert now() == 10


async def test_a_timeout_of_zero_opens_no_file(path):
    with pytest.raises(TimeoutError):
        await paco.map(same, [1], timeout=0).journal(path)
    assert not path.exists()


@pytest.mark.parametrize("kind", [Source, AsyncSource])
async def test_the_error_of_a_source_is_raised_after_finished_results(path, kind):
    with pytest.raises(ValueError, match="source"):
        await paco.map(same, kind([1, 2], error=ValueError("source"))).journal(path)
    assert results(path) == {1: 1, 2: 2}


async def test_each_stage_of_a_pipeline_has_its_own_journal(path, tmp_path):
    second = tmp_path / "second.jsonl"
    one, two = double(), Probe(lambda item: item + 1, takes=1)

    async def add_one(item):
        return await two(item)

    def pipeline(items):
        first = (items | paco.map(one, limit=2)).journal(path)
        return (first | paco.map(add_one, limit=1)).journal(second)

    assert await pipeline([1, 2, 3]) == [3, 5, 7]
    assert await collect(pipeline([3, 4, 1])) == [7, 9, 3]
    assert (one.started, two.started) == ([1, 2, 3, 4], [2, 4, 6, 8])


async def test_a_failing_stage_ends_the_journal_before_it(path):
    one = double()
    with pytest.raises(ValueError, match="no 4"):
        await ((range(100) | paco.map(one, limit=2)).journal(path) | paco.map(Failing(4), limit=1))
    assert not one.running
    assert await paco.map(one, [2]).journal(path) == [4]


async def steps(path):
    fn = Probe(lambda item: item, takes=0)
    try:
        async with paco.map(fn, range(6), limit=2).journal(path) as stream:
            async for item in stream:
                assert item in results(path)
    finally:
        assert not fn.running


async def awaited(path):
    await paco.map(turn, range(6), limit=2).journal(path)


async def paced(path):
    async for _ in paco.map(paco.settle(turn), range(6), limit=paco.Limit(2)).max_errors(1).journal(path):
        pass


async def piped(path):
    first = ([3, 1, 2] | paco.map(turn, limit=2)).journal(path)
    await (first | paco.map(turn, limit=1)).as_completed().journal(path.with_name("second"))


async def fails(item):
    await asyncio.sleep(1)
    if item == 1:
        raise ValueError
    return item


async def failing(path):
    with suppress(ValueError):
        await paco.map(fails, range(4), limit=2).journal(path)


@pytest.mark.slow
@pytest.mark.parametrize("again", [None, 1])
@pytest.mark.parametrize("call", [steps, awaited, paced, piped, failing])
def test_cancelled_at_every_step_a_run_leaves_its_file_intact_and_closed(tmp_path, call, again, cancel_at_every_step):
    count = itertools.count()
    paths = []

    async def once():
        asyncio.get_running_loop().set_exception_handler(lambda loop, told: None)
        paths.append(tmp_path / f"{next(count)}.jsonl")
        try:
            await call(paths[-1])
        finally:
            if paths[-1].exists():
                file = RecordFile(str(paths[-1]), "free", power=False)
                file.open()
                file.close()
                records(paths[-1])

    assert cancel_at_every_step(once, again=again) > 10


def test_cancelled_at_every_step_a_resumed_run_leaves_its_file_intact(tmp_path, cancel_at_every_step):
    path = tmp_path / "run.jsonl"
    run(paco.map(turn, range(0, 40, 2)).journal(path))
    before = path.read_bytes()

    async def once():
        path.write_bytes(before)
        await paco.map(turn, range(6), limit=2).journal(path)

    assert cancel_at_every_step(once) > 10
    assert run(paco.map(turn, range(6)).journal(path)) == list(range(6))


def test_a_cancellation_while_the_file_is_read_ends_the_reading(path, monkeypatch):
    reading, lines = threading.Event(), RecordFile.read

    def slow(file):
        for number, line in enumerate(lines(file)):
            reading.set()
            while number == 1 and not file.stopped:
                pass
            yield line

    async def main():
        await paco.map(same, range(5)).journal(path)
        monkeypatch.setattr(RecordFile, "read", slow)
        fn = Probe(lambda item: item)
        task = asyncio.ensure_future(collect(paco.map(same, range(9)).journal(path)))
        await asyncio.to_thread(reading.wait)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert fn.started == []

    run(main)


async def test_a_cancellation_of_the_reading_task_ends_the_run(path, monkeypatch):
    await paco.map(same, range(5)).journal(path)
    reading, read = threading.Event(), RecordFile.read

    def slow(file):
        reading.set()
        while not file.stopped:
            pass
        return read(file)

    monkeypatch.setattr(RecordFile, "read", slow)
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(collect(paco.map(same, range(9), limit=1).journal(path)))
    await asyncio.to_thread(reading.wait)
    for one in asyncio.all_tasks() - before - {task}:
        if one.get_coro().__qualname__.startswith("GroupCommit"):
            one.cancel()
    with pytest.raises(paco.ItemCancelled, match="the task that was reading the journal"):
        await task


def test_a_loop_that_ends_during_the_run_leaves_the_file_intact_and_closed(path):
    async def main():
        asyncio.get_running_loop().stream = stream = paco.map(briefly(), range(100), limit=3).journal(path)
        await anext(stream)

    asyncio.run(main())
    assert records(path)
    assert asyncio.run(collect(paco.map(briefly(), range(3)).journal(path))) == [0, 2, 4]


def test_a_run_whose_loop_is_gone_closes_its_file(path):
    streams = []

    async def main():
        streams.append(paco.map(briefly(), range(100), limit=3).journal(path))
        await anext(streams[0])

    loop = asyncio.new_event_loop()
    with suppress(RuntimeError):
        loop.run_until_complete(main())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        streams.clear()
        for _ in range(3):  # a task that was pending is collected after its finalizer, in a later round
            gc.collect()
    file = RecordFile(str(path), "free", power=False)
    file.open()
    file.close()


# ---- wrong use


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ({"durable": "disk"}, ValueError, "durable must be 'process' or 'power', got 'disk'"),
        ({"durable": None}, TypeError, "durable must be 'process' or 'power', got None"),
        ({"key": 3}, TypeError, "key must be a plain function, not an async one, got 3"),
        ({"key": same}, TypeError, "key must be a plain function, not an async one, got <function"),
        ({"encode": "json"}, TypeError, "encode must be a plain function, not an async one, got 'json'"),
        ({"decode": functools.partial(same)}, TypeError, "decode must be a plain function, not an async one, got"),
        ({"version": 1.5}, TypeError, "version must be an int, a str or None, got 1.5"),
        ({"version": True}, TypeError, "version must be an int, a str or None, got True"),
        ({"retry_errors": 1}, TypeError, "retry_errors must be True or False, got 1"),
        ({"path": b"x"}, TypeError, "path must be the path of a file (a str or a Path), got b'x'"),
        ({"path": ""}, TypeError, "path must be the path of a file (a str or a Path), got ''"),
        ({"path": 3}, TypeError, "path must be the path of a file (a str or a Path), got 3"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
async def test_wrong_arguments_are_refused_at_the_call(tmp_path, wrong, error, told):
    stream = paco.map(same, [1])
    with pytest.raises(error) as raised:
        stream.journal(**{"path": tmp_path / "x", **wrong})
    assert str(raised.value).startswith(f"paco.map.journal: {told}")
    assert await stream == [1]


@pytest.mark.parametrize("make", [paco.filter, paco.filterfalse, paco.dropwhile])
async def test_filter_and_flat_map_have_no_journal(path, make):
    stream = make(same, [0])
    with pytest.raises(RuntimeError, match=rf"^paco\.{make.__name__}: a journal records what one function returns"):
        stream.journal(path)
    await stream


async def test_a_second_journal_of_a_stream_is_refused(path):
    stream = paco.map(same, [0]).journal(path)
    with pytest.raises(RuntimeError, match="once"):
        stream.journal(path)
    assert await stream == [0]
    with pytest.raises(RuntimeError, match="can be used once"):
        stream.journal(Path("x")) if stream._plan.journal is None else await stream


@pytest.mark.parametrize("settled", [True, False], ids=["settle", "return_exceptions"])
async def test_an_item_that_its_limit_refuses_has_a_record_of_its_error(settled, tmp_path):
    fn, limit = paco.settle(same) if settled else same, paco.Rate(10, cost=lambda item: item["t"])
    path = tmp_path / "run.jsonl"
    for _ in range(2):
        stream = paco.map(fn, [{"t": 1}, {}], limit=limit, return_exceptions=not settled)
        assert await stream.journal(path).drain() == 2
    assert [(one["ok"], one.get("error", {}).get("type")) for one in records(path)] == [
        (True, None),
        (False, "KeyError"),
        (False, "KeyError"),
    ]
