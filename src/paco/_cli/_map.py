"""`paco map`: everything is checked and opened, in an order that wastes no run, and then the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from paco._cli._dry import dry_run
from paco._cli._errors import CommandError
from paco._cli._formats import OBJECTS
from paco._cli._function import open_target
from paco._cli._inputs import STDIN, Input, Reader, find_inputs
from paco._cli._options import parse_map
from paco._cli._progress import Display
from paco._cli._run import Job, run
from paco._cli._stop import Stop
from paco._cli._target import find_target
from paco._console import Console

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from typing import TextIO

    from paco._cli._dry import Plan
    from paco._cli._options import MapOptions
    from paco._cli._stop import Interrupts

_STDOUT = "-"


def map_command(words: Sequence[str], interrupts: Interrupts) -> int:
    """Run `paco map` with these words and return the exit code.

    Raises:
        CommandError: Nothing was run; the text says why.
    """
    options = parse_map(words)
    if isinstance(options, str):
        print(options, end="")
        return 0
    console = Console(sys.stderr, os.environ)
    standard = _Standard(_descriptor(sys.stdin), _descriptor(sys.stdout))
    with console.guarding():
        done = _run(options, console, standard, interrupts)
    if isinstance(done, int):
        return done
    print(done.text)
    return done.code


def _run(options: MapOptions, console: Console, standard: _Standard, interrupts: Interrupts) -> int | Plan:
    inputs = _find_inputs(options, standard.input)
    with interrupts.raising():  # an import may take long
        found = find_target(options.target)
        target = open_target(found, options.target, options.arguments, unpack=options.unpack)
        if options.dry_run:
            return asyncio.run(dry_run(options, inputs))
    with _open_output(options.output, standard.output, inputs, interrupts) as output:
        terminal = _announce(inputs, standard.input, console)
        stop = Stop()
        job = Job(
            options=options,
            target=target,
            reader=Reader(inputs, stop, options.head, options.total),
            stop=stop,
            output=output,
            console=console,
            display=_display(options.progress, console, output, typing=terminal),
            interrupts=interrupts,
        )
        return asyncio.run(run(job))


class _Standard(NamedTuple):
    """The descriptors of the standard streams; -1 for one that is closed."""

    input: int
    output: int


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return -1


def _find_inputs(options: MapOptions, stdin: int) -> list[Input]:
    inputs = find_inputs(options.inputs or [STDIN], options.format, stdin=stdin)
    if stdin < 0 and any(one.path == stdin for one in inputs):
        raise CommandError("standard input is closed; name a file as INPUT")
    if options.unpack and (text := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        raise CommandError(f"--unpack needs items that are JSON objects, and {text} is read as lines; say its --format")
    return inputs


def _announce(inputs: Sequence[Input], stdin: int, console: Console) -> bool:
    """Return whether items are typed, after having said that they are waited for."""
    if not any(one.path == stdin and os.isatty(stdin) for one in inputs):
        return False
    console.say("paco: reading items from the terminal, one a line; end with Ctrl-D")
    return True


def _display(mode: str, console: Console, output: int, *, typing: bool) -> Display:
    """Return what is shown: no line is repainted where records or what is typed would run into it."""
    if mode == "off":
        return Display.OFF
    if os.isatty(output):
        return Display.SUMMARY
    return Display.LIVE if mode == "auto" and console.live and not typing else Display.PLAIN


@contextlib.contextmanager
def _open_output(name: str, stdout: int, inputs: Sequence[Input], interrupts: Interrupts) -> Generator[int]:
    """Give the descriptor that the records go to."""
    if name == _STDOUT:
        if stdout < 0:
            raise CommandError("standard output is closed; name a file with --output")
        _refuse_input(stdout, "standard output", inputs)
        yield stdout
        return
    try:
        # Appending never destroys earlier records. Only the owner may read them: they may hold what the items hold.
        with interrupts.raising():  # a named pipe waits for its reader
            output = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o600)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from None
    try:
        _refuse_input(output, name, inputs)
        _end_torn_line(name, output)
        yield output
    finally:
        os.close(output)


def _refuse_input(output: int, name: str, inputs: Sequence[Input]) -> None:
    written = os.fstat(output)
    for one in inputs:
        if one.regular and os.path.samestat(written, Path(str(one.path)).stat()):
            raise CommandError(f"{name} is both input and output: the run would read its own records")


def _end_torn_line(name: str, output: int) -> None:
    """Begin on a new line after a record that a killed run left torn."""
    status = os.fstat(output)
    if stat.S_ISREG(status.st_mode) and status.st_size:
        with contextlib.suppress(OSError), Path(name).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                os.write(output, b"\n")
