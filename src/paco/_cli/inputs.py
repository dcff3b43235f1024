"""Find and check the inputs before the run, then read their items as the run needs them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import threading
from collections import deque
from concurrent.futures import Future, InvalidStateError
from contextlib import aclosing
from functools import partial
from itertools import islice
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from paco._base import system
from paco._base.check import shorten
from paco._cli.beginning import Beginning
from paco._cli.ending import CommandError, Problem, reason
from paco._cli.files import placed
from paco._cli.formats import FORMATS, OBJECTS, TABLES, TableFormat
from paco._cli.options import STDIN
from paco._cli.packed import check_unpacker, packed_as, unpacked
from paco._exec.template import lacks
from paco._records.keys import NOWHERE, Keys, canonical
from paco._records.lines import encode, opening

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Iterable, Iterator, Sequence

    from paco._cli.ending import Interrupts, Tally
    from paco._cli.formats import Format
    from paco._cli.options import MapOptions
    from paco._records.earlier import EarlierRecords

_BY_SUFFIX = {".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json", ".csv": "csv", ".tsv": "tsv"}


class Input(NamedTuple):
    """One INPUT."""

    name: str  # for messages
    path: str | int  # or the descriptor of standard input
    format: str  # its name, without that of a packed file
    packed: str  # the ending that says how, if it is
    regular: bool  # if not (a pipe, a terminal, a device), reading it may wait for data
    delimiter: str | None = None  # of a table, if it is another than that of its format

    def new_format(self) -> Format:
        """Return what splits and parses this input."""
        return FORMATS[self.format]() if self.delimiter is None else TableFormat(self.delimiter)


def find_inputs(options: MapOptions, stdin: int, folder: str) -> list[Input]:
    """Return the inputs of a run, whose names are relative to ``folder``.

    ``stdin`` is the descriptor of standard input, or -1 if it is closed.

    Raises:
        CommandError: An input cannot be read, standard input is named twice, or the options need another format.
    """
    names = options.inputs
    if names.count(STDIN) > 1:
        raise CommandError("INPUT - (standard input) is given twice, but it can be read only once")
    if STDIN in names and stdin < 0:
        raise CommandError("standard input is closed; give a file as INPUT")
    inputs = [
        Input("standard input", stdin, *_format_of("", options.format), regular=False, delimiter=options.delimiter)
        if name == STDIN
        else _file(name, placed(name, folder), options)
        for name in names
    ]
    for one in inputs:
        check_unpacker(one.packed, one.name)
        if options.delimiter is not None and one.format not in TABLES:
            raise CommandError(f"--delimiter is that of a table, but {one.name} is none; give --format csv")
    needs = "--unpack" if options.unpack else "--key" if options.key is not None else ""
    if needs and (text := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        raise CommandError(f"{needs} needs items that are JSON objects, but {text} is read as lines; give its --format")
    return inputs


def _file(name: str, path: str, options: MapOptions) -> Input:
    try:
        mode = Path(path).stat().st_mode
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot read {name}: {reason(error)}{_hint(name, options)}") from None
    if stat.S_ISDIR(mode):
        raise CommandError(f"cannot read {name}: it is a folder; give the files in it, for example {name}/*")
    if not os.access(path, os.R_OK):
        raise CommandError(f"cannot read {name}: permission denied")
    form, packed = _format_of(name.lower(), options.format)
    one = Input(name, path, form, packed, stat.S_ISREG(mode), options.delimiter)
    if one.regular and not packed and form != "null":
        try:
            with Path(path).open("rb", buffering=0) as file:
                Beginning().pass_on(file.read(_CHUNK))
        except OSError as error:
            raise CommandError(f"cannot read {name}: {reason(error)}") from None
    return one


def _hint(name: str, options: MapOptions) -> str:
    """Return what was probably meant by an INPUT that cannot be read; an empty text if that is unknown."""
    if not options.exec:
        swapped = ":" in name and ":" not in options.target
        return f"; did you mean: paco map {system.command_line([name, options.target])}" if swapped else ""
    command = f"paco map --exec {system.command_line([options.target])}"
    if name.startswith(":::"):
        return f"; {name} is of GNU parallel; give items as lines: printf '%s\\n' a b c | {command}"
    if "{" in name:
        return f"; write a program and its arguments as one word: --exec '{options.target} {name}'"
    return "; with --exec there is no TARGET: each argument is an INPUT"


def _format_of(name: str, format_: str | None) -> tuple[str, str]:
    """Return the given format, or that of a file with this name; and the ending that says how the file is packed."""
    given, packed = packed_as(format_ or ""), packed_as(name)
    told = _BY_SUFFIX.get(Path(name.removesuffix(packed)).suffix, "lines")
    return (format_ or told).removesuffix(given), given or packed


# ---- bytes

_CHUNK: Final = 1 << 16


class _Descriptor:
    """A file object for a descriptor, without a buffer or a lock."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int) -> bytes:
        """Wait for data, and return at most ``size`` bytes; nothing at the end of the file."""
        while True:
            try:
                return system.read(self._descriptor, size)
            except BlockingIOError:  # another process made the shared pipe non-blocking
                system.wait(self._descriptor)


def _reading(file: Any, one: Input) -> Callable[[], bytes]:
    """Return a function that returns the next chunk of the file of an input, unpacked; nothing at the end."""
    return unpacked(file, one.packed, _CHUNK) if one.packed else partial(file.read, _CHUNK)


def chunks_of(one: Input) -> Generator[bytes]:
    """Yield the chunks of a regular file, unpacked, and an empty one at its end.

    Raises:
        BrokenInputError: A packed file is of another kind, is damaged, or is cut off.
    """
    with Path(str(one.path)).open("rb", buffering=0) as file:
        yield from iter(_reading(file, one), b"")
    yield b""


def _serve(one: Input, wanted: SimpleQueue[Future[bytes] | None]) -> None:
    """Read a chunk for each future that is wanted, until there is none. This runs in a thread."""
    descriptor = -1
    read: Callable[[], bytes] = bytes
    while (future := wanted.get()) is not None:
        with contextlib.suppress(InvalidStateError):  # the wait has ended meanwhile
            try:
                if descriptor < 0:  # here, since opening a named pipe waits for its writer
                    descriptor = one.path if isinstance(one.path, int) else os.open(one.path, os.O_RDONLY)
                    read = _reading(_Descriptor(descriptor), one)
                future.set_result(read())
            except OSError as error:
                future.set_exception(error)
    if descriptor >= 0 and descriptor != one.path:
        os.close(descriptor)


# ---- items

#: The items that are made in one go, which takes half the time of making each when it is needed.
_FEW: Final = 32
_new: Final[Any] = vars(tuple)["__new__"]  # takes a quarter of the time of the constructor of a named tuple


class InputItem(NamedTuple):
    """An item of the command."""

    id: int  # its position in the input, from 0
    head: bytes  # the start of its record
    value: Any  # what TARGET is called with
    problem: Problem | None  # why it cannot run

    def __repr__(self) -> str:
        return repr(self.value)  # messages and pictures show this


class ItemReader:
    """Reads the items one by one, in constant memory except for their keys.

    ``tally`` counts the skipped ones, and ``tell`` is called with what the user must know.
    """

    def __init__(
        self,
        options: MapOptions,
        inputs: Sequence[Input],
        tally: Tally,
        earlier: EarlierRecords | None,
        tell: Callable[[str], None],
        interrupts: Interrupts | None = None,
    ) -> None:
        self._inputs = inputs
        self._interrupts = interrupts
        self._head, self._key = options.head, options.key
        self._only_failed = options.retry_failed and earlier is not None
        self._unique = self._key is not None  # whether to tell of an item that equals an earlier one
        self._tally = tally
        self._tell = tell
        self._is_utf8 = True  # as far as it was told
        self._total = options.total  # used if the inputs cannot be counted
        self._read = 0
        self._waiting: Future[bytes] = Future()  # for a chunk of a pipe
        #: Whether to read no more items.
        self.stopped = False
        #: Whether all items have been read.
        self.ended = False
        #: The error that ended the items, if there was one. The items before it still run.
        self.error: OSError | None = None
        regular = all(one.regular for one in inputs)
        #: The items up to the end of the inputs, ``head`` items, or a stop. For regular files this is a plain iterator,
        #: which takes a fifth of the time. Other inputs may wait for data, and a resumed run may skip millions of
        #: items, so for these it is an async generator, which lets the loop run.
        self.items: Iterator[InputItem] | AsyncGenerator[InputItem]
        self.items = self._items() if regular and earlier is None else self.live_items()
        self._keys = Keys() if earlier is None else earlier.keys
        ends = (options.halt, options.max_time, options.budget)
        counts = options.progress != "off" or any(one is not None for one in ends)
        if counts and regular and not options.dry_run:
            threading.Thread(target=self._count, name="paco-counter", daemon=True).start()

    def _count(self) -> None:
        """Count the items. This runs in a thread, during the run."""
        count = 0
        with contextlib.suppress(OSError):  # the run reads the file too, and reports the error
            for one in self._inputs:
                form = one.new_format()
                if isinstance(form, TableFormat):
                    form.began = deque(maxlen=0)  # the rows are only counted
                count += sum(1 for chunk in chunks_of(one) for _ in form.split(chunk))
            self._total = count

    def total(self) -> int | None:
        """Return the number of items; ``None`` while it is unknown."""
        if self.ended:
            return self._read
        if self._total is None:
            return None
        return max(self._read, self._total if self._head is None else min(self._total, self._head))

    def stop(self) -> None:
        """Read no more items, and end the wait for a pipe."""
        self.stopped = True
        with contextlib.suppress(InvalidStateError):  # nothing is being read
            self._waiting.set_result(b"")

    def _items(self) -> Iterator[InputItem]:
        for one in self._inputs:
            form = one.new_format()
            try:
                for chunk in chunks_of(one):
                    yield from self._pick(one, form, form.split(chunk))
                    if self._interrupts is not None and self._interrupts.count:
                        self.stopped = True  # the loop, which waits for an item, could say so only afterwards
                    if self.ended or self.stopped:
                        return
            except OSError as error:
                self._fail(one, error)
                return
        self.ended = True

    async def live_items(self) -> AsyncGenerator[InputItem]:
        """Yield the same items as `items`, and let the loop run in between."""
        for one in self._inputs:
            form = one.new_format()
            try:
                async with aclosing(self.chunks(one)) as chunks:
                    async for chunk in chunks:
                        for item in self._pick(one, form, form.split(chunk)):
                            yield item
                        if self.ended or self.stopped:
                            return
            except OSError as error:
                self._fail(one, error)
                return
            if self.stopped:  # then this is not the end of the input
                return
        self.ended = True

    def _fail(self, one: Input, error: OSError) -> None:
        error.filename = one.name
        self.error = error

    async def chunks(self, one: Input) -> AsyncGenerator[bytes]:
        """Yield the chunks of an input, and an empty one at its end, and let the loop run in between.

        No thread reads a regular file, since the system reads ahead. Other inputs end early at a stop.
        """
        if one.regular:
            with contextlib.closing(chunks_of(one)) as chunks:
                for chunk in chunks:
                    yield chunk
                    await asyncio.sleep(0)  # millions of skipped items, none of which awaits, must not block the loop
            return
        wanted: SimpleQueue[Future[bytes] | None] = SimpleQueue()
        # A daemon thread that calls os.read, not a file object: at exit, a blocked read must not hold process or lock.
        threading.Thread(target=_serve, args=(one, wanted), name="paco-reader", daemon=True).start()
        try:
            while not self.stopped:
                # Read one chunk at a time, on request, so that a slow run holds back the writer of the pipe.
                self._waiting = Future()
                wanted.put(self._waiting)
                chunk = await asyncio.wrap_future(self._waiting)
                if not self.stopped:
                    yield chunk
                if not chunk:
                    return
        finally:
            wanted.put(None)

    def _pick(self, one: Input, form: Format, raws: Iterable[bytes]) -> Iterator[InputItem]:
        """Yield the items of a chunk that run, until ``head`` is reached or a stop is wanted."""
        left = None if self._head is None else self._head - self._read
        for few in _few_of(islice(raws, left)):  # does not ask for another item, which may never come
            self._warn(one, form.beginning)
            for item in [self._item(form, number, raw) for number, raw in enumerate(few, self._read)]:
                if self.stopped:
                    return
                self._read += 1
                if item is not None:
                    yield item
        self._warn(one, form.beginning)
        self.ended = self._read == self._head

    def _warn(self, one: Input, beginning: Beginning | None) -> None:
        """Warn once, about the first line that is not UTF-8."""
        if self._is_utf8 and beginning is not None and beginning.invalid:
            self._is_utf8 = False
            self._tell(f"{one.name}: {beginning.invalid}")

    def _item(self, form: Format, number: int, raw: bytes) -> InputItem | None:
        """Return an item, or ``None`` if it is skipped."""
        value, problem = form.parse(raw)
        identity = value
        if self._key is not None and problem is None:
            if isinstance(value, dict) and self._key in value:
                identity = cast("dict[str, Any]", value)[self._key]
            else:
                problem = Problem("KeyError", f"--key: the item {_without(self._key, identity)}")
        key, position = self._keys.next(canonical(identity))
        if self._keys.repeats and self._unique and problem is None:
            self._unique = False
            self._tell(
                f"--key {self._key}: {shorten(identity)} is the value of more than one item "
                f"(item {number} is the second); a later run tells such items apart by their order alone"
            )
        # The position of a record is an odd number if it has a result.
        if self._only_failed if position == NOWHERE else position % 2 == 1:
            self._tally.skipped += 1
            return None
        item: InputItem = _new(InputItem, (number, opening(number, key, encode(value)), value, problem))
        return item


def _without(key: str, value: object) -> str:
    """Return a text that says why an item has no value of its key."""
    if isinstance(value, dict):
        return lacks(key, cast("dict[str, Any]", value))
    return f"must be an object with a field {key!r}, got {shorten(value)}"


def _few_of(raws: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield raw items in groups of `_FEW`. Before an error, yield the items that came before it."""
    few: list[bytes] = []
    try:
        while True:
            few = []
            few.extend(islice(raws, _FEW))  # list() would lose the items before an error
            if not few:
                return
            yield few
    except OSError:
        yield few
        raise
