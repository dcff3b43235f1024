"""Check and open everything that a run of `paco map` needs, before anything runs; or show it, for ``--dry-run``."""

from __future__ import annotations

import asyncio
import os
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from paco._base.check import message
from paco._base.system import END_OF_INPUT, has_keys
from paco._cli.budget import Cost
from paco._cli.ending import FAILED, CommandError, Problem, Tally, describe
from paco._cli.fields import check_fields, undelimited
from paco._cli.files import Use, check_apart, check_pictures, current_folder, placed, sources
from paco._cli.inputs import ItemReader, find_inputs
from paco._cli.loop import loop_factory
from paco._cli.options import STDIN, STDOUT
from paco._cli.output import look_up, open_output
from paco._cli.pace import pace_of, retry_on
from paco._cli.run import MapJob
from paco._cli.target import find_target, open_target, unpacking
from paco._view.console import fit, safe

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import ExitStack

    from paco._cli.ending import Interrupts
    from paco._cli.inputs import Input, InputItem
    from paco._cli.options import MapOptions
    from paco._cli.output import Output
    from paco._records.earlier import EarlierRecords
    from paco._view.console import Console

_SHOWN = 100


def prepared(
    options: MapOptions, stdin: int, stdout: int, console: Console, interrupts: Interrupts, opened: ExitStack
) -> MapJob | tuple[str, int]:
    """Return the job. With ``--dry-run``, return a text that says what the job would do, and the exit code.

    ``stdin`` and ``stdout`` are descriptors, or -1 if they are closed. The output is open until ``opened`` closes it.

    Raises:
        CommandError: Something does not exist, is of the wrong kind, or cannot be used.
    """

    def tell(text: str) -> None:
        console.say(safe(f"paco: {text}"))

    loop_factory(options.loop)
    folder = current_folder()  # before TARGET is imported, which may change to another one
    inputs = find_inputs(options, stdin, folder)
    for option, field in ("--key", options.key), ("--cost", Cost(options.cost).field):
        check_fields(option, filter(None, [field]), inputs)
    found = _found(options, inputs, tell, folder)
    for text in undelimited(inputs):
        tell(text)
    target = open_target(found, options.target, options.arguments, unpack=options.unpack)
    on = retry_on(options.retry_on, folder)
    path = "" if options.output == STDOUT else placed(options.output, folder)
    options = _with_files(options, inputs, found, path or stdout, folder)
    if options.dry_run:
        earlier = look_up(options, path, found, tell, opened)
        return asyncio.run(dry_run(options, inputs, tell, _checks(options, found), earlier))
    output = open_output(options, path, found, stdout, tell, opened)
    typing = _announce(inputs, console)
    keys = stdin if _reads_keys(options, stdin, console, output) else -1
    pace = pace_of(options, on, steered=keys >= 0)
    tally = Tally()
    reader = ItemReader(options, inputs, tally, output.earlier, tell, interrupts)
    return MapJob(options, target, on, pace, reader, tally, output, console, typing, keys, interrupts)


def _reads_keys(options: MapOptions, stdin: int, console: Console, output: Output) -> bool:
    """Return whether keys steer the run: lines are repainted, and stdin is a terminal and not the input."""
    live = options.progress == "bar" or (options.progress == "auto" and not output.file.is_terminal())
    return live and console.live and STDIN not in options.inputs and has_keys(stdin)


def _found(options: MapOptions, inputs: Sequence[Input], tell: Callable[[str], None], folder: str) -> Any:
    """Return the object that TARGET names, or what runs the program of --exec in its place."""
    if not options.exec:
        return find_target(options.target, folder)
    from paco._cli.programs import find_program

    return find_program(options.target, inputs, tell, feeds=options.stdin is not None)


def _announce(inputs: Sequence[Input], console: Console) -> bool:
    """Return whether items are typed at a terminal, and say so there."""
    if not any(isinstance(one.path, int) and os.isatty(one.path) for one in inputs):
        return False
    console.say(f"paco: reading items from the terminal, one per line; end with {END_OF_INPUT}")
    return True


def _with_files(options: MapOptions, inputs: Sequence[Input], found: Any, output: str | int, folder: str) -> MapOptions:
    """Return the options with the places of the pictures. ``output`` is the place of the records.

    Raises:
        CommandError: A file is used for two things, or a picture cannot be written.
    """
    name = "standard output" if options.output == STDOUT else options.output
    asked = {"report": options.report, "trace": options.trace}
    places = {role: placed(picture, folder) for role, picture in asked.items() if picture}
    pictures = [Use(role, str(asked[role]), place) for role, place in places.items()]
    read = [Use("input", one.name, one.path) for one in inputs]
    if not options.exec:
        read += sources("TARGET", options.target, folder, found)
    for one in options.retry_on:
        if ":" in one:
            read += sources("--retry-on", one, folder)
    check_apart(read, [Use("output", name, output), *pictures])
    check_pictures(pictures)
    return options._replace(report=places.get("report"), trace=places.get("trace"))


# ---- --dry-run


def _checks(options: MapOptions, found: Any) -> list[Callable[[InputItem], object]]:
    """Return what raises an error for an item that cannot run."""
    cost = Cost(options.cost)
    checks: list[Callable[[InputItem], object]] = [found.show] if options.exec else []
    if cost.of_item:
        checks.append(lambda item: cost.read(item.value))
    if options.unpack and (call := unpacking(found, options.target, options.arguments)) is not None:
        checks.append(lambda item: call(item.value))
    return checks


def _problem(item: InputItem, checks: Sequence[Callable[[InputItem], object]]) -> Problem | None:
    """Return why an item cannot run."""
    if item.problem is not None:
        return item.problem
    try:
        for check in checks:
            check(item)
    except (TypeError, ValueError) as error:
        return Problem(type(error).__name__, message(error))
    return None


async def dry_run(
    options: MapOptions,
    inputs: Sequence[Input],
    tell: Callable[[str], None],
    checks: Sequence[Callable[[InputItem], object]],
    earlier: EarlierRecords | None,
) -> tuple[str, int]:
    """Read and count the items; return what a run would do, and the exit code: 1 if an item is bad.

    Raises:
        CommandError: An input cannot be read to its end.
    """
    tally = Tally()
    reader = ItemReader(options, inputs, tally, earlier, tell)
    first: InputItem | None = None
    first_bad = ""
    left = bad = 0
    async with aclosing(reader.live_items()) as items:
        async for item in items:
            first = first or item
            left += 1
            if (problem := _problem(item, checks)) is not None:
                bad += 1
                first_bad = first_bad or f"#{item.id}: {fit(f'{problem.type}: {problem.message}', _SHOWN)}"
    if reader.error is not None:
        raise CommandError(f"cannot read {describe(reader.error)}")
    counts = [f"{left + tally.skipped:,}"]
    if earlier is not None:
        counts += [f"{tally.skipped:,} {'done' if options.resume else 'skipped'}", f"{left:,} left"]
    lines = [
        f"target   {options.target}",
        f"inputs   {', '.join(f'{one.name} ({one.format})' for one in inputs)}",
        f"items    {', '.join([*counts, *([f'{bad:,} of them bad'] if bad else [])])}",
    ]
    if first is not None:
        lines += _shown(options, first, checks)
    if first_bad:
        lines.append(f"bad      {first_bad}")
    lines.append(f"output   {'standard output' if options.output == STDOUT else options.output}")
    return "\n".join(map(safe, [*lines, "nothing was run (--dry-run)"])), FAILED if bad else 0


def _shown(options: MapOptions, item: InputItem, checks: Sequence[Callable[[InputItem], object]]) -> list[str]:
    """Return lines that show the first item, and the program that runs for it."""
    lines = [f"first    {fit(item.value if isinstance(item.value, str) else repr(item.value), _SHOWN)}"]
    if options.exec and _problem(item, checks) is None:
        lines.append(f"runs     {fit(str(checks[0](item)), _SHOWN)}")
    return lines
