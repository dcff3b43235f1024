"""The items: inputs checked before anything starts, then read as they are needed."""

from __future__ import annotations

import json
import os
import stat
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeAlias

from paco._cli._chunks import LONGEST_LINE, LineCount, Splitter, read_file, read_live
from paco._cli._errors import CommandError
from paco._cli._keys import Keys

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from paco._cli._stop import Stop

STDIN = "-"
FORMATS = ("lines", "jsonl")
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl"}
#: Formats that a suffix names and that are not read as such: treating them as lines would only seem to work.
_NOT_READ = (".json", ".csv", ".tsv", ".gz")
_SHOWN = 200


_Parse: TypeAlias = "Callable[[str], tuple[Any, Problem | None]]"


class Problem(NamedTuple):
    """Why an item cannot be run: the ``error`` of its record."""

    type: str
    message: str


class Item(NamedTuple):
    """An item: its 0-based position, its key, its value, and what is wrong with it."""

    id: int
    key: str
    value: Any
    problem: Problem | None


class Input(NamedTuple):
    """One INPUT: a regular file, or one that may keep its reader waiting (a pipe, a terminal, a device)."""

    path: str | int
    format: str
    regular: bool


def find_inputs(names: Sequence[str], format_: str | None, *, stdin: int) -> list[Input]:
    """Return the inputs by these names; ``stdin`` is the descriptor that ``-`` stands for.

    Raises:
        CommandError: One of them cannot be read, or standard input is named twice.
    """
    if names.count(STDIN) > 1:
        raise CommandError("INPUT - (standard input) is given twice; it can be read once")
    return [
        Input(stdin, format_ or "lines", regular=False) if name == STDIN else _find_file(name, format_)
        for name in names
    ]


def _find_file(name: str, format_: str | None) -> Input:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise CommandError(f"cannot read {name}: it is a folder; name the files in it, for example {name}/*")
    if not os.access(name, os.R_OK):
        raise CommandError(f"cannot read {name}: permission denied")
    suffix = Path(name).suffix.lower()
    if format_ is None and suffix in _NOT_READ:
        raise CommandError(
            f"{name}: paco map reads lines and .jsonl, not {suffix}; --format lines takes each of its lines as an item"
        )
    return Input(name, format_ or _BY_SUFFIX.get(suffix, "lines"), stat.S_ISREG(mode))


class Reader:
    """Reads the items one after the other, in constant memory but for the keys."""

    def __init__(self, inputs: Sequence[Input], stop: Stop, head: int | None = None) -> None:
        self._inputs = inputs
        self._stop = stop
        self._head = head
        self._keys = Keys()
        self._read = 0
        self._blank = 0
        self._ended = False
        #: An input that broke in the middle; what was read before is run to its end.
        self.error: OSError | None = None
        regular = all(one.regular for one in inputs)
        self._count = LineCount(str(one.path) for one in inputs) if regular else None

    def total(self) -> int | None:
        """Return how many items there are, as far as that is known already."""
        if self._ended:
            return self._read
        if self._count is None or self._count.total is None:
            return None
        total = max(self._count.total - self._blank, self._read)
        return total if self._head is None else min(total, self._head)

    async def items(self) -> AsyncGenerator[Item]:
        """Yield the items until the inputs end, ``head`` is reached, or a stop is wanted."""
        async with aclosing(self._batches()) as batches:
            async for parse, lines in batches:
                for line in lines:
                    if self._stop.wanted:
                        return
                    if not line.strip():
                        self._blank += 1
                        continue
                    yield self._item(parse, line)
                    if self._read == self._head:  # and not before the next: it may never come
                        self._ended = True
                        return
        self._ended = self.error is None and not self._stop.wanted

    async def _batches(self) -> AsyncGenerator[tuple[_Parse, list[bytes]]]:
        for one in self._inputs:
            parse = _PARSERS[one.format]
            splitter = Splitter()
            chunks = read_file(str(one.path), self._stop) if one.regular else read_live(one.path, self._stop)
            try:
                async with aclosing(chunks):
                    async for chunk in chunks:
                        yield parse, splitter.feed(chunk)
            except OSError as error:
                self.error = error
                return
            yield parse, splitter.end()

    def _item(self, parse: _Parse, line: bytes) -> Item:
        text = line.removesuffix(b"\r").decode(errors="backslashreplace")
        value, problem = parse(text) if len(line) <= LONGEST_LINE else _cut_short(text)
        item = Item(self._read, self._keys.key(value), value, problem)
        self._read += 1
        return item


def _cut_short(text: str) -> tuple[Any, Problem | None]:
    return text[:_SHOWN] + "...", Problem("LineTooLong", f"a line may have {LONGEST_LINE >> 20} MiB")


def _parse_line(text: str) -> tuple[Any, Problem | None]:
    return text, None


def _parse_json(text: str) -> tuple[Any, Problem | None]:
    try:
        return _DECODER.decode(text), None
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at column {error.colno}"
    except ValueError as error:  # NaN, or a number of thousands of digits
        reason = str(error)
    except RecursionError:
        reason = "it is nested too deeply"
    return text, Problem("JSONDecodeError", f"the line is not JSON: {reason}")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_refuse)
_PARSERS: dict[str, _Parse] = {"lines": _parse_line, "jsonl": _parse_json}
