"""Plant small faults (mutants) in the engine, one at a time, and check that the tests find each of them.

usage: ./dev mutate [MODULE ...] [--scope PATTERN] [--jobs COUNT] [--argued] [--list]

A mutant that no test finds is printed as a diff and makes the exit code 1, unless `argued.toml` beside this file argues
why it may survive. An argument names the function and the fault as `--list` prints them, not a line or the text around
the fault; an argument without a mutant is reported and makes the exit code 1, too. By default, all of `MODULES` are
changed. `--argued` also runs the argued mutants.

Why not mutmut or cosmic-ray? mutmut 3.8 calls every function through its own wrapper, which breaks the tests of
recycled workers even without a mutant. cosmic-ray 8.7 cannot remove a statement, and most faults of a scheduler are
missing statements.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from tools.mutate.mutants import Mutant, mutants
from tools.mutate.trial import PASSED, TIMEOUT, UNPLANTABLE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parent.parent
SOURCE: Final = ROOT / "src" / "paco"
#: The packages whose mutants may be argued.
ROOMS: Final = ("_engine", "_stream")
MODULES: Final = (
    "_engine.sinks",
    "_engine.reader",
    "_engine.workers",
    "_engine.recycled",
    "_engine.queues",
    "_engine.permits",
    "_engine.run",
    "_engine.admission",
    "_engine.failure",
    "_stream.plan",
    "_stream.consumer",
    "_stream.stream",
)
#: The fast tests that check the engine most closely. A mutant survives if these pass, even if other tests would fail.
TESTS: Final = (
    "tests/engine/test_run.py",
    "tests/stream/test_stream.py",
    "tests/engine/test_errors.py",
    "tests/engine/test_tasks.py",
    "tests/engine/test_admission.py",
    "tests/engine/test_renewal.py",
    "tests/engine/test_queues.py",
    "tests/stream/test_reading.py",
    "tests/stream/test_batches.py",
    "tests/limits/test_counts.py",
    "tests/limits/test_keys.py",
    "tests/limits/test_gates.py",
    "tests/limits/test_budgets.py",
    "tests/remote/test_remote.py",
    "tests/remote/test_threads.py",
    "tests/functions/test_items.py",
    "tests/functions/test_inbox.py",
    "tests/functions/test_groups.py",
    "tests/functions/test_retries.py",
    "tests/engine/test_outcomes.py",
    "tests/engine/test_events.py",
    "tests/project/test_bad_input.py",
    "tests/torture/test_laws_always.py",
    "tests/records/test_journal.py",
)
#: A test in these files that is so long that it could be mistaken for one that hangs.
LEFT_OUT: Final = (
    "tests/records/test_journal.py::test_a_run_interrupted_at_any_point_is_completed_by_the_next_run_in_any_order"
)
#: Seconds after which a test counts as hanging; the mutant is then killed.
PATIENCE: Final = 20
#: The approximate interval of progress lines, in seconds.
_SAY_EVERY: Final = 10


class Place:
    """A copy of the project in which mutants are tried one at a time."""

    def __init__(self, folder: Path, killers: collections.Counter[str]) -> None:
        self._folder = folder
        self._killers = killers
        for name in ("src", "tests"):
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name in ("conftest.py", "pyproject.toml", "README.md"):
            shutil.copy(ROOT / name, folder / name)
        self._trials = self._started()

    def close(self) -> None:
        """End the processes of this copy."""
        _end(self._trials)

    def kills(self, mutant: Mutant | None) -> str:
        """Run the tests on a mutant, or on the original; return the name of the test that failed, or ``""``."""
        if mutant is None:
            return self._tried(self._trials, "", "")
        file = self._folder / "mutant.py"
        file.write_text(mutant.text, "utf-8")
        by = self._tried(self._trials, mutant.module, str(file))
        return self._kills_alone(mutant) if by == UNPLANTABLE else by

    def _kills_alone(self, mutant: Mutant) -> str:
        """Try a mutant that cannot be planted in a running process: change the file and start a new process."""
        file = self._folder / "src" / "paco" / f"{mutant.module.replace('.', '/')}.py"
        was = file.read_text("utf-8")
        for text in (mutant.text, was):
            file.write_text(text, "utf-8")
            for old in (file.parent / "__pycache__").glob(f"{file.stem}.*"):
                old.unlink()  # bytecode is matched by time and size, and another mutant may have the same
            if text is not was:
                trials = self._started()
                try:
                    by = self._tried(trials, "", "")
                finally:
                    _end(trials)
        return by

    def _tried(self, trials: Trials, *order: str) -> str:
        first = [name for name, _ in self._killers.most_common()]
        try:
            print(*order, *first, sep="\t", file=trials.orders, flush=True)
            answer = trials.answers.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            return "the collection"
        by = answer.strip()
        if "::" in by:
            self._killers[by] += 1
        return "" if by == PASSED else by

    def _started(self) -> Trials:
        options = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=no", "--hypothesis-seed=0"]
        options += ["--continue-on-collection-errors", "-o", f"timeout={PATIENCE}", "--deselect", LEFT_OUT]
        orders, answers = os.pipe(), os.pipe()
        process = subprocess.Popen(
            [sys.executable, HERE / "trial.py", str(orders[0]), str(answers[1]), *options, *TESTS],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": str(self._folder / "src")},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(orders[0], answers[1]),
            start_new_session=True,  # so that Ctrl-C reaches only this process
        )
        os.close(orders[0])
        os.close(answers[1])
        return Trials(process, os.fdopen(orders[1], "w"), os.fdopen(answers[0]))


@dataclass
class Trials:
    """A process that has collected the tests, and the pipes to it."""

    process: subprocess.Popen[bytes]
    orders: IO[str]
    answers: IO[str]


def _end(trials: Trials) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(trials.process.pid, signal.SIGKILL)  # the process and its forks
    trials.process.wait()
    trials.answers.close()
    with contextlib.suppress(BrokenPipeError):
        trials.orders.close()


@dataclass
class Tally:
    """The results so far."""

    wanted: int
    start: float = field(default_factory=time.monotonic)
    killed: int = 0
    hung: int = 0
    survivors: list[Mutant] = field(default_factory=list)

    def note(self, mutant: Mutant, by: str) -> None:
        """Record the fate of a mutant: the test that killed it, or ``""`` if it survived."""
        self.killed += bool(by)
        self.hung += by == TIMEOUT
        if not by:
            self.survivors.append(mutant)
            print(f"SURVIVES {mutant}", flush=True)

    def __str__(self) -> str:
        done = self.killed + len(self.survivors)
        each = (time.monotonic() - self.start) / max(done, 1)
        return (
            f"{done} of {self.wanted} mutants: {self.killed} killed ({self.hung} by the time limit), "
            f"{len(self.survivors)} survive; {each:.1f} s each, {(self.wanted - done) * each / 60:.0f} min left"
        )


def argued() -> dict[tuple[str, str], str]:
    """Return the reason for each mutant that may survive, by its key."""
    with (HERE / "argued.toml").open("rb") as file:
        entries: list[dict[str, Any]] = tomllib.load(file)["mutant"]
    return {(one["in"], fault): one["reason"] for one in entries for fault in one["faults"]}


def choose(arguments: argparse.Namespace, reasons: Container[tuple[str, str]]) -> list[Mutant]:
    """Return the mutants to try, without the argued ones."""
    names = [module.removesuffix(".py").replace("/", ".") for module in arguments.modules or MODULES]
    return [
        mutant
        for name in names
        for mutant in mutants_of(name)
        if re.search(arguments.scope, mutant.key[0]) and (arguments.argued or mutant.key not in reasons)
    ]


def mutants_of(name: str) -> list[Mutant]:
    """Return all mutants of a module."""
    return mutants(name, (SOURCE / f"{name.replace('.', '/')}.py").read_text("utf-8"))


def stale(reasons: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the keys of arguments without a mutant."""
    paths = [path.relative_to(SOURCE) for room in ROOMS for path in (SOURCE / room).glob("*.py")]
    there = {mutant.key for path in paths for mutant in mutants_of(".".join(path.with_suffix("").parts))}
    return [key for key in reasons if key not in there]


def run(chosen: list[Mutant], jobs: int) -> Tally:
    """Try the mutants, ``jobs`` at a time."""
    killers: collections.Counter[str] = collections.Counter()
    tally = Tally(len(chosen))
    with tempfile.TemporaryDirectory() as folder:
        places = [Place(Path(folder) / str(job), killers) for job in range(jobs)]
        free: queue.SimpleQueue[Place] = queue.SimpleQueue()
        if by := places[0].kills(None):
            sys.exit(f"mutate: the tests must pass without a mutant, but this one fails: {by}")
        for place in places:
            free.put(place)
        print(f"without a mutant the tests pass, in {time.monotonic() - tally.start:.0f} s", flush=True)
        tally.start = said = time.monotonic()

        def attempt(mutant: Mutant) -> tuple[Mutant, str]:
            place = free.get()
            try:
                return mutant, place.kills(mutant)
            finally:
                free.put(place)

        with ThreadPoolExecutor(jobs) as pool, contextlib.ExitStack() as stack:
            for place in places:
                stack.callback(place.close)
            try:
                for mutant, by in pool.map(attempt, chosen):
                    tally.note(mutant, by)
                    if time.monotonic() - said > _SAY_EVERY:
                        said = time.monotonic()
                        print(tally, flush=True)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return tally


def main() -> int:
    """Try the mutants and return the exit code."""
    parser = argparse.ArgumentParser(prog="./dev mutate", description="Plant faults in the engine for the tests.")
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"default: {', '.join(MODULES)}")
    parser.add_argument("--scope", default="", metavar="PATTERN", help="only mutants in functions that match")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="COUNT", help="mutants at a time")
    parser.add_argument("--argued", action="store_true", help="also run argued mutants")
    parser.add_argument("--list", action="store_true", help="print the mutants without running them")
    arguments = parser.parse_args()
    reasons = argued()
    chosen, gone = choose(arguments, reasons), stale(reasons)
    for scope, fault in gone:
        print(f"STALE in {scope}: {fault}: argued, but there is no such mutant; update argued.toml", flush=True)
    if arguments.list:
        print("\n".join(map(str, chosen)))
        return int(bool(gone))
    tally = run(chosen, arguments.jobs)
    print(tally)
    return int(bool(tally.survivors or gone))


if __name__ == "__main__":
    sys.exit(main())
