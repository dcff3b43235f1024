"""Formats: what an item is, wherever the chunks end, and what becomes of one that is bad."""

from __future__ import annotations

import bz2
import contextlib
import csv
import errno
import gzip
import importlib
import io
import json
import lzma
import os
import sys
import tracemalloc
import zlib
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paco._cli.beginning import BrokenInputError
from paco._cli.ending import Problem
from paco._cli.formats import FORMATS
from paco._cli.packed import unpacked

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


def good(values):
    return [(value, None) for value in values]


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr("paco._cli.formats.LONGEST", 1000)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_lines_are_split_correctly_wherever_the_chunks_end(size):
    assert read("lines", b"\xef\xbb\xbfone\r\n\ntwo\nlast", size) == good(["one", "two", "last"])


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
    assert long == ('"' + 199 * "x" + "...", Problem("LineTooLong", "an element must not exceed 0 MiB"))
    assert last == (2, None)


def test_a_table_without_rows_has_no_items():
    assert read("csv", b"") == read("csv", b"\n\na,b\n\n") == []


def test_a_byte_order_mark_bad_utf_8_and_nul_are_handled_as_in_lines():
    assert read("csv", b"\xef\xbb\xbfa,b\r\n\xff,\0\r\n") == good([{"a": "\\xff", "b": "\0"}])


def test_a_row_with_too_few_or_too_many_fields_is_an_error_of_that_item():
    assert read("tsv", b"a\tb\n1\n1\t2\n1\t2\t3") == [
        ("1", Problem("CSVError", "line 2: the row has 1 fields, but the header has 2")),
        ({"a": "1", "b": "2"}, None),
        ("1\t2\t3", Problem("CSVError", "line 4: the row has 3 fields, but the header has 2")),
    ]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_bad_row_names_its_line_in_the_file(size):
    rows = read("csv", b'a,b\n"1\n\n1",2\n\n3\n4,5\n"6,7\n\n8,9,10', size)
    assert [problem and problem.message.partition(":")[0] for _, problem in rows] == [
        *(None, "line 6", None, "line 8", "line 10")
    ]


@pytest.mark.parametrize("size", [1, 1000])
@pytest.mark.parametrize("told", [b"sep=;\n", b"\xef\xbb\xbfSEP=;\r\n"])
def test_the_first_line_by_which_excel_knows_the_delimiter_says_it_here_too(told, size):
    assert read("csv", told + b'a;b\n1,5;"2;3"\n', size) == good([{"a": "1,5", "b": "2;3"}])


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_names_that_end_in_zero_bytes_are_as_python_has_them(size):
    names = [b"a b", b" ", b"with\nlines\n", b"end\r", b"\xef\xbb\xbf", b"M\xfcller", "ü".encode()]
    read_back = read("null", b"\0".join(names) + b"\0", size)
    assert [os.fsencode(name) for name, problem in read_back if problem is None] == names


@pytest.mark.usefixtures("short")
def test_a_name_above_the_size_limit_is_an_error_of_its_item():
    long, last = read("null", b"x" * 2000 + b"\0y")
    assert long == ("x" * 200 + "...", Problem("LineTooLong", "a name must not exceed 0 MiB"))
    assert last == ("y", None)


def test_a_quote_inside_a_field_is_text_and_text_after_a_closing_quote_is_an_error_of_the_row():
    inch, early, last = read("csv", b'a,b\n5" wide,x\n"a"b,x\n1,2\n')
    assert inch == ({"a": '5" wide', "b": "x"}, None)
    assert early[1].message == "line 3: ',' expected after '\"'"
    assert last == ({"a": "1", "b": "2"}, None)


def test_an_unclosed_quote_is_an_error_of_its_own_line_only():
    first, open_, *rest = read("csv", b'a,b\n"1\n""1",2\nx,"oops\n3,4\n\n5,""\n6,7')
    assert first == ({"a": '1\n"1', "b": "2"}, None)
    assert open_ == ('x,"oops', Problem("CSVError", "line 4: a quote is never closed"))
    assert rest == good([{"a": "3", "b": "4"}, {"a": "5", "b": ""}, {"a": "6", "b": "7"}])


@pytest.mark.usefixtures("short")
def test_an_unclosed_quote_neither_fills_the_memory_nor_loses_lines():
    long, *rest = read("csv", b"a,b\n" + b"y" * 2000 + b'\nx,"oops\n' + b"3,4\n" * 1000)
    assert long == ("y" * 200 + "...", Problem("LineTooLong", "line 2: a row must not exceed 0 MiB"))
    assert rest[0][1].message == "line 3: a quote is never closed"
    assert rest[1:] == good([{"a": "3", "b": "4"}] * 1000)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"a,b,a\n", "the header has 'a' twice"),
        (b'a,"b\n1', "the header cannot be read: unexpected end of data"),
        ("a,b\n".encode("utf-32"), "expected UTF-8, got UTF-32"),
    ],
)
def test_an_invalid_header_is_reported(data, said):
    with pytest.raises(BrokenInputError, match=said):
        read("csv", data)


# ---- files


FILES = {"jobs.py": "async def echo(item):\n    return item\n"}


@pytest.fixture
def results(run, folder):
    """Return a function that runs an input of this name and these bytes, and returns the results and stderr."""

    def results(name, data, *words, ends=0):
        if name != "-":
            (folder / name).write_bytes(data)
        code, out, err = run("jobs:echo", name, *words, "--keep-order", "--values")
        assert code == ends
        return list(map(json.loads, out.splitlines())), err

    return results


@pytest.fixture
def piped(results, pipe):
    """Return a function that does the same with a pipe."""

    def piped(name, data, **how):
        os.write(pipe[1], data)
        os.close(pipe[1])
        return results("-", b"", "--format", name, **how)

    return piped


@pytest.mark.realtime
def test_gzip_is_unpacked_member_after_member(results):
    assert results("a.gz", gzip.compress(b"1\n2\n") + b"\0\0" + gzip.compress(b"3"))[0] == ["1", "2", "3"]


@pytest.mark.realtime
@pytest.mark.usefixtures("short")
def test_gzip_is_unpacked_in_bounded_pieces(results):
    tracemalloc.start()
    found, err = results("a.gz", gzip.compress(b"a" * 20_000_000), ends=1)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found == []
    assert "LineTooLong" in err
    assert most < 30_000_000  # the test itself has 20 MB, until they are compressed


@pytest.mark.realtime
@pytest.mark.parametrize("source", ["results", "piped"])
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
def test_invalid_or_truncated_gzip_is_reported(request, source, data, said):
    assert said in request.getfixturevalue(source)("lines.gz", data, ends=1)[1]


PACKERS = {".bz2": ("bzip2", bz2.compress), ".xz": ("xz", lzma.compress)}
for name in ("compression.zstd", "backports.zstd"):  # of Python 3.14, and of the extra
    with contextlib.suppress(ImportError):
        PACKERS.setdefault(".zst", ("zstd", importlib.import_module(name).compress))


@pytest.mark.realtime
@pytest.mark.parametrize("source", ["results", "piped"])
@pytest.mark.parametrize("ending", PACKERS)
def test_other_packed_files_are_unpacked(request, source, ending):
    _, pack = PACKERS[ending]
    read = request.getfixturevalue(source)
    lines = b"".join(b"%d\n" % number for number in range(5000))
    name = f"lines{ending}" if source == "piped" else f"a.txt{ending}"
    assert read(name, pack(lines))[0] == [str(number) for number in range(5000)]


@pytest.mark.realtime
@pytest.mark.parametrize("ending", PACKERS)
def test_damage_of_other_packed_files_is_told(results, ending):
    what, pack = PACKERS[ending]
    lines = b"".join(b"%d\n" % number for number in range(5000))
    found, err = results(f"a{ending}", pack(lines)[:-500], ends=1)
    assert found == [str(number) for number in range(len(found))]
    assert f"the file is cut off: the {what} data has no end" in err
    for data in (b"plain text", pack(b"1\n2\n3\n")[:14] + b"\xff" * 40):
        assert f"damaged, or is not {what}" in results(f"a{ending}", data, ends=1)[1]


@pytest.mark.realtime
def test_other_packed_tables_are_known_by_their_names(results):
    assert results("a.csv.bz2", bz2.compress(b"x\n1\n"))[0] == [{"x": "1"}]
    assert results("a.xz", lzma.compress(b"x\n1\n"), "--format", "csv.xz")[0] == [{"x": "1"}]


@pytest.mark.realtime
def test_what_this_python_cannot_unpack_is_refused_with_the_remedy(run, folder, monkeypatch):
    for name in ("compression.zstd", "backports.zstd", "lzma"):
        monkeypatch.setitem(sys.modules, name, None)
    (folder / "a.zst").touch()
    _, _, err = run("jobs:echo", "a.zst")
    install = "pip install 'paco[zst]', " if sys.version_info < (3, 14) else ""
    assert err == f"paco: cannot read a.zst: this Python cannot unpack zstd; {install}or use: zstd -dc\n"
    (folder / "a.xz").touch()
    assert "this Python cannot unpack xz; or use: xz -dc" in run("jobs:echo", "a.xz")[2]


@pytest.mark.realtime
def test_the_package_for_zstd_is_used_where_python_has_none(results, monkeypatch):
    module = SimpleNamespace(ZstdFile=bz2.BZ2File, ZstdError=ValueError)
    monkeypatch.setitem(sys.modules, "compression.zstd", None)
    monkeypatch.setitem(sys.modules, "backports", SimpleNamespace(__path__=[]))
    monkeypatch.setitem(sys.modules, "backports.zstd", module)
    assert results("a.zst", bz2.compress(b"1\n"))[0] == ["1"]


def test_an_error_of_the_disk_is_not_taken_for_damage():
    class Broken:
        def read(self, size):
            raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(OSError, match="Input/output error"):
        unpacked(Broken(), ".bz2", 100)()


@pytest.mark.realtime
def test_gzip_from_a_pipe_is_decompressed_as_it_arrives(run, folder, pipe, monkeypatch):
    packer = zlib.compressobj(wbits=31)
    os.write(pipe[1], packer.compress(b"one\n") + packer.flush(zlib.Z_SYNC_FLUSH))

    async def answer(item):
        if item == "one":
            os.write(pipe[1], packer.compress(b"two\n") + packer.flush())
            os.close(pipe[1])
        return item

    monkeypatch.setitem(sys.modules, "given", SimpleNamespace(answer=answer))
    assert run("given:answer", "--format", "lines.gz", "--values")[:2] == (0, '"one"\n"two"\n')


@pytest.mark.realtime
def test_a_truncated_gzip_file_never_ends_silently(results):
    lines = b"".join(b"%d\n" % number for number in range(5000))
    found, err = results("a.txt.gz", gzip.compress(lines)[:-500], ends=1)
    assert found == [str(number) for number in range(len(found))]
    assert "the later items are missing: a.txt.gz: the file is cut off: the gzip data has no end" in err


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
def test_the_file_name_determines_the_format(results, name, data, value):
    found, err = results(name, gzip.compress(data) if name.endswith(".gz") else data)
    assert (found[0], len(found)) == (value, 2)
    assert "   2 items   " in err


@pytest.mark.realtime
@pytest.mark.parametrize("name", ["csv.gz", "csv"])
def test_the_format_option_overrides_the_file_name(results, piped, name):
    packed = gzip.compress(b"x\n1\n")
    assert results("a.gz", packed, "--format", name)[0] == [{"x": "1"}]
    assert piped(name, packed if name.endswith(".gz") else b"x\n1\n")[0] == [{"x": "1"}]


@pytest.mark.realtime
def test_an_input_that_fails_while_it_is_read_is_named_and_nothing_already_read_is_lost(results):
    found, err = results("a.json", b"[1, 2, 3", ends=1)
    assert found == [1, 2]  # 3 may be the beginning of 35
    assert "the later items are missing: a.json: the file is cut off: the JSON array has no end" in err
