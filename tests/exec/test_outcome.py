"""The result of a program: JSON if it is JSON, otherwise text; and its error."""

from __future__ import annotations

import subprocess

import pytest

from paco._exec.client import Ended
from paco._exec.outcome import ProgramError, result_of

RESULTS = {
    b"": "",
    b"\n": "",
    b"a\n": "a",
    b"a\n\n": "a\n",
    b" a b": " a b",
    b"\xff\n": "\\xff",
    b'{"a": [1, null]}\n': {"a": [1, None]},
    b" [1.10]\n\n": [1.1],
    b'"a"': "a",
    b"null": None,
    b"true\n": True,
    b"12\n": 12,
    b" -1.5 ": -1.5,
    b"007\n": "007",
    b"1.10\n": "1.10",
    b"1e400\n": "1e400",
    b"NaN": "NaN",
    b"Infinity\n": "Infinity",
    b"[NaN]": "[NaN]",
    b'{"a":1e999}': '{"a":1e999}',
    b'{"a":1,"a":2}': '{"a":1,"a":2}',
    b"[" * 100_000: "[" * 100_000,
    b"9" * 5000: "9" * 5000,
    b"{a}\n": "{a}",
    b"2026-11-30": "2026-11-30",
    b"nothing": "nothing",
}


def test_stdout_is_the_result_json_if_it_is_json_otherwise_text():
    for stdout, result in RESULTS.items():
        found = result_of(["x"], Ended(0, stdout, 0, b"ignored"))
        assert (found, type(found)) == (result, type(result)), stdout[:20]


def test_a_longer_output_says_what_is_left_out():
    text = "[paco: the output is longer than 16 MiB; 1,234 bytes before this are left out]\n12\n"
    assert result_of(["x"], Ended(0, b"12\n", 1234, b"")) == text


@pytest.mark.parametrize(
    ("code", "stderr", "said"),
    [(3, b" no\nfile\n", "exit code 3: no\nfile"), (1, b"", "exit code 1"), (-9, b"\xff", "by SIGKILL: \\xff")],
)
def test_a_program_that_failed_is_an_error_with_what_it_said(code, stderr, said):
    with pytest.raises(ProgramError) as error:
        result_of(["cp", "a"], Ended(code, b"out", 0, stderr))
    assert str(error.value) == said
    assert isinstance(error.value, subprocess.CalledProcessError)
    assert (error.value.returncode, error.value.cmd, error.value.output) == (code, ["cp", "a"], b"out")
