"""The page of the command is true: its examples are understood, and no option is missing."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from paco._cli.options import parse_map, parse_report

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "command.md").read_text("utf-8")
LINES = sorted(
    line.partition(" > ")[0].removeprefix("cat urls.txt | ").removeprefix("  again     ")
    for path in (ROOT / "README.md", ROOT / "docs" / "command.md")
    for line in path.read_text("utf-8").splitlines()
    if re.match(r"(cat urls.txt \| |  again     )?paco map [^-\[]", line)
)


@pytest.mark.parametrize("line", LINES)
def test_the_examples_of_the_page_are_valid_commands(line):
    assert not isinstance(parse_map(shlex.split(line)[2:]), str)


def test_the_page_has_examples():
    assert len(LINES) >= 6


@pytest.mark.parametrize("option", sorted(set(re.findall(r"--[a-z-]+", f"{parse_map(['-h'])}{parse_report(['-h'])}"))))
def test_every_option_is_explained(option):
    assert option in PAGE


def test_the_help_of_each_group_fits_a_screen(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    groups = str(parse_map(["-h"])).split("\n\n")
    assert {group.partition(":")[0] for group in groups} >= {"pace", "output", "resume", "stop", "look", "input"}
    assert max(len(group.splitlines()) for group in groups) <= 24
