"""The command `paco`.

The layers, each importing only from those above it::

    _errors     the error that ends the command, how an error of the user's code is shown
    _stop       signals, and the wish that nothing more is read
    _keys       what identifies an item
    _chunks     bytes of files, pipes and terminals
    _formats    bytes cut into items, and parsed
    _inputs     items
    _records    the record of an item
    _writer     the one writer of records
    _output     where they go
    _resume     what earlier runs have left
    _order      lines as they come, or in order
    _target     TARGET found and imported
    _function   what TARGET may be
    _tally      what is counted
    _summary    how it went, in words
    _view       how it goes, in words
    _progress   the same, shown
    _words      the words behind the options
    _options    the words of the command line
    _pace       limits, rates and attempts
    _halting    whether too much fails
    _work       what is done for one item
    _run        a run
    _dry        what a run would be
    _map        `paco map`
    _report     `paco report`
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import paco
from paco._cli._errors import CommandError, suggest
from paco._cli._stop import Interrupts
from paco._console import safe_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

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
    except BrokenPipeError:
        # `paco --help | true`: what is left is flushed into nothing, or Python complains at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return _CLOSED_PIPE
    return code


def _dispatch(words: list[str], interrupts: Interrupts) -> int:
    first = words[0] if words else ""
    if first == "map":
        from paco._cli._map import map_command

        return map_command(words[1:], interrupts)
    if first == "report":
        from paco._cli._report import report_command

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
