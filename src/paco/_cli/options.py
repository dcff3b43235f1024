"""Parse the command line, with errors that suggest what was meant."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, NoReturn

from paco._cli.ending import CommandError, suggest
from paco._cli.formats import FORMATS
from paco._cli.loop import LOOPS
from paco._cli.packed import ENDINGS
from paco._cli.values import Halt, amount, delimiter, duration, halt, listed, one_of, pair, rate, whole_number
from paco._records.lines import first_twice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._cli.values import RateOption

AUTO: Final = "auto"
STDIN: Final = "-"
STDOUT: Final = "-"

_MODES = ("auto", "bar", "plain", "json", "off")

# ---- the options

_EXAMPLES = """\
Run an async function or a program over every item of a file, and record each.

examples:
  paco map jobs.py:fetch urls.txt --output out.jsonl
  paco map jobs:client rows.jsonl --arg base_url=https://example.org --head 10
  cat files.txt | paco map --exec 'convert {} {.}.png' --limit 4 > out.jsonl
"""
_EPILOG = """\
exit codes:
  0    every item succeeded
  1    items failed, --max-time left some out, or an input or the output failed
  2    wrong use, or TARGET could not be set up; nothing was run
  3    the failures halted the run
  130  Ctrl-C ended the run (143: SIGTERM, 129: SIGHUP)
  141  the reader of the output is gone
"""


class MapOptions(NamedTuple):
    """The options of `paco map`."""

    words: tuple[str, ...]  # that the options were parsed from
    target: str  # with ``exec``, the program and its arguments
    exec: bool
    stdin: str | None  # what the program reads
    inputs: list[str]
    limit: int | Literal["auto"]
    rate: list[RateOption]
    burst: int | None
    budget: float | None
    cost: str | None
    timeout: float | None
    retries: int
    retry_on: list[str]
    loop: str | None
    engine: int | str | None  # the number of processes, the address of the cluster, or None to run TARGET here
    output: str
    keep_order: bool
    values: bool
    resume: bool
    retry_failed: bool
    key: str | None
    halt: Halt | None
    max_time: float | None
    grace: float
    dry_run: bool
    progress: str
    report: str | None
    trace: str | None
    format: str | None
    delimiter: str | None
    total: int | None
    head: int | None
    unpack: bool
    arguments: dict[str, str]

    @property
    def title(self) -> str:
        """The name of the function or the program."""
        return Path(shlex.split(self.target)[0]).name if self.exec else self.target.rpartition(":")[2]


class _Parser(argparse.ArgumentParser):
    """A parser that raises `CommandError` on wrong use, instead of ending the process."""

    #: What was probably meant if a word is wrong.
    hint = ""

    def error(self, message: str) -> NoReturn:
        raise CommandError(f"{message}{self.hint}\ntry: {self.prog} --help")


def _new_parser(name: str, usage: str, epilog: str = "") -> _Parser:
    return _Parser(
        prog=name,
        usage=usage,
        epilog=epilog,
        formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=26),
        allow_abbrev=False,
        add_help=False,
    )


def _map_parser() -> _Parser:
    parser = _new_parser("paco map", "paco map [options] (TARGET | --exec PROGRAM) [INPUT ...]", _EPILOG)
    _add_target_and_pace(parser)
    _add_output_and_end(parser)
    _add_display_and_input(parser)
    return parser


def _add_target_and_pace(parser: _Parser) -> None:
    add = parser.add_argument_group("what").add_argument
    target = "module:function or path.py:function: an async def f(item); a def, which runs in threads; or an async "
    target += "context manager that yields one"
    add("target", metavar="TARGET", nargs="?", help=target)
    inputs = (
        f"files of lines, .jsonl, .json (an array), .csv or .tsv, or {listed(ENDINGS)} of these; - for stdin (default)"
    )
    add("inputs", type=_input, metavar="INPUT", nargs="*", help=inputs)
    program = "run a program in place of TARGET: it and its arguments, as one quoted word, no shell; {} is the item, "
    more = "{.} a path without its extension, {/} its last part, {/.} that without its extension, {//} its folder, "
    more += "{#} the number, {name} a field; without any, the item is the last argument"
    add("--exec", metavar="PROGRAM", help=program + more)
    fed = "item: the program reads the item from its standard input"
    add("--stdin", type=one_of(("item",)), metavar="WHAT", help=fed)

    add = parser.add_argument_group("pace").add_argument
    at_once = "items in flight at once; 0: no limit; auto: adapt to latency and errors (default: 32)"
    add("-l", "--limit", type=whole_number(0, AUTO), default=32, metavar="N", help=at_once)
    starts = "maximum starts per s, m or h, e.g. 50/s; repeatable: all of them hold"
    add("-r", "--rate", type=rate, action="append", default=[], metavar="N/UNIT", help=starts)
    burst = "starts at once after a time without any, beyond --rate in that time (default: none)"
    add("--burst", type=whole_number(1), metavar="N", help=burst)
    add("--budget", type=amount, metavar="N", help="start no more items when N is spent (without --cost: N items)")
    cost = "what an item costs: a number in a field of it, or in result.FIELD of its result"
    add("--cost", metavar="FIELD", help=cost)
    add("-t", "--timeout", type=duration, metavar="DUR", help="the timeout of each attempt, e.g. 30s")
    retries = "further attempts, after exponential back-off with full jitter (default: 0)"
    add("--retries", type=whole_number(0), default=0, metavar="N", help=retries)
    on = "an exception to retry (module.Name), or module:predicate; repeatable (default: any Exception)"
    add("--retry-on", action="append", default=[], metavar="NAME", help=on)

    add = parser.add_argument_group("where").add_argument
    workers = "run TARGET in N processes on this machine; --limit applies to all of them together"
    add("--workers", type=whole_number(1), metavar="N", help=workers)
    loop = "the event loop: asyncio or uvloop (default: uvloop if it is installed)"
    add("--loop", type=one_of(LOOPS), metavar="LOOP", help=loop)
    dask = "run TARGET in a Dask cluster, given the address of its scheduler, e.g. dask://host:8786"
    add("--dask", metavar="ADDRESS", help=dask)


def _input(name: str) -> str:
    """Return the name of an input. In this process, the descriptor of stdin leads to nothing when a run begins."""
    return STDIN if name in {"/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"} else name


def _output(name: str) -> str:
    """Return the name of the output. In this process, the descriptor of stdout leads to stderr when a run begins."""
    return STDOUT if name in {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"} else name


def _add_output_and_end(parser: _Parser) -> None:
    add = parser.add_argument_group("output").add_argument
    output = "append a record to FILE as each item finishes, one line of JSON; - for stdout (default)"
    add("-o", "--output", type=_output, default=STDOUT, metavar="FILE", help=output)
    add("-k", "--keep-order", action="store_true", help="write records in the order of the input")
    add("--values", action="store_true", help="write only the results, one line of JSON each")

    add = parser.add_argument_group("resume").add_argument
    resume = "skip items that have a result in FILE; run those that failed or are missing"
    add("--resume", action="store_true", help=resume)
    add("--retry-failed", action="store_true", help="run only the items that failed in FILE")
    key = "the member of a JSON object that identifies an item (default: its whole content)"
    add("--key", metavar="FIELD", help=key)

    add = parser.add_argument_group("stop").add_argument
    when = "after N failures, or N%% of all items, start no more items (soon), or cancel the running ones too (now); "
    default = "never: do not halt (default: soon, if the first 20 items all fail)"
    add("--halt", type=halt, metavar="WHEN,fail=N", help=when + default)
    add("--fail-fast", action="store_const", const=Halt("now", 1), dest="halt", help="the same as --halt now,fail=1")
    add("--max-time", type=duration, metavar="DUR", help="start no items after this time, e.g. 90s, 8h")
    grace = "on SIGTERM or SIGHUP, the time that running items get to finish (default: 10s)"
    add("--grace", type=duration, default=10.0, metavar="DUR", help=grace)


def _add_display_and_input(parser: _Parser) -> None:
    add = parser.add_argument_group("look").add_argument
    dry = "import TARGET, check its parameters, count the items, and run nothing"
    add("-n", "--dry-run", action="store_true", help=dry)
    progress = "bar: repainted lines, steered by keys (? shows them); plain: a line every 10 s; "
    progress += "json: an object every second; off; auto: bar or plain"
    add("--progress", type=one_of(_MODES), default="auto", metavar="MODE", help=progress)
    add("--report", metavar="FILE", help="write an HTML page with pictures of the run")
    add("--trace", metavar="FILE", help="write a trace for https://ui.perfetto.dev")
    add("-h", "--help", action="store_true", help="show this")

    add = parser.add_argument_group("input").add_argument
    formats = f"{', '.join(FORMATS)}, or one of these with {listed(ENDINGS)} (default: from the name of INPUT)"
    add("--format", metavar="FORMAT", type=one_of(FORMATS, *ENDINGS), help=formats)
    char = "the delimiter of csv, e.g. ';' (default: a comma)"
    add("--delimiter", metavar="CHAR", type=delimiter, help=char)
    total = "the number of items, for progress and --halt when INPUT is a pipe"
    add("--total", type=whole_number(0), metavar="N", help=total)
    add("--head", type=whole_number(1), metavar="N", help="run only the first N items")
    add("--unpack", action="store_true", help="call TARGET with the members of each JSON object as keyword arguments")
    about = "a keyword argument for TARGET; repeatable"
    add("--arg", type=pair, action="append", default=[], dest="arguments", metavar="NAME=VALUE", help=about)


#: What options of other programs are here, unless the names are similar.
_MEANT: Final = {
    **dict.fromkeys(("--jobs", "--concurrency", "--parallel", "--max-procs", "--threads", "--max-workers"), "--limit"),
    "--delay": "--rate",
    "--version": "paco --version",
}


def _check_options(parser: _Parser, words: Sequence[str]) -> None:
    """Refuse an unknown option, before argparse takes its value for an INPUT."""
    known = re.findall(r"--[a-z-]+", parser.format_help())
    for word in words:
        name = word.partition("=")[0]
        if word.startswith("--") and name not in known:
            meant = f"; did you mean {_MEANT[name]}?" if name in _MEANT else suggest(name, known)
            parser.error(f"unknown option {name}{meant}{_of_program(words, name)}")


def _of_program(words: Sequence[str], option: str) -> str:
    """Return where to write an option of the program, if --exec is among the words of the command line."""
    if not any(word.partition("=")[0] == "--exec" for word in words):
        return ""
    return f" (an option of the program belongs into its text: --exec 'PROGRAM {option} {{}}')"


def _unquoted(words: Sequence[str]) -> str:
    """Return what is wrong if the program of --exec is a single word, so that its arguments are taken for others."""
    after = [word for option, word in itertools.pairwise(words) if option == "--exec" and " " not in word]
    return f" (the program and its arguments are one word: --exec '{after[0]} ...')" if after else ""


def _parsed(parser: _Parser, argv: Sequence[str]) -> argparse.Namespace | str:
    """Return the parsed arguments, or the help text if they ask for it."""
    words = list(itertools.takewhile("--".__ne__, argv))
    _check_options(parser, words)
    if "-h" in words or "--help" in words:
        return parser.format_help()
    parser.hint = _unquoted(words)
    given, rest = parser.parse_known_intermixed_args(list(argv))
    parser.hint = ""
    if rest:
        file = f"; the file of this name: -- {rest[0]}" if Path(rest[0]).exists() else ""
        unknown = f"unknown option {rest[0]}{file}{_of_program(words, rest[0])}"
        parser.error(unknown if rest[0].startswith("-") else f"unexpected argument {rest[0]}")
    return given


#: Options that need another one, and why.
_NEEDS: Final = (
    ("stdin", "exec", "is what a program reads; give the program"),
    ("burst", "rate", "is a number of starts beyond a rate; give the rate"),
    ("cost", "budget", "is what an item takes from a budget; give the budget"),
)


def _check_together(parser: _Parser, options: argparse.Namespace) -> None:
    """Refuse options that contradict each other."""
    resumes = options.resume or options.retry_failed
    for name, needed, why in _NEEDS:
        if getattr(options, name) is not None and getattr(options, needed) in (None, []):
            parser.error(f"--{name} {why} with --{needed}")
    if options.exec is not None:
        _check_exec(parser, options)
    if options.workers is not None and options.dask is not None:
        parser.error("--workers runs TARGET on this machine, --dask on a cluster; give only one of them")
    if options.resume and options.retry_failed:
        parser.error("--resume runs failed items too; give either --resume or --retry-failed")
    if resumes and options.output == STDOUT:
        parser.error("--resume and --retry-failed read the records of earlier runs; give their file with --output")
    if resumes and options.values:
        parser.error("--values writes no records to resume from; omit it, and extract the results with: jq .result")


def _check_exec(parser: _Parser, options: argparse.Namespace) -> None:
    """Refuse options that concern a function, where a program takes its place."""
    if options.arguments:
        parser.error("--arg gives arguments to a function; write those of a program in --exec")
    if options.unpack:
        parser.error("--unpack calls a function with the fields of an item; in --exec, {name} is a field")
    if options.workers is not None or options.dask is not None:
        parser.error("--workers and --dask run a function elsewhere; programs are processes of their own: omit it")


def _named(parser: _Parser, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    if (twice := first_twice(name for name, _ in pairs)) is not None:
        parser.error(f"--arg {twice} is given twice, so one of the two values would be lost")
    return dict(pairs)


def parse_map(argv: Sequence[str]) -> MapOptions | str:
    """Return the options of `paco map`, or the help text to print; raise `CommandError` if an argument is wrong."""
    parser = _map_parser()
    given = _parsed(parser, argv)
    if isinstance(given, str):
        return f"{_EXAMPLES}\n{given}"
    if given.exec is not None and given.target is not None:  # all arguments are INPUT then
        given.target, given.inputs = None, [_input(given.target), *given.inputs]
    if given.exec is None and given.target is None:
        parser.error("TARGET is missing: module:function or path.py:function; or --exec with a program")
    _check_together(parser, given)
    arguments = _named(parser, given.arguments)
    engine = given.dask if given.workers is None else given.workers
    found: dict[str, Any] = {
        **vars(given),
        "words": tuple(argv),
        "target": given.target if given.exec is None else given.exec,
        "exec": given.exec is not None,
        "inputs": given.inputs or [STDIN],
        "engine": engine,
        "arguments": arguments,
    }
    return MapOptions(*map(found.__getitem__, MapOptions._fields))


def parse_report(argv: Sequence[str]) -> argparse.Namespace | str:
    """Return the options of `paco report` (``file``, ``output``, ``trace``), or the help text, as `parse_map` does."""
    parser = _new_parser("paco report", "paco report [options] FILE.jsonl")
    parser.description = "Write an HTML page with pictures of a finished run, and print its summary."
    parser.add_argument("file", metavar="FILE", nargs="?", help="the records: a file that `paco map --output` wrote")
    parser.add_argument("-o", "--output", metavar="HTML", help="the page (default: FILE with the suffix .html)")
    parser.add_argument("--trace", metavar="FILE", help="also write a trace for https://ui.perfetto.dev")
    parser.add_argument("-h", "--help", action="store_true", help="show this")
    given = _parsed(parser, argv)
    if not isinstance(given, str) and given.file is None:
        parser.error("FILE is missing: a file that `paco map --output` wrote")
    return given
