"""Inputs: checked before anything starts, read as needed, and never a reason for the loop to wait."""

from __future__ import annotations

import asyncio
import bz2
import contextlib
import gzip
import json
import lzma
import os
import signal
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from paco._cli.beginning import BrokenInputError
from paco._cli.formats import FORMATS
from tests.patience import until, wait_until

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import threading

async def echo(item):
    return item

async def fail(item):
    for thread in threading.enumerate():
        if thread.name == "paco-counter":
            thread.join()
    raise ValueError
"""
FILES = {"jobs.py": JOBS, "a": "1\n2", "b": "3\n4\n", "empty": ""}
FIRST_ONLY = ("--limit", 1, "--fail-fast")


@pytest.fixture
def results(run):
    """Return a function that runs `echo` over inputs, and returns the results and stderr."""

    def results(*words, ends=0):
        code, out, err = run("jobs:echo", *words, "--keep-order", "--values")
        assert code == ends
        return list(map(json.loads, out.splitlines())), err

    return results


@pytest.fixture
def job(run, monkeypatch):
    """Return a function that runs another one over standard input, one item at a time."""

    def job(function, *words):
        monkeypatch.setitem(sys.modules, "given", SimpleNamespace(function=function))
        return run("given:function", *words)

    return job


def written(folder, data, name="items.txt"):
    (folder / name).write_bytes(data)
    return name


class AnyIn:
    """Equals a text that contains all of these."""

    def __init__(self, *parts):
        self._parts = parts

    def __eq__(self, text):
        return all(part in text for part in self._parts)

    def __hash__(self):
        return hash(self._parts)

    def __repr__(self):
        return f"a text with {self._parts}"


def no_reader():
    return all(thread.name != "paco-reader" for thread in threading.enumerate())


def records(out):
    return sorted(map(json.loads, out.splitlines()), key=lambda record: record["id"])


def is_open(path):
    for descriptor in range(256):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return True
    return False


def test_an_input_that_is_removed_before_the_run_is_an_error_that_names_it(run, folder):
    (folder / "removes.py").write_text("import os\nos.remove('a')\nasync def echo(item):\n    return item\n")
    code, out, err = run("removes:echo", "a", "-o", "out.jsonl")
    assert (code, out) == (1, "")
    assert "paco: cannot read further, so the later items are missing: a: No such file or directory" in err


@pytest.mark.posix
def test_a_named_pipe_is_closed_when_it_has_been_read(results, folder):
    os.mkfifo("pipe")
    writer = threading.Thread(target=(folder / "pipe").write_text, args=("1\n2\n",))
    writer.start()
    assert results("pipe")[0] == ["1", "2"]
    writer.join()
    wait_until(no_reader)
    assert not is_open(folder / "pipe")


def test_an_item_is_a_line_without_its_end_and_blank_lines_are_skipped(results, folder):
    found, err = results(written(folder, "\ufeff one\r\n\n \t\r\nzwei 日本\nlast".encode()))
    assert found == [" one", "zwei 日本", "last"]
    assert "   3 items   3 ok" in err


@pytest.mark.parametrize("more", [[], ["-o", "new", "--resume"]], ids=["in the loop", "live"])
def test_several_inputs_are_read_one_after_the_other(run, folder, more):
    _, out, _ = run("jobs:echo", "a", "empty", "b", *more)
    found = records(out or (folder / "new").read_text())
    assert [(record["id"], record["input"]) for record in found] == [(0, "1"), (1, "2"), (2, "3"), (3, "4")]


def test_lines_with_unusual_bytes_are_items_like_others(results, folder):
    assert results(written(folder, b"\xff\xfe\na\0b\n\x1b[2J\n"))[0] == ["\\xff\\xfe", "a\0b", "\x1b[2J"]


CITIES = "name,city\n" + "ok,ok\n" * 20_000 + "Müller,Köln\n" * 2


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("-o", "new", "--resume"), ("--head", 20_001)])
def test_a_line_that_is_not_utf_8_is_told_once_with_the_remedy(run, folder, words):
    written(folder, CITIES.encode("cp1252"), "w.csv")
    code, _, err = run("jobs:echo", "w.csv", *words)
    said = r"paco: w.csv: line 20,002 is not UTF-8: M\xfcller,K\xf6ln; items have such a byte as text, like \xff; "
    assert code == 0
    assert err.count("is not UTF-8") == 1
    assert said + "to convert a file of Windows: iconv -f WINDOWS-1252 -t UTF-8\n" in err


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
def test_the_first_line_that_is_not_utf_8_is_found_wherever_the_chunks_end(size):
    for data, line in (
        ("Größe\n".encode("cp1252"), 1),
        (b"a\n\n" + "日本\nb\n".encode() + b"\xff\n", 5),
        (b"a\n\xc3", 2),
    ):
        form = FORMATS["csv"]()
        for at in range(0, len(data), size):
            list(form.split(data[at : at + size]))
        list(form.split(b""))
        assert form.beginning.invalid.startswith(f"line {line} is not UTF-8: ")
    assert not form.beginning.pass_on(b"")


def test_text_in_utf_8_or_utf_16_is_not_told(run, folder):
    for data in (CITIES.encode(), CITIES.encode("utf-16")):
        assert "UTF-8" not in run("jobs:echo", written(folder, data, "w.csv"))[2]


def test_a_line_above_the_size_limit_is_an_error_of_its_item(run, folder, monkeypatch):
    monkeypatch.setattr("paco._cli.formats.LONGEST", 1000)
    _, out, _ = run("jobs:echo", written(folder, b"x" * 1000 + b"\n" + b"y" * 300_000 + b"\nz\n"))
    first, long, last = records(out)
    assert (first["ok"], last["input"]) == (True, "z")
    assert (long["error"]["type"], long["input"]) == ("LineTooLong", "y" * 200 + "...")


def test_an_item_of_json_lines_is_the_value_of_its_line(results, folder):
    found, _ = results(written(folder, b'{"a": [1, null]}\n\n"text"\n12\n', "a.jsonl"))
    assert found == [{"a": [1, None]}, "text", 12]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{oops", "Expecting property name"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"-Infinity", "-Infinity is not JSON"),
        (b"1e400", "1e400 is too large for a float"),
        (b'{"a": [-0.1E+400]}', "-0.1E+400 is too large for a float"),
        (b"1" * 400 + b".0", "is too large for a float"),
        (b"9" * 5000, "integer string conversion"),
        (b"1" * 1_000_000, "integer string conversion"),
        (b"[" * 100_000, "nested too deeply"),
        (b'"\xff"', "escape"),
        (b"1 2", "Extra data at column 3"),
    ],
    ids=lambda line: str(line[:10]),
)
def test_a_line_that_is_not_json_is_an_error_of_that_item(run, folder, line, reason):
    bad, good = records(run("jobs:echo", written(folder, line + b"\n1\n", "a.jsonl"))[1])
    assert bad["error"]["type"] == "JSONDecodeError"
    assert reason in bad["error"]["message"]
    assert bad["input"] == line.decode(errors="backslashreplace")
    assert good["result"] == 1


BZIP2, XZ = bz2.compress(b"1\n2\n"), lzma.compress(b"1\n2\n")
NOT_TEXT = [
    ("1\n".encode("utf-32"), "got UTF-32; "),
    (b"\0\0\xfe\xff" + "1\n".encode("utf-32-be"), "got UTF-32; "),
    ("1\n2\n".encode("utf-16-le"), "got UTF-16LE; convert it with: iconv -f UTF-16LE -t UTF-8"),
    ("1\n2\n".encode("utf-16-be"), "got UTF-16BE; "),
    (gzip.compress(b"1\n2\n"), "got gzip; give a format that ends in .gz"),
    (BZIP2, "got bzip2; give a format that ends in .bz2, as in --format lines.bz2"),
    (XZ, "got xz; give a format that ends in .xz"),
    (b"\x28\xb5\x2f\xfd\x04\0", "got zstd; give a format that ends in .zst"),
    (b"PK\x03\x04\x14", "got a zip file, as .xlsx is; export a table as CSV; unpack other files with: unzip -p"),
    (b"%PDF-1.7\n1 0 obj\n", "got a PDF; "),
    (b"one\0two\0", "items that end in zero bytes; for such items: --format null"),
    (b"\x7fELF\x02\x01\x01\n\0\0\0\0\x02\0>\0", "got binary data; export it as text"),
    (bytes(range(256)) * 300, "got binary data; "),
    (b"name.txt" + b"\0" * 92 + b"0000644\0ustar" + b"\0" * 200 + b"text\n" * 1000, "got binary data; "),
]


@pytest.mark.parametrize(
    ("data", "said"), NOT_TEXT, ids=[said[4:14] + str(at) for at, (_, said) in enumerate(NOT_TEXT)]
)
def test_what_is_not_text_is_refused_with_the_remedy(run, folder, pipe, data, said):
    assert run("jobs:echo", written(folder, data)) == (2, "", AnyIn("cannot read items.txt: expected UTF-8, ", said))
    assert run("jobs:echo", written(folder, gzip.compress(data), "a.json.gz")) == (1, "", AnyIn("a.json.gz", said))
    os.write(pipe[1], data[:1000])
    os.close(pipe[1])
    assert run("jobs:echo") == (1, "", AnyIn("standard input: expected UTF-8", said))


WIDE = {
    ("1\n2\n", "utf-16"): ["1", "2"],
    ("日本\n🎉\r\n", "utf-16"): ["日本", "🎉"],
    ("\ufeff日本\n\n🎉", "utf-16-be"): ["日本", "🎉"],
    ("\ufeffno line end", "utf-16-le"): ["no line end"],
}


@pytest.mark.parametrize(("text", "encoding"), WIDE)
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_utf_16_with_its_mark_is_read(text, encoding, size):
    data, form = text.encode(encoding), FORMATS["lines"]()
    chunks = [*(data[at : at + size] for at in range(0, len(data), size)), b""]
    assert [form.parse(raw)[0] for chunk in chunks for raw in form.split(chunk)] == WIDE[text, encoding]


def test_utf_16_that_is_cut_off_or_broken_keeps_its_bytes_in_escapes(run, folder):
    data = "a\nb\n".encode("utf-16-le")
    code, out, _ = run("jobs:echo", written(folder, b"\xff\xfe" + data + b"\x00\xd8\n\0c"))
    assert code == 0
    assert [record["result"] for record in records(out)] == ["a", "b", r"\x00\xd8", r"\x63"]


def test_the_delimiter_of_a_table_can_be_another_one(run, folder):
    for char, name in (";", "a.csv"), (r"\t", "b.csv"), ("|", "c.tsv"), ("é", "d"):
        more = ["--format", "csv"] if name == "d" else []
        text = f'x{char}y\n1,5{char}"a{char}b"\n'.replace(r"\t", "\t")
        _, out, _ = run("jobs:echo", written(folder, text.encode(), name), "--delimiter", char, *more)
        assert records(out)[0]["result"] == {"x": "1,5", "y": f"a{char}b".replace(r"\t", "\t")}


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--unpack",)])
def test_a_header_of_one_field_with_a_delimiter_in_it_is_told(run, folder, words):
    written(folder, b"name;city\na;b\n", "s.csv")
    err = run("jobs:echo", "s.csv", *words)[2]
    assert err.startswith("paco: s.csv has a single field, 'name;city'; to split it: --delimiter ';'\n")
    for one, more in (("s.csv", ["--delimiter", ";"]), (written(folder, b"name\na;b\n", "one.csv"), [])):
        assert "has a single field" not in run("jobs:echo", one, *more, *words)[2]


def test_a_delimiter_that_makes_no_sense_is_refused(run, folder):
    for char in (";;", "", '"', "\n"):
        _, _, err = run("jobs:echo", written(folder, b"x\n", "a.csv"), "--delimiter", char)
        assert rf"argument --delimiter: must be one character, such as ; or \t, got {char!r}" in err
    _, _, err = run("jobs:echo", written(folder, b"x\n"), "--delimiter", ";")
    assert "--delimiter is that of a table, but items.txt is none; give --format csv" in err


@pytest.mark.parametrize(
    "data", [b"BZh9 is a name\n", b"PK\n", b"7z", b"(", b"PAR", b"a\0b\n", b"\x1b[1mbold\x1b[0m\x07\n", b"\xff\n"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_text_that_begins_like_something_else_is_text(data, size):
    form = FORMATS["lines"]()
    chunks = [*(data[at : at + size] for at in range(0, len(data), size)), b""]
    assert [raw for chunk in chunks for raw in form.split(chunk)] == [data.strip(b"\n")]


@pytest.mark.parametrize("size", [1, 2, 1000])
def test_a_mark_is_recognized_wherever_the_chunks_end(size):
    for data in ("ab\n".encode("utf-32"), BZIP2, XZ):
        form = FORMATS["jsonl"]()
        with pytest.raises(BrokenInputError, match="expected UTF-8"):
            for at in range(0, len(data), size):
                list(form.split(data[at : at + size]))
            list(form.split(b""))


def test_a_key_and_a_header_name_that_come_twice_are_found_in_linear_time():
    names = [f"k{number}" for number in range(100_000)]
    began = time.process_time()
    row = FORMATS["csv"]()
    with pytest.raises(BrokenInputError, match="the header has 'k99999' twice"):
        list(row.split(",".join([*names, names[-1]]).encode() + b"\n"))
    pairs = ",".join(f'"{name}":1' for name in [*names, names[-1]])
    _, problem = FORMATS["jsonl"]().parse(f"{{{pairs}}}".encode())
    assert problem.message == 'the line is not JSON: an object has the key "k99999" twice'
    assert time.process_time() - began < 5


def test_a_signal_ends_the_search_for_an_item(run, monkeypatch):
    def blank(*_, **__):
        signal.raise_signal(signal.SIGINT)
        for _ in range(1000):
            yield b"\n"
        pytest.fail("the input was read to its end")

    monkeypatch.setattr("paco._cli.inputs.chunks_of", blank)
    code, out, err = run("jobs:echo", "a", "--progress", "off", "-o", "out")
    assert (code, out) == (130, "")
    assert "no item is running\n" in err


def test_the_format_can_be_given(results, folder):
    name = written(folder, b"[1]\n", "a.csv")
    assert results(name, "--format", "lines")[0] == ["[1]"]
    assert results(name, "--format", "jsonl")[0] == [[1]]


@pytest.mark.parametrize("head", [1, 2, 3])
def test_head_reads_only_the_first_items(results, head):
    found, err = results("a", "b", "--head", head)
    assert found == ["1", "2", "3"][:head]
    assert f"   {head} items   " in err


@pytest.mark.parametrize(
    ("words", "counted"),
    [(["a", "b"], "1 of 4 items"), (["a", "b", "--head", 2], "1 of 2 items"), (["empty"], "0 items"), ([], "1 items")],
)
def test_the_total_is_counted_during_the_run_unless_the_input_is_a_pipe(run, pipe, words, counted):
    os.write(pipe[1], b"1\n2\n")
    assert f"    {counted}   " in run("jobs:fail", *words, *FIRST_ONLY)[2]


def test_items_that_nobody_asks_for_are_not_counted(results, monkeypatch):
    started, start = [], threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), start(thread))[1])
    results("a", "--progress", "off")
    assert "paco-counter" not in started
    results("a")
    assert "paco-counter" in started


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("more", [[], ["-o", "new", "--resume"]], ids=["in the loop", "live"])
def test_a_stop_ends_the_items_of_a_file(run, folder, name, more):
    code, out, _ = run("jobs:fail", name, *FIRST_ONLY, *more)
    assert code == 3
    assert [record["id"] for record in records(out or (folder / "new").read_text())] == [0]


@pytest.mark.parametrize("more", [[], ["--resume"]], ids=["in the loop", "live"])
def test_an_input_that_fails_ends_the_items_and_is_reported(run, folder, more):
    (folder / "removes.py").write_text(
        "import os\nfrom contextlib import asynccontextmanager\n@asynccontextmanager\n"
        "async def f():\n    os.remove('b')\n    async def g(item): ...\n    yield g\n"
    )
    code, _, err = run("removes:f", "a", "b", "a", "-o", "new", *more)
    assert code == 1
    assert len(records((folder / "new").read_text())) == 2
    assert "cannot read further, so the later items are missing: b: No such file" in err


@pytest.mark.parametrize("count", [0, 2, 32, 100])
def test_lines_before_a_failure_in_the_same_chunk_are_read(results, folder, count):
    found, err = results(written(folder, json.dumps(list(range(count))).encode() + b" 1", "a.json"), ends=1)
    assert found == list(range(count))
    assert "a.json: something follows the end" in err


def test_inputs_are_checked_before_anything_starts(run, folder):
    for names, told in [
        (["-", "-"], "given twice"),
        (["none"], "cannot read none: No such file"),
        ([folder], "it is a folder"),
        (["a\0b"], "cannot read"),
    ]:
        code, out, err = run("jobs:echo", *names)
        assert (code, out) == (2, "")
        assert told in err


def test_an_input_that_may_not_be_read_is_refused(run, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert run("jobs:echo", "a") == (2, "", "paco: cannot read a: permission denied\n")


# ---- pipes


@pytest.mark.parametrize("blocking", [True, False])
def test_a_pipe_delivers_its_lines_while_its_writer_is_idle(job, pipe, blocking):
    out, into = pipe
    os.set_blocking(out, blocking)
    os.write(into, b"1\n2\n")

    async def answer(item):
        if item == "2":
            await asyncio.sleep(0.01)
            os.write(into, b"3")
            os.close(into)
        return item

    code, out, _ = job(answer)
    assert code == 0
    assert [record["input"] for record in records(out)] == ["1", "2", "3"]


def test_a_stop_ends_the_wait_for_a_pipe_and_what_comes_later_is_dropped(job, pipe):
    os.write(pipe[1], b"1\n2\n")
    reader = []

    async def fail(item):
        if item == "1":
            await asyncio.sleep(0.01)
            raise ValueError
        reader.extend(thread for thread in threading.enumerate() if thread.name == "paco-reader")
        await asyncio.sleep(0.02)
        os.write(pipe[1], b"late\n")
        await until(lambda: not reader[0].is_alive())

    code, out, _ = job(fail, "--halt", "soon,fail=1")
    assert (code, len(records(out))) == (3, 2)


def test_a_reader_ends_with_its_loop(job, pipe):
    async def fail(item):
        raise ValueError

    os.write(pipe[1], b"1\n")
    assert job(fail, "--fail-fast")[0] == 3
    os.write(pipe[1], b"late")


def test_a_stop_before_the_first_read_ends_a_pipe_at_once(run, pipe, monkeypatch):
    monkeypatch.setattr(
        "paco._cli.run.loop_factory", lambda _: signal.raise_signal(signal.SIGINT) or asyncio.new_event_loop
    )
    assert run("jobs:echo")[:2] == (130, "")


@pytest.mark.posix
def test_opening_a_named_pipe_does_not_block_the_loop(run, folder):
    os.mkfifo("pipe")
    assert run("jobs:echo", "pipe", "--max-time", "10ms")[:2] == (1, "")

    def released():
        with contextlib.suppress(OSError):  # nobody opens it yet, or any more
            os.close(os.open("pipe", os.O_WRONLY | os.O_NONBLOCK))
        return no_reader()

    wait_until(released)  # the writer must not meet the reader of the first run, if there was time for one
    writer = threading.Thread(target=(folder / "pipe").write_text, args=["1\n"])
    writer.start()
    assert [record["input"] for record in records(run("jobs:echo", "pipe")[1])] == ["1"]
    writer.join()


def test_a_pipe_that_fails_ends_the_items(run, monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(fileno=lambda: 1_000_000))  # no such descriptor
    code, _, err = run("jobs:echo")
    assert code == 1
    assert "the later items are missing: standard input: Bad file descriptor" in err
