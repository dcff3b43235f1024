"""The entry point of the command: call `paco map` or `paco report`, and return the exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import paco
from paco._base.system import reader_has_gone
from paco._cli.ending import CLOSED_PIPE, WRONG_USE, CommandError, Interrupts, leave, suggest
from paco._cli.streams import open_closed, records_alone
from paco._view.console import Console, has_rich, safe_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

_USAGE = """\
usage: paco map [options] TARGET [INPUT ...]    run an async function over the items of files
       paco report FILE.jsonl                   write a report of a finished run from its records
       paco map --help                          show examples and options
       paco --version                           show the version
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with these arguments, or else those of this process, and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if argv is None:
        open_closed()
    if argv is None and (reconfigure := getattr(sys.stdout, "reconfigure", None)):
        reconfigure(errors="backslashreplace")  # as on stderr: cp1252, on Windows, lacks most characters
    interrupts = Interrupts(for_good=argv is None)
    with interrupts.caught():
        code = _answer(words, interrupts)
        interrupts.end(code)
    if interrupts.for_good and threading.current_thread() is threading.main_thread():
        leave(code)
    return code


def _answer(words: list[str], interrupts: Interrupts) -> int:
    try:
        code = _dispatch(words, interrupts)
    except CommandError as error:
        print(safe_lines(f"paco: {error}"), file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("paco: interrupted", file=sys.stderr)
        return 128 + (interrupts.first or signal.SIGINT)
    except OSError as error:
        if not reader_has_gone(error):
            raise
        # `paco --help | true`: discard what is left in the buffer, or Python reports an error at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return CLOSED_PIPE
    return code


def _dispatch(words: list[str], interrupts: Interrupts) -> int:
    first = words[0] if words else ""
    if first == "map":
        return _map(words[1:], interrupts)
    if first == "report":
        from paco._cli.report import report_command

        return report_command(words[1:])
    if first == "--version":
        print(f"paco {paco.__version__}", flush=True)
    elif first in {"-h", "--help"}:
        print(_USAGE, end="", flush=True)
    else:
        hint = suggest(first, ["map", "report", "--version", "--help"])
        what = f"unknown command {first}{hint}" if words else "the command is missing"
        raise CommandError(f"{what}\n\n{_USAGE.rstrip()}")
    return 0


def _map(words: Sequence[str], interrupts: Interrupts) -> int:
    """Run `paco map` with these arguments and return the exit code."""
    from paco._cli.job import prepared
    from paco._cli.options import parse_map
    from paco._cli.run import MapJob, run

    options = parse_map(words)
    if isinstance(options, str):
        print(options, end="", flush=True)
        return 0
    if options.progress == "bar" and not has_rich():
        raise CommandError("--progress bar needs rich to repaint lines: pip install paco[cli]")
    with records_alone(for_good=interrupts.for_good) as streams:
        console = Console(streams.stderr, os.environ, live=True if options.progress == "bar" else None)
        with closing(console), console.guarding(), ExitStack() as opened:
            with interrupts.raising():  # imports, named pipes, and records of earlier runs may take long
                job = prepared(options, streams.stdin, streams.stdout, console, interrupts, opened)
            if isinstance(job, MapJob):
                return run(job)
        text, code = job
        streams.answer(text)
        return code
