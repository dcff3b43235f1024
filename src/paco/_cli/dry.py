"""`--dry-run`: what would be run, with everything checked that can be checked without running it."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, NamedTuple

from paco._cli.errors import CommandError, describe
from paco._cli.inputs import Reader
from paco._cli.stop import Stop
from paco._view.console import fit, safe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._cli.inputs import Input, Item
    from paco._cli.options import MapOptions

_WIDTH = 100
_NOTHING = "nothing was run (--dry-run)"


class Plan(NamedTuple):
    """What would be done, and the exit code: 1 if an item is bad."""

    text: str
    code: int


async def dry_run(options: MapOptions, inputs: Sequence[Input]) -> Plan:
    """Read and count the items, and return what would be done with them.

    Raises:
        CommandError: An input cannot be read to its end.
    """
    reader = Reader(inputs, Stop(), options.head)
    first: Item | None = None
    first_bad: Item | None = None
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
        lines.append(f"first    {fit(first.value if isinstance(first.value, str) else repr(first.value), _WIDTH)}")
    if first_bad is not None and (problem := first_bad.problem):
        lines.append(f"bad      #{first_bad.id}: {fit(f'{problem.type}: {problem.message}', _WIDTH)}")
    lines += [f"output   {'standard output' if options.output == '-' else options.output}", _NOTHING]
    return Plan("\n".join(map(safe, lines)), 1 if bad else 0)
