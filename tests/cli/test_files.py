"""The files of a run: found where the command was started, used for one thing each, and never lost."""

from __future__ import annotations

import json
import os
import stat
import sys
import threading

import pytest

from paco._cli.values import hide_secrets

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
from pathlib import Path

async def ran(item):
    Path("ran").touch()
    return item

async def fail(item, token="", limit=0):
    raise ValueError(item)
"""
MOVES = """
import os
os.chdir(os.path.dirname(os.path.abspath(__file__)))
from unreliable import flaky
"""
UNRELIABLE = """
async def flaky(item, calls=[]):
    calls.append(item)
    if len(calls) == 1:
        raise ValueError
    return item
"""
FILES = {
    "jobs.py": JOBS,
    "items.txt": "1\n2\n",
    "verdicts.py": "def again(error): return 0\n",
    "sub/moves.py": MOVES,
    "sub/unreliable.py": UNRELIABLE,
    "sub/items.txt": "wrong\n",
    "sub/verdicts.py": "def again(error): return False\n",
}
PICTURES = ("--report", "--trace")


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


# ---- the folder in which the command was started


@pytest.mark.parametrize("verdict", ["verdicts:again", "verdicts.py:again"])
def test_names_are_those_of_the_folder_in_which_the_command_was_started(run, folder, verdict):
    options = ("-o", "out.jsonl", "--report", "r.html", "--trace", "t.json", "--retries", 1, "--retry-on", verdict)
    code, _, _ = run("sub/moves.py:flaky", "items.txt", *options)
    assert code == 0
    records = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    assert sorted((record["input"], record["ok"]) for record in records) == [("1", True), ("2", True)]
    assert (folder / "r.html").exists()
    assert (folder / "t.json").exists()
    assert len(list((folder / "sub").glob("*.*"))) == 4


def test_a_resumed_run_reads_the_records_of_the_folder_in_which_it_was_started(run, folder):
    run("jobs:ran", "items.txt", "-o", "out.jsonl")
    (folder / "sub" / "moves.py").write_text(f"{MOVES}\nasync def ran(item): ...\n")
    code, _, err = run("sub/moves.py:ran", "items.txt", "-o", "out.jsonl", "--resume")
    assert code == 0
    assert "   2 skipped" in err


@pytest.mark.posix
def test_without_a_current_folder_relative_names_lead_nowhere(run, folder):
    (folder / "gone").mkdir()
    os.chdir(folder / "gone")
    (folder / "gone").rmdir()
    try:
        code, _, err = run("jobs:ran", "items.txt")
    finally:
        os.chdir(folder)
    assert (code, err) == (2, "paco: cannot read items.txt: No such file or directory\n")


# ---- one file, one use


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["items.txt", "-o", "items.txt"], "items.txt is both input and output"),
        (["items.txt", "--trace", "items.txt"], "items.txt is both input and trace"),
        (["items.txt", "-o", "./sub/../items.txt"], "./sub/../items.txt is both input and output"),
        (["items.txt", "-o", "jobs.py"], "jobs.py is both TARGET and output"),
        (["items.txt", "--report", "jobs.py"], "jobs.py is both TARGET and report"),
        (
            ["items.txt", "-o", "verdicts.py", "--retry-on", "verdicts.py:again"],
            "verdicts.py is both --retry-on and output",
        ),
        (
            ["items.txt", "--trace", "verdicts.py", "--retry-on", "verdicts:again"],
            "verdicts.py is both --retry-on and trace",
        ),
        (["items.txt", "-o", "new", "--report", "new"], "new is both output and report"),
        (["items.txt", "-o", "new", "--report", "sub/../new"], "sub/../new is both output and report"),
        (["items.txt", "--report", "new", "--trace", "new"], "new is both report and trace"),
        (["items.txt", "-n", "--report", "new", "--trace", "new"], "new is both report and trace"),
    ],
)
@pytest.mark.parametrize("target", ["jobs:ran", "jobs.py:ran"])
def test_a_file_has_one_use(run, folder, target, words, said):
    code, out, err = run(target, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert not (folder / "ran").exists()
    assert not (folder / "new").exists()
    assert {name: (folder / name).read_text() for name in FILES} == FILES


@pytest.mark.posix
def test_the_file_of_an_imported_target_and_links_to_a_file_are_known(run, folder):
    (folder / "front.py").write_text("from jobs import ran\n")
    os.link(folder / "items.txt", folder / "same.txt")
    (folder / "link.txt").symlink_to("items.txt")
    for words, said in [
        (["items.txt", "-o", "front.py"], "front.py is both TARGET and output"),
        (["items.txt", "-o", "jobs.py"], "jobs.py is both TARGET and output"),
        (["items.txt", "-o", "same.txt"], "same.txt is both input and output"),
        (["link.txt", "-o", "items.txt"], "items.txt is both input and output"),
    ]:
        code, _, err = run("front:ran", *words)
        assert code == 2
        assert said in err


def test_an_object_a_builtin_and_code_of_no_file_are_targets_without_trouble(run, folder):
    (folder / "made.py").write_text(
        "class Echo:\n    async def __call__(self, item): return item\necho, size = Echo(), len\n"
        "exec('async def text(item): return item')\n"
    )
    assert run("made:echo", "items.txt")[0] == 0
    assert run("made:text", "items.txt")[0] == 0
    assert run("made:size", "items.txt")[0] == 0


def test_standard_input_and_output_are_files_too(run, folder, monkeypatch):
    with (folder / "items.txt").open() as stdin, (folder / "items.txt").open("a") as stdout:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert "items.txt is both input and output" in run("jobs:ran", "-o", "items.txt")[2]
        monkeypatch.setattr(sys, "stdout", stdout)
        for words, said in [
            ([], "standard output is both input and output"),
            (["sub/items.txt", "--report", "items.txt"], "items.txt is both output and report"),
        ]:
            code, _, err = run("jobs:ran", *words)
            assert code == 2
            assert said in err
    assert (folder / "items.txt").read_text() == FILES["items.txt"]


@pytest.mark.posix
def test_a_named_pipe_has_one_use_and_a_device_any(run):
    os.mkfifo("pipe")
    assert "pipe is both input and output" in run("jobs:ran", "pipe", "-o", "pipe")[2]
    assert run("jobs:ran", os.devnull, "-o", os.devnull, "--report", os.devnull, "--trace", os.devnull)[0] == 0


def test_a_file_that_is_called_like_the_module_of_the_target_is_another_one(run, folder):
    for _ in range(2):
        assert run("jobs:ran", "items.txt", "-o", "jobs", "--report", "ran.html")[0] == 0
    assert len((folder / "jobs").read_text().splitlines()) == 4


def test_a_file_may_be_read_twice(run):
    assert len(run("jobs:ran", "items.txt", "items.txt", "jobs.py")[1].splitlines()) > 4


# ---- pictures


@pytest.mark.parametrize("option", PICTURES)
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none/it", "cannot write none/it: No such file or directory"),
        ("sub", "cannot write sub: Is a directory"),
        ("items.txt/it", "cannot write items.txt/it: Not a directory"),
        ("a\0b", "cannot write a\\x00b: "),
        ("mine", "cannot write mine: it exists and is not a "),
        ("link", "cannot write link: it is a link, which is not followed"),
        ("dangling", "cannot write dangling: it is a link, which is not followed"),
    ],
)
@pytest.mark.posix
def test_a_picture_that_cannot_be_written_is_told_before_the_run(run, folder, option, name, said):
    (folder / "mine").write_text("<html>mine</html>")
    (folder / "empty").touch()
    (folder / "link").symlink_to("empty")
    (folder / "dangling").symlink_to("planted")
    before = sorted(folder.rglob("*"))
    code, out, err = run("jobs:ran", "items.txt", option, name)
    assert (code, out) == (2, "")
    assert said in err
    assert [one for one in sorted(folder.rglob("*")) if "__pycache__" not in str(one)] == before
    assert (folder / "mine").read_text() == "<html>mine</html>"
    assert (folder / "empty").read_text() == ""


@pytest.mark.posix
def test_only_its_owner_reads_a_new_picture_and_an_earlier_one_keeps_its_mode(run, folder):
    words = ("jobs:ran", "items.txt", "--report", "r.html", "--trace", "t.json")
    assert run(*words)[0] == 0
    first = (folder / "r.html").read_text()
    assert (mode(folder / "r.html"), mode(folder / "t.json")) == (0o600, 0o600)
    (folder / "r.html").chmod(0o644)
    assert run(*words, "--head", 1)[0] == 0
    assert (folder / "r.html").read_text() != first
    assert json.loads((folder / "t.json").read_text())["traceEvents"]
    assert mode(folder / "r.html") == 0o644
    assert "cannot write r.html: it exists and is not a trace" in run("jobs:ran", "items.txt", "--trace", "r.html")[2]


@pytest.mark.parametrize("option", PICTURES)
def test_an_empty_file_becomes_a_picture(run, folder, option):
    (folder / "it").touch()
    assert run("jobs:ran", "items.txt", option, "it")[0] == 0
    assert (folder / "it").stat().st_size


@pytest.mark.posix
def test_a_picture_goes_through_a_pipe(run, folder):
    os.mkfifo("pipe")
    read = []
    reader = threading.Thread(target=lambda: read.append((folder / "pipe").read_text()))
    reader.start()
    assert run("jobs:ran", "items.txt", "--report", "pipe")[0] == 0
    reader.join()
    assert read[0].startswith("<!DOCTYPE html>")


def test_a_file_that_takes_the_place_of_a_picture_during_the_run_is_left_alone(run, folder):
    (folder / "takes.py").write_text("from pathlib import Path\nasync def f(item): Path('r.html').write_text('mine')\n")
    code, _, err = run("takes:f", "items.txt", "--report", "r.html")
    assert code == 1
    assert "paco: cannot write the pictures: " in err
    assert "r.html: it exists and is not a report of paco; give another name" in err
    assert (folder / "r.html").read_text() == "mine"


def test_a_report_of_records_replaces_no_other_file(run, report, folder):
    run("jobs:ran", "items.txt", "-o", "index.jsonl")
    (folder / "index.html").write_text("mine")
    for words, said in [
        ([], "cannot write index.html: it exists and is not a report of paco; give another name"),
        (["-o", "jobs.py"], "cannot write jobs.py: it exists"),
        (["-o", "index.jsonl"], "index.jsonl is both the file of the records and report"),
        (["-o", "r.html", "--trace", "r.html"], "r.html is both report and trace"),
        (["-o", "r.html", "--trace", "none/t.json"], "cannot write none/t.json: No such file or directory"),
    ]:
        code, out, err = report("index.jsonl", *words)
        assert (code, out) == (2, "")
        assert said in err
    assert (folder / "index.html").read_text() == "mine"
    assert not (folder / "r.html").exists()
    for _ in range(2):
        assert report("index.jsonl", "-o", "r.html", "--trace", "t.json")[0] == 0


# ---- secrets


@pytest.mark.parametrize("words", [["--arg", "token=hunter2"], ["--arg=token=hunter2"]])
def test_the_command_for_the_items_left_hides_secrets(run, words):
    err = run("jobs:fail", "items.txt", "-o", "out.jsonl", *words, "--arg", "limit=5")[2]
    again = next(line for line in err.splitlines() if "again" in line)
    assert "hunter2" not in err
    assert "token=***" in again
    assert again.endswith("--arg limit=5 --retry-failed")


def test_an_error_about_an_argument_hides_secrets(run, folder):
    (folder / "typed.py").write_text("async def f(item, pass_code: int, size: int = 0): ...\n")
    assert "--arg pass_code must be of type int, got '***'" in run("typed:f", "items.txt", "--arg", "pass_code=x")[2]
    assert "--arg size must be of type int, got 'x'" in run("typed:f", "items.txt", "--arg", "size=x")[2]


def test_secrets_are_known_by_their_names_and_places():
    for argument, shown in {
        "API_KEY=a=b": "API_KEY=***",
        "apiKey=x": "apiKey=***",
        "db_password=p q": "db_password=***",
        "authorization=Bearer x\ny": "authorization=***",
        "url=https://e.org/?a=1&access_token=x&b=2": "url=https://e.org/?a=1&access_token=***&b=2",
        "url=postgres://me:pass@e.org/db": "url=postgres://***@e.org/db",
        "where=host=h password=p": "where=host=h password=***",
        "header=Authorization: Bearer x": "header=Authorization: ***",
        "h=X-Auth-Token:x": "h=X-Auth-Token:***",
        'headers={"Accept": "*/*", "X-Api-Key": "x", "a": 1}': 'headers={"Accept": "*/*", "X-Api-Key": ***',
        "max_tokens=100": "max_tokens=100",
        "tokens=abc": "tokens=***",
        "base_url=https://e.org": "base_url=https://e.org",
        "limit=5": "limit=5",
    }.items():
        assert hide_secrets(argument) == shown
