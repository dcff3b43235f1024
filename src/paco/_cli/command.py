"""The entry point of the command: call `paco map` or `paco report`, and return the exit code."""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import ExitStack, closing, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

import paco
from paco._base.errors import install
from paco._base.system import command_line, reader_has_gone
from paco._cli.ending import CLOSED_PIPE, WRONG_USE, CommandError, Interrupts, leave, suggest
from paco._view.console import Console, has_rich, safe_lines

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

_USAGE = """\
usage: paco map [options] TARGET [INPUT ...]            run a function of Python for each item of files
       paco map [options] --exec PROGRAM [INPUT ...]    run a program for each item of files
       paco report FILE.jsonl                           write a report of a finished run from its records
       paco map --help                                  show examples and options
       paco --version                                   show the version
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
        if ":" in first or first == "--exec":
            hint = f"; did you mean: paco map {command_line(words)}"
        what = f"unknown command {first}{hint}" if words else "the command is missing"
        raise CommandError(f"{what}\n\n{_USAGE.rstrip()}")
    return 0


def _map(words: Sequence[str], interrupts: Interrupts) -> int:
    """Run `paco map` with these arguments and return the exit code."""
    from paco._cli.job import prepared
    from paco._cli.options import STDIN, parse_map
    from paco._cli.run import MapJob, run

    options = parse_map(words)
    if isinstance(options, str):
        print(options, end="", flush=True)
        return 0
    if options.progress == "bar" and not has_rich():
        raise CommandError(f"--progress bar needs rich to repaint lines: {install('cli')}")
    own = interrupts.for_good and STDIN in options.inputs
    with records_alone(for_good=interrupts.for_good, items_alone=own) as streams:
        console = Console(streams.stderr, os.environ, live=True if options.progress == "bar" else None)
        with closing(console), console.guarding(), ExitStack() as opened:
            with interrupts.raising():  # imports, named pipes, and records of earlier runs may take long
                job = prepared(options, streams.stdin, streams.stdout, console, interrupts, opened)
            if isinstance(job, MapJob):
                return run(job)
        text, code = job
        streams.answer(text)
        return code


# ---- the standard streams: stdout is for records alone, and what anything else writes there goes to stderr; stdin is
# ---- for items alone
#
# That is done to the descriptors, since not only `print` writes there: programs that TARGET starts, worker processes,
# libraries in C, and functions that run at exit do so too.


class Streams(NamedTuple):
    """The streams of the command, which TARGET does not have."""

    stdin: int  # its descriptor, or -1 if it is closed
    stdout: int  # likewise; for the records
    stderr: TextIO | None

    def answer(self, text: str) -> None:
        """Write a text to stdout, if there is one."""
        if self.stdout >= 0:
            with _stream(os.dup(self.stdout), sys.__stdout__) as out:
                print(text, file=out)


def open_closed() -> None:
    """Open each standard descriptor that is closed on a file without an end, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets this number, since those below it are open
            os.set_inheritable(number, True)  # as each of them is
    if sys.stderr is None:
        sys.stderr = _stream(2, None, close=False)


@contextmanager
def records_alone(*, for_good: bool, items_alone: bool = False) -> Generator[Streams]:
    """Have what is written to stdout go to stderr within the block; with ``for_good``, until the process ends.

    With ``items_alone``, stdin is empty until then: a program that TARGET starts, such as ssh, would read the items.
    """
    stdin, errors = _descriptor(sys.stdin), _descriptor(sys.stderr)
    if items_alone and stdin >= 0:
        stdin = _taken(stdin)
    with ExitStack() as undone:
        stdout, stderr, before = (
            _copy(one, undone) for one in (_descriptor(sys.stdout), 2 if errors < 0 else errors, 1)
        )
        undone.callback(os.dup2, before, 1)
        os.dup2(stderr, 1)
        messages = sys.stderr if errors < 0 else _stream(stderr, sys.stderr, close=False)
        theirs = _stream(1, sys.stderr, close=False)
        undone.callback(theirs.close)
        undone.enter_context(redirect_stdout(theirs))
        if for_good:
            undone.pop_all()
        yield Streams(stdin, stdout, messages)


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return -1


def _taken(stdin: int) -> int:
    """Return a copy of a descriptor, which leads to a file without content then."""
    copy, empty = os.dup(stdin), os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, stdin)
    os.close(empty)
    return copy


def _copy(descriptor: int, undone: ExitStack) -> int:
    """Return a copy of a descriptor, which ``undone`` closes, or -1 if it is closed."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return -1
    undone.callback(os.close, copy)
    return copy


def _stream(descriptor: int, like: TextIO | None, *, close: bool = True) -> TextIO:
    """Return a stream that writes each line at once, and escapes what the encoding of another stream lacks."""
    encoding = getattr(like, "encoding", None)
    return cast("TextIO", open(descriptor, "w", 1, encoding, "backslashreplace", closefd=close))
