"""Check and open everything that a run of the command needs, before anything runs; or show it, for ``--dry-run``."""

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
from paco._records.earlier import made_by
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

_CHANGED = (
    "{} has changed since the last record of {} was written; recorded results stay as they are, and the other items "
    "run with the new code"
)
_SHOWN = 100
_NOTHING = "nothing was run (--dry-run)"


class MapJob(NamedTuple):
    """Everything that a run needs, checked and opened."""

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
    """The descriptors of stdin and stdout, before stdout is redirected; -1 for a closed stream."""

    input: int
    output: int


def standard_streams() -> Standard:
    """Return the descriptors of stdin and stdout of this process."""
    return Standard(_descriptor(sys.stdin), _descriptor(sys.stdout))


class Parts(NamedTuple):
    """Everything that is checked before the output is opened: the inputs, TARGET, and the errors to retry."""

    standard: Standard
    inputs: list[Input]
    found: Any
    target: AbstractAsyncContextManager[Function]
    retry_on: Any


def find_parts(options: MapOptions, standard: Standard, interrupts: Interrupts) -> Parts:
    """Return the inputs, TARGET and errors to retry that the options name.

    Raises:
        CommandError: One of them does not exist, or is of the wrong kind.
    """
    inputs = _find_inputs(options, standard.input)
    with interrupts.raising():  # an import may take long
        found = find_target(options.target)
        target = open_target(found, options.target, options.arguments, unpack=options.unpack)
        return Parts(standard, inputs, found, target, retry_on(options.retry_on))


@contextmanager
def opened(options: MapOptions, parts: Parts, console: Console, interrupts: Interrupts) -> Generator[MapJob]:
    """Open the output, read the records of earlier runs in it, and yield the job.

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
        raise CommandError("standard input is closed; give a file as INPUT")
    needs = "--unpack" if options.unpack else "--key" if options.key is not None else ""
    if needs and (text := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        raise CommandError(f"{needs} needs items that are JSON objects, but {text} is read as lines; give its --format")
    return inputs


def _announce(inputs: Sequence[Input], console: Console) -> bool:
    """Return whether items are typed at a terminal, and say so there."""
    if not any(isinstance(one.path, int) and os.isatty(one.path) for one in inputs):
        return False
    console.say(f"paco: reading items from the terminal, one per line; end with {END_OF_INPUT}")
    return True


def _mode(wanted: str, console: Console, output: RecordFile, *, typing: bool) -> Mode:
    """Return what to show. Repaint no lines on a terminal that also shows the records or what the user types."""
    if wanted in _SAID:
        return _SAID[wanted]
    if wanted == "bar" and console.live:
        return Mode.LIVE
    if output.is_terminal():
        return Mode.SUMMARY
    return Mode.LIVE if wanted == "auto" and console.live and not typing else Mode.PLAIN


# ---- --dry-run


class DryRun(NamedTuple):
    """What a run would do, and the exit code: 1 if an item is bad."""

    text: str
    code: int


async def dry_run(options: MapOptions, inputs: Sequence[Input]) -> DryRun:
    """Read and count the items, and return what a run would do.

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
