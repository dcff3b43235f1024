"""When a run of `paco map` ends early, in which order it writes, and what it says without running."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from types import SimpleNamespace

import pytest

import paco

pytestmark = pytest.mark.usefixtures("folder")

JOBS = """
import asyncio, contextlib, signal

async def fail(item):
    raise ValueError(item)

async def odd(item):
    await asyncio.sleep(0)
    if int(item) % 2:
        raise ValueError(item)
    return item

async def odd_at_once(item):
    if int(item) % 2:
        raise ValueError(item)
    await asyncio.sleep(0.05)
    return item

async def first_late(item):
    await asyncio.sleep(0.1 if item == "1" else 0)
    raise ValueError(item)

async def first_waits(item):
    if item == "1":
        await asyncio.sleep(3600)
    raise ValueError(item)

async def tick(item):
    await asyncio.sleep(0.01)

async def slow(item):
    await asyncio.sleep(0.04)

async def terminate(item):
    signal.raise_signal(signal.SIGTERM)
    await asyncio.sleep(3600)

turn = 3

async def reverse(item):
    global turn
    while turn != int(item):
        await asyncio.sleep(0)
    turn = turn - 1 or 3
    if item == "2":
        raise ValueError("two")
    return {"n": int(item)}

async def reverse_and_stop(item):
    if item == "2":
        await asyncio.sleep(3600)
    if item == "3":
        asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGINT)
        asyncio.get_running_loop().call_later(0.02, signal.raise_signal, signal.SIGINT)

async def uneven(item):
    if item == "2":
        raise ValueError(item)

async def add(a, b=0, c=0):
    return a + b + c

@contextlib.asynccontextmanager
async def manager():
    yield add

class Unknown:
    __signature__ = "unreadable"

    async def __call__(self, **members):
        return members

unknown = Unknown()
"""
FILES = {
    "jobs.py": JOBS,
    "items.txt": "".join(f"{number}\n" for number in range(1, 101)),
    "three.txt": "1\n2\n3\n",
}


def ids(out):
    return [json.loads(line)["id"] for line in out.splitlines()]


# ---- rules


@pytest.mark.realtime
class TestRules:
    @pytest.mark.parametrize(
        ("text", "items"), [("soon,fail=3", 3), ("now,fail=1", 1), ("soon,fail=10%", 10), ("now,fail=100%", 100)]
    )
    def test_halt_accepts_the_rules_of_gnu_parallel(self, run, text, items):
        code, out, err = run("jobs:fail", "items.txt", "--halt", text, "-l", 1, "--total", 100)
        assert (code, len(ids(out))) == (3, items)
        assert f"halting: {items} item{'s' * (items > 1)} failed (--halt {text}); " in err

    def test_halt_refuses_other_rules(self, run):
        for text in (
            "",
            "soon",
            "never,fail=1",
            "late,fail=1",
            "soon,fail=0",
            "soon,fail=101%",
            "soon,fail=x",
            "now,done=1",
        ):
            code, _, err = run("jobs:fail", "items.txt", "--halt", text)
            assert code == 2
            assert "argument --halt: must" in err

    @pytest.mark.parametrize(
        ("text", "seconds"),
        [
            *[("30s", 30), ("2m", 120), ("500ms", 0.5), ("1.5h", 5400)],
            *[("1h30m", 5400), ("1d", 86400), (".5s", 0.5), ("7", 7)],
        ],
    )
    def test_a_duration_has_units(self, run, monkeypatch, text, seconds):
        given = []
        monkeypatch.setattr(paco, "timeout", lambda fn, seconds: (given.append(seconds), fn)[1])
        run("jobs:fail", "items.txt", "--head", 1, "--timeout", text)
        assert given == [seconds]

    def test_an_invalid_duration_is_refused(self, run):
        for text in "", "s", "1y", "-1s", "1 s", "1s2", "1..2s", "nan", "٣s":
            code, _, err = run("jobs:fail", "items.txt", f"--timeout={text}")
            assert code == 2
            assert "must be a duration such as 30s" in err

    def test_a_halt_percentage_needs_a_known_total(self, run, pipe):
        os.write(pipe[1], b"1\n2\n3\n")
        os.close(pipe[1])
        code, out, _ = run("jobs:fail", "--halt", "soon,fail=10%", "-l", 1)
        assert (code, len(ids(out))) == (1, 3)


@pytest.mark.realtime
class TestHalting:
    def test_a_target_that_always_fails_is_stopped_after_twenty_items_and_its_error_is_shown(self, run):
        code, out, err = run("jobs:fail", "items.txt", "-l", 1)
        assert code == 3
        assert ids(out) == list(range(20))
        assert "halting: the first 20 items all failed (to go on: --halt never); no item is running\n" in err
        assert "halted in " in err
        assert "the first error:\nTraceback (most recent call last):\n" in err
        assert err.endswith("ValueError: 1\n")

    def test_one_item_that_succeeds_is_enough_to_go_on(self, run):
        assert run("jobs:odd", "items.txt")[0] == 1

    def test_the_first_twenty_items_are_those_of_the_input_and_not_those_that_end_first(self, run):
        code, out, _ = run("jobs:odd_at_once", "items.txt")
        assert code == 1
        assert len(ids(out)) == 100
        code, _, err = run("jobs:first_late", "items.txt")  # 80 others have failed before
        assert code == 3
        assert "halting: the first 20 items all failed" in err

    def test_halt_never_continues_if_every_item_fails(self, run):
        code, out, _ = run("jobs:fail", "items.txt", "--halt", "never")
        assert code == 1
        assert len(ids(out)) == 100

    def test_halt_soon_lets_running_items_end(self, run):
        code, out, err = run("jobs:odd", "items.txt", "--halt=soon,fail=3", "--limit", 10)
        assert code == 3
        assert "halting: 3 items failed (--halt soon,fail=3); draining " in err
        found = [json.loads(line) for line in out.splitlines()]
        assert 5 <= len(found) < 100
        assert sorted(record["id"] for record in found) == list(range(len(found)))  # each that was started has ended

    def test_halt_now_cancels_running_items(self, run):
        code, out, err = run("jobs:first_waits", "three.txt", "--fail-fast", "-l", 2)
        assert code == 3
        assert ids(out) == [1]
        assert "halting: 1 item failed (--halt now,fail=1); cancelling 1 running item\n" in err

    def test_a_halt_is_announced_without_progress_too(self, run):
        code, _, err = run("jobs:fail", "three.txt", "--fail-fast", "-l", 1, "--progress", "off")
        assert code == 3
        assert err.startswith(
            "halting: 1 item failed (--halt now,fail=1); no item is running\npaco: the first error:\n"
        )
        assert err.endswith("    raise ValueError(item)\nValueError: 1\n")

    def test_the_first_error_of_a_halted_run_may_be_a_bad_row(self, run, folder):
        (folder / "rows.csv").write_text("a,b\n" + "1\n" * 20)
        code, _, err = run("jobs:fail", "rows.csv")
        assert code == 3
        assert err.endswith("the first error:\nCSVError: line 2: the row has 1 fields, but the header has 2\n")

    @pytest.mark.parametrize("words", [(), ("--retries", 1), ("--timeout", 9)])
    def test_the_summary_says_where_the_first_error_was_raised(self, run, words):
        err = run("jobs:odd", "items.txt", *words)[2]
        assert "\n  first     ValueError at jobs.py:10 in odd: raise ValueError(item)\n" in err

    def test_a_function_that_deletes_its_folder_is_named_by_its_whole_path(self, run, folder, monkeypatch):
        (folder / "gone").mkdir()
        (folder / "rid.py").write_text("import os\ndef f(item):\n    os.chdir('gone'); os.rmdir('../gone'); 1 / 0\n")
        monkeypatch.chdir(folder)  # back, in the end
        err = run("rid:f", "items.txt", "--head", 1)[2]
        assert f"first     ZeroDivisionError at {folder}/rid.py:3 in f: os.chdir('gone'); " in err

    def test_an_error_of_a_library_is_shown_at_the_line_that_called_it(self, run, folder):
        (folder / "load.py").write_text("import json\ndef f(item):\n    return json.loads('{' + item)\n")
        err = run("load:f", "items.txt", "--head", 1)[2]
        assert "\n  first     JSONDecodeError at load.py:3 in f: return json.loads('{' + item)\n" in err

    def test_a_halt_percentage_ends_the_run(self, run):
        code, out, _ = run("jobs:odd", "items.txt", "--halt", "soon,fail=30%", "-l", 1, "--total", 100)
        assert code == 3
        assert len(out.splitlines()) in {59, 60}

    @pytest.mark.usefixtures("virtual_time")
    def test_no_item_starts_after_max_time(self, run):
        code, out, err = run("jobs:tick", "items.txt", "--max-time", "35ms", "-l", 1)
        assert code == 1
        assert ids(out) == [0, 1, 2, 3]
        assert "--max-time is over; draining 1 running item\n" in err
        assert err.endswith("paco: the time of --max-time ran out before all items had started\n")

    def test_max_time_does_not_change_a_run_that_ends_earlier(self, run):
        assert run("jobs:tick", "three.txt", "--max-time", "1h")[0] == 0

    @pytest.mark.usefixtures("virtual_time")
    def test_a_last_item_may_end_after_max_time(self, run):
        code, out, err = run("jobs:slow", "items.txt", "--head", 1, "--max-time", "20ms")
        assert (code, len(out.splitlines())) == (0, 1), err

    @pytest.mark.usefixtures("virtual_time")
    def test_sigterm_cancels_running_items_after_the_grace_period(self, run):
        code, out, err = run("jobs:terminate", "three.txt", "-l", 1, "--grace", "10ms")
        assert code == 143
        assert not out
        assert "draining 1 running item; another signal cancels them\n" in err
        assert "--grace is over; cancelling 1 running item\n" in err

    @pytest.mark.usefixtures("virtual_time")
    def test_max_time_has_no_effect_on_a_run_that_is_ending(self, run):
        _, _, err = run("jobs:terminate", "three.txt", "-l", 1, "--grace", "30ms", "--max-time", "15ms")
        assert "--max-time" not in err


# ---- the output


@pytest.mark.realtime
class TestOutput:
    def test_records_keep_the_order_of_the_input(self, run):
        assert ids(run("jobs:reverse", "three.txt")[1]) == [2, 1, 0]
        assert ids(run("jobs:reverse", "three.txt", "-k")[1]) == [0, 1, 2]

    @pytest.mark.usefixtures("virtual_time")
    def test_what_has_finished_is_written_even_when_an_earlier_item_is_cancelled(self, run):
        code, out, _ = run("jobs:reverse_and_stop", "three.txt", "--keep-order")
        assert code == 130
        assert ids(out) == [0, 2]

    def test_output_values_writes_only_the_results(self, run):
        code, out, err = run("jobs:reverse", "three.txt", "--values", "--keep-order")
        assert code == 1
        assert out == '{"n":1}\n{"n":3}\n'
        assert "#1 2  ValueError: two" in err

    def test_objects_become_keyword_arguments(self, run, folder):
        (folder / "rows.jsonl").write_text('{"a": 1}\n{"a": 1, "b": 2}\n{"a": 1, "c": 7}\n[1]\n{"d": 1}\n')
        code, out, _ = run("jobs:add", "rows.jsonl", "--unpack", "-k", "--arg", "c=5")
        assert code == 1
        found = [json.loads(line) for line in out.splitlines()]
        assert [record.get("result") for record in found[:3]] == [None, None, 8]  # text and numbers cannot be added
        assert found[3]["error"]["message"] == "--unpack: expected a JSON object, got list"
        assert "unexpected keyword argument 'd'" in found[4]["error"]["message"]

    def test_lines_of_text_cannot_be_unpacked(self, run):
        code, _, err = run("jobs:add", "three.txt", "--unpack")
        assert code == 2
        assert "--unpack needs items that are JSON objects, but three.txt is read as lines; give its --format" in err

    def test_a_dry_run_prints_what_would_run(self, run, folder):
        code, out, err = run("jobs:fail", "three.txt", "--head", 2, "-o", "out.jsonl", "--dry-run")
        assert (code, err) == (0, "")
        assert out.splitlines() == [
            "target   jobs:fail",
            "inputs   three.txt (lines)",
            "items    2",
            "first    1",
            "output   out.jsonl",
            "nothing was run (--dry-run)",
        ]
        assert not (folder / "out.jsonl").exists()

    def test_a_dry_run_counts_the_items_that_would_be_skipped_and_changes_no_file(self, run, folder):
        words = ("jobs:uneven", "three.txt", "-o", "out.jsonl")
        code, out, err = run(*words, "--resume", "--dry-run")
        assert (code, out.splitlines()[2]) == (0, "items    3")
        assert err == "paco: out.jsonl has no records yet: all items run\n"
        code, _, err = run(*words, "--retry-failed", "--dry-run")
        assert (code, err) == (2, "paco: --retry-failed runs what failed in out.jsonl, which does not exist\n")
        assert not (folder / "out.jsonl").exists()
        assert run("jobs:uneven", "three.txt", "-o", "out.jsonl", "--head", 2)[0] == 1
        torn = (folder / "out.jsonl").read_bytes() + b'{"id":9,"key":"'
        for text in (torn, torn.rpartition(b"\n")[0]):
            (folder / "out.jsonl").write_bytes(text)
            code, out, _ = run(*words, "--resume", "--dry-run")
            assert (code, out.splitlines()[2:4]) == (0, ["items    3, 1 done, 2 left", "first    2"])
            code, out, _ = run(*words, "--retry-failed", "--dry-run")
            assert (code, out.splitlines()[2:4]) == (0, ["items    3, 2 skipped, 1 left", "first    2"])
            assert (folder / "out.jsonl").read_bytes() == text

    def test_a_dry_run_reports_items_that_the_target_cannot_be_called_with(self, run, folder):
        (folder / "rows.csv").write_text("a,d\n1,2\n")
        code, out, _ = run("jobs:add", "rows.csv", "--unpack", "--dry-run")
        assert code == 1
        assert "\nitems    1, 1 of them bad\n" in out
        assert "\nbad      #0: TypeError: got an unexpected keyword argument 'd'\n" in out
        (folder / "rows.jsonl").write_text('{"a": 1, "b": 2}\n{"a": 1}\n[1]\n')
        code, out, _ = run("jobs:add", "rows.jsonl", "--unpack", "--dry-run", "--arg", "c=5")
        assert "\nbad      #2: TypeError: --unpack: expected a JSON object, got list\n" in out
        code, out, _ = run("jobs:fail", "rows.jsonl", "--budget", 9, "--cost", "b", "--dry-run")
        assert code == 1
        assert "\nitems    3, 2 of them bad\n" in out
        assert "\nbad      #1: CostError: --cost: expected a number in the field b of the item, got none" in out

    def test_a_dry_run_does_not_know_what_a_context_manager_or_a_function_in_c_takes(self, run, folder):
        (folder / "rows.jsonl").write_text('{"a": 1}\n')
        for target in ("jobs:manager", "jobs:unknown"):
            assert run(target, "rows.jsonl", "--unpack", "--dry-run")[0] == 0

    def test_a_dry_run_reports_invalid_items(self, run, folder):
        (folder / "a.jsonl").write_text('{"a": 1}\n{oops\n{oops\n')
        (folder / "empty.json").touch()
        code, out, _ = run("jobs:fail", "empty.json", "a.jsonl", "-n")
        assert code == 1
        assert "items    3, 2 of them bad\nfirst    {'a': 1}\nbad      #1: JSONDecodeError: the line is not JSON" in out
        code, out, _ = run("jobs:fail", "empty.json", "-n")
        assert (code, "items    0\noutput" in out) == (0, True)

    def test_a_dry_run_reports_items_without_their_key(self, run, folder):
        (folder / "a.jsonl").write_text('{"id": 1}\n{"name": 2}\n')
        code, out, _ = run("jobs:fail", "a.jsonl", "-n", "--key", "id")
        assert code == 1
        assert "items    2, 1 of them bad\n" in out
        assert "bad      #1: KeyError: --key: the item has no field 'id', but 'name'\n" in out

    def test_a_dry_run_reports_an_unreadable_input(self, run, folder):
        (folder / "a.json").write_text("{}")
        code, _, err = run("jobs:fail", "a.json", "-n")
        assert code == 2
        assert err.startswith("paco: cannot read a.json: expected a JSON array: [...], got a JSON object")

    def test_the_total_of_a_pipe_can_be_given(self, run, monkeypatch):
        out, into = os.pipe()
        os.write(into, b"1\n2\n3\n4\n5\n")
        os.close(into)
        with os.fdopen(out) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            code, _, err = run("jobs:fail", "--total", 50, "--halt", "soon,fail=10%", "-l", 1)
        assert code == 3
        assert "5 items failed" in err

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (
                ["--format", "cvs"],
                "must be one of lines, null, jsonl, json, csv, tsv, or one of these with .gz, .bz2, .xz or .zst, got",
            ),
            (["--max-time", "soon"], "must be a duration such as 30s"),
            (["--halt", "son,fail=1"], "got 'son,fail=1'; did you mean soon?"),
            (["--keep-ordr"], "unknown option --keep-ordr; did you mean --keep-order?"),
        ],
    )
    def test_a_wrong_argument_is_reported_with_what_was_expected(self, run, words, said):
        code, _, err = run("jobs:fail", "three.txt", *words)
        assert code == 2
        assert said in err


@pytest.mark.posix
@pytest.mark.parametrize(
    ("progress", "said"), [("plain", "0/3"), ("bar", "0/3"), ("off", "paco: 0 of 3 items, 0 failed")]
)
def test_sigusr1_prints_the_state(run, folder, monkeypatch, progress, said):
    monkeypatch.setattr("paco._view.progress.LiveLines.every", 100)

    async def ask(item):
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.sleep(0.02)

    monkeypatch.setitem(sys.modules, "given", SimpleNamespace(ask=ask))
    (folder / "three").write_text("1\n2\n3\n")
    code, _, err = run("given:ask", "three", "--progress", progress, "--limit", 1, "--total", 3, "-o", "out.jsonl")
    assert code == 0
    assert said in err
    assert "in flight 1" in err or "1 in flight" in err
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert run("given:ask", "three", "--progress", "json", "-o", "out.jsonl")[0] == 0


@pytest.mark.posix
def test_the_loop_can_be_chosen(run, folder, monkeypatch):
    async def kind(item):
        return type(asyncio.get_running_loop()).__module__.partition(".")[0]

    monkeypatch.setitem(sys.modules, "given", SimpleNamespace(kind=kind))
    (folder / "one").write_text("1\n")
    for words, name in ([], "uvloop"), (["--loop", "uvloop"], "uvloop"), (["--loop", "asyncio"], "asyncio"):
        assert run("given:kind", "one", "--values", *words)[1] == f'"{name}"\n'
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run("given:kind", "one", "--values")[1] == '"asyncio"\n'
    _, out, err = run("given:kind", "one", "--loop", "uvloop", "-o", "new.jsonl")
    assert (out, err) == ("", "paco: --loop uvloop needs uvloop: pip install 'paco[fast]'\n")
    assert not (folder / "new.jsonl").exists()
