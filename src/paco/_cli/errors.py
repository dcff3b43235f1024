"""The errors of the command, and the errors of the user's code and of the system as text."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

from paco._base.check import message

if TYPE_CHECKING:
    from collections.abc import Iterable

#: The files between the command and the user's code. Their frames say nothing about the user's error.
_BETWEEN = ("<frozen ", str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent), contextlib.__file__)


class CommandError(Exception):
    """Raised for wrong use, or a target that cannot be set up. Nothing was run; the exit code is 2."""


class ClosingError(Exception):
    """Raised if the user's context manager fails when it exits, after the items. The text has its traceback."""


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` with the known word that is similar to ``wrong``, or an empty text."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def explain(error: BaseException) -> str:
    """Return the traceback of ``error``, from the first frame of the user's code on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_BETWEEN):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(error), error, frames)).rstrip()


def describe(error: OSError) -> str:
    """Return the file and the system's message of ``error``, without its number."""
    text = error.strerror or message(error)
    return f"{error.filename}: {text}" if error.filename is not None else text
