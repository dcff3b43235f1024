"""The page of the command is true: its examples are understood, and no option is missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command.md").read_text("utf-8")
LINES = sorted(
    line.partition(" > ")[0].removeprefix("cat urls.txt | ").removeprefix("  again     ")
    for path in (ROOT / "README.md", ROOT / "docs" / "command.md")
    for line in path.read_text("utf-8").splitlines()
    if re.match(r"(cat urls.txt \| |  again     )?paco map [^-\[]", line)
)


@pytest.mark.parametrize("line", LINES)
def test_the_examples_of_the_page_are_valid_commands(run, line, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(*shlex.split(line)[2:])
    assert code == 2  # neither the input nor the module is there
    assert "--help" not in err


def test_the_page_has_examples():
    assert len(LINES) >= 6


def test_every_option_is_explained(run, report):
    options = set(re.findall(r"--[a-z-]+", run("-h")[1] + report("-h")[1]))
    assert [option for option in options if option not in PAGE] == []


def test_the_help_of_each_group_fits_a_screen(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = run("-h")[1].split("\n\n")
    assert {group.partition(":")[0] for group in groups} >= {"pace", "output", "resume", "stop", "look", "input"}
    assert max(len(group.splitlines()) for group in groups) <= 24
