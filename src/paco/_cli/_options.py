"""The options of the command, and errors that say what was meant."""

from __future__ import annotations

import argparse
import itertools
import re
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from paco._cli._errors import CommandError, suggest
from paco._cli._inputs import FORMATS
from paco._cli._progress import MODES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_EXAMPLES = """\
Run an async function over every item of a file: one JSON record each.

examples:
  paco map jobs.py:fetch urls.txt --output out.jsonl
  cat urls.txt | paco map jobs:fetch --limit 100 > out.jsonl
  paco map jobs:client rows.jsonl --arg base_url=https://example.org --head 10
"""
_EPILOG = """\
exit codes:
  0    all ok
  1    some items failed, or an input or the output broke
  2    wrong use, or TARGET could not be set up: nothing was run
  130  ended by Ctrl-C (143: by SIGTERM)
  141  the reader of the output has gone
"""
_TARGET = (
    "module:function or path.py:function; an async def f(item), or an async context manager that yields such a function"
)
_LIMIT = "items in flight at once; 0: no limit (default: 32)"
_OUTPUT = "append the records to FILE as items finish, a line of JSON each; - for stdout (default)"
_PROGRESS = "auto: a live line on a terminal, else plain; plain: a line each 10 s; off: no words"
_ARGUMENT = "a keyword argument for TARGET; may be given again"


class MapOptions(NamedTuple):
    """What `paco map` was asked for."""

    target: str
    inputs: list[str]
    limit: int
    output: str
    format: str | None
    head: int | None
    arguments: dict[str, str]
    progress: str


class _Parser(argparse.ArgumentParser):
    """Raises instead of leaving the process, and looks for what was meant."""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}\ntry: {self.prog} --help")


def _whole_number(least: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,18}", text, re.ASCII) or int(text) < least:
            raise argparse.ArgumentTypeError(f"must be a whole number of {least} or more, got {text!r}")
        return int(text)

    return parse


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name.isidentifier()):
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, got {text!r}")
    return name, value


def _map_parser() -> _Parser:
    parser = _Parser(
        prog="paco map",
        usage="paco map [options] TARGET [INPUT ...]",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        add_help=False,
    )
    what = parser.add_argument_group("what")
    what.add_argument("target", metavar="TARGET", nargs="?", help=_TARGET)
    what.add_argument("inputs", metavar="INPUT", nargs="*", help="files of lines, or .jsonl; - for stdin (default)")
    pace = parser.add_argument_group("pace")
    pace.add_argument("-l", "--limit", type=_whole_number(0), default=32, metavar="N", help=_LIMIT)
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", default="-", metavar="FILE", help=_OUTPUT)
    output.add_argument("--progress", choices=MODES, default="auto", metavar="MODE", help=_PROGRESS)
    source = parser.add_argument_group("input")
    source.add_argument("--format", choices=FORMATS, metavar="FORMAT", help="lines or jsonl (default: by the name)")
    source.add_argument("--head", type=_whole_number(1), metavar="N", help="only the first N items")
    source.add_argument(
        "--arg", type=_pair, action="append", default=[], dest="arguments", metavar="NAME=VALUE", help=_ARGUMENT
    )
    other = parser.add_argument_group("other")
    other.add_argument("-h", "--help", action="store_true", help="show this")
    return parser


def _check_options(parser: _Parser, words: Sequence[str]) -> None:
    """Refuse an unknown option before argparse takes its value for something else."""
    known = re.findall(r"--[a-z-]+", parser.format_help())
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("--") and name not in known:
            parser.error(f"unknown option {name}{suggest(name, known)}")


def parse_map(argv: Sequence[str]) -> MapOptions | str:
    """Return what was asked for, or the help to print.

    Raises:
        CommandError: The words make no sense; the text says which and why.
    """
    parser = _map_parser()
    words = list(itertools.takewhile("--".__ne__, argv))
    _check_options(parser, words)
    if "-h" in words or "--help" in words:
        return f"{_EXAMPLES}\n{parser.format_help()}"
    options, rest = parser.parse_known_intermixed_args(list(argv))
    if rest:
        parser.error(f"unknown option {rest[0]}")
    if options.target is None:
        parser.error("TARGET is missing: module:function or path.py:function")
    given = vars(options)
    del given["help"]
    given["arguments"] = dict(given["arguments"])
    return MapOptions(**given)
