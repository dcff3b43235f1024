"""Run random work on real event loops for minutes or hours, and fail if anything leaks, grows, hangs or is wrong.

usage: ./dev soak MINUTES [--seed N] [--runs COUNT]

A batch is one event loop with a few hundred runs, eight at a time. Batches alternate between asyncio and uvloop, some
with eager tasks (Python 3.12+) or in debug mode. Each run is generated from the seed of the batch, together with its
expected outcome. After a batch no task and no result may be alive, and memory and object counts may not grow. The first
violation ends the soak with exit code 1 and prints the seed; `--seed N` repeats that batch as exactly as a real clock
allows.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import random
import sys
import time
from dataclasses import dataclass, field
from typing import Any, Final

from tools.soak.cases import CASES, Case
from tools.soak.gauges import Ear, Memory, resident
from tools.soak.items import Log, Violation

AT_ONCE: Final = 8
#: Seconds after which a run counts as hanging. On an idle machine no run takes more than about a second.
PATIENCE: Final = 120.0
#: Seconds between progress lines.
SAY_EVERY: Final = 5


@dataclass
class Total:
    """Counts over all batches so far."""

    batches: int = 0
    items: int = 0
    errors: int = 0
    cancels: int = 0
    timeouts: int = 0
    left: int = 0
    late: float = 0.0
    peak_tasks: int = 0
    runs: collections.Counter[str] = field(default_factory=collections.Counter)

    def __str__(self) -> str:
        return (
            f"{self.runs.total():,} runs in {self.batches:,} loops, {self.items:,} items; {self.errors:,} errors, "
            f"{self.cancels:,} cancellations, {self.timeouts:,} timeouts, {self.left:,} left early; at most "
            f"{self.peak_tasks:,} tasks at once, timers at most {self.late * 1000:.0f} ms late"
        )


def judge(log: Log, case: Case, outcome: Any, error: BaseException | None) -> None:
    """Compare the outcome of a run with the expected one.

    Raises:
        Violation: They differ.
    """
    problems = list(log.broken)
    problems += [f"limit {work.limit}, but {work.peak} ran" for work in log.works if 0 < work.limit < work.peak]
    problems += ["an item was started twice" for work in log.works if len(set(work.started)) < len(work.started)]
    if not (case.drops and (case.lenient or log.cancels)):
        problems += [f"{work.running} items are running after the end" for work in log.works if work.running]
        problems += ["a source is open after the end"] * bool(log.open_sources)
    problems += [_wrong_error(log, error)] if log.cancels or error is not None else [_wrong_result(log, case, outcome)]
    if any(problems):
        raise Violation("; ".join(dict.fromkeys(filter(None, problems))))


def _wrong_error(log: Log, error: BaseException | None) -> str:
    if isinstance(error, asyncio.CancelledError):
        return "" if log.cancels else "the run ended with CancelledError, but it was not cancelled"
    if error is None or log.cancels:
        return "the cancellation was swallowed"
    if isinstance(error, TimeoutError):
        return "" if log.timeout is not None else "a TimeoutError without a timeout"
    failed = log.raised()
    first = {id(one) for one in (*failed[:1], log.source_error) if one is not None}
    return "" if {id(error), id(error.__cause__)} & first else f"{error!r} is not the first of {failed}"


def _wrong_result(log: Log, case: Case, outcome: Any) -> str:
    if not case.lenient and (log.raised() or log.source_error):
        return "an error was lost"
    return "" if case.right(outcome) else "the result is wrong"


class Batch:
    """One event loop and its runs."""

    def __init__(self, seed: int, runs: int, ear: Ear, total: Total) -> None:
        dice = random.Random(seed)
        self.uvloop = seed % 2 == 1
        # Not under uvloop, which passes an unknown argument to the eager task factory of Python 3.13.
        self.eager = sys.version_info >= (3, 12) and not self.uvloop and dice.random() < 0.3
        self.debug = dice.random() < 0.1
        self._seed, self._runs, self._ear, self._total = seed, runs, ear, total
        self.left: set[int] = set()
        self._open: list[Log] = []
        self.names: dict[int, str] = {}

    def __str__(self) -> str:
        extras = [name for name in ("eager", "debug") if getattr(self, name)]
        return f"--seed {self._seed} ({', '.join(['uvloop' if self.uvloop else 'asyncio', *extras])})"

    def run(self) -> None:
        """Run the batch to its end, or to its first violation."""
        factory = None
        if self.uvloop:
            import uvloop

            factory = uvloop.new_event_loop
        with asyncio.Runner(loop_factory=factory, debug=self.debug) as runner:
            loop: Any = runner.get_loop()
            loop.set_exception_handler(self._ear.report)
            loop.slow_callback_duration = float("inf")  # disables this one check of debug mode
            if self.eager:
                loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined,unused-ignore]
            runner.run(self._main())
        self._total.batches += 1

    async def _main(self) -> None:
        numbers = iter(range(self._runs))
        clock = asyncio.create_task(self._watch())
        try:
            async with asyncio.TaskGroup() as lanes:  # not paco: it is what is tested here
                for _ in range(AT_ONCE):
                    lanes.create_task(self._lane(numbers))
        except* Violation as group:
            raise group.exceptions[0] from None
        finally:
            clock.cancel()
        await self._settled()

    async def _watch(self) -> None:
        while True:
            due = time.perf_counter() + 0.005
            await asyncio.sleep(0.005)
            self._total.late = max(self._total.late, time.perf_counter() - due)
            self._total.peak_tasks = max(self._total.peak_tasks, len(asyncio.all_tasks()))

    async def _lane(self, numbers: Any) -> None:
        for number in numbers:
            log = Log(str(self._seed), number)
            try:
                case = await self._one(log)
            except BaseException as error:
                error.add_note(f"in run {number}, {self.names.get(number)}")
                raise
            self._count(log, case)
            # A dropped stream ends within the next steps, except for the cleanup of its items.
            self._open.append(log)
            self._open = [one for one in self._open if one.open_sources or any(work.running for work in one.works)]

    async def _one(self, log: Log) -> Case:
        dice = log.random
        log.catch = log.chance(0.25)
        log.timeout = dice.choice([None] * 6 + [0, 0.0005, 0.004, 10])
        case = dice.choice(CASES)(log)
        self.names[log.number] = case.name
        cancel_after = dice.choice([None] * 5 + [0, 0.0002, 0.001, 0.005])
        again = dice.choice([None, None, 0, 0.001])
        task = asyncio.create_task(_held(case))
        if cancel_after is not None:
            await asyncio.sleep(cancel_after)
            log.cancels += task.cancel()
            if again is not None:
                await asyncio.sleep(again)
                log.cancels += task.cancel()
        if not (await asyncio.wait([task], timeout=PATIENCE))[0]:
            raise Violation(f"the run hangs; all tasks: {asyncio.all_tasks()}")
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if isinstance(error, Violation):
            raise error
        if case.lenient or log.cancels or error is not None:
            self.left.add(log.number)
        judge(log, case, None if error else task.result(), error)
        if task.cancelling() != log.cancels:
            raise Violation(f"Task.cancelling() must be {log.cancels}, got {task.cancelling()}")
        return case

    def _count(self, log: Log, case: Case) -> None:
        total = self._total
        total.runs[case.name] += 1
        total.items += sum(len(work.started) for work in log.works)
        total.errors += len(log.raised()) + (log.source_error is not None)
        total.cancels += bool(log.cancels)
        total.timeouts += log.timeout is not None and log.timeout < 1
        total.left += log.number in self.left

    async def _settled(self) -> None:
        deadline = time.monotonic() + PATIENCE / 40
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            if time.monotonic() > deadline:
                raise Violation(f"{len(others)} tasks are alive after the batch: {sorted(map(repr, others))[:3]}")
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.001)  # for the callbacks of the last tasks, in which a run closes its source
        if left := [log.number for log in self._open if log.open_sources or any(work.running for work in log.works)]:
            raise Violation(f"items or sources of the runs {left} have not ended after the batch")
        self._open.clear()  # the logs hold errors, whose tracebacks hold results


async def _held(case: Case) -> Any:
    return await case.call()


def measure(arguments: argparse.Namespace, total: Total, memory: Memory) -> None:
    """Run batch after batch until the time is up.

    Raises:
        Violation: A batch broke a promise.
    """
    ear = Ear()
    start = said = time.monotonic()
    seed = random.randrange(10**6) if arguments.seed is None else arguments.seed
    while time.monotonic() - start < 60 * arguments.minutes:
        batch = Batch(seed, arguments.runs, ear, total)
        try:
            batch.run()
            memory.note()  # before the ear judges: its garbage collection may cause reports
            ear.judge(batch.names, batch.left)
        except BaseException as error:
            error.add_note(f"in batch {batch}")
            raise
        if time.monotonic() - said >= SAY_EVERY or not total.batches > 1:
            said = time.monotonic()
            print(f"{said - start:6.0f} s: {total}; RSS {resident():.0f} MiB", flush=True)
        if arguments.seed is not None:
            return
        seed += 1


def main() -> int:
    """Run the soak, print the counts, and return the exit code."""
    parser = argparse.ArgumentParser(prog="./dev soak", usage="./dev soak MINUTES [--seed N] [--runs COUNT]")
    parser.add_argument("minutes", type=float, nargs="?", default=1.0)
    parser.add_argument("--seed", type=int, help="run only the batch with this seed")
    parser.add_argument("--runs", type=int, default=400, help="runs per batch")
    arguments = parser.parse_args()
    total, memory = Total(), Memory()
    verdict, code = "no violation", 0
    try:
        measure(arguments, total, memory)
    except KeyboardInterrupt:
        verdict = "interrupted, no violation"
    except Violation as violation:
        verdict, code = "\n  ".join([f"VIOLATION: {violation}", *getattr(violation, "__notes__", [])]), 1
    print(f"{total}\n{memory}\n{verdict}", flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
