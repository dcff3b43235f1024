"""The records of the command's items and problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._records import _lines
from paco._records._lines import Slots, Span, line, result

if TYPE_CHECKING:
    from paco._cli._formats import Problem
    from paco._cli._inputs import Item

__all__ = ["Slots", "Span", "failure", "line", "opening", "result"]


def opening(item: Item) -> str:
    """Return the part of the record that is known before the item runs, which may change its value."""
    return _lines.opening(item.id, item.key, item.value)


def failure(problem: Problem) -> str:
    """Return the part of the record that holds an error."""
    return _lines.failure(problem.type, problem.message)
