"""The examples of GNU parallel, as the page of the command translates them."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
from pathlib import Path

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.posix, pytest.mark.usefixtures("folder")]

FILES = {
    "files.txt": "a/b c.txt\nd.txt\n",
    "a/b c.txt": "12345",
    "d.txt": "123",
    "names.txt": 'Ann\nBob "B" O\'Hara $HOME\n',
    "people.csv": 'name,age\nAnn,7\n"Hara, Bob",8\n',
    "people.tsv": "name\tage\nAnn\t7\nBob\t8\n",
    "seconds.txt": "0\n30\n",
    "flaky": '#!/bin/sh\necho >> "$1".tries\ntest "$1" = Ann || test -e mended || test $(wc -l < "$1".tries) -ge 3\n',
}
PAGE = (Path(__file__).parents[2] / "docs" / "command.md").read_text("utf-8")
BOB = 'Bob "B" O\'Hara $HOME'

#: For each command: its exit code, and the results in the order of the input; None for a failure.
EXPECTED = {
    "paco map --exec 'gzip -k' files.txt": (0, ["", ""]),
    "paco map --exec 'cp {} {.}.bak' files.txt": (0, ["", ""]),
    "paco map --exec 'echo {/} {//} {/.} {#}' files.txt": (0, ["b c.txt a b c 1", "d.txt . d 2"]),
    'paco map --exec "echo \\"it\'s {}\\"" names.txt': (0, ["it's Ann", f"it's {BOB}"]),
    """paco map --exec 'sh -c "wc -c < \\"$1\\"" sh {}' files.txt""": (0, [5, 3]),
    "paco map --exec 'echo {name}: {age}' people.csv": (0, ["Ann: 7", "Hara, Bob: 8"]),
    "paco map --exec 'echo {name}' people.tsv": (0, ["Ann", "Bob"]),
    "paco map --exec 'wc -w' --stdin item names.txt": (0, [1, 4]),
    "seq 3 | paco map --exec echo -": (0, [1, 2, 3]),
    "find . -print0 | paco map --format null --exec 'ls -d' -": (0, [".", "./names.txt", "./a/b c.txt"]),
    "paco map -l 2 -k --exec echo names.txt": (0, ["Ann", BOB]),
    "paco map --rate 10/s --exec echo names.txt": (0, ["Ann", BOB]),
    "paco map --timeout 3s --exec sleep seconds.txt": (1, ["", None]),
    "paco map --retries 2 --exec ./flaky names.txt": (0, ["", ""]),
    "paco map --halt soon,fail=1 -l 1 --exec false files.txt": (3, [None]),
    "paco map --halt now,fail=50% --exec false files.txt": (3, [None, None]),
    "paco map -o log.jsonl --exec ./flaky names.txt": (1, ["", None]),
    "paco map -o log.jsonl --resume --exec ./flaky names.txt": (0, ["", ""]),
    "paco map --progress plain --exec echo names.txt": (0, ["Ann", BOB]),
    "paco map --dry-run --exec 'rm {}' files.txt": (0, None),
}
#: What the command before a pipe writes, as far as it matters.
FED = {"": b"", "seq 3": b"1\n2\n3\n", "find . -print0": b".\0./names.txt\0./a/b c.txt\0"}


def rows():
    """Return the commands in the right column of the table."""
    table = PAGE.partition("### From GNU parallel\n")[2].partition("\n\nUnlike")[0]
    cells = [re.sub(r"</?code>", "`", row).split(" | ")[1] for row in table.splitlines() if "paco map" in row]
    return [html.unescape(cell.split("`")[1]) for cell in cells]


def test_the_table_has_these_commands():
    assert rows() == list(EXPECTED)


@pytest.fixture
def ran(run, folder, pipe):
    """Return a function that runs a command of the table, and returns its exit code and results."""
    (folder / "flaky").chmod(0o755)

    def ran(line):
        feeds, _, line = line.rpartition(" | ")
        os.write(pipe[1], FED[feeds])
        os.close(pipe[1])
        code, out, _ = run(*shlex.split(line)[2:])
        if "-o log.jsonl" in line:
            out = (folder / "log.jsonl").read_text()
        if "--dry-run" in line:
            assert "\nruns     rm 'a/b c.txt'\n" in out
            return code, None
        # The last record of an item counts.
        found = {record["id"]: record.get("result") for record in map(json.loads, out.splitlines())}
        return code, [found[number] for number in sorted(found)]

    return ran


@pytest.mark.parametrize("line", EXPECTED)
def test_each_command_of_the_table_does_what_it_does_there(run, ran, folder, line):
    if "--resume" in line:
        assert run("-o", "log.jsonl", "--exec", "./flaky", "names.txt")[0] == 1
        (folder / "mended").touch()
    code, results = EXPECTED[line]
    found = ran(line)
    if "now,fail" in line:  # the second may have been cancelled
        found = found[0], found[1][:1] * 2
    assert found == (code, results)


def test_files_are_written_where_the_placeholders_say(ran, folder):
    ran("paco map --exec 'cp {} {.}.bak' files.txt")
    assert (folder / "a/b c.bak").read_text() == "12345"
    assert (folder / "d.bak").read_text() == "123"
