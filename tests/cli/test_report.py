"""Pictures of runs of the command: while it runs, and afterwards from the records."""

from __future__ import annotations

import errno
import json
import os
import re
import sys

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio

async def odd(item):
    await asyncio.sleep(0.001)  # what takes less than 0.05 ms has no latency
    if item == "2":
        raise ValueError("<b>two</b>")
    return item
"""
FILES = {"jobs.py": JOBS, "items.txt": "1\n2\n3\n"}


def spans(path):
    return [event for event in json.loads(path.read_text())["traceEvents"] if event["ph"] == "X"]


def test_a_run_leaves_a_page_and_a_trace(run, folder):
    code, _, _ = run("jobs:odd", "items.txt", "--report", "r.html", "--trace", "t.json", "--progress", "plain")
    assert code == 1
    page = (folder / "r.html").read_text()
    assert "<h1>map odd</h1>" in page
    assert "limit 32" in page
    assert "ValueError: &lt;b&gt;two&lt;/b&gt;" in page
    assert sorted(span["name"] for span in spans(folder / "t.json")) == ["failed #1", "ok #0", "ok #2"]


@pytest.mark.parametrize("option", ["--report", "--trace"])
def test_report_and_trace_can_be_written_separately(run, folder, option):
    assert run("jobs:odd", "items.txt", option, "it")[0] == 1
    assert (folder / "it").stat().st_size


def test_a_report_that_cannot_be_written_is_reported_and_the_records_are_complete(run, folder, monkeypatch):
    def full(path, *_):
        raise OSError(errno.ENOSPC, "No space left on device", path)

    monkeypatch.setattr("paco._pictures.file.write", full)
    code, out, err = run("jobs:odd", "items.txt", "--head", 1, "--report", "r.html")
    assert code == 1
    assert len(out.splitlines()) == 1
    assert f"paco: cannot write the pictures: {folder / 'r.html'}: No space left on device\n" in err


def test_an_invalid_line_is_a_failure_in_report_and_trace(run, folder):
    (folder / "a.jsonl").write_text("{oops\n")
    run("jobs:odd", "a.jsonl", "--report", "r.html")
    assert "JSONDecodeError: the line is not JSON" in (folder / "r.html").read_text()


def test_records_are_enough_for_a_page_a_trace_and_a_summary(run, report, folder):
    run("jobs:odd", "items.txt", "-o", "out.jsonl")
    code, out, err = report("out.jsonl", "--trace", "t.json")
    assert (code, err) == (0, "")
    first, latency, failures, pictures = out.splitlines()
    assert re.match(r"out\.jsonl in [\d.]+s    3 items   2 ok   1 failed   ", first)
    assert latency.startswith("  latency   p50 ")
    assert failures == "  failures  1 ValueError: <b>two</b>"
    assert pictures == "  pictures  out.html"
    page = (folder / "out.html").read_text()
    assert "ValueError: &lt;b&gt;two&lt;/b&gt;" in page
    assert "<h1>map odd</h1>" in page
    assert "limit" not in page.rpartition("</style>")[2]
    assert "What the items waited for was not recorded." in page
    assert sorted(span["name"] for span in spans(folder / "t.json")) == ["failed #1", "ok #0", "ok #2"]


def test_the_last_record_of_an_item_counts_and_other_lines_are_skipped(run, report, folder):
    run("jobs:odd", "items.txt", "-o", "out.jsonl")
    (folder / "jobs.py").write_text("async def odd(item): return item\n")
    sys.modules.pop("jobs")
    run("jobs:odd", "items.txt", "-o", "out.jsonl", "--retry-failed")
    with (folder / "out.jsonl").open("a") as file:
        file.write('{"id":7,"key"\n{"id":"x"}\n5\n')
    code, out, _ = report("out.jsonl", "-o", "page.html")
    assert code == 0
    assert "3 items   3 ok   0 failed" in out
    assert (folder / "page.html").exists()


def recorded(run, folder):
    """Return the only record of a file, which a run has written."""
    run("jobs:odd", "items.txt", "-o", "out.jsonl", "--head", 1)
    return json.loads((folder / "out.jsonl").read_text())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("id", value) for value in (-1, 1 << 32, 10**30, 1e308)),
        *(("slot", value) for value in (-1, 1 << 32, 10**30, -1e308)),
        *(("ms", value) for value in (-1, -1e308, 1e308, 10**308)),
        *(("start", value) for value in ("0001-01-01T00:00:00+23:59", "1969-12-31T23:59:59Z")),
    ],
)
def test_an_impossible_record_is_skipped(run, report, folder, field, value):
    good = recorded(run, folder)
    with (folder / "out.jsonl").open("a") as file:
        file.write(json.dumps({**good, "key": "00" * 8, field: value}) + "\n")
    code, out, _ = report("out.jsonl")
    assert code == 0
    assert "1 items   1 ok   0 failed" in out


@pytest.mark.parametrize("field", ["attempts", "slot", "ms"])
def test_a_number_that_no_float_holds_counts_as_missing(run, report, folder, field):
    good = recorded(run, folder)
    (folder / "out.jsonl").write_text(json.dumps({**good, field: 10**400}) + "\n")
    code, out, _ = report("out.jsonl")
    assert code == 0
    assert "1 items   1 ok   0 failed" in out


def test_an_impossible_record_does_not_replace_an_earlier_one_of_its_item(run, report, folder):
    good = recorded(run, folder)
    older = {**good, "ok": False, "error": {"type": "E", "message": ""}}
    bad = [json.dumps(one, separators=(",", ":")) for one in ({**good, "slot": -1}, {**good, "ms": -1})]
    (folder / "out.jsonl").write_text("\n".join([json.dumps(older), json.dumps(good), *bad, bad[0][:-9] + "}"]) + "\n")
    code, out, _ = report("out.jsonl")
    assert code == 0
    assert "1 items   1 ok   0 failed" in out
    (folder / "out.jsonl").write_text("\n".join(bad) + "\n")
    code, _, err = report("out.jsonl")
    assert (code, "out.jsonl has no records" in err) == (2, True)


@pytest.mark.parametrize("name", ["a\0b", "\ud800", ""])
def test_the_type_of_a_recorded_error_may_have_any_name(run, report, folder, name):
    good = recorded(run, folder)
    failed = {**good, "ok": False, "error": {"type": name, "message": ""}}
    (folder / "out.jsonl").write_text(json.dumps(failed) + "\n")
    code, out, _ = report("out.jsonl")
    assert code == 0
    assert "1 items   0 ok   1 failed" in out


def test_a_resumed_run_numbers_its_items_as_their_records_do(run, folder):
    run("jobs:odd", "items.txt", "-o", "out.jsonl")
    run("jobs:odd", "items.txt", "-o", "out.jsonl", "--resume", "--report", "r.html", "--trace", "t.json")
    assert [json.loads(line)["id"] for line in (folder / "out.jsonl").read_text().splitlines()][3:] == [1]
    assert [span["name"] for span in spans(folder / "t.json")] == ["failed #1"]
    assert "<td>1</td><td><code>&#x27;2&#x27;</code></td>" in (folder / "r.html").read_text()


def at(*seconds):
    """Return records of items that start at these seconds and take one each."""
    for number, second in enumerate(seconds):
        record = {"id": number, "key": f"{number:016x}", "input": 1, "ok": True, "result": 1, "slot": 0, "ms": 1000.0}
        start = f"2026-11-22T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}.000Z"
        yield json.dumps({**record, "start": start}) + "\n"


@pytest.mark.parametrize(
    ("seconds", "took", "left_out"),
    [
        ([0], "1.0s", ""),
        ([0, 3600], "1h 00m", ""),
        ([0, 2, 12, 14], "15.0s", ""),
        ([0, 2, 4, 3604, 3606, 7206], "9.0s", "1h 59m"),
        ([0, 600, 1200, 1800, 9000], "30m 02s", "1h 59m"),
        ([0, 600, 1200, 1800, 7000], "1h 56m", ""),  # a slow run: this is no pause
    ],
)
def test_the_pause_between_two_runs_is_left_out(report, folder, seconds, took, left_out):
    (folder / "out.jsonl").write_text("".join(at(*seconds)))
    code, out, _ = report("out.jsonl", "--trace", "t.json")
    assert code == 0
    first, *rest = out.splitlines()
    assert first.startswith(f"out.jsonl in {took}    {len(seconds)} items")
    assert [line for line in rest if "nothing ran" in line] == [
        f"  left out  {one} in which nothing ran" for one in [left_out] if one
    ]
    page = (folder / "out.html").read_text()
    assert (f"· without {left_out} in which nothing ran · completed" in page) == bool(left_out)
    ends = [span["ts"] + span["dur"] for span in spans(folder / "t.json")]
    starts = [span["ts"] for span in spans(folder / "t.json")][1:]
    assert all(start >= end for end, start in zip(ends, starts, strict=False))


def test_a_slot_that_no_run_has_takes_one_row(run, report, folder):
    run("jobs:odd", "items.txt", "-o", "out.jsonl", "-k")
    records = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    slots = (0, 4294967295, 2)
    lines = [json.dumps({**record, "slot": slot}) for record, slot in zip(records, slots, strict=True)]
    (folder / "out.jsonl").write_text("\n".join(lines))
    assert report("out.jsonl", "--trace", "t.json")[0] == 0
    assert sorted({span["tid"] for span in spans(folder / "t.json")}) == [1, 2, 3]


def test_the_report_counts_retried_items(report, folder):
    record = {"id": 0, "key": "00" * 8, "input": 1, "ok": True, "result": 1, "attempts": 3, "slot": None}
    (folder / "out.jsonl").write_text(json.dumps({**record, "start": "2026-11-22T12:04:10.115Z", "ms": 181.0}) + "\n")
    code, out, _ = report("out.jsonl")
    assert code == 0
    assert "1 items   1 ok   0 failed   2 retried" in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "FILE is missing"),
        (["none.jsonl"], "none.jsonl: No such file or directory"),
        (["items.txt"], "items.txt has no records"),
        (["."], ". is not a regular file"),
        ([os.devnull, "-o", "new.html"], "is not a regular file, and it is read twice; save the records in a file"),
        (["out.jsonl", "-o", "out.jsonl"], "out.jsonl is both the file of the records and report"),
        (["out.jsonl", "-o", "none/a.html"], "none/a.html: No such file or directory"),
        (["out.jsonl", "two.jsonl"], "unexpected argument two.jsonl"),
        (["out.jsonl", "--outptu", "x"], "unknown option --outptu; did you mean --output?"),
    ],
)
def test_wrong_arguments_are_reported(run, report, words, said):
    run("jobs:odd", "items.txt", "-o", "out.jsonl")
    code, out, err = report(*words)
    assert (code, out) == (2, "")
    assert err.startswith("paco: ")
    assert said in err


def test_help_describes_the_command(report):
    code, out, _ = report("--help")
    assert code == 0
    assert out.startswith("usage: paco report [options] FILE.jsonl")
    assert "Write an HTML page with pictures" in out
