"""Find and check the inputs before the run, then read their items as they are needed."""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from contextlib import aclosing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._cli.chunks import chunks_of, read_file, read_live
from paco._cli.errors import CommandError
from paco._cli.formats import FORMATS, Problem
from paco._cli.output import Earlier
from paco._records.earlier import canonical
from paco._records.lines import opening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence

    from paco._cli.formats import Format
    from paco._cli.stop import Stop

STDIN = "-"
_ZIPPED = ".gz"
_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}


#: The items that are made in one go, which takes half the time of making each when it is needed.
_FEW = 32
_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of the constructor of a named tuple


class InputItem(NamedTuple):
    """An item of the command.

    Attributes:
        id: Its position in the input, from 0.
        head: The start of its record.
        value: What TARGET is called with.
        problem: Why it cannot run; ``None`` if it can.
    """

    id: int
    head: str
    value: Any
    problem: Problem | None

    def __repr__(self) -> str:
        return repr(self.value)  # messages and pictures show this


class Input(NamedTuple):
    """One INPUT. If ``regular`` is false (a pipe, a terminal, a device), reading it may wait for data.

    Attributes:
        path: The path, or the descriptor of standard input.
        format: The name of the format, without ``.gz``.
        regular: Whether it is a regular file.
        gzip: Whether it is compressed.
    """

    path: str | int
    format: str
    regular: bool
    gzip: bool = False

    @property
    def name(self) -> str:
        """The name for messages."""
        return self.path if isinstance(self.path, str) else "standard input"


def find_inputs(names: Sequence[str], format_: str | None, *, stdin: int) -> list[Input]:
    """Return the inputs with these names.

    Args:
        names: Paths, or ``-`` for standard input.
        format_: The format of all of them; ``None`` to take it from each name.
        stdin: The descriptor of standard input.

    Raises:
        CommandError: An input cannot be read, or standard input is named twice.
    """
    if names.count(STDIN) > 1:
        raise CommandError("INPUT - (standard input) is given twice, but it can be read only once")
    return [
        _made(stdin, "", format_ or "lines", regular=False) if name == STDIN else _find_file(name, format_)
        for name in names
    ]


def _made(path: str | int, name: str, format_: str | None, *, regular: bool) -> Input:
    """Return an input with the given format, or with that of its name."""
    zipped = name.lower().endswith(_ZIPPED) or (format_ or "").endswith(_ZIPPED)
    plain = name[: -len(_ZIPPED)] if name.lower().endswith(_ZIPPED) else name
    told = _BY_SUFFIX.get(Path(plain).suffix.lower(), "lines")
    return Input(path, (format_ or told).removesuffix(_ZIPPED), regular, zipped)


def _find_file(name: str, format_: str | None) -> Input:
    try:
        mode = Path(name).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot read {name}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(mode):
        raise CommandError(f"cannot read {name}: it is a folder; give the files in it, for example {name}/*")
    if not os.access(name, os.R_OK):
        raise CommandError(f"cannot read {name}: permission denied")
    return _made(name, name, format_, regular=stat.S_ISREG(mode))


class Count:
    """Counts the items of regular files in a thread, during the run.

    Attributes:
        total: The number of items; ``None`` until they are counted, or if a file cannot be read.
    """

    def __init__(self, inputs: Iterable[Input]) -> None:
        self.total: int | None = None
        self._inputs = list(inputs)
        threading.Thread(target=self._count, name="paco-counter", daemon=True).start()

    def _count(self) -> None:
        with contextlib.suppress(OSError):  # the run reads the file too, and reports the error
            self.total = sum(map(_count_items, self._inputs))


def _count_items(one: Input) -> int:
    cutter = FORMATS[one.format]()
    count = 0
    for chunk in chunks_of(str(one.path), gzip=one.gzip):
        count += sum(1 for _ in cutter.split(chunk))
    return count + sum(1 for _ in cutter.last())


def _few_of(batch: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield the raw items of a batch in groups of `_FEW`. Before an error, yield the items that came before it."""
    few: list[bytes] = []
    try:
        while True:
            few = []
            few.extend(islice(batch, _FEW))  # list() would lose the items before an error
            if not few:
                return
            yield few
    except OSError:
        yield few
        raise


class ItemReader:
    """Reads the items one by one, in constant memory except for their keys.

    Args:
        inputs: The inputs, in the order in which they are read.
        stop: Ends the items early when a stop is wanted.
        head: The maximum number of items; ``None`` for all.
        total: The number of items as the user gave it, used if the inputs cannot be counted.
        key: The member that identifies an item; ``None`` for its whole content.
        earlier: The keys, and the records of earlier runs.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        stop: Stop,
        head: int | None = None,
        total: int | None = None,
        key: str | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._inputs = inputs
        self._stop = stop
        self._head = head
        self._earlier = earlier or Earlier()
        self._key = key
        self._read = 0
        self._said = total
        #: Whether all items have been read.
        self.ended = False
        #: The error that ended the items, if there was one. The items before it still run.
        self.error: OSError | None = None
        regular = all(one.regular for one in inputs)
        self._count = Count(inputs) if regular else None

    def total(self) -> int | None:
        """Return the number of items; ``None`` while it is unknown."""
        if self.ended:
            return self._read
        counted = None if self._count is None else self._count.total
        known = self._said if counted is None else counted
        if known is None:
            return None
        return max(self._read, known if self._head is None else min(known, self._head))

    def items(self) -> Iterator[InputItem] | AsyncGenerator[InputItem]:
        """Return the items up to the end of the inputs, ``head`` items, or a stop.

        For regular files this is a plain iterator, which takes a fifth of the time. Other inputs may wait for data, and
        a resumed run may skip millions of items, so for these it is an async generator, which lets the loop run.
        """
        if self._count is not None and not self._earlier.skips_any:
            return self._items()
        return self.live_items()

    def _items(self) -> Iterator[InputItem]:
        for one in self._inputs:
            cutter = FORMATS[one.format]()
            try:
                for chunk in chunks_of(str(one.path), gzip=one.gzip):
                    yield from self._pick(cutter, cutter.split(chunk))
                    if self.ended or self._stop.wanted:
                        return
                yield from self._pick(cutter, cutter.last())
            except OSError as error:
                self._broken(one, error)
                return
        self.ended = not self._stop.wanted

    async def live_items(self) -> AsyncGenerator[InputItem]:
        """Yield the same items as `items`, and let the loop run in between."""
        for one in self._inputs:
            cutter = FORMATS[one.format]()
            try:
                async with aclosing(self._batches(one, cutter)) as batches:
                    async for batch in batches:
                        for item in self._pick(cutter, batch):
                            yield item
                        if self.ended or self._stop.wanted:
                            return
            except OSError as error:
                self._broken(one, error)
                return
        self.ended = not self._stop.wanted

    def _broken(self, one: Input, error: OSError) -> None:
        error.filename = one.name
        self.error = error

    async def _batches(self, one: Input, cutter: Format) -> AsyncGenerator[Iterable[bytes]]:
        """Yield the raw items of each chunk, then those of the end of the input."""
        if one.regular:
            chunks = read_file(str(one.path), gzip=one.gzip)
        else:
            chunks = read_live(one.path, self._stop, gzip=one.gzip)
        async with aclosing(chunks):
            async for chunk in chunks:
                yield cutter.split(chunk)
        if not self._stop.wanted:  # otherwise this is not the end of the input
            yield cutter.last()

    def _pick(self, cutter: Format, batch: Iterable[bytes]) -> Iterator[InputItem]:
        """Yield the items of a batch that run, until ``head`` is reached or a stop is wanted."""
        left = None if self._head is None else self._head - self._read
        for few in _few_of(islice(batch, left)):  # does not ask for another item, which may never come
            for item in [self._item(cutter, number, raw) for number, raw in enumerate(few, self._read)]:
                if self._stop.wanted:
                    return
                self._read += 1
                if item is not None:
                    yield item
        self.ended = self._read == self._head

    def _item(self, cutter: Format, number: int, raw: bytes) -> InputItem | None:
        """Return an item, or ``None`` if it is skipped."""
        value, problem = cutter.parse(raw)
        identity = value
        if self._key is not None and problem is None:
            if isinstance(value, dict) and self._key in value:
                identity = cast("dict[str, Any]", value)[self._key]
            else:
                problem = Problem("KeyError", f"--key: the item is not an object with a member {self._key!r}")
        key, position = self._earlier.keys.next(canonical(identity))
        if self._earlier.skips(position):
            return None
        item: InputItem = _new(InputItem, (number, opening(number, key.hex(), value), value, problem))
        return item
