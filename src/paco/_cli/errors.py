"""The error that ends the command before anything has run, and how an error of the user's code is shown."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from paco._view.console import message

if TYPE_CHECKING:
    from collections.abc import Iterable

#: Code that stands between the command and the user's own: its frames say nothing about the error.
_BETWEEN = ("<frozen ", str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent), contextlib.__file__)


class CommandError(Exception):
    """Wrong use, or a target that cannot be set up: the text is shown, nothing was run, the exit code is 2."""


class ClosingError(Exception):
    """The user's context manager failed at its end, after the items: the text says how."""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` for the known word that is closest to ``wrong``, or nothing."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def explain(error: BaseException) -> str:
    """Return the traceback of ``error`` from the first frame of the user's own code on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_BETWEEN):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def describe(error: OSError) -> str:
    """Return what the system says, without the number that only C knows."""
    text = error.strerror or message(error)
    return f"{error.filename}: {text}" if error.filename is not None else text
