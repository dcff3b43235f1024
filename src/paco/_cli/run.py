"""A run of the command: run the items, end early on signals, failures or time, and report the end."""

from __future__ import annotations

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import paco
from paco._base.check import message
from paco._base.system import command_line
from paco._cli.budget import CostError
from paco._cli.ending import (
    CLOSED_PIPE,
    FAILED,
    HALTED,
    ClosingError,
    CommandError,
    describe,
)
from paco._cli.loop import collected_seldom, completed, end_tasks, loop_factory
from paco._cli.options import AUTO, STDOUT
from paco._cli.output import ItemRecords, ItemTrace
from paco._cli.pace import may_mend
from paco._cli.values import without_secrets
from paco._records.file import JournalError
from paco._stream.plan import Plan
from paco._view.console import safe_lines
from paco.events import RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from paco._base.check import ItemFunction
    from paco._cli.ending import Interrupts, Tally
    from paco._cli.inputs import ItemReader
    from paco._cli.keys import KeyReader
    from paco._cli.options import MapOptions
    from paco._cli.output import Output
    from paco._cli.pace import Pacing, RetryOn
    from paco._cli.progress import Progress
    from paco._view.console import Console

RESUME: Final = "--resume"
RETRY: Final = "--retry-failed"
#: The most items in flight in workers with ``--limit 0``.
_MOST: Final = 10_000
#: The seconds for which an item may hold its worker even if ``--timeout`` is shorter: on a loaded machine, any process
#: may stand still for some tenths of a second.
_PATIENT: Final = 1.0
#: The most threads of `asyncio.to_thread`, and the fewest that may run at once.
_THREADS, _FEW_THREADS = 1000, 32
#: Without ``--halt``, a run is halted only if its first items all fail, as with a wrong URL or an expired password.
#: These are the first ones of the input, since the first ones to end are often those that fail.
_FIRST: Final = 20


class MapJob(NamedTuple):
    """Everything that a run needs, checked and opened; ``typing`` says whether items are typed at a terminal."""

    options: MapOptions
    target: AbstractAsyncContextManager[ItemFunction]
    retry_on: RetryOn
    pace: Pacing
    reader: ItemReader
    tally: Tally
    output: Output
    console: Console
    typing: bool
    keys: int  # the descriptor of the terminal whose keys steer the run, or -1
    interrupts: Interrupts


def run(job: MapJob) -> int:
    """Run a job in a new event loop and return the exit code.

    Raises:
        CommandError: TARGET could not be set up, or cannot be sent to the workers.
    """
    loop = loop_factory(job.options.loop)()
    most = job.options.limit if isinstance(job.options.limit, int) and job.options.limit else _THREADS
    # asyncio.to_thread runs as many at once as the limit, and not only a few more than there are processors.
    loop.set_default_executor(ThreadPoolExecutor(min(max(most, _FEW_THREADS), _THREADS), "asyncio"))
    try:
        return completed(loop, _run(job), job.interrupts)
    finally:
        try:
            completed(loop, end_tasks(job.console), job.interrupts)
        finally:
            loop.close()  # does not wait for threads


async def _run(job: MapJob) -> int:
    return await _MapRun(job).run()


class _MapRun:
    def __init__(self, job: MapJob) -> None:
        self._job = job
        self._tally = job.tally
        self._progress = _progress(job)
        charge = self._charge if job.pace.cost is not None and job.pace.cost.of_result else None
        self._records = ItemRecords(job.output, job.options, job.tally, self._progress, self._item_failed, charge)
        self._task: Any = asyncio.current_task()
        self._started = self._cancelling = False
        self._halted = False
        self._first_failed = 0  # of the first items
        #: Why items were left out, if the run was ended early.
        self._left_out = ""
        self._keys: KeyReader | None = None
        self._trace: paco.trace | None = None
        #: What went wrong, besides items.
        self._troubles: list[str] = []

    async def run(self) -> int:
        with self._job.interrupts.attached(*self._on_signals()), ExitStack() as self._block:
            self._show()
            try:
                async with self._job.target as target:
                    await self._run_items(target)
            except asyncio.CancelledError:
                if not self._cancelling:
                    raise
            except ClosingError as error:
                self._troubles.append(str(error))
        return self._end()

    def _show(self) -> None:
        """Start the progress and the trace. A run without listeners has no extra cost."""
        options, progress = self._job.options, self._progress
        if progress is not None:
            progress.start()
            self._block.callback(progress.stop)
            if progress.watches or options.engine is not None:
                self._block.enter_context(paco.listening(progress.watch, RunStarted))
        if self._job.keys >= 0 and progress is not None:
            self._read_keys(progress)
        if options.report or options.trace:
            self._trace = self._block.enter_context(ItemTrace())

    def _read_keys(self, progress: Progress) -> None:
        from paco._cli.keys import KeyReader, Steering

        job = self._job
        steering = Steering(job.pace, job.console.say, progress.say_state, self._drain)
        self._keys = KeyReader(job.keys, steering.press)
        self._block.enter_context(self._keys.read())

    async def _run_items(self, target: ItemFunction) -> None:
        job, options, limit = self._job, self._job.options, self._job.pace.limit
        function = attempted(target, options, job.retry_on)
        if job.pace.cost is not None and job.pace.cost.of_item:
            function = partial(job.pace.cost.checked, function)
        engine = _engine(function, options)
        if engine is not None and isinstance(limit, int):
            limit = paco.Limit(limit or _MOST)  # a limit object sends each item when it may start, not ahead of time
        plan = Plan("map", function, job.reader.items, limit, on_error="return", journal=self._records, engine=engine)
        self._started = True
        if options.max_time is not None:
            self._later(options.max_time, self._time_over)
        try:
            with collected_seldom():
                await plan.drain()
            self._note_budget()
        except asyncio.CancelledError:
            if not self._cancelling:
                raise
            self._task.uncancel()  # the cancellation was meant for the items; TARGET is closed as after any run
        except Exception as error:
            self._ended_by(error)

    def _charge(self, result: Any) -> None:
        """Take the cost of a result from the budget. If it does not say its cost, the budget cannot hold: drain."""
        try:
            self._job.pace.charge(result)
        except CostError as error:
            if not self._job.reader.stopped:
                self._troubles.append(f"{error}; without it the budget cannot hold, so the run was ended")
                self._stop(f"{error}; ")

    def _note_budget(self) -> None:
        """Record that the budget has ended the run, if it has."""
        budget, reader = self._job.pace.budget, self._job.reader
        if budget is not None and budget.gate.closed and not reader.stopped:
            self._left_out = f"the budget was spent ({budget.spent:g} of {self._job.options.budget:g})"
            reader.stop()

    def _ended_by(self, error: Exception) -> None:
        """Record why the run ended. Items do not raise in it: the output failed, or the workers did."""
        if isinstance(error, JournalError):
            self._troubles.append(str(error))
        elif error is not self._records.commit.error:
            engine, why = self._job.options.engine, f"{type(error).__name__}: {message(error)}"
            if not self._tally.done:
                where = f"--dask {engine}" if isinstance(engine, str) else "the workers"
                raise CommandError(f"{where} cannot run the items: {why}") from None
            self._troubles.append(f"the workers cannot run the items, so the run was cancelled: {why}")
        self._job.reader.stop()

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._block.callback(asyncio.get_running_loop().call_later(seconds, call).cancel)

    def _on_signals(self) -> tuple[Callable[[], None], ...]:
        return self._advance, self._leave, self._say_state

    def _leave(self) -> None:
        """Prepare for the process to end at once."""
        self._records.commit.abandon()
        if self._keys is not None:
            self._keys.restore()

    def _say_state(self) -> None:
        """Write how far the run is, as SIGUSR1 asks for."""
        tally, total = self._tally, self._job.reader.total()
        if self._progress is not None:
            self._progress.say()
            return
        of = "" if total is None else f" of {total:,}"
        self._job.console.say(f"paco: {tally.done:,}{of} items, {tally.failed:,} failed, {tally.in_flight:,} in flight")

    # ---- an early end

    def _advance(self) -> None:
        """Take the next step towards the end: drain on the first signal, cancel on the second. Called in the loop."""
        interrupts = self._job.interrupts
        again = "Ctrl-C again" if interrupts.first == signal.SIGINT else "another signal"
        if interrupts.count == 1 and self._started:
            self._stop(more=f"; {again} cancels them")
            if interrupts.first != signal.SIGINT:
                self._later(self._job.options.grace, partial(self._stop, "--grace is over; ", cancel=True))
        else:
            self._stop(more=f"; {again} leaves at once", cancel=True)

    def _drain(self) -> None:
        """Start nothing more, as the key q asks for."""
        if self._started and not self._job.reader.stopped:
            self._left_out = "the key q ended the run"
            self._stop()

    def _time_over(self) -> None:
        if not self._job.reader.stopped:
            self._left_out = "the time of --max-time ran out"
            self._stop("--max-time is over; ")

    def _item_failed(self, number: int) -> None:
        """Halt the run if there are too many failures. ``number`` items started before this one."""
        job, failed, rule = self._job, self._tally.failed, self._job.options.halt
        self._first_failed += number < _FIRST
        if job.reader.stopped:
            return
        if rule is not None:
            if rule.is_reached(failed, job.reader.total()):
                self._halted = True
                why = f"{failed:,} item{'' if failed == 1 else 's'} failed (--halt {rule})"
                self._stop(f"halting: {why}; ", cancel=rule.when == "now")
        elif self._first_failed == _FIRST and not (self._tally.ok or job.output.proven):
            self._halted = True
            self._stop(f"halting: the first {_FIRST} items all failed (to go on: --halt never); ")

    def _stop(self, why: str = "", more: str = "", *, cancel: bool = False) -> None:
        """Start no more items, and say so, with ``why`` before and ``more`` after; ``cancel`` also cancels."""
        self._job.reader.stop()
        if self._job.pace.gate is not None:
            self._job.pace.gate.close()  # which ends a pause
        state, count = "cancelling" if cancel else "draining", self._tally.in_flight
        if self._progress is not None:
            self._progress.say_state(state)
        running = f"{state} {count:,} running item{'' if count == 1 else 's'}{more}"
        self._job.console.say(safe_lines(why + (running if count else f"no item is running{more if cancel else ''}")))
        if cancel and not self._cancelling:
            self._cancelling = True
            self._task.cancel()

    # ---- the end

    def _end(self) -> int:
        """Write the pictures, the summary and what went wrong; return the exit code."""
        job, first = self._job, self._job.interrupts.first
        by_signal = 0 if first is None else 128 + first
        if isinstance(self._records.commit.error, BrokenPipeError):  # quiet, as other tools in a pipe are
            return by_signal or CLOSED_PIPE
        self._find_troubles()
        if self._progress is not None:
            ended = "halted" if self._halted else "stopped" if self._leaves_items() else "done"
            limit = job.pace.limit
            found = limit.most if job.options.limit == AUTO and not isinstance(limit, int) else 0
            self._progress.summary(ended, self._left(), found, "" if self._halted else self._records.first_place)
        for trouble in self._troubles:
            job.console.say(safe_lines(f"paco: {trouble}"))
        if by_signal or self._halted:
            return by_signal or HALTED
        return FAILED if self._troubles or self._tally.failed else 0

    def _find_troubles(self) -> None:
        """Write the pictures, and collect what else went wrong."""
        options, reader = self._job.options, self._job.reader
        troubles, failed = self._troubles, self._records.commit.error
        if isinstance(failed, OSError):
            troubles.append(f"cannot write the output, so the run was cancelled: {describe(failed, options.output)}")
        try:
            if self._trace is not None and options.report:
                self._trace.report(options.report)
            if self._trace is not None and options.trace:
                self._trace.save(options.trace)
        except OSError as error:
            troubles.append(f"cannot write the pictures: {describe(error)}")
        if reader.error is not None:
            troubles.append(f"cannot read further, so the later items are missing: {describe(reader.error)}")
        if self._left_out and self._leaves_items():
            troubles.append(f"{self._left_out} before all items had started")
        if self._halted:
            troubles.append(f"the first error:\n{self._records.first_error}")

    def _leaves_items(self) -> bool:
        """Return whether an early end has cancelled items, or left some out."""
        reader, tally = self._job.reader, self._tally
        whole = reader.ended or tally.started + tally.skipped == reader.total()
        return reader.stopped and (tally.cancelled > 0 or not whole)

    def _left(self) -> str:
        """Return the command line that runs the items left: the same words with another option; empty if none are."""
        options = self._job.options
        option = RESUME if self._leaves_items() else RETRY if self._tally.failed else ""
        if not option or options.values or options.output == STDOUT or not self._job.output.file.regular:
            return ""
        kept = [word for word in without_secrets(options.words) if word not in {RESUME, RETRY}]
        place = kept.index("--") if "--" in kept else len(kept)
        return command_line(["paco", "map", *kept[:place], option, *kept[place:]])


def _progress(job: MapJob) -> Progress | None:
    """Return what shows the run, which is imported only then; ``None`` for ``--progress off``."""
    options, console = job.options, job.console
    if options.progress == "off":
        return None
    from paco._cli.progress import Progress, display_for

    display = display_for(options.progress, console, job.output.file, typing=job.typing)
    cap = ", ".join(map(str, options.rate))
    shown = console, job.tally, job.reader.total, display
    return Progress(*shown, title=options.title, limit=job.pace.limit, cap=cap, tells_all=options.values)


def attempted(function: ItemFunction, options: MapOptions, on: RetryOn) -> ItemFunction:
    """Return the function with ``--timeout`` and ``--retries`` applied. With retries it is settled."""
    if options.retries:  # settle() counts the attempts, which takes 3 us
        on = partial(may_mend, on) if options.exec else on
        return paco.settle(paco.retry(function, options.retries + 1, on, timeout=options.timeout))
    return function if options.timeout is None else paco.timeout(function, options.timeout)


def _engine(function: ItemFunction, options: MapOptions) -> Callable[[], Any] | None:
    """Return the function that opens the workers or the cluster of the options, if there are any.

    Raises:
        CommandError: The function cannot be sent there, or a package for it is missing.
    """
    if options.engine is None:
        return None
    from paco.remote._engines import engine_of
    from paco.remote._pickles import dump_function

    name = "map --workers" if isinstance(options.engine, int) else "map --dask"
    try:
        dump_function(name, function)
        kill_after = None if options.timeout is None else max(options.timeout, _PATIENT)
        return engine_of(name, options.engine, None, kill_after)
    except (ImportError, TypeError, ValueError) as error:
        raise CommandError(message(error).removeprefix("paco.")) from None
