"""Formats: what an item is, wherever the chunks end, and what becomes of one that is bad."""

from __future__ import annotations

import asyncio
import csv
import gzip
import io
import json
import os
import zlib
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paco._cli import inputs
from paco._cli.ending import Tally
from paco._cli.formats import FORMATS, BrokenInputError
from paco._cli.inputs import Input, ItemReader, chunks_of, find_inputs
from paco._cli.options import parse_map

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('ab,"\\[]{}\n日', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('a"\\,]', max_size=3), inner, max_size=3),
    max_leaves=12,
)
CELLS = st.text('ab,"\n\t ', max_size=5)
SIZES = st.sampled_from([1, 2, 3, 7, 1000])


def read(name, data, size=1000):
    form = FORMATS[name]()
    chunks = [*(data[start : start + size] for start in range(0, len(data), size)), b""]
    return [form.parse(raw) for chunk in chunks for raw in form.split(chunk)]


def reader_of(path):
    options = parse_map(["jobs:f", str(path)])
    return ItemReader(options, find_inputs(options, 0), Tally())


def good(values):
    return [(value, None) for value in values]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("paco._cli.formats.LONGEST", 1000)


@given(st.lists(VALUES, max_size=5), SIZES, st.booleans(), st.sampled_from([None, 2]))
def test_the_elements_of_an_array_are_found_wherever_the_chunks_end(values, size, ascii_only, indent):
    data = json.dumps(values, ensure_ascii=ascii_only, indent=indent).encode()
    assert read("json", data, size) == good(values)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=5), SIZES, st.sampled_from(["\n", "\r\n"]))
def test_the_rows_of_a_table_are_read_as_they_were_written(rows, size, end):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator=end)
    writer.writerow("xyz")
    writer.writerows(rows)
    assert read("csv", text.getvalue().encode(), size) == good([dict(zip("xyz", row, strict=True)) for row in rows])


@pytest.mark.parametrize("data", [b"", b"\xef\xbb\xbf", b" \n", b"[]", b"\xef\xbb\xbf [ ] \n"])
@pytest.mark.parametrize("size", [1, 100])
def test_an_empty_array_has_no_items(data, size):
    assert read("json", data, size) == []


def test_a_bad_element_is_an_error_of_that_item_and_the_rest_goes_on():
    nan, twice, missing, mixed, last = read("json", b'[{"a":NaN},{"a":1,"b":2,"a":3},,{"a":1],"ok"]')
    assert nan[1].message == "the element is not JSON: NaN is not JSON"
    assert twice[0] == '{"a":1,"b":2,"a":3}'
    assert twice[1].message == 'the element is not JSON: an object has the key "a" twice'
    assert missing[1].type == mixed[1].type == "JSONDecodeError"
    assert last == ("ok", None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'{"a": [1]}', r"expected a JSON array: \[\.\.\.\], got a JSON object"),
        (b"1\n2\n", r"expected a JSON array: \[\.\.\.\], got something else"),
        (b"[1, 2", "the file is cut off: the JSON array has no end"),
        (b'["1', "the file is cut off"),
        (b"[1] [2]", "something follows the end of the JSON array"),
        (b"[1}, 2]", "something follows"),
    ],
)
@pytest.mark.parametrize("size", [1, 100])
def test_an_input_that_is_not_an_array_is_reported(data, said, size):
    with pytest.raises(BrokenInputError, match=said):
        read("json", data, size)


@pytest.mark.usefixtures("short")
def test_an_element_above_the_size_limit_does_not_fill_the_memory():
    long, last = read("json", b'["' + b"x" * 300_000 + b'",2]', 100)
    assert long == ('"' + 199 * "x" + "...", ("LineTooLong", "an element must not exceed 0 MiB"))
    assert last == (2, None)


def test_a_table_without_rows_has_no_items():
    assert read("csv", b"") == read("csv", b"\n\na,b\n\n") == []


def test_a_byte_order_mark_bad_utf_8_and_nul_are_handled_as_in_lines():
    assert read("csv", b"\xef\xbb\xbfa,b\r\n\xff,\0\r\n") == good([{"a": "\\xff", "b": "\0"}])


def test_a_row_with_too_few_or_too_many_fields_is_an_error_of_that_item():
    assert read("tsv", b"a\tb\n1\n1\t2\n1\t2\t3") == [
        ("1", ("CSVError", "the row has 1 fields, but the header has 2")),
        ({"a": "1", "b": "2"}, None),
        ("1\t2\t3", ("CSVError", "the row has 3 fields, but the header has 2")),
    ]


def test_a_quote_inside_a_field_is_text_and_text_after_a_closing_quote_is_an_error_of_the_row():
    inch, early, last = read("csv", b'a,b\n5" wide,x\n"a"b,x\n1,2\n')
    assert inch == ({"a": '5" wide', "b": "x"}, None)
    assert early[1].message == "',' expected after '\"'"
    assert last == ({"a": "1", "b": "2"}, None)


def test_an_unclosed_quote_is_an_error_of_its_own_line_only():
    first, open_, *rest = read("csv", b'a,b\n"1\n""1",2\nx,"oops\n3,4\n\n5,""\n6,7')
    assert first == ({"a": '1\n"1', "b": "2"}, None)
    assert open_ == ('x,"oops', ("CSVError", "a quote is never closed"))
    assert rest == good([{"a": "3", "b": "4"}, {"a": "5", "b": ""}, {"a": "6", "b": "7"}])


@pytest.mark.usefixtures("short")
def test_an_unclosed_quote_neither_fills_the_memory_nor_loses_lines():
    long, *rest = read("csv", b"a,b\n" + b"y" * 2000 + b'\nx,"oops\n' + b"3,4\n" * 1000)
    assert long == ("y" * 200 + "...", ("LineTooLong", "a row must not exceed 0 MiB"))
    assert rest[0][1].message == "a quote is never closed"
    assert rest[1:] == good([{"a": "3", "b": "4"}] * 1000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a,b,a\n", "the header has 'a' twice"),
        (b'a,"b\n1', "the header cannot be read: unexpected end of data"),
        ("a,b\n".encode("utf-16"), "expected UTF-8, got UTF-16"),
    ],
)
def test_an_invalid_header_is_reported(data, said):
    with pytest.raises(BrokenInputError, match=said):
        read("csv", data)


# ---- gzip


def test_gzip_is_unpacked_in_bounded_pieces_member_after_member(tmp_path):
    packed = gzip.compress(b"a" * 1_000_000) + b"\0\0" + gzip.compress(b"b")
    (tmp_path / "a.gz").write_bytes(packed)
    pieces = list(chunks_of(str(tmp_path / "a.gz"), gzip=True))
    assert b"".join(pieces) == b"a" * 1_000_000 + b"b"
    assert max(map(len, pieces)) <= inputs._CHUNK


def read_in_place(path):
    return b"".join(chunks_of(path, gzip=True))


def chunks_live(path):
    live = Input(path, "lines", gzip=True, regular=False)
    return ItemReader(parse_map(["jobs:f"]), [live], Tally()).chunks(live)


def read_as_a_pipe(path):
    async def run():
        async with aclosing(chunks_live(path)) as pieces:
            return b"".join([piece async for piece in pieces])

    return asyncio.run(run())


@pytest.mark.realtime
@pytest.mark.parametrize("reading", [read_in_place, read_as_a_pipe])
@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"plain text", "damaged, or is not gzip"),
        (gzip.compress(b"abc", mtime=0)[:10] + b"\xff" * 20, "damaged, or is not gzip"),
        (gzip.compress(b"abc", mtime=0)[:-8] + b"\0" * 8, "damaged, or is not gzip"),
        (gzip.compress(b"abc", mtime=0) + b"more", "damaged, or is not gzip"),
        (gzip.compress(b"abc", mtime=0)[:-3], "the file is cut off: the gzip data has no end"),
    ],
)
def test_invalid_or_truncated_gzip_is_reported(tmp_path, reading, data, said):
    (tmp_path / "a.gz").write_bytes(data)
    with pytest.raises(BrokenInputError, match=said):
        reading(str(tmp_path / "a.gz"))


@pytest.mark.realtime
def test_gzip_from_a_pipe_is_decompressed_as_it_arrives():
    packer = zlib.compressobj(wbits=31)
    first = packer.compress(b"one\n") + packer.flush(zlib.Z_SYNC_FLUSH)
    out, into = os.pipe()

    async def run():
        async with aclosing(chunks_live(out)) as pieces:
            os.write(into, first)
            assert await anext(pieces) == b"one\n"
            os.write(into, packer.compress(b"two\n") + packer.flush())
            os.close(into)
            assert [piece async for piece in pieces] == [b"two\n", b""]

    asyncio.run(run())
    os.close(out)


@pytest.mark.realtime
def test_a_truncated_gzip_file_never_ends_silently(tmp_path):
    lines = b"".join(b"%d\n" % number for number in range(20_000))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(lines)[:-2000])
    reader = reader_of(tmp_path / "a.txt.gz")
    values = [item.value for item in reader.items]
    assert values == [str(number) for number in range(len(values))]
    assert reader.error.strerror == "the file is cut off: the gzip data has no end"
    assert not reader.ended


@pytest.mark.realtime
@pytest.mark.parametrize(
    ("name", "data", "value"),
    [
        ("a.txt.gz", b"1\n2\n", "1"),
        ("a.jsonl.gz", b"1\n2\n", 1),
        ("a.JSON", b"[1, 2]", 1),
        ("a.csv.gz", b"x\n1\n2\n", {"x": "1"}),
        ("a.tsv", b"x\ty\n1\t2\n3\t4\n", {"x": "1", "y": "2"}),
    ],
)
async def test_the_file_name_determines_the_format(tmp_path, name, data, value):
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    reader = reader_of(tmp_path / name)
    async with aclosing(reader.live_items()) as items:
        found = [item.value async for item in items]
    assert (found[0], len(found), reader.total()) == (value, 2, 2)
    in_place = reader_of(tmp_path / name)
    assert [item.value for item in in_place.items] == found
    assert in_place.ended


@pytest.mark.parametrize("name", ["csv.gz", "csv"])
def test_the_format_option_overrides_the_file_name(tmp_path, name):
    (tmp_path / "a.gz").touch()
    packed, stdin = find_inputs(parse_map(["jobs:f", str(tmp_path / "a.gz"), "-", "--format", name]), 0)
    assert packed.format == stdin.format == "csv"
    assert packed.gzip
    assert stdin.gzip == name.endswith(".gz")
    assert stdin.name == "standard input"


@pytest.mark.realtime
async def test_an_input_that_fails_while_it_is_read_is_named_and_nothing_already_read_is_lost(tmp_path):
    (tmp_path / "a.json").write_text("[1, 2, 3")
    reader = reader_of(tmp_path / "a.json")
    assert [item.value for item in reader.items] == [1, 2]  # 3 may be the beginning of 35
    assert (reader.error.filename, reader.error.strerror) == (
        str(tmp_path / "a.json"),
        "the file is cut off: the JSON array has no end",
    )
