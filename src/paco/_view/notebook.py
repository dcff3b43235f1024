"""The progress of runs in a notebook: one output of the cell, which is updated in place."""

from __future__ import annotations

import sys
from collections import deque
from html import escape
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from paco._view.display import Display
from paco._view.lines import ended, live

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._view.console import Line
    from paco._view.meter import Meter

#: The columns of a line.
_WIDTH: Final = 100
#: The most lines of runs that have ended. Those before are only counted.
_KEPT: Final = 20
#: These colors can be read on white and on black: their contrast is 4.5 or more with both.
_STYLES: Final = {"red": "color:#d43f36", "green": "color:#1b8744", "bold": "font-weight:bold", "dim": "opacity:.6"}


def runs_in_notebook() -> bool:
    """Return whether this program is the kernel of a notebook. IPython in a terminal has no kernel."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return getattr(shell, "kernel", None) is not None


class NotebookLines(Display):
    """One output with a line for each run that has ended, and below them the lines of those that run."""

    every = 0.2

    def __init__(self) -> None:
        self._ended: deque[Line] = deque(maxlen=_KEPT)
        self._count = 0
        self._live: list[Line] = []
        self._shown: list[Line] = []
        self._handle: Any = None

    def show(self, meters: Sequence[Meter]) -> None:
        self._live = live(meters, _WIDTH)
        self._paint()

    def end(self, meter: Meter) -> None:
        self._count += 1
        self._ended.append(ended(meter, _WIDTH))
        self._paint()

    def rest(self) -> None:
        self._live = []

    def close(self) -> None:
        self._live = []
        self._paint()

    def _paint(self) -> None:
        lines = [*self._ended, *self._live]
        if self._count > _KEPT:
            lines.insert(0, [(f"{self._count - _KEPT:,} runs before", "dim")])
        if lines == self._shown:
            return
        self._shown = lines
        output = {"text/plain": _text(lines), "text/html": _html(lines)}
        if self._handle is None:
            display = import_module("IPython.display").display
            self._handle = display(output, raw=True, display_id=True)
        else:
            self._handle.update(output, raw=True)


def _text(lines: list[Line]) -> str:
    return "\n".join("".join(text for text, _ in line) for line in lines)


def _html(lines: list[Line]) -> str:
    """Return the lines in the font and the colors of the page, on its background."""
    rows = "\n".join("".join(_styled(text, name) for text, name in line) for line in lines)
    return f'<pre style="margin:0;line-height:1.4;white-space:pre;overflow-x:auto">{rows}</pre>'


def _styled(text: str, name: str) -> str:
    style = _STYLES.get(name)
    return escape(text) if style is None else f'<span style="{style}">{escape(text)}</span>'
