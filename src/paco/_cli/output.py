"""Where the records go: standard output, or a file that one run has for itself."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from paco._base.system import locked
from paco._cli.errors import CommandError
from paco._records.file import PRIVATE

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from paco._cli.inputs import Input
    from paco._cli.stop import Interrupts

STDOUT = "-"


@contextlib.contextmanager
def open_output(name: str, stdout: int, inputs: Sequence[Input], interrupts: Interrupts) -> Generator[int]:
    """Give the descriptor that the records go to.

    Raises:
        CommandError: It cannot be written, is an input too, or another run writes it.
    """
    if name == STDOUT:
        if stdout < 0:
            raise CommandError("standard output is closed; name a file with --output")
        _refuse_input(stdout, "standard output", inputs)
        yield stdout
        return
    try:
        # Appending never destroys earlier records. Only the owner may read them: they may hold what the items hold.
        with interrupts.raising():  # a named pipe waits for its reader
            output = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), PRIVATE)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot write {name}: {getattr(error, 'strerror', None) or error}") from None
    try:
        _refuse_input(output, name, inputs)
        if is_regular(output) and not locked(output):
            raise CommandError(f"{name} is being written by another run; wait for it to end, or name another file")
        yield output
    finally:
        os.close(output)


def is_regular(descriptor: int) -> bool:
    """Say whether this is a regular file, and no pipe, terminal or device."""
    return stat.S_ISREG(os.fstat(descriptor).st_mode)


def _refuse_input(output: int, name: str, inputs: Sequence[Input]) -> None:
    written = os.fstat(output)
    for one in inputs:
        if one.regular and os.path.samestat(written, Path(str(one.path)).stat()):
            raise CommandError(f"{name} is both input and output: the run would read its own records")


def end_torn_line(name: str, output: int) -> None:
    """Begin on a new line after a record that a killed run left torn."""
    if is_regular(output) and os.fstat(output).st_size:
        with contextlib.suppress(OSError), Path(name).open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read() != b"\n":
                os.write(output, b"\n")
