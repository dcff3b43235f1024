"""The words behind the options, each turned into what it means, or refused with what was expected."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from paco._cli.errors import suggest

if TYPE_CHECKING:
    from collections.abc import Callable

AUTO: Final = "auto"
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)", re.ASCII)
_WHENS = ("now", "soon", "never")


def whole_number(least: int) -> Callable[[str], int]:
    """Return a function that reads a whole number of ``least`` or more."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, got {text!r}")
        return int(text)

    return parse


def limit(text: str) -> int | Literal["auto"]:
    """Return a number of items, or the word for one that is to be found."""
    if text == AUTO:
        return AUTO
    if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII):
        hint = suggest(text, [AUTO])
        raise argparse.ArgumentTypeError(f"must be a whole number of 0 or more, or {AUTO}, got {text!r}{hint}")
    return int(text)


def pair(text: str) -> tuple[str, str]:
    """Return the two sides of ``NAME=VALUE``."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value


def duration(text: str) -> float:
    """Return the seconds of ``30s``, ``2m``, ``1h30m`` or ``500ms``; a number alone is seconds."""
    parts: list[tuple[str, str]] = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    raise argparse.ArgumentTypeError(f"must be a duration such as 30s, 2m, 1h30m or 500ms, got {text!r}")


class StartRate(NamedTuple):
    """So many starts in so many seconds."""

    starts: float
    seconds: float

    def __str__(self) -> str:
        return f"{self.starts:,g}/{next(unit for unit, seconds in _PER.items() if seconds == self.seconds)}"


_PER = {"s": 1.0, "m": 60.0, "h": 3600.0}


def rate(text: str) -> StartRate:
    """Return what ``50/s`` or ``1000/h`` say."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)/(s|m|h)", text, re.ASCII)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"must be N/s, N/m or N/h, N above 0, such as 50/s, got {text!r}")
    return StartRate(float(match[1]), _PER[match[2]])


class Halt(NamedTuple):
    """When a run is to end early: after so many failures, or (``share``) such a share of all items."""

    when: str
    fail: int = 0
    share: float = 0.0

    def __str__(self) -> str:
        return self.when if self.when == "never" else f"{self.when},fail={self.fail or f'{self.share:.0%}'}"


def halt(text: str) -> Halt:
    """Return what ``soon,fail=3``, ``now,fail=10%`` or ``never`` say, as GNU parallel means them."""
    when, comma, why = text.partition(",")
    if when not in _WHENS or bool(comma) == (when == "never"):
        expected = "soon,fail=N, now,fail=N, N% instead of N, or never"
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}{suggest(when, _WHENS)}")
    if not comma:
        return Halt(when)
    match = re.fullmatch(r"fail=0*([1-9][0-9]{0,17})(%?)", why, re.ASCII)
    if match is None or (match[2] and int(match[1]) > 100):  # noqa: PLR2004 - percent
        raise argparse.ArgumentTypeError(f"must say fail=N or fail=N% behind the comma, N from 1 on, got {text!r}")
    return Halt(when, share=int(match[1]) / 100) if match[2] else Halt(when, int(match[1]))
