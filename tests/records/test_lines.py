"""Records: what JSON can hold of a result, what identifies an item, which slot it takes."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import pathlib
import uuid

import pytest

from paco._base.item import Slots
from paco._records.earlier import Keys
from paco._records.lines import NotJSONError, Span, encode, failure, line, opening, success


@dataclasses.dataclass
class Point:
    x: int
    where: pathlib.PurePath


class Shade(enum.Enum):
    DARK = "dark"


class Size(enum.IntEnum):
    BIG = 3


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, None),
        ((1, 2), [1, 2]),
        ({3, 1, 2}, [1, 2, 3]),
        (frozenset({1, "a"}), ["a", 1]),
        (Point(1, pathlib.PurePosixPath("a/b")), {"x": 1, "where": "a/b"}),
        (dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC), "2026-01-02T03:04:05+00:00"),
        (dt.date(2026, 1, 2), "2026-01-02"),
        (dt.time(3, 4), "03:04:00"),
        (dt.timedelta(minutes=1), 60.0),
        (b"\xff\x00", "/wA="),
        (bytearray(b"hi"), "aGk="),
        (memoryview(b"hi"), "aGk="),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Shade.DARK, "dark"),
        (Size.BIG, 3),
        ({1: {"a": [Shade.DARK]}}, {"1": {"a": ["dark"]}}),
    ],
)
def test_values_close_to_json_are_converted(value, written):
    assert json.loads(encode(value)) == written


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_become_null(number):
    value = {"a": [number, 1.5, True, None, "x"], "b": (Point(number, number),), number: 1}
    written = json.loads(encode(value))
    assert written == {"a": [None, 1.5, True, None, "x"], "b": [{"x": None, "where": None}], str(number): 1}


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (object(), "object"),
        (Point, "type"),
        ([{"x": pytest}], "module"),
        (Span(1, 1, object(), 1), "object"),
        ({(1, 2): 3}, "tuple"),
        ([math.nan, object()], "object"),
        (Keys(), "paco._records.earlier.Keys"),
    ],
)
def test_a_value_without_a_json_form_is_an_error_that_names_its_type(value, named):
    with pytest.raises(NotJSONError, match=named):
        encode(value)


def test_a_value_that_contains_itself_is_an_error():
    loop = []
    loop.append(loop)
    with pytest.raises(NotJSONError, match="contains itself"):
        encode(loop)


def test_printable_text_is_not_escaped():
    assert encode("naïve 日本") == '"naïve 日本"'


@pytest.mark.parametrize("text", ["\x9b2J é", "\u202e", "\ud800", "\x1b[2J", "\u2028"])
def test_a_record_has_no_control_characters(text):
    assert encode(text).isprintable()
    assert json.loads(encode(text)) == text


def test_the_lowest_free_slot_is_taken():
    slots = Slots()
    assert [slots.take(), slots.take(), slots.take()] == [0, 1, 2]
    slots.give(2)
    slots.give(0)
    assert [slots.take(), slots.take(), slots.take()] == [0, 2, 3]


def test_a_record_has_the_input_the_result_and_the_times():
    assert line(opening(7, "00ff", {"url": "a"}), success("[1]"), Span(1, 4, 0.0015, 12.34)) == (
        b'{"id":7,"key":"00ff","input":{"url":"a"},"ok":true,"result":[1],'
        b'"attempts":1,"slot":4,"start":"1970-01-01T00:00:00.001Z","ms":12.3}\n'
    )


def test_the_record_of_an_error_has_its_type_and_message():
    record = json.loads(line(opening(0, "", "x"), failure("E", 'a "b"'), Span(0, None, 0, 0.0)))
    assert record["error"] == {"type": "E", "message": 'a "b"'}
    assert (record["ok"], record["slot"], record["attempts"]) == (False, None, 0)
