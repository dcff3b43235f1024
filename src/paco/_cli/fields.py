"""Check the fields that options name against the headers of tables, before anything runs."""

from __future__ import annotations

from contextlib import closing, suppress
from typing import TYPE_CHECKING

from paco._base.check import shorten
from paco._base.system import command_line
from paco._cli import inputs as _inputs
from paco._cli.ending import CommandError
from paco._cli.formats import TableFormat
from paco._exec.template import lacks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from paco._cli.inputs import Input


def check_fields(option: str, fields: Iterable[str], inputs: Sequence[Input]) -> None:
    """Check that each table has the fields that an option names. Other inputs show theirs only item by item.

    Raises:
        CommandError: A table has no such field.
    """
    wanted = list(fields)
    for one in inputs if wanted else ():
        header = _header_of(one)
        if header is not None and (field := next((name for name in wanted if name not in header), None)) is not None:
            raise CommandError(f"{option}: {one.name} {lacks(field, header)}{_delimited(header)}")


def undelimited(inputs: Sequence[Input]) -> Iterator[str]:
    """Yield what to tell of each table whose header is a single field that has a delimiter in it."""
    for one in inputs:
        header = _header_of(one) or []
        if text := _delimited(header):
            yield f"{one.name} has a single field, {shorten(header[0])}{text}"


def _delimited(header: Sequence[str]) -> str:
    """Return which delimiter a header of a single field has, if there is one in it."""
    delimiter = next((char for char in ";\t|," if len(header) == 1 and char in header[0]), None)
    return "" if delimiter is None else f"; to split it: --delimiter {command_line([delimiter])}"


def _header_of(one: Input) -> list[str] | None:
    """Return the names in the header of a table; ``None`` if the input is none, is a pipe, or has no header."""
    form = one.new_format()
    if not one.regular or not isinstance(form, TableFormat):
        return None
    with suppress(OSError), closing(_inputs.chunks_of(one)) as chunks:  # the run reports what is wrong with the file
        for chunk in chunks:
            if any(form.split(chunk)) or form.header is not None:
                break
    return form.header
