"""The output of a run: its file, the records of earlier runs in it, and the record of each item."""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from contextlib import closing, contextmanager
from functools import partial
from heapq import heappop, heappush
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import paco
from paco._base.check import message
from paco._base.errors import as_raised
from paco._base.system import PRIVATE
from paco._cli.ending import CommandError, Problem, describe, explain, is_interrupt, origin, reason
from paco._cli.inputs import InputItem
from paco._cli.options import STDOUT
from paco._records.earlier import CONTENT, EarlierRecords
from paco._records.file import APPENDING, JournalError, RecordFile, is_json, is_record
from paco._records.group_commit import GroupCommit
from paco._records.keys import canonical, digest
from paco._records.lines import encode, failure, span_there, success
from paco._records.maker import made_by
from paco.events import clock, failed

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from contextlib import ExitStack

    from paco._base.check import ItemFunction
    from paco._base.item import WorkerTask
    from paco._base.types import OnError
    from paco._cli.ending import Tally
    from paco._cli.options import MapOptions
    from paco._cli.progress import Progress
    from paco._engine.sinks import Drop, InOrder
    from paco._exec.outcome import ProgramError
    from paco._records.lines import SpanFields
    from paco._records.maker import Maker
    from paco.events import ItemEnded


_CHANGED = (
    "{} has changed since the last record of {} was written; recorded results stay as they are, and the other items "
    "run with the new code"
)
_OTHER_ARGUMENTS = (
    "--arg {} had another value, or none, for results in {}; recorded results stay as they are, and the other items "
    "run with the new value (to run all items with it, use another file)"
)
_OTHER_KEYS = "{} has records of another --key: they know their items by {}, not by {}, and are not used{}"
_NO_RECORDS = "{} has no records yet: all items run"
#: Opens a pipe without waiting for its writer.
_AT_ONCE: Final = getattr(os, "O_NONBLOCK", 0)
#: The bytes of the hash of an argument.
_HASH: Final = 4


class Output(NamedTuple):
    """Where the records go."""

    file: RecordFile  # open and locked
    maker: Maker  # of the results
    earlier: EarlierRecords | None  # the records of earlier runs, if this run resumes
    tell: Callable[[str], None]  # shows the user a line

    @property
    def proven(self) -> bool:
        """Whether an earlier run had results. A resumed run starts with its failures, which prove nothing then."""
        return self.earlier is not None and self.earlier.succeeded


def open_output(
    options: MapOptions, path: str, found: Any, stdout: int, tell: Callable[[str], None], opened: ExitStack
) -> Output:
    """Open the file that the records go to, until ``opened`` closes it, and read the records in it if this run resumes.

    ``path`` is the place of that file, ``found`` the object that TARGET names, ``stdout`` the descriptor of standard
    output, or -1 if it is closed. ``tell`` shows the user a line.

    Raises:
        CommandError: The file cannot be used.
    """
    name = options.output
    maker = _maker(options, found)  # reads source files, so it comes before the output exists
    with _explained(name):
        _check_exists(options, path)
        file = _open(name, path, stdout, opened)
        earlier = _begun(options, file, maker, tell) if name != STDOUT else None
    if file.warning:
        tell(file.warning)
    return Output(file, maker, earlier, tell)


def look_up(
    options: MapOptions, path: str, found: Any, tell: Callable[[str], None], opened: ExitStack
) -> EarlierRecords | None:
    """Return the records of earlier runs that this run would resume, for ``--dry-run``; see `open_output`."""
    if not (options.resume or options.retry_failed):
        return None
    with _explained(options.output):
        _check_exists(options, path)
        if not Path(path).exists():
            tell(_NO_RECORDS.format(options.output))
            return None
        file = opened.enter_context(closing(_Unchanged(path, options.output)))
        file.share(os.open(path, os.O_RDONLY | _AT_ONCE))
        return _begun(options, file, _maker(options, found), tell)


class _Unchanged(RecordFile):
    """A file of records that is read by a dry run, which leaves torn lines as they are."""

    def cut(self, offset: int) -> None: ...

    def append(self, lines: Iterable[bytes]) -> str:
        return ""


@contextmanager
def _explained(name: str) -> Generator[None]:
    """Raise `CommandError` if the output cannot be used."""
    try:
        yield
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise CommandError(f"cannot write {name}: {reason(error)}") from None
    except JournalError as error:
        raise CommandError(str(error)) from None


def _maker(options: MapOptions, found: Any) -> Maker:
    # A hash, since an argument may be a secret.
    hashes = {key: digest(canonical(text), 0, _HASH).hex() for key, text in options.arguments.items()}
    return made_by(found)._replace(arguments=hashes, by=options.key)


def _check_exists(options: MapOptions, path: str) -> None:
    if options.retry_failed and not Path(path).exists():
        raise CommandError(f"--retry-failed runs what failed in {options.output}, which does not exist")


def _begun(options: MapOptions, file: RecordFile, maker: Maker, tell: Callable[[str], None]) -> EarlierRecords | None:
    """Return the records of earlier runs if this run resumes, and tell what the user may not expect of the file."""
    name = options.output
    if options.resume or options.retry_failed:
        earlier = _earlier(file, maker)
        if file.regular and not Path(file.path).stat().st_size:
            tell(_NO_RECORDS.format(name))
        if earlier.changed:
            tell(_CHANGED.format(maker.name, name))
        if earlier.others:
            others = ", ".join(sorted(earlier.others))
            remedy = f"; to use them: --key {others}" if len(earlier.others) == 1 and others != CONTENT else ""
            tell(_OTHER_KEYS.format(name, others, earlier.by, remedy))
        if earlier.differing:
            tell(_OTHER_ARGUMENTS.format(", ".join(sorted(earlier.differing)), name))
        return earlier
    if file.regular and Path(file.path).stat().st_size:
        file.mend(is_json if options.values else is_record)
        tell(f"{name} is not empty: this run appends to it, and runs all items (to skip those with a result: --resume)")
    return None


def _open(name: str, path: str, stdout: int, opened: ExitStack) -> RecordFile:
    file = opened.enter_context(closing(RecordFile(path, name)))
    if name != STDOUT:
        file.take(os.open(path, APPENDING | os.O_WRONLY, PRIVATE))
    elif stdout < 0:
        raise CommandError("standard output is closed; give a file with --output")
    else:
        file.share(os.dup(stdout))
    return file


def _earlier(file: RecordFile, maker: Maker) -> EarlierRecords:
    """Return the records of earlier runs; raise `CommandError` if the file has none, or those of another function."""
    if not file.regular:
        raise CommandError(f"cannot resume from {file.title}: it is not a regular file")
    records = EarlierRecords(file, maker, strict=False)
    try:
        records.load()
    except JournalError as error:
        raise CommandError(f"cannot resume: {error}") from None
    except OSError as error:
        raise CommandError(f"cannot resume from {describe(error, file.title)}") from None
    return records


class ItemRecords:
    """Writes a record of each item, and counts the items. A run of the command has it in place of a journal.

    ``item_failed`` is called after each failure, with the number of items that started before, and ``charge`` with each
    result.
    """

    def __init__(
        self,
        output: Output,
        options: MapOptions,
        tally: Tally,
        progress: Progress | None,
        item_failed: Callable[[int], None],
        charge: Callable[[Any], None] | None = None,
    ) -> None:
        self._charge = charge
        self._name = output.maker.name
        self._made_by = output.maker.fields()
        self._options = options
        self._tally = tally
        self._progress = progress
        self._item_failed = item_failed
        #: Writes the lines.
        self.commit = GroupCommit(output.file, keep_order=options.keep_order, tell=output.tell)
        #: The traceback of the first failure, and where in the user's code the first that came from there was raised.
        self.first_error = self.first_place = ""

    # ---- the interface of a journal

    def begin(
        self, name: str, fn: ItemFunction, sink: InOrder | Drop, *, on_error: OnError
    ) -> tuple[GroupCommit, ItemFunction, None]:
        """Return the service that writes, and the function that also adds records. The source has no recorded items."""
        return self.commit, self._recorded(fn), None

    # ---- an item

    def _recorded(self, fn: ItemFunction) -> ItemFunction:  # noqa: C901 - further calls would cost time for each item
        """Return a function that runs an item and adds its line.

        The line is added before the function awaits anything else, so a cancelled run loses no finished item. An error
        of the item is raised again, for limits that adapt to errors. All of it is one coroutine, since each further one
        would take time whenever the item resumes.
        """
        tally, commit, values, made_by = self._tally, self.commit, self._options.values, self._made_by
        settled, numbered = self._options.retries > 0, self._options.exec
        text_of = encode if self._charge is None else partial(_charged, self._charge)
        # Without progress, a function in C discards the duration.
        took = deque[float](maxlen=0).append if self._progress is None else self._progress.latencies.add
        free, new = list[int](), count()  # slots: an item takes the lowest free one, without a call
        now, wall = clock(), time.time

        async def recorded(item: InputItem) -> None:
            number = tally.started
            tally.started = number + 1
            _, head, value, problem = item
            error: BaseException | None = None
            if problem is not None:
                error = problem.error()
                self._fail(item, number, error, (0, None, wall(), 0.0, None))
            else:
                attempts, text, slot = 1, b"", heappop(free) if free else next(new)
                start, began = wall(), now()
                try:
                    result = await fn(item if numbered else value)
                    if settled:
                        attempts = result.attempts
                        tally.retried += attempts - 1
                        result = _result(result)
                    text = text_of(result)
                except BaseException as raised:  # by the function, or because JSON cannot hold its result
                    if not self._is_of_the_item(raised):
                        raise
                    error = raised
                finally:
                    heappush(free, slot)
                span: SpanFields = (attempts, slot, start, 1000 * (now() - began), None)
                span = _noted(span, began) if commit.run.noted else span
                took(span[3] / 1000)
                if error is None:
                    whole = text + b"\n" if values else (head, success(text), span, made_by)
                    commit.add(whole, number)
                    tally.ok += 1
                else:
                    self._fail(item, number, error, span)
            if commit.full:
                await commit.room()
            try:
                if isinstance(error, Exception):
                    raise error
            finally:
                del error  # its traceback refers to this frame: break the cycle

        recorded.__name__ = recorded.__qualname__ = self._name  # listeners show it
        return recorded

    def _is_of_the_item(self, error: BaseException) -> bool:
        """Return whether to record an error; if not because the run is ending, count the item as cancelled.

        An error is of the item whatever its class: a panic of a library written in Rust is a ``BaseException``.
        """
        run = self.commit.run
        if isinstance(error, asyncio.CancelledError) and (run.is_ending or run.was_let_go()):
            self._tally.cancelled += 1
            return False
        collected = isinstance(error, GeneratorExit) and asyncio._get_running_loop() is None  # the loop is gone
        return not (collected or is_interrupt(error))

    def _fail(self, item: InputItem, number: int, error: BaseException, span: SpanFields) -> None:
        """Add the line of an item that failed, then count and show the failure. ``number`` is its order of starting."""
        if not self._tally.failed:
            self.first_error = explain(error)
        problem = item.problem or self._problem(error)
        outcome = failure(problem.type, problem.message, _of_program(problem))
        self.commit.add(b"" if self._options.values else (item.head, outcome, span, self._made_by), number)
        self._tally.fail(problem)
        if self._progress is not None:
            self._progress.failure(item, problem, span[0])
        self._item_failed(number)

    def _problem(self, error: BaseException) -> Problem:
        failed(error)  # tells listeners, since an error that is not an Exception is not raised
        error = as_raised(error)  # the record shows anyway that the error is one of the item
        kind, text = type(error).__name__, message(error)
        if self._options.exec:
            code = getattr(error, "returncode", None)
            return Problem(kind, text) if code is None else Problem(kind, text, code, cast("ProgramError", error).said)
        if not self.first_place and (place := origin(error)):
            self.first_place = f"{kind} at {place}"
        return Problem(kind, text)


def _of_program(problem: Problem) -> bytes:
    """Return the further fields of the error of a program."""
    return b"" if problem.code is None else b',"code":%d,"stderr":%b' % (problem.code, encode(problem.stderr))


class ItemTrace(paco.trace):
    """A trace that numbers the items as their records do: a resumed run does not start with the first one."""

    def _item(self, event: ItemEnded) -> None:
        item = event.item
        super()._item(event._replace(position=item.id) if isinstance(item, InputItem) else event)


def _noted(span: SpanFields, began: float) -> SpanFields:
    """Return the span of the item that the current task runs: if a worker ran the item, its times replace these."""
    item = cast("WorkerTask", asyncio.current_task()).item
    if item is None or item.ran is None:
        return span
    attempts, slot, start, _, _ = span
    return span_there(attempts, slot, start, began, item.ran)


def _charged(charge: Callable[[Any], None], result: Any) -> bytes:
    charge(result)
    return encode(result)


def _result(outcome: paco.Ok[Any, Any] | paco.Err[Any]) -> Any:
    if isinstance(outcome, paco.Err):
        raise outcome.error
    return outcome.value
