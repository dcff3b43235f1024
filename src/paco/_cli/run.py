"""A run: the function over the items through the library, a record for each, and an end that loses none."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, NamedTuple

import paco
from paco._cli.elsewhere import elsewhere
from paco._cli.errors import ClosingError, describe
from paco._cli.garbage import collected_seldom
from paco._cli.halting import Halting
from paco._cli.order import AsFinished, InOrder
from paco._cli.output import STDOUT, is_regular
from paco._cli.pace import attempted, limit_of
from paco._cli.progress import Progress
from paco._cli.resume import RESUME, RETRY, again
from paco._cli.tally import Tally
from paco._cli.words import AUTO
from paco._cli.work import Work
from paco._cli.writer import Writer
from paco._view.console import safe_lines
from paco.events import RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

    from paco._cli.elsewhere import Place
    from paco._cli.function import Function
    from paco._cli.inputs import Reader
    from paco._cli.options import MapOptions
    from paco._cli.order import Output
    from paco._cli.progress import Mode
    from paco._cli.resume import Earlier
    from paco._cli.stop import Interrupts, Stop
    from paco._view.console import Console
    from paco.events import Worker

_FAILED = 1
_HALTED = 3
_CLOSED_PIPE = 141  # what a shell shows for `yes | head`: 128 + SIGPIPE


class Job(NamedTuple):
    """All that a run needs, opened and checked."""

    words: Sequence[str]
    options: MapOptions
    target: AbstractAsyncContextManager[Function]
    made_by: str
    retry_on: Any
    earlier: Earlier | None
    reader: Reader
    stop: Stop
    output: int
    console: Console
    mode: Mode
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
        self._tally = Tally(job.earlier)
        options = job.options
        self._limit = limit_of(options, job.retry_on)
        self._progress = Progress(
            job.console,
            self._tally,
            job.reader.total,
            job.mode,
            title=options.target.rpartition(":")[2],
            limit=self._limit,
            cap="" if options.rate is None else str(options.rate),
        )
        self._halting = Halting(job.options.halt, self._tally, job.reader.total)
        self._task = asyncio.current_task()
        self._work: Work | None = None
        self._cancelling = False
        self._closing = False
        self._out_of_time = False
        self._halted = ""
        self._trace: paco.trace | None = None
        self._workers: dict[str, Worker] | None = None
        self._output_error: OSError | None = None
        self._picture_error: OSError | None = None
        self._closing_error: ClosingError | None = None

    async def run(self) -> int:
        writer = Writer(self._job.output, self._output_failed)
        with self._job.interrupts.attached(self._advance, writer.abandon):
            await self._run_to_end(writer)
        return self._end()

    async def _run_to_end(self, writer: Writer) -> None:
        output = InOrder(writer) if self._job.options.keep_order else AsFinished(writer)
        self._progress.start()
        try:
            with ExitStack() as block:
                self._block = block
                self._listen()
                await self._run_items(output)
        except asyncio.CancelledError:
            if not self._cancelling:
                raise
        except ClosingError as error:
            self._closing_error = error
        finally:
            self._closing = True
            output.flush()
            await writer.aclose()
            self._progress.stop()

    async def _run_items(self, output: Output) -> None:
        options = self._job.options
        async with self._job.target as target:
            function = attempted(target, options, self._job.retry_on)
            async with elsewhere(function, self._limit, options) as place:
                self._workers = place.workers
                self._progress.place(place.workers)
                with collected_seldom():
                    await self._run_all(place, output)

    async def _run_all(self, place: Place, output: Output) -> None:
        options = self._job.options
        self._work = Work(
            place,
            output,
            self._tally,
            self._progress,
            self._item_failed,
            title=options.target.rpartition(":")[2],
            made_by=self._job.made_by,
            values=options.values,
            retried=options.retries > 0,
        )
        if options.max_time is not None:
            self._later(options.max_time, self._time_over)
        try:
            await paco.each(self._work, self._job.reader.items(), place.limit, return_exceptions=True)
        except asyncio.CancelledError:
            if not self._cancelling or self._task is None:
                raise
            self._task.uncancel()  # it was for the items: the target is closed as after any run

    def _listen(self) -> None:
        """Listen to the run for what is shown of it; where nothing is, it is not even told."""
        if self._progress.watches:
            self._block.enter_context(paco.listening(self._progress.watch, RunStarted))
        if self._job.options.report or self._job.options.trace:
            self._trace = self._block.enter_context(paco.trace())

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._block.callback(asyncio.get_running_loop().call_later(seconds, call).cancel)

    # ---- an early end

    def _advance(self) -> None:
        """Go one step further towards the end, in the loop, for each signal."""
        interrupts = self._job.interrupts
        again = "Ctrl-C again" if interrupts.first == signal.SIGINT else "another signal"
        if interrupts.count == 1 and self._work is not None:
            self._drain(f"draining {self._running()}; {again} cancels them")
            if interrupts.first != signal.SIGINT:
                self._later(self._job.options.grace, self._grace_over)
        else:
            self._cancel(f"cancelling {self._running()}; {again} leaves at once")

    def _running(self) -> str:
        return f"{self._tally.in_flight:,} running item{'' if self._tally.in_flight == 1 else 's'}"

    def _grace_over(self) -> None:
        self._cancel(f"--grace is over; cancelling {self._running()}")

    def _time_over(self) -> None:
        if not self._job.stop.wanted:
            self._out_of_time = True
            self._drain(f"--max-time is over; draining {self._running()}")

    def _item_failed(self) -> None:
        if self._job.stop.wanted or not (reason := self._halting.reason()):
            return
        self._halted = reason
        if self._halting.now:
            self._cancel(f"halting: {reason}; cancelling {self._running()}")
        else:
            self._drain(f"halting: {reason}; draining {self._running()}")

    def _drain(self, what: str) -> None:
        self._job.stop.want()
        self._progress.say_state("draining")
        self._say(what)

    def _say(self, what: str) -> None:
        self._job.console.say(safe_lines(what))

    def _output_failed(self, error: OSError) -> None:
        self._output_error = error
        self._cancel("")

    def _cancel(self, what: str) -> None:
        self._job.stop.want()
        if what:
            self._progress.say_state("cancelling")
            self._say(what)
        if self._cancelling or self._closing or self._task is None:
            return
        self._cancelling = True
        if self._work is not None:
            self._work.cancelled = True
        self._task.cancel()

    # ---- the end

    def _end(self) -> int:
        first = self._job.interrupts.first
        by_signal = 0 if first is None else 128 + first
        if isinstance(self._output_error, BrokenPipeError):  # as quiet as other tools
            return by_signal or _CLOSED_PIPE
        self._save_pictures()
        stopped = "halted" if self._halted else "stopped"
        self._progress.summary(stopped if self._job.stop.wanted else "done", self._again(), self._found())
        troubles = list(self._troubles())
        for trouble in troubles:
            self._say(f"paco: {trouble}")
        if by_signal or self._halted:
            return by_signal or _HALTED
        return _FAILED if troubles or self._tally.failed else 0

    def _save_pictures(self) -> None:
        options, trace = self._job.options, self._trace
        if trace is None:
            return
        for run in trace.runs:  # it is `each` that runs the items, which nobody has to know
            run.name, run.function = "map", options.target
            if self._workers is not None:
                run.workers = self._workers
        try:
            if options.report:
                trace.report(options.report)
            if options.trace:
                trace.save(options.trace)
        except OSError as error:
            self._picture_error = error

    def _found(self) -> int:
        """Return the limit that ``--limit auto`` has come to; 0 where one was said."""
        if self._job.options.limit != AUTO or isinstance(self._limit, int):
            return 0
        return self._limit.most

    def _again(self) -> str:
        """Return the command line that runs what is left, if there is such a thing."""
        options = self._job.options
        if options.values or options.output == STDOUT or not is_regular(self._job.output):
            return ""
        if self._job.stop.wanted:
            return again(self._job.words, RESUME)
        return again(self._job.words, RETRY) if self._tally.failed else ""

    def _troubles(self) -> Iterator[str]:
        if self._output_error is not None:
            yield f"cannot write the output, so the run was cancelled: {describe(self._output_error)}"
        if self._picture_error is not None:
            yield f"cannot write the pictures: {describe(self._picture_error)}"
        if self._job.reader.error is not None:
            yield f"cannot read on, so the items end here: {describe(self._job.reader.error)}"
        if self._closing_error is not None:
            yield str(self._closing_error)
        if self._out_of_time and not self._job.reader.ended and self._tally.started != self._job.reader.total():
            yield "the time of --max-time was over before all items were started"
        if self._halting.all_failed and self._work is not None:
            yield f"{self._halted}; the first error:\n{self._work.first_error}"
