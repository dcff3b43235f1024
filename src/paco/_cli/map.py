"""`paco map`: everything is checked and opened, in an order that wastes no run, and then the run."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from paco._base.system import END_OF_INPUT
from paco._cli.dry import dry_run
from paco._cli.errors import CommandError
from paco._cli.formats import OBJECTS
from paco._cli.function import open_target
from paco._cli.inputs import STDIN, Input, Reader, find_inputs
from paco._cli.options import parse_map
from paco._cli.output import end_torn_line, is_regular, open_output
from paco._cli.pace import retry_on
from paco._cli.progress import Mode
from paco._cli.resume import Earlier
from paco._cli.run import Job, run
from paco._cli.stop import Stop
from paco._cli.target import find_target
from paco._records.function import made_by
from paco._view.console import Console, has_rich, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import TextIO

    from paco._cli.dry import Plan
    from paco._cli.options import MapOptions
    from paco._cli.stop import Interrupts
    from paco._records.function import Maker


_CHANGED = "{} has changed since the last record of {} was made; what is recorded stays, the rest runs as it is now"


def map_command(words: Sequence[str], interrupts: Interrupts) -> int:
    """Run `paco map` with these words and return the exit code.

    Raises:
        CommandError: Nothing was run; the text says why.
    """
    options = parse_map(words)
    if isinstance(options, str):
        print(options, end="")
        return 0
    console = Console(sys.stderr, os.environ, live=True if options.progress == "bar" else None)
    if options.progress == "bar" and not has_rich():
        raise CommandError("--progress bar needs rich, which repaints the lines: pip install paco[cli]")
    standard = _Standard(_descriptor(sys.stdin), _descriptor(sys.stdout))
    with contextlib.redirect_stdout(sys.stderr), console.guarding():
        done = _run(words, options, console, standard, interrupts)
    if isinstance(done, int):
        return done
    print(done.text)
    return done.code


def _run(
    words: Sequence[str], options: MapOptions, console: Console, standard: _Standard, interrupts: Interrupts
) -> int | Plan:
    inputs = _find_inputs(options, standard.input)
    with interrupts.raising():  # an import may take long
        found = find_target(options.target)
        target = open_target(found, options.target, options.arguments, unpack=options.unpack)
        on = retry_on(options.retry_on)
        if options.dry_run:
            return asyncio.run(dry_run(options, inputs))
    with open_output(options.output, standard.output, inputs, interrupts) as output:
        maker = made_by(found)
        earlier = _earlier(options, output, maker, interrupts)
        if earlier is not None and earlier.changed:
            console.say(safe(f"paco: {_CHANGED.format(maker.name, options.output)}"))
        terminal = _announce(inputs, standard.input, console)
        stop = Stop()
        job = Job(
            options=options,
            words=words,
            target=target,
            made_by=maker.fields(),
            retry_on=on,
            earlier=earlier,
            reader=_reader(options, inputs, stop, earlier),
            stop=stop,
            output=output,
            console=console,
            mode=_mode(options.progress, console, output, typing=terminal),
            interrupts=interrupts,
        )
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(run(job))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the event loop of uvloop, if that is installed: requests take less of the processor."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _earlier(options: MapOptions, output: int, maker: Maker, interrupts: Interrupts) -> Earlier | None:
    """Return what earlier runs have left in the output, if this one is to go on from there."""
    if not (options.resume or options.retry_failed):
        end_torn_line(options.output, output)
        return None
    if not is_regular(output):
        raise CommandError(f"cannot resume from {options.output}: it is no regular file")
    earlier = Earlier(options.output, maker, failed_only=options.retry_failed)
    with interrupts.raising():
        earlier.load()
    end_torn_line(options.output, output)
    return earlier


def _reader(options: MapOptions, inputs: Sequence[Input], stop: Stop, earlier: Earlier | None) -> Reader:
    skips = None if earlier is None else earlier.skips
    return Reader(inputs, stop, options.head, options.total, key=options.key, skips=skips)


_SAID = {"off": Mode.OFF, "json": Mode.JSON}


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
    needs = "--unpack" if options.unpack else "--key" if options.key is not None else ""
    if needs and (text := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        raise CommandError(f"{needs} needs items that are JSON objects, and {text} is read as lines; say its --format")
    return inputs


def _announce(inputs: Sequence[Input], stdin: int, console: Console) -> bool:
    """Return whether items are typed, after having said that they are waited for."""
    if not any(one.path == stdin and os.isatty(stdin) for one in inputs):
        return False
    console.say(f"paco: reading items from the terminal, one a line; end with {END_OF_INPUT}")
    return True


def _mode(wanted: str, console: Console, output: int, *, typing: bool) -> Mode:
    """Return what is shown: no line is repainted where records or what is typed would run into it."""
    if wanted in _SAID:
        return _SAID[wanted]
    if wanted == "bar" and console.live:
        return Mode.LIVE
    if os.isatty(output):
        return Mode.SUMMARY
    return Mode.LIVE if wanted == "auto" and console.live and not typing else Mode.PLAIN
