"""`paco map --exec`: any program in place of a function."""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import signal
import sys
import time

import pytest

from tests.patience import wait_until
from tests.programs import is_there, popen

pytestmark = [pytest.mark.realtime, pytest.mark.posix, pytest.mark.usefixtures("folder")]

#: How often the command is killed; 50 by PACO_KILLS=50.
KILLS = int(os.environ.get("PACO_KILLS", "3"))
FILES = {
    "tool": '#!/bin/sh\necho "$#: $*"\n',
    "items.txt": "a\nb c\n",
    "rows.csv": 'name,size\na.jpg,10\n"b, c.jpg",20\n',
}


@pytest.fixture(autouse=True)
def tool(folder):
    (folder / "tool").chmod(0o755)


def records(text):
    return sorted(map(json.loads, text.splitlines()), key=lambda record: record["id"])


def results(text):
    return [record.get("result", record.get("error")) for record in records(text)]


# ---- what runs


def test_a_program_runs_for_each_item_and_its_template_is_the_function(run):
    code, out, err = run("--exec", "./tool -x {.}.png", "items.txt", "--progress", "off")
    assert (code, err) == (0, "")
    assert results(out) == ["2: -x a.png", "2: -x b c.png"]
    assert {record["function"] for record in records(out)} == {"./tool -x {.}.png"}


def test_without_a_placeholder_the_item_is_the_last_argument(run):
    assert results(run("--exec", "./tool -x", "items.txt")[1]) == ["2: -x a", "2: -x b c"]


def test_programs_get_the_very_bytes_of_names_that_end_in_zero_bytes(run, folder):
    names = [b"it's", b"-n", b"line\nend\r", b"M\xfcller", "日本".encode()]
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(name)
    (folder / "names").write_bytes(b"\0".join(names))
    code, _, _ = run("--exec", "cat --", "names", "--format", "null", "-o", "out.jsonl")
    assert code == 0
    again = run("--exec", "cat --", "names", "--format", "null", "-o", "out.jsonl", "--resume")[2]
    assert "0 items   0 ok   0 failed   5 skipped" in again
    assert {os.fsencode(record["input"]) for record in records((folder / "out.jsonl").read_text())} == set(names)


def test_fields_are_those_of_a_row(run):
    _, out, _ = run("--exec", "./tool {name.}-{size}.png {#}", "rows.csv")
    assert results(out) == ["2: a-10.png 1", "2: b, c-20.png 2"]


def test_a_program_may_read_its_item_from_stdin(run, folder):
    (folder / "rows.jsonl").write_text('{"a": "x\\n"}\n"text"\n')
    _, out, _ = run("--exec", "cat", "--stdin", "item", "rows.jsonl")
    assert results(out) == [{"a": "x\n"}, "text"]
    assert results(run("--exec", "./tool {}", "--stdin", "item", "items.txt")[1]) == ["1: a", "1: b c"]


def test_items_come_from_stdin_and_programs_find_it_empty(folder):
    process = popen("-m", "paco", "map", "--exec", "sh -c 'cat; echo $0'", "-", cwd=folder)
    out, _ = process.communicate("1\n2\n3\n")
    assert results(out) == [1, 2, 3]


def test_hostile_items_are_one_argument_or_an_error_of_their_own(run, folder):
    items = ["a b", "'", '"', "$(id)", "`id`", "-rf", "--", "a\nb", "é", "", "*", "\\", "\x1b[2J"]
    (folder / "items.jsonl").write_text("".join(f"{json.dumps(item)}\n" for item in [*items, "a\0b", "\ud800"]))
    program = f"{sys.executable} -S -c 'import json, sys; print(json.dumps(sys.argv[1:]))' {{}}"
    code, out, _ = run("--exec", program, "items.jsonl")
    *right, nul, lone = results(out)
    assert code == 1
    assert right == [[item] for item in items]
    assert (nul["type"], "NUL" in nul["message"]) == ("ValueError", True)
    assert lone["type"] == "UnicodeEncodeError"


def test_a_program_that_fails_is_an_error_of_its_item(run):
    code, out, err = run("--exec", "sh -c 'echo no >&2; kill -$0 $$; exit 3' {size}", "rows.csv", "--progress", "plain")
    assert code == 1
    assert [one["message"] for one in results(out)] == ["by SIGUSR1: no", "exit code 3: no"]
    assert "#1 {'name': 'b, c.jpg', 'size': '20'}  ProgramError: exit code 3: no\n" in err


def test_a_program_that_only_an_item_names_may_be_missing(run):
    code, out, _ = run("--exec", "{} --version", "items.txt")
    assert code == 1
    assert {one["type"] for one in results(out)} == {"FileNotFoundError"}


def test_an_item_without_the_field_is_an_error_of_its_own_and_not_tried_again(run, folder):
    (folder / "rows.jsonl").write_text('{"name": "a"}\n{"nam": "b"}\n')
    for more in ([], ["--retries", 3], ["--retries", 3, "--retry-on", "ValueError"]):
        code, out, _ = run("--exec", "./tool {name}", "rows.jsonl", *more)
        assert code == 1
        said = "the item has no field 'name', but 'nam'; did you mean 'nam'?"
        assert results(out)[1] == {"type": "TemplateError", "message": said}
        assert records(out)[1]["attempts"] == 1


def test_a_field_that_no_row_has_is_refused_before_anything_runs(run, folder):
    wide = ",".join(f"c{number}" for number in range(40))
    (folder / "wide.csv.gz").write_bytes(gzip.compress(f"{wide}\n".encode()))
    (folder / "empty.csv").write_text("\n")
    (folder / "bad.csv").write_text("a,a\n1,2\n")
    said = "paco: --exec: rows.csv has no field 'nam', but 'name', 'size'; did you mean 'name'?\n"
    assert run("--exec", "./tool {nam/}", "rows.csv", "--retries", 3) == (2, "", said)
    assert "wide.csv.gz has no field 'x', but 'c0', 'c1'" in run("--exec", "./tool {x}", "wide.csv.gz")[2]
    assert "'c11' and 28 more\n" in run("--exec", "./tool {x}", "wide.csv.gz")[2]
    assert "rows.csv has no field 'c0'" in run("--exec", "./tool {c0}", "wide.csv.gz", "rows.csv")[2]
    assert run("--exec", "./tool {x}", "empty.csv", "--progress", "off") == (0, "", "")
    assert "the header has 'a' twice" in run("--exec", "./tool {x}", "bad.csv")[2]  # at the end of the run, as always


def test_the_fields_of_a_pipe_are_known_only_from_its_rows(run, pipe):
    os.write(pipe[1], b"name\n1\n")
    os.close(pipe[1])
    code, out, _ = run("--exec", "./tool {nam}", "--format", "csv")
    assert (code, results(out)[0]["message"][:27]) == (1, "the item has no field 'nam'")


def test_other_options_that_name_a_field_are_checked_too(run):
    said = "rows.csv has no field 'sice', but 'name', 'size'; did you mean 'size'?\n"
    assert run("--exec", "echo", "rows.csv", "--key", "sice") == (2, "", f"paco: --key: {said}")
    assert run("--exec", "echo", "rows.csv", "--budget", 9, "--cost", "sice") == (2, "", f"paco: --cost: {said}")
    assert run("--exec", "echo", "rows.csv", "--budget", 30, "--cost", "size", "--key", "name")[0] == 0


def test_an_item_without_its_key_is_an_error_that_names_what_it_has(run, folder):
    (folder / "rows.jsonl").write_text('{"nam": 1}\n7\n')
    _, out, _ = run("--exec", "echo", "rows.jsonl", "--key", "name")
    assert [one["message"] for one in results(out)] == [
        "--key: the item has no field 'name', but 'nam'; did you mean 'nam'?",
        "--key: the item must be an object with a field 'name', got 7",
    ]


def test_an_item_that_no_program_can_receive_is_not_tried_again(run, folder):
    (folder / "long.jsonl").write_text(f'"{"x" * 3_000_000}"\n"a\\u0000b"\n')
    code, out, _ = run("--exec", "./tool", "long.jsonl", "--retries", 3)
    long, nul = records(out)
    assert (code, long["attempts"], nul["attempts"]) == (1, 1, 1)
    said = (
        "the arguments are too long for the system: 3,000,006 characters; let the program read the item: --stdin item"
    )
    assert long["error"] == {"type": "TemplateError", "message": said}
    assert results(run("--exec", "wc -c", "--stdin", "item", "long.jsonl")[1]) == [3_000_000, 3]


def test_retries_timeouts_and_named_errors(run, folder):
    script = "sh -c 'echo x >> {name/}.tries; test $(wc -l < {name/}.tries) -ge 3'"
    _, out, _ = run("--exec", script, "rows.csv", "--retries", 5, "--head", 1)
    assert [(one["ok"], one["attempts"]) for one in records(out)] == [(True, 3)]
    one = ["--exec", "false", "items.txt", "--retries", 1, "--head", 1, "--retry-on"]
    for name, attempts in ("TimeoutError", 1), ("subprocess.CalledProcessError", 2):
        assert f'"attempts":{attempts}' in run(*one, name)[1]
    code, out, _ = run("--exec", "sleep 60", "--stdin", "item", "items.txt", "--timeout", "0.2")
    assert code == 1
    assert {one["type"] for one in results(out)} == {"TimeoutError"}


def test_a_run_resumes_with_the_same_program_alone(run, folder):
    first = ["--exec", "sh -c 'test -e $0.txt && echo ok' {size}", "rows.csv", "-o", "out.jsonl"]
    (folder / "10.txt").touch()
    assert run(*first)[0] == 1
    (folder / "20.txt").touch()
    code, _, err = run(*first, "--resume")
    assert (code, "1 ok   0 failed   1 skipped" in err) == (0, True)
    code, _, err = run("--exec", "./tool {size}", "rows.csv", "-o", "out.jsonl", "--resume")
    assert code == 2
    assert "was made by sh -c 'test -e $0.txt && echo ok' {size}, and this is ./tool {size}; use another file" in err


def test_the_command_that_goes_on_has_the_program_too(run, folder):
    err = run("--exec", "sh -c 'exit 1' {}", "items.txt", "-o", "out.jsonl")[2]
    again = """paco map --exec 'sh -c '"'"'exit 1'"'"' {}' items.txt -o out.jsonl --retry-failed"""
    assert f"  again     {again}\n" in err


def test_halting_ends_the_programs_that_run(run, folder):
    (folder / "items.txt").write_text("0\n60\n61\n")
    script = "sh -c 'echo $$ >$0.pid; test $0 != 0 && sleep $0; until test -s 61.pid; do sleep 0.01; done; exit 1' {}"
    code, out, _ = run("--exec", script, "items.txt", "--fail-fast")
    assert code == 3
    assert len(out.splitlines()) == 1
    assert not left(folder)


def test_a_dry_run_shows_the_command_of_the_first_item(run, folder):
    code, out, _ = run("--exec", "./tool '{name}' {{}} {size}.png", "rows.csv", "-n")
    assert code == 0
    assert "\nruns     ./tool a.jpg '{}' 10.png\n" in out
    (folder / "rows.jsonl").write_text('{"name": 1}')
    code, out, _ = run("--exec", "./tool {nam}", "rows.jsonl", "-n")
    assert code == 1
    assert "\nruns " not in out
    assert "\nbad      #0: TemplateError: the item has no field 'nam'" in out


def test_the_view_has_the_name_of_the_program(run):
    assert re.search(r'"done": 2\b', run("--exec", "/bin/echo hi", "items.txt", "--progress", "json")[2])
    err = run("--exec", "sh -c 'sleep 0.3' {}", "items.txt", "--progress", "bar", "-o", "out.jsonl")[2]
    assert "\nsh\n" in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", err)


# ---- what is refused


REFUSED = [
    (["no-such-program-zzz"], "--exec: there is no program no-such-program-zzz"),
    (["wc", "-l", "items.txt"], "got 'items.txt' (the program and its arguments are one word: --exec 'wc ...')\n"),
    (["wc {a b}"], 'for a literal one, double it: {{; for a field with a space in its name, quote it: "{a b}"\n'),
    (["ech {}"], "--exec: there is no program ech; did you mean echo?"),
    (["./tol {}"], "--exec: there is no program ./tol; did you mean ./tool?"),
    (["none/tool"], "--exec: there is no program none/tool\n"),
    (["tool {}"], "--exec: there is no program tool in PATH; did you mean ./tool?\n"),
    (["A=1 ./tool {}"], "--exec: there is no program A=1; to set a variable: --exec 'env A=1 ...'\n"),
    (["cd {}"], "--exec: there is no program cd; cd is a command of the shell: --exec \"sh -c 'cd ... $1' sh {}\"\n"),
    (["./items.txt"], "--exec: ./items.txt is not executable; run chmod +x ./items.txt, or give its interpreter first"),
    (["echo 'a"], '--exec: "echo \'a" cannot be split into words: no closing quotation'),
    ([" "], "--exec: expected a program and its arguments, got an empty text"),
    (
        ["awk '{print $1}'"],
        "--exec: {print $1} is a field of an item, but items.txt is read as lines; give its --format, or ",
    ),
    (
        ["echo", "jobs:f"],
        "cannot read jobs:f: No such file or directory; with --exec there is no TARGET: each argument is",
    ),
    (
        ["./tool", "-x", "{}"],
        "unknown option -x (an option of the program belongs into its text: --exec 'PROGRAM -x {}')",
    ),
    (
        ["./tool", "--xyz={}"],
        "(an option of the program belongs into its text: --exec 'PROGRAM --xyz {}')",
    ),
    (["./tool", "{}.png"], "write a program and its arguments as one word: --exec './tool {}.png'"),
    (
        ["./tool -v", ":::", "a"],
        "::: is of GNU parallel; give items as lines: printf '%s\\n' a b c | paco map --exec './tool -v'\n",
    ),
    (["echo", "--arg", "a=1"], "--arg gives arguments to a function; write those of a program in --exec"),
    (["echo", "--unpack"], "--unpack calls a function with the fields of an item; in --exec, {name} is a field"),
    (["echo", "--workers", "2"], "--workers and --dask run a function elsewhere; programs are processes of their own"),
    (["echo", "--dask", "x"], "--workers and --dask run a function elsewhere; programs are processes of their own"),
    (["echo", "--stdin", "items"], "argument --stdin: must be one of item, got 'items'; did you mean item?"),
]


def test_wrong_use_is_refused_before_anything_runs(run):
    for words, said in REFUSED:
        code, out, err = run("--exec", *words, "items.txt")
        assert (code, out) == (2, ""), words
        assert said in err, words
    assert "give the program with --exec" in run("jobs:f", "items.txt", "--stdin", "item")[2]
    assert run("gzip -k", "items.txt")[2].endswith("got 'gzip -k'; to run a program: paco map --exec 'gzip -k'\n")
    assert "TARGET is missing: module:function or path.py:function; or --exec with a program" in run()[2]


def test_the_first_error_of_a_program_has_a_short_name(run, folder):
    (folder / "many.txt").write_text("a\n" * 20)
    assert "the first error:\nProgramError: exit code 1\n" in run("--exec", "false", "many.txt")[2]


def test_the_error_of_a_program_has_its_exit_code_and_stderr_as_fields(run, report, folder):
    (folder / "codes.txt").write_text("3\n3\n75\n")
    _, _, err = run("--exec", "sh -c 'echo no $1 >&2; exit $1' sh", "codes.txt", "-o", "out.jsonl", "-l", 1)
    assert [record["error"] for record in records((folder / "out.jsonl").read_text())] == [
        *2 * [{"type": "ProgramError", "message": "exit code 3: no 3", "code": 3, "stderr": "no 3"}],
        {"type": "ProgramError", "message": "exit code 75: no 75", "code": 75, "stderr": "no 75"},
    ]
    assert "  failures  2 exit code 3: no 3   1 exit code 75: no 75\n" in err
    assert "  failures  2 exit code 3: no 3   1 exit code 75: no 75\n" in report("out.jsonl")[1]


def test_a_program_that_a_signal_ended_has_its_negative_number_as_code(run):
    _, out, err = run("--exec", "sh -c 'kill -SEGV $$' {}", "items.txt", "--head", 1)
    assert results(out) == [{"type": "ProgramError", "message": "by SIGSEGV", "code": -signal.SIGSEGV, "stderr": ""}]
    assert "  failures  1 SIGSEGV\n" in err


@pytest.mark.parametrize("words", [(), ("--retries", 1)])
def test_a_timeout_names_the_program(run, words):
    _, out, _ = run("--exec", "sleep 9", "items.txt", "--head", 1, "--timeout", "20ms", *words, "--stdin", "item")
    assert "sleep did not finish within 0.02 s" in results(out)[0]["message"]


def test_a_folder_of_programs_that_cannot_be_read_does_no_harm(run, monkeypatch):
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:/none:items.txt")
    assert "there is no program ech; did you mean echo?" in run("--exec", "ech", "items.txt")[2]


@pytest.mark.parametrize("word", [">", ">out.txt", "2>/dev/null", "2>&1", "&>x", "|", "||", "&&", "&", ";", "<", "<<<"])
def test_words_that_are_meant_for_a_shell_are_told(run, word):
    code, _, err = run("--exec", f"./tool {{}} '{word}' a", "items.txt")
    assert code == 0
    said = (
        f"paco: --exec runs no shell, so {word} is an argument of ./tool; for a shell: --exec \"sh -c '... $1 {word} "
    )
    assert said in err


def test_other_words_mean_nothing_to_a_shell(run):
    assert run("--exec", "./tool {} a>b <html> --x=y;z a|b", "items.txt", "--progress", "off")[2] == ""


def test_systems_without_posix_spawn_are_told_what_to_do(run, monkeypatch):
    monkeypatch.delattr(os, "posix_spawnp")
    assert run("--exec", "echo", "items.txt") == (
        2,
        "",
        "paco: --exec needs Linux, macOS or another Unix; here, run programs from a TARGET\n",
    )


# ---- nothing is left


def left(folder):
    """Return the programs in the files of process IDs that still run."""
    pids = {pid for path in folder.glob("*.pid") for pid in path.read_text().split()}
    return [pid for pid in pids if is_there(pid)]


SLOW = "sh -c 'sleep 30 & echo $$ $! >>run.pid; wait' {}"


@pytest.mark.parametrize(
    ("signals", "code"), [([signal.SIGINT] * 2, 130), ([signal.SIGINT] * 3, 130), ([signal.SIGTERM] * 2, 143)]
)
def test_signals_end_the_programs(folder, signals, code):
    with popen("-m", "paco", "map", "--exec", SLOW, "items.txt", cwd=folder) as process:
        wait_until(lambda: (folder / "run.pid").exists() and len((folder / "run.pid").read_text().split()) == 4)
        for number in signals:
            process.send_signal(number)
            time.sleep(0.05)
        process.communicate()
        assert process.returncode == code
        wait_until(lambda: not left(folder))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_again_and_again_a_run_loses_nothing_and_leaves_no_program(folder):
    count = 60 * KILLS
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(count)))
    script = "sh -c 'echo $$ >>run.pid; sleep 0.0$(($0 % 10)); sleep 0.01 & echo $! >>run.pid; wait; echo $0' {}"
    words = [
        "-m",
        "paco",
        "map",
        "--exec",
        script,
        "items.txt",
        "-o",
        "out.jsonl",
        "--resume",
        "--progress",
        "off",
        "-l",
        4,
    ]
    dice = random.Random(KILLS)  # noqa: S311 - dice, not secrets
    for _ in range(KILLS):
        with popen(*words, cwd=folder) as process:
            wait_until((folder / "run.pid").exists)
            time.sleep(dice.uniform(0, 0.5))
            process.kill()
        time.sleep(3)
        assert not left(folder)
        (folder / "run.pid").unlink()
    with popen(*words, cwd=folder) as process:
        process.communicate()
    assert process.returncode == 0
    done = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert sorted(one["result"] for one in done) == list(range(count))
