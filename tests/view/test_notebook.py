"""`paco.progress` in a notebook: in a real kernel, and with what IPython is asked for."""

from __future__ import annotations

import asyncio
import re
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest

import paco
from paco import testing
from paco._view import notebook
from tests.patience import PATIENCE
from tests.programs import SOURCE
from tests.screens import ESCAPES

CELL = """
import asyncio, paco

async def nap(number):
    await asyncio.sleep(0.05)
    if number == 7:
        raise ValueError("<b>")
    return number

with paco.progress():
    await paco.map(nap, range(40), limit=4, return_exceptions=True)
    print("between")
    await paco.map(paco.identity("<x>"), range(3))
"""


class Handle:
    """What `IPython.display.display` returns."""

    def __init__(self, outputs):
        self._outputs = outputs

    def update(self, output, *, raw):
        assert raw
        self._outputs.append(output)


@pytest.fixture
def outputs(monkeypatch):
    """Let this program be a kernel, and return its outputs."""
    outputs = []

    def display(output, *, raw, display_id):
        assert raw
        assert display_id
        assert not outputs
        outputs.append(output)
        return Handle(outputs)

    shell = SimpleNamespace(kernel=object())
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "IPython.display", SimpleNamespace(display=display))
    return outputs


async def nap(seconds):
    await asyncio.sleep(seconds)


def text(output):
    return output["text/plain"].splitlines()


def test_one_output_is_updated_and_a_line_stays_for_each_run(outputs, capsys):
    async def main():
        with paco.progress():
            await paco.map(nap, [1] * 4, limit=2)
            await paco.map(nap, [1] * 2)

    testing.run(main)
    assert len(outputs) == 9
    assert text(outputs[0])[0].startswith("map nap")
    assert "in flight 2/2" in text(outputs[0])[1]
    assert [re.sub(r" {2,}.*", "", line) for line in text(outputs[-1])] == ["map nap", "map nap"]
    assert "4 items in 2.0s" in text(outputs[-1])[0]
    assert all(one != two for one, two in pairwise(outputs))
    assert capsys.readouterr() == ("", "")


def test_html_is_escaped_and_styled(outputs):
    async def fetch(number):
        await asyncio.sleep(1)

    fetch.__name__ = fetch.__qualname__ = "<script>"

    async def main():
        with paco.progress():
            await paco.map(fetch, range(4), limit=2)

    testing.run(main)
    html = "".join(output["text/html"] for output in outputs)
    assert "<script" not in html
    assert "&lt;script&gt;" in html
    assert all(style in html for style in notebook._STYLES.values() if "d43" not in style)
    assert not ESCAPES.search(html)


def test_of_many_runs_the_last_are_shown(outputs):
    async def main():
        with paco.progress():
            for _ in range(25):
                await paco.map(nap, [0])

    testing.run(main)
    assert len(text(outputs[-1])) == 21
    assert text(outputs[-1])[0] == "5 runs before"


@pytest.mark.parametrize("shell", [None, SimpleNamespace()], ids=["no shell", "IPython in a terminal"])
def test_without_a_kernel_there_is_no_notebook(monkeypatch, shell):
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))
    assert not notebook.runs_in_notebook()


def test_without_ipython_there_is_no_notebook(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.runs_in_notebook()


def contrast(color, other):
    def luminance(color):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(map(float.__mul__, linear, (0.2126, 0.7152, 0.0722)))

    bright, dark = sorted([luminance(color), luminance(other)], reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_colors_can_be_read_on_white_and_on_black():
    for color in re.findall("#.{6}", str(notebook._STYLES)):
        assert min(contrast(color, "#ffffff"), contrast(color, "#000000")) >= 4.5


@pytest.mark.realtime
@pytest.mark.slow
def test_a_real_kernel_shows_one_output_without_control_codes(monkeypatch):
    pytest.importorskip("ipykernel", reason="needs ipykernel")
    manager = pytest.importorskip("jupyter_client", reason="needs jupyter_client").KernelManager()
    manager.kernel_spec.argv[0] = sys.executable
    monkeypatch.setenv("PYTHONPATH", SOURCE, prepend=":")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        messages = []
        reply = client.execute_interactive(CELL, output_hook=messages.append, timeout=PATIENCE)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", messages
    kinds = [message["msg_type"] for message in messages]
    shown = [message["content"] for message in messages if message["msg_type"].endswith("display_data")]
    assert kinds.count("display_data") == 1
    assert kinds.count("update_display_data") >= 2
    assert len({content["transient"]["display_id"] for content in shown}) == 1
    assert [one["content"]["text"] for one in messages if one["msg_type"] == "stream"] == ["between\n"]
    assert "\x1b" not in str(shown)
    last = shown[-1]["data"]["text/plain"].splitlines()
    assert [line.split("  ")[0] for line in last] == ["map nap", "map constant"]
    assert "failed 1" in last[0]
