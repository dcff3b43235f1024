"""Find and check the program of --exec, which is run for each item in place of TARGET."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paco._base.system import command_line
from paco._cli.ending import CommandError, suggest
from paco._cli.fields import check_fields
from paco._cli.formats import OBJECTS
from paco._exec.client import Programs
from paco._exec.outcome import result_of
from paco._exec.template import Template, TemplateError, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from paco._base.check import ItemFunction
    from paco._cli.inputs import Input, InputItem

#: A word that means something to a shell: a pipe, a list, a redirection.
_SHELL: Final = re.compile(r"\|\|?|&&?|;|<(?:<<)?|(?:\d|&)?>.*", re.DOTALL)
#: The beginning of a command line for a shell that sets a variable, and commands that no program can be.
_SETS: Final = re.compile(r"[A-Za-z_]\w*=", re.ASCII)
_BUILTINS: Final = frozenset(
    {"cd", "export", "source", ".", "alias", "set", "unset", "eval", "exec", "if", "for", "while"}
)


def find_program(text: str, inputs: Sequence[Input], tell: Callable[[str], None], *, feeds: bool) -> ProgramTarget:
    """Return the target that runs a program for each item; with ``feeds``, the program reads the item from its stdin.

    Raises:
        CommandError: The text is no template, it needs fields that the items have not, or there is no such program.
    """
    if not hasattr(os, "posix_spawnp"):
        raise CommandError("--exec needs Linux, macOS or another Unix; here, run programs from a TARGET")
    try:
        template = Template(text, append=not feeds)
    except TemplateError as error:
        raise CommandError(f"--exec: {error}") from None
    if template.fields and (name := next((one.name for one in inputs if one.format not in OBJECTS), None)):
        field = template.fields[0]
        raise CommandError(
            f"--exec: {{{field}}} is a field of an item, but {name} is read as lines; give its --format, or write "
            f"{{{{{field}}}}} for literal braces"
        )
    check_fields("--exec", template.fields, inputs)
    if template.program:
        _check_program(template.program)
    if meant := next(filter(_SHELL.fullmatch, template.words), None):
        shell = f"--exec \"sh -c '... $1 {meant} ...' sh {{}}\""
        tell(f"--exec runs no shell, so {meant} is an argument of {template.words[0]}; for a shell: {shell}")
    return ProgramTarget(template, feeds=feeds)


def _check_program(name: str) -> None:
    if shutil.which(name) is not None:
        return
    path = Path(name)
    if os.sep not in name:
        raise CommandError(f"--exec: there is no program {name}{_meant(name)}")
    if path.is_file():
        raise CommandError(f"--exec: {name} is not executable; run chmod +x {name}, or give its interpreter first")
    folder = name.rpartition(os.sep)[0]
    there = [f"{folder}{os.sep}{one}" for one in _names(folder or os.sep)]
    raise CommandError(f"--exec: there is no program {name}{suggest(name, there)}")


def _meant(name: str) -> str:
    """Return what was probably meant by a program that is not in PATH; an empty text if that is unknown."""
    if _SETS.match(name):
        return f"; to set a variable: --exec 'env {name} ...'"
    if name in _BUILTINS:
        return f"; {name} is a command of the shell: --exec \"sh -c '{name} ... $1' sh {{}}\""
    if Path(name).is_file():
        return f" in PATH; did you mean .{os.sep}{name}?"
    return suggest(name, {one for folder in os.get_exec_path() for one in _names(folder)})


def _names(folder: str) -> list[str]:
    """Return the names in a folder; none if it cannot be read."""
    try:
        return [one.name for one in Path(folder).iterdir()]
    except OSError:
        return []


class ProgramTarget:
    """A target like an async context manager of the user, which yields the function that runs the program."""

    def __init__(self, template: Template, *, feeds: bool) -> None:
        self.__qualname__ = template.text  # the name of the function, in the records
        self._template = template
        self._feeds = feeds
        self._programs = Programs()

    def show(self, item: InputItem) -> str:
        """Return the command line for an item; raise `TemplateError` if there is none."""
        return command_line(self._words(item))

    def _words(self, item: InputItem) -> list[str]:
        return self._template.fill(item.value, item.id + 1)

    async def __aenter__(self) -> ItemFunction:
        async def run(item: InputItem) -> Any:
            return await self._run(item)

        run.__name__ = self._template.words[0]  # messages of timeouts and retries show it
        return run

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._programs.close()

    async def _run(self, item: InputItem) -> Any:
        words = self._words(item)
        stdin = text_of(item.value).encode(errors="surrogatepass") if self._feeds else None
        try:
            ended = await self._programs.run(words, stdin)
        except OSError as error:
            if error.errno != errno.E2BIG:
                raise
            raise TemplateError(
                f"the arguments are too long for the system: {sum(map(len, words)):,} characters; let the program read "
                "the item: --stdin item"
            ) from None
        return result_of(words, ended)
