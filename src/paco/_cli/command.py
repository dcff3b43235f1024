"""The first word of the command line, and the exit code."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import paco
from paco._base.system import reader_has_gone
from paco._cli.errors import CommandError, suggest
from paco._cli.stop import Interrupts
from paco._view.console import Console, has_rich, safe_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """\
usage: paco map [options] TARGET [INPUT ...]    an async function over a file
       paco report FILE.jsonl                   pictures and a summary of what it has done
       paco map --help                          examples and options
       paco --version
"""
_WRONG_USE = 2
_CLOSED_PIPE = 141


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with the words of ``argv`` (default: of this process) and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None and (reconfigure := getattr(sys.stdout, "reconfigure", None)):
        reconfigure(errors="backslashreplace")  # as stderr has it: cp1252 of Windows lacks most characters
    interrupts = Interrupts()
    with interrupts.caught(for_good=argv is None):
        code = _answer(words, interrupts)
        interrupts.end(code)
    return code


def _answer(words: list[str], interrupts: Interrupts) -> int:
    try:
        code = _dispatch(words, interrupts)
        if sys.stdout is not None:  # None: it was closed before we began
            sys.stdout.flush()
    except CommandError as error:
        print(safe_lines(f"paco: {error}"), file=sys.stderr)
        return _WRONG_USE
    except KeyboardInterrupt:
        print("paco: interrupted", file=sys.stderr)
        return 128 + (interrupts.first or signal.SIGINT)
    except OSError as error:
        if not reader_has_gone(error):
            raise
        # `paco --help | true`: what is left is flushed into nothing, or Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _CLOSED_PIPE
    return code


def _dispatch(words: list[str], interrupts: Interrupts) -> int:
    first = words[0] if words else ""
    if first == "map":
        return _map(words[1:], interrupts)
    if first == "report":
        from paco._cli.report import report_command

        return report_command(words[1:])
    if first == "--version":
        print(f"paco {paco.__version__}")
    elif first in {"-h", "--help"}:
        print(_USAGE, end="")
    else:
        hint = suggest(first, ["map", "report", "--version", "--help"])
        what = f"there is no command {first}{hint}" if words else "which command?"
        raise CommandError(f"{what}\n\n{_USAGE.rstrip()}")
    return 0


def _map(words: Sequence[str], interrupts: Interrupts) -> int:
    """Run `paco map` with these words and return the exit code.

    Raises:
        CommandError: Nothing was run; the text says why.
    """
    from paco._cli.job import dry_run, find_parts, opened, standard_streams
    from paco._cli.options import parse_map
    from paco._cli.run import run

    options = parse_map(words)
    if isinstance(options, str):
        print(options, end="")
        return 0
    console = Console(sys.stderr, os.environ, live=True if options.progress == "bar" else None)
    if options.progress == "bar" and not has_rich():
        raise CommandError("--progress bar needs rich, which repaints the lines: pip install paco[cli]")
    standard = standard_streams()
    with contextlib.redirect_stdout(sys.stderr), console.guarding():
        parts = find_parts(options, standard, interrupts)
        if not options.dry_run:
            with opened(options, parts, console, interrupts) as job:
                return run(job)
        with interrupts.raising():
            plan = asyncio.run(dry_run(options, parts.inputs))
    print(plan.text)
    return plan.code
