"""All that a run of the command needs, checked and opened in an order that wastes no run; or what it would be."""

from __future__ import annotations

import os
import sys
from contextlib import aclosing, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._base.system import END_OF_INPUT
from paco._cli.errors import CommandError, describe
from paco._cli.formats import OBJECTS
from paco._cli.inputs import STDIN, Input, ItemReader, find_inputs
from paco._cli.output import STDOUT, earlier, open_output
from paco._cli.pace import retry_on
from paco._cli.progress import Mode
from paco._cli.stop import Stop
from paco._cli.target import find_target, open_target
from paco._records.function import made_by
from paco._view.console import fit, safe

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from contextlib import AbstractAsyncContextManager
    from typing import TextIO

    from paco._cli.inputs import InputItem
    from paco._cli.options import MapOptions
    from paco._cli.output import Earlier
    from paco._cli.stop import Interrupts
    from paco._cli.target import Function
    from paco._records.file import RecordFile
    from paco._view.console import Console

_CHANGED = "{} has changed since the last record of {} was made; what is recorded stays, the rest runs as it is now"
_SHOWN = 100
_NOTHING = "nothing was run (--dry-run)"


class MapJob(NamedTuple):
    """All that a run needs, opened and checked."""

    options: MapOptions
    target: AbstractAsyncContextManager[Function]
    made_by: str
    retry_on: Any
    earlier: Earlier
    reader: ItemReader
    stop: Stop
    output: RecordFile
    console: Console
    mode: Mode
    interrupts: Interrupts


class Standard(NamedTuple):
    """The descriptors of the standard streams, before they are guarded; -1 for one that is closed."""

    input: int
    output: int


def standard_streams() -> Standard:
    """Return where this process reads from and writes to."""
    return Standard(_descriptor(sys.stdin), _descriptor(sys.stdout))


class Parts(NamedTuple):
    """What is checked before the output is touched: the inputs, what TARGET stands for, what is tried again."""

    standard: Standard
    inputs: list[Input]
    found: Any
    target: AbstractAsyncContextManager[Function]
    retry_on: Any


def find_parts(options: MapOptions, standard: Standard, interrupts: Interrupts) -> Parts:
    """Find all that the options name.

    Raises:
        CommandError: It is not there, or not what it should be.
    """
    inputs = _find_inputs(options, standard.input)
    with interrupts.raising():  # an import may take long
        found = find_target(options.target)
        target = open_target(found, options.target, options.arguments, unpack=options.unpack)
        return Parts(standard, inputs, found, target, retry_on(options.retry_on))


@contextmanager
def opened(options: MapOptions, parts: Parts, console: Console, interrupts: Interrupts) -> Generator[MapJob]:
    """Open the output, read what earlier runs have left there, and give the job.

    Raises:
        CommandError: The output cannot be used.
    """
    read = [str(one.path) for one in parts.inputs if one.regular]
    with open_output(options.output, parts.standard.output, read, interrupts) as output:
        maker = made_by(parts.found)
        known = earlier(output, maker, interrupts, resume=options.resume, retry_failed=options.retry_failed)
        if known.changed:
            console.say(safe(f"paco: {_CHANGED.format(maker.name, options.output)}"))
        typed = _announce(parts.inputs, console)
        stop = Stop()
        yield MapJob(
            options=options,
            target=parts.target,
            made_by=maker.fields(),
            retry_on=parts.retry_on,
            earlier=known,
            reader=ItemReader(parts.inputs, stop, options.head, options.total, options.key, known),
            stop=stop,
            output=output,
            console=console,
            mode=_mode(options.progress, console, output, typing=typed),
            interrupts=interrupts,
        )


_SAID = {"off": Mode.OFF, "json": Mode.JSON}


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return -1


def _find_inputs(options: MapOptions, stdin: int) -> list[Input]:
    inputs = find_inputs(options.inputs or [STDIN], options.format, stdin=stdin)
    if stdin < 0 and any(one.path == stdin for one in inputs):
        raise CommandError("standard input is closed; name a file as INPUT")
    needs = "--unpack" if options.unpack else "--key" if options.key is not None else ""
    if needs and (text := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        raise CommandError(f"{needs} needs items that are JSON objects, and {text} is read as lines; say its --format")
    return inputs


def _announce(inputs: Sequence[Input], console: Console) -> bool:
    """Return whether items are typed, after having said that they are waited for."""
    if not any(isinstance(one.path, int) and os.isatty(one.path) for one in inputs):
        return False
    console.say(f"paco: reading items from the terminal, one a line; end with {END_OF_INPUT}")
    return True


def _mode(wanted: str, console: Console, output: RecordFile, *, typing: bool) -> Mode:
    """Return what is shown: no line is repainted where records or what is typed would run into it."""
    if wanted in _SAID:
        return _SAID[wanted]
    if wanted == "bar" and console.live:
        return Mode.LIVE
    if output.is_terminal():
        return Mode.SUMMARY
    return Mode.LIVE if wanted == "auto" and console.live and not typing else Mode.PLAIN


# ---- --dry-run


class DryRun(NamedTuple):
    """What would be done, and the exit code: 1 if an item is bad."""

    text: str
    code: int


async def dry_run(options: MapOptions, inputs: Sequence[Input]) -> DryRun:
    """Read and count the items, and return what would be done with them.

    Raises:
        CommandError: An input cannot be read to its end.
    """
    reader = ItemReader(inputs, Stop(), options.head)
    first: InputItem | None = None
    first_bad: InputItem | None = None
    count = bad = 0
    async with aclosing(reader.live_items()) as items:
        async for item in items:
            first = first or item
            count += 1
            if item.problem is not None:
                bad += 1
                first_bad = first_bad or item
    if reader.error is not None:
        raise CommandError(f"cannot read {describe(reader.error)}")
    lines = [
        f"target   {options.target}",
        f"inputs   {', '.join(f'{one.name} ({one.format})' for one in inputs)}",
        f"items    {count:,}{f', {bad:,} of them bad' if bad else ''}",
    ]
    if first is not None:
        lines.append(f"first    {fit(first.value if isinstance(first.value, str) else repr(first.value), _SHOWN)}")
    if first_bad is not None and (problem := first_bad.problem):
        lines.append(f"bad      #{first_bad.id}: {fit(f'{problem.type}: {problem.message}', _SHOWN)}")
    lines += [f"output   {'standard output' if options.output == STDOUT else options.output}", _NOTHING]
    return DryRun("\n".join(map(safe, lines)), 1 if bad else 0)
