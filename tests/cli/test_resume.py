"""Going on after an earlier run: nothing is lost, nothing is done twice, whatever the input has become."""

from __future__ import annotations

import errno
import importlib
import json
import linecache
import random
import shlex
import sys
import tracemalloc

import pytest

import paco
from paco.journal import JournalError

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio, pathlib

async def work(item, model=""):
    with pathlib.Path("calls.txt").open("a") as calls:
        calls.write(f"{item}\\n")
    if str(item).startswith("bad") and not pathlib.Path("mended").exists():
        raise ValueError(item)
    return f"done {item}"

async def ask(item, model="", token=""):
    return f"{model} {item}"

async def row(item):
    return await work(item["id"])

async def forbid(item):
    raise RuntimeError(item)

def wants(error):
    return error.args == ("bad",)

flaky_calls = {}

async def flaky(item):
    flaky_calls[item] = flaky_calls.get(item, 0) + 1
    if flaky_calls[item] < 3:
        raise OSError("bad") if item != "other" else KeyError("other")
    return flaky_calls[item]

async def slow(item):
    await asyncio.sleep(3600)

async def loses(item):
    path = pathlib.Path("out.jsonl")
    if item == "deleted":
        path.unlink()
    elif item == "replaced":
        path.rename("old.jsonl")
        path.write_text("")
    elif item == "emptied":
        while not path.stat().st_size:
            await asyncio.sleep(0.005)
        path.write_text("")
    elif item == "wait":
        await asyncio.sleep(0.2)
        print("all items ran")

async def begins(item):
    return asyncio.get_running_loop().time()

number = 7
"""
FILES = {"jobs.py": JOBS}


def items(folder, *lines):
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in lines))


def calls(folder):
    """Return what the function has been called with since the last time."""
    path = folder / "calls.txt"
    found = path.read_text().split("\n")[:-1] if path.exists() else []
    path.unlink(missing_ok=True)
    return sorted(found)


def final(folder):
    """Return the last record of each key."""
    return {record["key"]: record for record in map(json.loads, (folder / "out.jsonl").read_text().splitlines())}


WORDS = ("jobs:work", "items.txt", "-o", "out.jsonl")


def test_resuming_runs_failed_items_again_and_skips_those_with_a_result(run, folder):
    items(folder, "a", "bad", "c")
    assert run(*WORDS, "--resume")[0] == 1  # of nothing
    assert calls(folder) == ["a", "bad", "c"]
    (folder / "mended").touch()
    code, _, err = run(*WORDS, "--resume")
    assert code == 0
    assert "1 items   1 ok   0 failed   2 skipped" in err
    assert calls(folder) == ["bad"]
    assert sorted(record["result"] for record in final(folder).values()) == ["done a", "done bad", "done c"]


def test_reordered_extended_and_shortened_input_resumes_correctly(run, folder):
    items(folder, "a", "b", "c")
    run(*WORDS)
    calls(folder)
    items(folder, "new", "c", "a")
    assert run(*WORDS, "--resume")[0] == 0
    assert calls(folder) == ["new"]


def test_the_records_of_another_function_are_refused_as_by_the_journal_of_the_library(run, folder):
    items(folder, "a")
    run(*WORDS)
    text = (folder / "out.jsonl").read_text()
    for option in ("--resume", "--retry-failed"):
        code, _, err = run("jobs:slow", *WORDS[1:], option)
        assert code == 2
        assert err == (
            "paco: cannot resume: out.jsonl has the results of another function: line 1 was made by work, and this is "
            "slow; use another file, or if it was only renamed, rename it there: sed -i.bak "
            rf"""'s/\(.*\)"function":"work"/\1"function":"slow"/' {folder / "out.jsonl"}"""
            "\n"
        )
    with pytest.raises(JournalError, match="line 1 was made by work, and this is other"):
        paco.run(paco.map(other, ["a"]).journal("out.jsonl"))
    assert (folder / "out.jsonl").read_text() == text
    paco.run(paco.map(other, ["a"]).journal("journal.jsonl"))
    code, _, err = run("jobs:work", "items.txt", "-o", "journal.jsonl", "--resume")
    assert "line 1 was made by other, and this is work" in err


async def other(item):
    return item


def test_a_changed_function_resumes_with_a_warning(run, folder):
    items(folder, "a", "bad", "c")
    run(*WORDS)
    changed = "paco: work has changed since the last record of out.jsonl was written; recorded results stay as "
    assert changed not in run(*WORDS, "--resume")[2]
    (folder / "jobs.py").write_text("async def work(item):\n    return 'mended'\n")
    sys.modules.pop("jobs")
    importlib.invalidate_caches()
    linecache.checkcache()
    code, _, err = run(*WORDS, "--resume")
    assert code == 0
    assert err.startswith(changed)
    assert sorted(record["result"] for record in final(folder).values()) == ["done a", "done c", "mended"]
    assert changed not in run(*WORDS, "--resume")[2]


def test_records_without_a_function_name_are_accepted(run, folder):
    items(folder, "a")
    run(*WORDS)
    record = json.loads((folder / "out.jsonl").read_text())
    del record["function"], record["source"]
    (folder / "out.jsonl").write_text(json.dumps(record) + "\n")
    code, _, err = run("jobs:slow", *WORDS[1:], "--resume")
    assert code == 0
    assert "1 skipped" in err


def test_equal_items_are_distinguished(run, folder):
    items(folder, "a", "b")
    run(*WORDS)
    items(folder, "a", "a", "b", "a")
    calls(folder)
    run(*WORDS, "--resume")
    assert calls(folder) == ["a", "a"]
    assert len(final(folder)) == 4


# ---- the command and the library have one journal


def journal(items, **how):
    """Run the function of the command through the library."""
    return paco.run(paco.map(target("work"), items).journal("out.jsonl", **how))


def target(name):
    sys.path.insert(0, "")
    return getattr(importlib.import_module("jobs"), name)


def test_the_library_resumes_a_file_of_the_command(run, folder):
    items(folder, "a", "bad", "a", "c")
    assert run(*WORDS)[0] == 1
    assert calls(folder) == ["a", "a", "bad", "c"]
    (folder / "mended").touch()
    assert journal(["new", "c", "bad", "a", "a", "a"]) == ["done new", "done c", "done bad", *["done a"] * 3]
    assert calls(folder) == ["a", "bad", "new"]
    assert all(record["ok"] and len(record["key"]) == 32 for record in final(folder).values())
    assert run(*WORDS, "--resume")[0] == 0
    assert calls(folder) == []


def test_the_command_resumes_a_file_of_the_library(run, folder):
    assert journal(["a", "b", "a"]) == ["done a", "done b", "done a"]
    calls(folder)
    items(folder, "bad", "a", "a", "a", "b")
    assert run(*WORDS, "--resume")[0] == 1
    assert calls(folder) == ["a", "bad"]
    assert run(*WORDS, "--retry-failed")[0] == 1
    assert calls(folder) == ["bad"]


def test_command_and_library_identify_items_alike(run, folder):
    (folder / "rows.jsonl").write_text('{"id": 1, "seen": 1}\n{"id": 2, "seen": 1}\n')
    assert run("jobs:row", "rows.jsonl", "-o", "out.jsonl", "--key", "id")[0] == 0
    calls(folder)

    rows = [{"id": 2, "seen": 2}, {"id": 3, "seen": 2}]
    assert paco.run(paco.map(target("row"), rows).journal("out.jsonl", key="id")) == ["done 2", "done 3"]
    assert calls(folder) == ["3"]
    (folder / "rows.jsonl").write_text('{"id": 3}\n{"id": 4}\n')
    assert run("jobs:row", "rows.jsonl", "-o", "out.jsonl", "--key", "id", "--resume")[0] == 0
    assert calls(folder) == ["4"]


def test_records_of_any_version_count_for_the_command(run, folder):
    journal(["a"], version=2)
    calls(folder)
    items(folder, "a", "b")
    assert run(*WORDS, "--resume")[0] == 0
    assert calls(folder) == ["b"]


OLD = """\
{"id":0,"key":"167004e8304614a8","input":"a","ok":true,"result":"done a","attempts":1,"slot":0,\
"start":"2026-11-22T12:04:10.115Z","ms":1.0,"function":"work"}
{"id":1,"key":"a5e5a1bd4dbfef65","input":"bad","ok":false,"error":{"type":"ValueError","message":"bad"},"attempts":1,"slot":0,\
"start":"2026-11-22T12:04:10.116Z","ms":1.0,"function":"work"}
{"id":2,"key":"b525286afed22838","input":"a","ok":true,"result":"done a","attempts":1,"slot":0,\
"start":"2026-11-22T12:04:10.117Z","ms":1.0,"function":"work"}
"""


@pytest.mark.parametrize("by", ["command", "library"])
def test_a_file_with_8_byte_keys_is_resumed_and_its_items_keep_their_keys(run, report, folder, by):
    (folder / "out.jsonl").write_text(OLD)
    (folder / "mended").touch()
    if by == "command":
        items(folder, "new", "bad", "a", "a", "a")
        assert run(*WORDS, "--resume")[0] == 0
    else:
        assert journal(["new", "bad", "a", "a", "a"]) == ["done new", "done bad", *["done a"] * 3]
    assert calls(folder) == ["a", "bad", "new"]
    assert sorted(len(key) for key in final(folder)) == [16, 16, 16, 32, 32]
    assert all(record["ok"] for record in final(folder).values())
    assert report("out.jsonl")[0] == 0


def test_only_what_failed_is_run_again(run, folder):
    items(folder, "a", "bad 1", "bad 2")
    assert run(*WORDS)[0] == 1
    calls(folder)
    items(folder, "new", "bad 2", "bad 1", "a")
    (folder / "mended").touch()
    code, _, err = run(*WORDS, "--retry-failed")
    assert (code, calls(folder)) == (0, ["bad 1", "bad 2"])
    assert "2 items   2 ok   0 failed   2 skipped" in err


def test_the_printed_command_resumes_the_run(run, folder):
    items(folder, "a", "bad it's")
    _, _, err = run(*WORDS)
    line = err.splitlines()[-1].removeprefix("  again     ")
    assert line == "paco map jobs:work items.txt -o out.jsonl --retry-failed"
    (folder / "mended").touch()
    code, _, err = run(*shlex.split(line)[2:])
    assert code == 0
    assert "again" not in err


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["-o", "out put.jsonl", "--resume"], "-o 'out put.jsonl' --retry-failed"),
        (
            ["-o", "o.jsonl", "--retry-failed", "--", "-c"],
            "-o o.jsonl --retry-failed -- -c",
        ),
    ],
)
def test_the_printed_command_quotes_the_original_arguments(run, folder, words, line, monkeypatch):
    monkeypatch.setattr("paco._base.system._msvcrt", None)
    items(folder, "bad")
    (folder / "-c").write_text("bad")
    run("jobs:work", "items.txt", "-o", words[1], "--", "-c")
    assert (
        run("jobs:work", "items.txt", *words)[2].splitlines()[-1] == f"  again     paco map jobs:work items.txt {line}"
    )


def test_a_stopped_run_can_be_resumed(run, folder):
    items(folder, *range(30))
    code, _, err = run("jobs:forbid", "items.txt", "-o", "out.jsonl", "-l", 1)
    assert code == 3
    assert "  again     paco map jobs:forbid items.txt -o out.jsonl -l 1 --resume\n" in err


def test_items_that_failed_before_run_first_and_do_not_halt_a_run_with_earlier_successes(run, folder):
    items(folder, "good", *(f"bad {number}" for number in range(30)))
    run(*WORDS, "-l", 1)
    items(folder, *(f"bad {number}" for number in range(30)), "good", "new")
    assert run(*WORDS, "-l", 1, "--resume")[0] == 1
    assert len(final(folder)) == 32


def test_a_member_may_identify_an_item(run, folder):
    (folder / "rows.jsonl").write_text('{"id": 1, "seen": 1}\n{"id": "bad", "seen": 1}\n{"seen": 2}\n[]\n')
    words = ("jobs:row", "rows.jsonl", "-o", "out.jsonl", "--key", "id")
    assert run(*words)[0] == 1
    assert [record["error"]["type"] for record in final(folder).values() if not record["ok"]].count("KeyError") == 2
    calls(folder)
    (folder / "rows.jsonl").write_text('{"id": "bad", "seen": 2}\n{"id": 1, "seen": 2}\n{"id": 3}\n')
    run(*words, "--resume")
    assert calls(folder) == ["3", "bad"]


def test_a_partial_last_line_is_cut_off(run, folder):
    items(folder, "a", "b")
    run(*WORDS, "-k")
    whole = (folder / "out.jsonl").read_bytes()
    second = whole.index(b"\n") + 1
    sizes = {*range(0, len(whole), 47), 1, *range(second - 3, second + 4), *range(len(whole) - 3, len(whole))}
    for size in sorted(sizes):
        (folder / "out.jsonl").write_bytes(whole[:size])
        calls(folder)
        assert run(*WORDS, "--resume")[0] == 0
        torn = size < len(whole) - 1  # the last line may lack its end only
        assert calls(folder) == (["a", "b"] if size < second - 1 else ["b"] if torn else [])
        assert len(final(folder)) == 2


def test_a_partial_line_inside_the_file_is_skipped(run, folder):
    items(folder, "a", "b")
    run(*WORDS)
    with (folder / "out.jsonl").open("ab") as file:
        file.write(b'{"id":7,"key":"77\n\n')
    calls(folder)
    assert run(*WORDS, "--resume")[0] == 0
    assert calls(folder) == []


@pytest.mark.parametrize(
    "line",
    [
        "done a",
        "[1]",
        "5",
        '{"a": 1}',
        '{"key": 5, "ok": true}',
        "null",
        '{"id":1,"name":"a"}',
        '{"id":1,"key":"00"}',
        '{"id":1,"name":',
        "\0\0",
    ],
)
def test_a_file_without_records_is_refused(run, folder, line):
    items(folder, "a")
    (folder / "out.jsonl").write_text(f"{line}\n")
    code, _, err = run(*WORDS, "--resume")
    assert code == 2
    kind = "damaged" if '"id":1,"key"' in line else "not a file of records"
    assert err.startswith(f"paco: cannot resume: out.jsonl is {kind}: line 1 is not a record (")
    assert ("sed" in err) is (kind == "damaged")
    assert (folder / "out.jsonl").read_text() == f"{line}\n"


@pytest.mark.parametrize("function", [[], {}, 0, False, "", ["work"]])
def test_a_record_of_an_odd_function_is_refused(run, folder, function):
    items(folder, "a")
    run(*WORDS)
    record = json.loads((folder / "out.jsonl").read_text()) | {"function": function}
    (folder / "out.jsonl").write_text(json.dumps(record))
    code, _, err = run(*WORDS, "--resume")
    assert code == 2
    assert "has the results of another function" in err


def test_another_argument_is_told_by_its_name_but_not_its_value(run, folder):
    items(folder, "a", "b")
    words = ["jobs:ask", "items.txt", "-o", "out.jsonl"]
    changed = "had another value, or none, for results in out.jsonl; recorded results stay as they are"
    assert run(*words, "--arg", "model=small", "--arg", "token=s3cret")[0] == 0
    assert "s3cret" not in (folder / "out.jsonl").read_text()
    for given, told in [
        (["model=small", "token=s3cret"], ""),
        (["token=s3cret", "model=small"], ""),
        (["model=large", "token=s3cret"], "--arg model "),
        (["model=large"], "--arg model, token "),
        ([], "--arg model, token "),
    ]:
        arguments = [word for one in given for word in ("--arg", one)]
        for option in ("--resume", "--retry-failed"):
            code, _, err = run(*words, *arguments, option)
            assert code == 0
            assert (f"paco: {told}{changed}" in err) == bool(told)
            assert ("--arg" in err) == bool(told)
    assert [record["result"] for record in final(folder).values()] == ["small a", "small b"]
    items(folder, "a", "b", "c")
    assert run(*words, "--arg", "model=large", "--resume")[0] == 0
    assert f"--arg model, token {changed}" in run(*words, "--arg", "model=large", "--resume")[2]


def test_the_arguments_of_a_failed_record_do_not_matter(run, folder):
    items(folder, "bad")
    assert run(*WORDS, "--arg", "model=small")[0] == 1
    assert "had another value" not in run(*WORDS, "--arg", "model=large", "--resume")[2]


@pytest.mark.parametrize(("how", "left"), [("--resume", 2), ("--retry-failed", 0)])
@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        ("id", "to", "'id', not by 'to'"),
        ("id", None, "'id', not by their whole content"),
        (None, "id", "their whole content, not by 'id'"),
    ],
)
def test_the_records_of_another_key_skip_no_item_and_that_is_told(run, folder, how, left, before, now, told):
    """The values of two members may be the same: here each is the other one of the other item."""
    (folder / "rows.jsonl").write_text('{"id":1,"to":2}\n{"id":2,"to":1}\nno object\n')
    words = ["jobs:row", "rows.jsonl", "-o", "out.jsonl"]
    earlier, this = (["--key", field] if field else [] for field in (before, now))
    assert run(*words, *earlier)[0] == 1
    assert "another --key" not in run(*words, *earlier, how)[2]
    (folder / "rows.jsonl").write_text('{"id":1,"to":2}\n{"id":2,"to":1}\n')
    code, _, err = run(*words, *this, how)
    assert code == 0
    remedy = "; to use them: --key 'id'" if before else ""
    known = f"they know their items by {told}, and are not used{remedy}"
    assert f"paco: out.jsonl has records of another --key: {known}\n" in err
    found = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    kept = [(one["input"]["id"], one.get("by")) for one in found if one["ok"]]
    assert kept == [(1, before), (2, before), (1, now), (2, now)][: 2 + left]


def test_a_record_by_a_key_of_an_earlier_version_counts_even_if_it_does_not_say_its_key(run, folder):
    (folder / "rows.jsonl").write_text('{"id":1}\n{"id":2}\n')
    words = ["jobs:row", "rows.jsonl", "--key", "id", "-o", "out.jsonl"]
    assert run(*words)[0] == 0
    text = (folder / "out.jsonl").read_text()
    (folder / "out.jsonl").write_text(text.replace(',"by":"id"', ""))
    err = run(*words, "--resume")[2]
    assert "2 skipped" in err
    assert "another --key" not in err


def test_a_key_that_is_given_twice_is_told_once(run, folder):
    (folder / "rows.jsonl").write_text('5\n5\n{"id": 1}\n{"id": 1, "v": 2}\n{"id": 1, "v": 3}\n{"id": 2}\n')
    words = ["jobs:row", "rows.jsonl", "--key", "id", "-o", "out.jsonl"]
    for option in ([], ["--resume"], ["--retry-failed"], ["--dry-run"]):
        _, _, err = run(*words, *option)
        assert err.count("paco: --key id: 1 is the value of more than one item (item 3 is the second)") == 1
    assert "--key" not in run("jobs:row", "rows.jsonl", "-o", "other.jsonl")[2]


def test_a_second_run_without_resume_tells_that_it_appends(run, folder):
    items(folder, "a")
    told = (
        "paco: out.jsonl is not empty: this run appends to it, and runs all items (to skip those with a result: --res"
    )
    assert told not in run(*WORDS)[2]
    assert told in run(*WORDS)[2]
    assert "not empty" not in run(*WORDS, "--resume")[2]


@pytest.mark.parametrize("text", [bytes(4096), b"\0", b"\n" + bytes(512), b"GIF89a\0"])
def test_a_file_that_is_not_text_is_not_appended_to(run, folder, text):
    items(folder, "a")
    (folder / "out.jsonl").write_bytes(text)
    code, _, err = run(*WORDS)
    assert (code, calls(folder)) == (2, [])
    assert "paco: out.jsonl is a file of another kind, which ends in " in err
    assert err.endswith(": nothing is added to it; give another name\n")
    assert (folder / "out.jsonl").read_bytes() == text


@pytest.mark.parametrize("text", ["print(5)\n", "# notes", "<html>\n</html>\n\n", '{"id": 1}\n', "5\n"])
@pytest.mark.parametrize("options", [[], ["--values"]])
def test_nothing_is_added_to_a_file_of_another_kind(run, folder, text, options):
    items(folder, "a")
    (folder / "out.jsonl").write_text(text)
    code, _, err = run(*WORDS, *options)
    if options and text[0] in "{5":
        assert code == 0
    else:
        assert (code, calls(folder), "give another name" in err) == (2, [], True)
        assert (folder / "out.jsonl").read_text() == text


@pytest.mark.parametrize("more", ["", "\n", "\n\n \n", '\n{"id":1,"key":"ab'])
def test_records_are_added_to_a_file_that_does_not_end_in_a_whole_line(run, folder, more):
    items(folder, "a")
    run(*WORDS)
    whole = (folder / "out.jsonl").read_text()
    (folder / "out.jsonl").write_text(whole.rstrip() + more)
    assert run(*WORDS)[0] == 0
    lines = [line for line in (folder / "out.jsonl").read_text().splitlines() if line.strip()]
    assert [json.loads(line)["ok"] for line in lines] == [True, True]


def test_a_resumed_run_tells_that_its_output_is_new_and_needs_one_for_what_failed(run, folder):
    items(folder, "a")
    code, _, err = run(*WORDS, "--retry-failed")
    assert (code, err) == (2, "paco: --retry-failed runs what failed in out.jsonl, which does not exist\n")
    assert not (folder / "out.jsonl").exists()
    assert "paco: out.jsonl has no records yet: all items run\n" in run(*WORDS, "--resume")[2]
    assert "no records" not in run(*WORDS, "--resume")[2]


def test_zeros_after_a_record_are_cut_off_before_the_next_record(run, folder):
    items(folder, "a")
    run(*WORDS)
    whole = (folder / "out.jsonl").read_bytes()
    (folder / "out.jsonl").write_bytes(whole + bytes(512))
    assert run(*WORDS)[0] == 0
    assert (folder / "out.jsonl").read_bytes().startswith(whole + b'{"id":0')


def test_a_last_line_that_is_no_partial_record_is_not_cut_off(run, folder):
    items(folder, "a")
    (folder / "out.jsonl").write_text("precious")
    assert run(*WORDS, "--resume")[0] == 2
    assert (folder / "out.jsonl").read_text() == "precious"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--resume"], "give their file with --output"),
        (["--resume", "--retry-failed", "-o", "out.jsonl"], "give either --resume or --retry-failed"),
        (["--resume", "-o", "out.jsonl", "--values"], "--values writes no records to resume from"),
        (["--resume", "-o", "/dev/null"], "cannot resume from /dev/null: it is not a regular file"),
        (["--key", "id"], "--key needs items that are JSON objects, but items.txt is read as lines"),
        (["--rate", "50"], "must be N/s, N/m or N/h"),
        (["--rate", "0/s"], "N above 0"),
        (
            ["--retry-on", "OSError,KeyError"],
            "; give each by itself: --retry-on OSError --retry-on KeyError\n",
        ),
        (["--retry-on", "TimeotError"], "there is no such exception; did you mean TimeoutError?"),
        (["--retry-on", "Nonsense"], "as in aiohttp.ClientError"),
        (["--retry-on", "asyncio.Nonsense"], "--retry-on asyncio.Nonsense: there is no such exception"),
        (["--retry-on", "jobs:number"], "expected a subclass of Exception, or a function of an error"),
        (["--retry-on", "KeyboardInterrupt"], "expected a subclass of Exception"),
        (["--retries", "-1"], "must be a whole number of 0 or more"),
    ],
)
def test_options_that_make_no_sense_are_refused(run, folder, words, said):
    items(folder, "a")
    code, _, err = run("jobs:work", "items.txt", *words)
    assert code == 2
    assert said in err
    assert calls(folder) == []


def test_an_output_that_cannot_be_read_is_not_resumed(run, folder, monkeypatch):
    items(folder, "a")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied", "out.jsonl")

    monkeypatch.setattr("io.FileIO", refuse)
    code, _, err = run(*WORDS, "--resume")
    assert code == 2
    assert err == "paco: cannot resume from out.jsonl: Permission denied\n"


def test_an_output_that_another_run_writes_is_refused(run, folder):
    fcntl = pytest.importorskip("fcntl")
    items(folder, "a")
    with (folder / "out.jsonl").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = run(*WORDS)
    assert code == 2
    assert err == "paco: out.jsonl is in use by another run; wait until that run ends, or use another file\n"


@pytest.mark.posix
def test_an_output_that_cannot_be_locked_is_told_and_written(run, folder, monkeypatch):
    def fail(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", fail)
    items(folder, "a", "b")
    code, _, err = run(*WORDS)
    assert code == 0
    assert "paco: out.jsonl cannot be locked, since its file system has no locks (Function not implemented)" in err
    assert len(final(folder)) == 2


@pytest.mark.parametrize("how", ["deleted", "replaced", "emptied"])
def test_an_output_that_another_program_takes_away_is_told_at_once_and_fails_the_run(run, folder, how):
    items(folder, "a", how, "b", "wait")
    code, _, err = run("jobs:loses", "items.txt", "-o", "out.jsonl", "--limit", 1, "--progress", "off")
    lost = "paco: out.jsonl was deleted, renamed, replaced or truncated by another program during this run"
    assert code == 1
    assert err.count(lost) == 2
    assert err.index(lost) < err.index("all items ran")


@pytest.mark.slow
def test_the_index_of_records_takes_little_memory(run, folder):
    items(folder, "a")
    run(*WORDS)
    resumed = []
    for count in (0, 20_000):
        with (folder / "out.jsonl").open("a") as file:
            for number in range(count):
                key = f"{random.getrandbits(128):032x}"
                file.write(f'{{"id":{number},"key":"{key}","ok":true,"result":{number}}}\n')
        tracemalloc.start()
        assert run(*WORDS, "--resume")[0] == 0
        resumed.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert (resumed[1] - resumed[0]) / 20_000 < 50


# ---- attempts


def test_failures_are_retried_and_the_record_counts_the_attempts(run, folder):
    items(folder, "a", "b")
    code, out, err = run("jobs:flaky", "items.txt", "--retries", 2)
    assert code == 0
    assert [json.loads(line)["attempts"] for line in out.splitlines()] == [3, 3]
    assert "2 ok   0 failed   4 retried" in err


def test_a_result_without_a_json_form_is_recorded_as_an_error_with_its_attempts(run, folder):
    (folder / "jobs.py").write_text(
        "import asyncio\ncalls = []\nasync def f(item):\n    calls.append(item)\n    if item == 'cancelled':\n"
        "        raise asyncio.CancelledError\n    if calls.count(item) < 3:\n        raise OSError\n"
        "    return object()\n"
    )
    items(folder, "a", "cancelled")
    code, out, _ = run("jobs:f", "items.txt", "--retries", 5, "-k", "-l", 1)
    assert code == 1
    found = [json.loads(line) for line in out.splitlines()]
    assert [(record["error"]["type"], record["attempts"]) for record in found] == [
        ("NotJSONError", 3),
        ("CancelledError", 1),
    ]


@pytest.mark.parametrize("on", ["OSError", "builtins.OSError", "jobs:wants"])
def test_only_errors_worth_retrying_are_retried(run, folder, on):
    items(folder, "a", "other")
    code, out, _ = run("jobs:flaky", "items.txt", "--retries", 2, "--retry-on", on, "--retry-on", "TimeoutError")
    assert code == 1
    found = {record["input"]: record for record in map(json.loads, out.splitlines())}
    assert (found["a"]["ok"], found["a"]["attempts"]) == (True, 3)
    assert (found["other"]["error"]["type"], found["other"]["attempts"]) == ("KeyError", 1)


@pytest.mark.parametrize("retries", [0, 1])
def test_each_attempt_has_its_own_timeout(run, folder, retries):
    items(folder, "a")
    code, out, _ = run("jobs:slow", "items.txt", "-t", "10ms", "--retries", retries)
    assert code == 1
    record = json.loads(out)
    assert (record["error"]["type"], record["attempts"]) == ("TimeoutError", 1 + retries)


@pytest.mark.parametrize("limit", [0, 32])
@pytest.mark.usefixtures("virtual_time")
def test_the_rate_option_is_respected(run, folder, limit):
    items(folder, *range(6))
    code, out, _ = run("jobs:begins", "items.txt", "--rate", "10/s", "--limit", limit)
    assert code == 0
    starts = [json.loads(line)["result"] for line in out.splitlines()]
    assert starts == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])


@pytest.mark.usefixtures("virtual_time")
def test_a_fast_rate_compensates_late_timers_and_is_never_exceeded(run, folder):
    items(folder, *range(20))
    _, out, _ = run("jobs:begins", "items.txt", "--rate", "1000/s", "--limit", 0)
    starts = [json.loads(line)["result"] for line in out.splitlines()]
    assert starts == pytest.approx([0] * 4 + [number / 996 for number in range(16)])  # at most 4 + 996 in a second
