"""A run of the command: run `paco.map` over the items, and end it early on signals, failures or time."""

from __future__ import annotations

import asyncio
import gc
import signal
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Final

import paco
from paco._base.check import message
from paco._cli.ending import Ending
from paco._cli.errors import ClosingError, CommandError
from paco._cli.options import AUTO, Halt
from paco._cli.pace import attempted, limit_of
from paco._cli.progress import Progress, Tally
from paco._cli.work import ItemWork
from paco._stream.stream import recorded
from paco._view.console import safe_lines
from paco.events import RunStarted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from paco._cli.job import MapJob
    from paco._cli.options import MapOptions
    from paco._cli.target import Function

#: The most items in flight in workers with ``--limit 0``.
_MOST: Final = 10_000
#: The fewest new objects between two garbage collections. Python's default is 700 to 2,000.
_NEW: Final = 10_000

#: Without ``--halt``, a run is halted only if its first items all fail, as with a wrong URL or an expired password.
_FIRST = 20
_NEVER = Halt("never")


def run(job: MapJob) -> int:
    """Run a job in a new event loop and return the exit code.

    Raises:
        CommandError: TARGET could not be set up, or cannot be sent to the workers.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        return runner.run(_run(job))


async def _run(job: MapJob) -> int:
    return await _MapRun(job).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the function that creates a loop of uvloop, if it is installed, since requests take less CPU there."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _MapRun:
    def __init__(self, job: MapJob) -> None:
        self._job = job
        self._tally = Tally(job.earlier)
        self._ending = Ending()
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
        self._halting = Halting(options.halt, self._tally, job.reader.total)
        self._work = ItemWork(
            options.target,
            job.output,
            self._tally,
            self._progress,
            self._item_failed,
            made_by=job.made_by,
            keep_order=options.keep_order,
            values=options.values,
            settled=options.retries > 0,
        )
        self._task = asyncio.current_task()
        self._started = self._cancelling = self._closing = False

    async def run(self) -> int:
        with self._job.interrupts.attached(self._advance, self._work.abandon):
            await self._run_to_end()
        ending = self._ending
        ending.output_error = self._work.output_error
        if self._halting.all_failed:
            ending.first_error = self._work.first_error
        if self._job.options.limit == AUTO and not isinstance(self._limit, int):
            ending.found = self._limit.most
        return ending.code(self._job, self._tally, self._progress)

    async def _run_to_end(self) -> None:
        self._progress.start()
        try:
            with ExitStack() as block:
                self._block = block
                self._listen()
                async with self._job.target as target:
                    await self._run_items(target)
        except asyncio.CancelledError:
            if not self._cancelling:
                raise
        except ClosingError as error:
            self._ending.closing_error = error
        finally:
            self._closing = True
            self._progress.stop()

    async def _run_items(self, target: Function) -> None:
        job = self._job
        function, limit = attempted(target, job.options, job.retry_on), self._limit
        if _is_elsewhere(job.options) and isinstance(limit, int):
            limit = paco.Limit(limit or _MOST)  # a limit object sends each item when it may start, not ahead of time
        items = paco.map(function, job.reader.items(), limit, return_exceptions=True)
        stream = recorded(_placed(items, function, job.options), self._work)
        self._started = True
        if job.options.max_time is not None:
            self._later(job.options.max_time, self._time_over)
        try:
            with collected_seldom():
                await stream
        except asyncio.CancelledError:
            if not self._cancelling or self._task is None:
                raise
            self._task.uncancel()  # the cancellation was meant for the items; TARGET is closed as after any run
        except Exception as error:  # items do not raise here: the output failed, or the workers did
            if error is not self._work.output_error:
                self._ending.place_error = f"{type(error).__name__}: {message(error)}"
            job.stop.want()

    def _listen(self) -> None:
        """Listen to the run, if progress or pictures need its events. Without listeners the run has no extra cost."""
        if self._progress.watches or _is_elsewhere(self._job.options):
            self._block.enter_context(paco.listening(self._run_started, RunStarted))
        if self._job.options.report or self._job.options.trace:
            self._ending.trace = self._block.enter_context(paco.trace())

    def _run_started(self, event: RunStarted) -> None:
        self._progress.watch(event)
        if _is_elsewhere(self._job.options):
            self._progress.show_workers(event.run.workers)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._block.callback(asyncio.get_running_loop().call_later(seconds, call).cancel)

    # ---- an early end

    def _advance(self) -> None:
        """Take the next step towards the end: drain on the first signal, cancel on the second. Called in the loop."""
        interrupts = self._job.interrupts
        again = "Ctrl-C again" if interrupts.first == signal.SIGINT else "another signal"
        if interrupts.count == 1 and self._started:
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
            self._ending.out_of_time = True
            self._drain(f"--max-time is over; draining {self._running()}")

    def _item_failed(self) -> None:
        if self._job.stop.wanted or not (reason := self._halting.reason()):
            return
        self._ending.halted = reason
        if self._halting.now:
            self._cancel(f"halting: {reason}; cancelling {self._running()}")
        else:
            self._drain(f"halting: {reason}; draining {self._running()}")

    def _drain(self, what: str) -> None:
        self._job.stop.want()
        self._tell("draining", what)

    def _cancel(self, what: str) -> None:
        self._job.stop.want()
        self._tell("cancelling", what)
        if self._cancelling or self._closing or self._task is None:
            return
        self._cancelling = True
        self._task.cancel()

    def _tell(self, state: str, what: str) -> None:
        self._progress.say_state(state)
        self._job.console.say(safe_lines(what))


class Halting:
    """Decides after each failure whether the run is halted.

    As in GNU parallel, a share is one of all items, not of those that have ended: 10% of a million items are 100,000
    failures. While the number of items is unknown, no share is reached.

    Args:
        rule: The value of ``--halt``; ``None`` for the default rule.
        tally: The counts of the run.
        total: Returns the number of items; ``None`` while it is unknown.
    """

    def __init__(self, rule: Halt | None, tally: Tally, total: Callable[[], int | None]) -> None:
        # A resumed run starts with items that failed before. If others succeeded then, those failures prove nothing.
        proven = rule is None and tally.earlier is not None and tally.earlier.succeeded
        self._rule = _NEVER if proven else rule
        self._tally = tally
        self._total = total
        #: Whether to cancel the running items too.
        self.now = rule is not None and rule.when == "now"
        #: Whether the default rule halted the run, so that the first error should be shown.
        self.all_failed = False

    def reason(self) -> str:
        """Return why the run must be halted now, or an empty text if it goes on."""
        rule, failed = self._rule, self._tally.failed
        if rule is None:
            self.all_failed = failed >= _FIRST and not self._tally.ok
            return f"the first {failed} items all failed (to go on: --halt never)" if self.all_failed else ""
        if rule.when == "never" or failed < self._enough(rule):
            return ""
        return f"{failed:,} item{'' if failed == 1 else 's'} failed (--halt {rule})"

    def _enough(self, rule: Halt) -> float:
        """Return the number of failures that halts the run."""
        if not rule.share:
            return rule.fail
        total = self._total()
        return float("inf") if total is None else max(rule.share * total, 1)


def _is_elsewhere(options: MapOptions) -> bool:
    return options.workers is not None or options.dask is not None


def _placed(stream: paco.Stream[Any], function: Function, options: MapOptions) -> paco.Stream[Any]:
    """Return the stream with its function run in workers or a cluster, if the options say so.

    Raises:
        CommandError: The function cannot be sent there, or a package for it is missing.
    """
    engine = options.dask if options.workers is None else options.workers
    if engine is None:
        return stream
    from paco.remote._pickles import dump_function

    name = "map --workers" if options.dask is None else "map --dask"
    try:
        dump_function(name, function)
        return stream.on(engine)
    except (ImportError, TypeError, ValueError) as error:
        stream.close()
        raise CommandError(message(error).removeprefix("paco.").replace("map.on:", f"{name}:", 1)) from None


@contextmanager
def collected_seldom() -> Generator[None]:
    """Make garbage collection cheaper within the block. In a run of HTTP requests it takes a tenth of the time.

    HTTP clients create many cycles, so Python searches the objects of all imported modules again and again. The block
    exempts these with `gc.freeze`, unless some objects are exempt already, and collects less often. A collector that is
    turned off, or collects even less often, stays so.
    """
    thresholds = gc.get_threshold()
    exempts = gc.get_freeze_count() == 0
    if thresholds[0]:
        gc.set_threshold(max(thresholds[0], _NEW), *thresholds[1:])
    if exempts:
        gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if exempts:
            gc.unfreeze()
