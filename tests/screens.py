"""A fake terminal that records what it was sent, and functions that return what was visible on it."""

from __future__ import annotations

import io
import re

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


class Terminal(io.StringIO):
    """A terminal that records everything it was sent."""

    def isatty(self):
        return True

    def fileno(self):
        return 99


def painted(sent):
    """Return all lines that were visible at any time."""
    sent = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    return [line.rstrip() for line in ESCAPES.sub("\n", sent).split("\n") if line.strip()]


def left(sent):
    """Return the lines that are visible in the end."""
    screen, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r\n|.|\n", sent):
        if piece in {"\n", "\r\n"}:
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            screen[row] = ""
        elif len(piece) == 1 and piece != "\r":
            screen[row] += piece
    return [line.rstrip() for line in screen if line.strip()]
