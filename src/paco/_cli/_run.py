"""A run: the function over the items through the library, a record for each, and an end that loses none."""

from __future__ import annotations

import asyncio
import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import paco
from paco._cli._errors import ClosingError, describe
from paco._cli._inputs import Problem
from paco._cli._progress import Display, Progress, Tally
from paco._cli._records import Slots, Span, failure, line, opening, result
from paco._cli._writer import Writer
from paco._console import message, safe_lines

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractAsyncContextManager

    from paco._cli._function import Function
    from paco._cli._inputs import Item, Reader
    from paco._cli._stop import Interrupts, Stop
    from paco._console import Console

_FAILED = 1
_CLOSED_PIPE = 141  # what a shell shows for `yes | head`: 128 + SIGPIPE


class Work:
    """What is done for one item: run it, write its record, show its failure. Never raises an ``Exception``."""

    def __init__(self, function: Function, writer: Writer, tally: Tally, progress: Progress) -> None:
        self._function = function
        self._writer = writer
        self._tally = tally
        self._progress = progress
        self._slots = Slots()
        self._now = asyncio.get_running_loop().time
        #: Whether the run is being cancelled; a CancelledError before that is an item's own, and an error of that item.
        self.cancelled = False

    async def __call__(self, item: Item) -> None:
        """Run ``item``. Its record is handed to the writer before anything is awaited: a cancelled run loses none."""
        self._tally.started += 1
        if item.problem is not None:
            self._finish(item, opening(item), item.problem, Span(0, None, time.time(), 0.0))
        else:
            await self._run(item)
        await self._writer.room()

    async def _run(self, item: Item) -> None:
        head, slot, start, began = opening(item), self._slots.take(), time.time(), self._now()
        outcome: str | Problem
        try:
            outcome = result(await self._function(item.value))
        except asyncio.CancelledError as error:
            if self.cancelled:
                self._tally.cancelled += 1
                raise
            outcome = Problem("CancelledError", message(error))
        except (Exception, SystemExit) as error:
            outcome = Problem(type(error).__name__, message(error))
        finally:
            self._slots.give(slot)
        self._finish(item, head, outcome, Span(1, slot, start, (self._now() - began) * 1000))

    def _finish(self, item: Item, head: str, outcome: str | Problem, span: Span) -> None:
        if isinstance(outcome, Problem):
            self._writer.add(line(head, failure(outcome), span))
            self._tally.fail(outcome)
            self._progress.failure(item, outcome)
        else:
            self._writer.add(line(head, outcome, span))
            self._tally.ok += 1


class Job(NamedTuple):
    """All that a run needs, opened and checked."""

    target: AbstractAsyncContextManager[Function]
    reader: Reader
    stop: Stop
    limit: int
    output: int
    console: Console
    display: Display
    interrupts: Interrupts


async def run(job: Job) -> int:
    """Run a job and return the exit code.

    Raises:
        CommandError: The target could not be set up.
    """
    return await _Run(job).run()


class _Run:
    def __init__(self, job: Job) -> None:
        self._job = job
        self._tally = Tally()
        self._progress = Progress(job.console, self._tally, job.reader.total, job.display)
        self._task = asyncio.current_task()
        self._work: Work | None = None
        self._cancelling = False
        self._closing = False
        self._output_error: OSError | None = None
        self._closing_error: ClosingError | None = None

    async def run(self) -> int:
        writer = Writer(self._job.output, self._output_failed)
        with self._job.interrupts.attached(self._advance, writer.abandon):
            await self._run_to_end(writer)
        return self._end()

    async def _run_to_end(self, writer: Writer) -> None:
        self._progress.start()
        try:
            await self._run_items(writer)
        except asyncio.CancelledError:
            if not self._cancelling:
                raise
        except ClosingError as error:
            self._closing_error = error
        finally:
            self._closing = True
            await writer.aclose()
            self._progress.stop()

    async def _run_items(self, writer: Writer) -> None:
        async with self._job.target as function:
            self._work = Work(function, writer, self._tally, self._progress)
            try:
                await paco.each(self._work, self._job.reader.items(), limit=self._job.limit)
            except asyncio.CancelledError:
                if not self._cancelling or self._task is None:
                    raise
                self._task.uncancel()  # it was for the items: the target is closed as after any run

    def _advance(self) -> None:
        """Go one step further towards the end, in the loop, for each signal."""
        interrupts = self._job.interrupts
        again = "Ctrl-C again" if interrupts.first == signal.SIGINT else "another signal"
        running = f"{self._tally.in_flight:,} running item{'' if self._tally.in_flight == 1 else 's'}"
        if interrupts.count == 1 and self._work is not None:
            self._job.stop.want()
            self._progress.state = "draining"
            self._job.console.say(f"draining {running}; {again} cancels them")
        else:
            self._progress.state = "cancelling"
            self._job.console.say(f"cancelling {running}; {again} leaves at once")
            self._cancel()

    def _output_failed(self, error: OSError) -> None:
        self._output_error = error
        self._cancel()

    def _cancel(self) -> None:
        self._job.stop.want()
        if self._cancelling or self._closing or self._task is None:
            return
        self._cancelling = True
        if self._work is not None:
            self._work.cancelled = True
        self._task.cancel()

    def _end(self) -> int:
        first = self._job.interrupts.first
        by_signal = 0 if first is None else 128 + first
        if isinstance(self._output_error, BrokenPipeError):  # as quiet as other tools
            return by_signal or _CLOSED_PIPE
        self._progress.summary("stopped" if self._job.stop.wanted else "done")
        troubles = list(self._troubles())
        for trouble in troubles:
            self._job.console.say(safe_lines(f"paco: {trouble}"))
        return by_signal or (_FAILED if troubles or self._tally.failed else 0)

    def _troubles(self) -> Iterator[str]:
        if self._output_error is not None:
            yield f"cannot write the output, so the run was cancelled: {describe(self._output_error)}"
        if self._job.reader.error is not None:
            yield f"cannot read on, so the items end here: {describe(self._job.reader.error)}"
        if self._closing_error is not None:
            yield str(self._closing_error)
