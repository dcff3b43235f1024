"""The values of options: numbers, durations, rates, rules to halt; and the secrets among them."""

from __future__ import annotations

import argparse
import itertools
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._cli.ending import suggest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

_ARG: Final = "--arg="

# ---- values

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?|\.\d+)(ms|s|m|h|d)", re.ASCII)
_WHENS = ("now", "soon", "never")


def whole_number(least: int, word: str | None = None) -> Callable[[str], int | str]:
    """Return a function that parses a whole number of ``least`` or more, or accepts this ``word``."""

    def parse(text: str) -> int | str:
        if text == word:
            return text
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) < least:
            more, hint = ("", "") if word is None else (f", or {word}", suggest(text, [word]))
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more{more}, got {text!r}{hint}")
        return int(text)

    return parse


def one_of(known: Iterable[str], *endings: str) -> Callable[[str], str]:
    """Return a function that accepts each of the ``known`` words, with one of the ``endings`` or without."""

    def parse(text: str) -> str:
        ending = next((one for one in endings if text.endswith(one)), "")
        if text.removesuffix(ending) not in known:
            more = f", or one of these with {listed(endings)}" if endings else ""
            words = f"one of {', '.join(known)}{more}"
            raise argparse.ArgumentTypeError(f"must be {words}, got {text!r}{suggest(text, known)}")
        return text

    return parse


def listed(words: Sequence[str]) -> str:
    """Return words as a list in a sentence: ``a, b or c``."""
    return " or ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def delimiter(text: str) -> str:
    r"""Parse the delimiter of a table: a character, or ``\t`` for a tab."""
    text = "\t" if text == r"\t" else text
    if len(text) != 1 or text in '"\r\n':
        raise argparse.ArgumentTypeError(rf"must be one character, such as ; or \t, got {text!r}")
    return text


def pair(text: str) -> tuple[str, str]:
    """Parse ``NAME=VALUE`` and return both sides."""
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value


def duration(text: str) -> float:
    """Parse a duration such as ``30s``, ``2m``, ``1h30m`` or ``500ms`` and return seconds. A bare number is seconds."""
    parts: list[tuple[str, str]] = _DURATION.findall(text)
    if parts and "".join(map("".join, parts)) == text:
        return sum(float(number) * _UNITS[unit] for number, unit in parts)
    if re.fullmatch(r"\d+(\.\d+)?", text, re.ASCII):
        return float(text)
    raise argparse.ArgumentTypeError(f"must be a duration such as 30s, 2m, 1h30m or 500ms, got {text!r}")


def amount(text: str) -> float:
    """Parse an amount above 0, such as ``100`` or ``2.50``."""
    if not re.fullmatch(r"\d{1,15}(\.\d{1,15})?", text, re.ASCII) or not float(text):
        raise argparse.ArgumentTypeError(f"must be a number above 0, such as 100 or 2.50, got {text!r}")
    return float(text)


class RateOption(NamedTuple):
    """The value of ``--rate``: at most ``starts`` starts in any ``s``, ``m`` or ``h``, in ``seconds``."""

    starts: float
    unit: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.starts:,g}/{self.unit}"


def rate(text: str) -> RateOption:
    """Parse a rate such as ``50/s`` or ``1000/h``."""
    match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)/(s|m|h)", text, re.ASCII)
    if match is None or not float(match[1]):
        raise argparse.ArgumentTypeError(f"must be N/s, N/m or N/h with N above 0, such as 50/s, got {text!r}")
    return RateOption(float(match[1]), match[2], _UNITS[match[2]])


class Halt(NamedTuple):
    """The value of ``--halt``, with either a number or a share of failures that halts the run."""

    when: str  # ``soon`` to start nothing more, ``now`` to cancel the running items too, or ``never``
    fail: int = 0
    share: float = 0.0  # of all items

    def __str__(self) -> str:
        return self.when if self.when == "never" else f"{self.when},fail={self.fail or f'{self.share:.0%}'}"

    def is_reached(self, failed: int, total: int | None) -> bool:
        """Return whether this many failures halt a run of ``total`` items.

        As in GNU parallel, a share is one of all items, not of those that have ended: 10% of a million items are
        100,000 failures. While the number of items is unknown, no share is reached.
        """
        if self.share:
            return total is not None and failed >= max(self.share * total, 1)
        return 0 < self.fail <= failed


def halt(text: str) -> Halt:
    """Parse ``soon,fail=3``, ``now,fail=10%`` or ``never``, which mean the same as in GNU parallel."""
    when, comma, why = text.partition(",")
    if when not in _WHENS or bool(comma) == (when == "never"):
        expected = "soon,fail=N, now,fail=N, N% instead of N, or never"
        raise argparse.ArgumentTypeError(f"must be {expected}, got {text!r}{suggest(when, _WHENS)}")
    if not comma:
        return Halt(when)
    match = re.fullmatch(r"fail=0*([1-9][0-9]{0,17})(%?)", why, re.ASCII)
    if match is None or (match[2] and int(match[1]) > 100):  # noqa: PLR2004 - percent
        raise argparse.ArgumentTypeError(f"must have fail=N or fail=N% after the comma, N from 1, got {text!r}")
    return Halt(when, share=int(match[1]) / 100) if match[2] else Halt(when, int(match[1]))


# ---- secrets

_NAME = r"[\w-]*?(?:token|secret|pass|pwd|key|auth|cred|cookie|bearer|private|signature|session|jwt|dsn)[\w-]*"
#: What looks like a secret, after its beginning: an argument, but not a number of things (``max_tokens=100``); a part
#: of an argument (``https://e.org?token=...``); a header (``Authorization: Bearer ...``) or a member of a JSON object,
#: and all that follows; what is in front of the host of a URL.
_SECRET: Final = re.compile(
    rf"(?P<whole>\A(?!\w*s=\d+\Z){_NAME}=).+|(?P<part>[?&;\s]{_NAME}=)[^&;\s]+|(?P<url>://)[^/\s]+(?=@)"
    rf"|(?P<header>[=\s\"'{{,]{_NAME}[\"']?:(?!//)\s*).+",
    re.DOTALL | re.IGNORECASE,
)


def hide_secrets(argument: str) -> str:
    """Return an argument, ``NAME=VALUE``, with asterisks in place of what looks like a secret."""
    return _SECRET.sub(lambda found: f"{found[found.lastgroup or 0]}***", argument)


def without_secrets(words: Iterable[str]) -> Iterator[str]:
    """Yield the words of a command line, to show in a log, with asterisks in place of the secrets of ``--arg``."""
    for before, word in itertools.pairwise(("", *words)):
        option = _ARG if word.startswith(_ARG) else ""
        yield option + hide_secrets(word.removeprefix(option)) if option or before == "--arg" else word
