"""The notebook runs in a real kernel, and shows one output that is updated."""

from __future__ import annotations

import json

import pytest

from tests.examples.conftest import EXAMPLES

pytest.importorskip("ipykernel", reason="needs ipykernel")
pytest.importorskip("nbclient", reason="needs nbclient")

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

EXECUTE = "from nbclient.cli import main; main()"  # `jupyter execute`, in a process because it leaves sockets open


def test_it_runs_in_a_real_kernel_and_shows_one_output_without_control_codes(start, tmp_path):
    done = tmp_path / "done.ipynb"
    process = start("-c", EXECUTE, EXAMPLES / "notebook.ipynb", f"--output={done}")
    _, err = process.communicate()
    assert process.returncode == 0, err

    code = [cell for cell in json.loads(done.read_text("utf-8"))["cells"] if cell["cell_type"] == "code"]
    _, run, counts, report, _ = [cell["outputs"] for cell in code]
    (shown,) = run
    text = "".join(shown["data"]["text/plain"])
    assert shown["output_type"] == "display_data"
    assert text.startswith("map fetch  200 items")
    assert "failed 4" in text
    assert "\x1b" not in str(run)
    assert counts[0]["text"][1:] == ["0 404\n", "50 404\n", "100 404\n", "150 404\n"]
    assert "<svg" in "".join(report[0]["data"]["text/html"])
