"""Measure `paco map --exec` against GNU parallel and xargs, which run the same program, and the memory that it takes.

The three run one after the other in each round, each time in another order. The median ratio of the rounds counts, of
the real time: what these commands do is done in other processes and by the system.
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from benchmarks.demands import Demand
from benchmarks.measure import Spent

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Runs of the program in a round, and how many run at once.
RUNS = 10_000
AT_ONCE = 8
#: The most megabytes by which memory may grow from `RUNS` runs to all. Its use is to tell equal items apart.
GROWTH = 4.0
#: Seconds from one look at the memory to the next.
_EVERY = 0.05
ROOT = Path(__file__).parent.parent
HEADING = f"""
programs: {RUNS:,} runs of true, {AT_ONCE} at once; medians; µs per run, and how many times as much paco takes
  {"":14}{"time":>9}{"CPU":>9}{"paco, time":>13}{"CPU":>8}   [least .. greatest time]"""


@dataclass(frozen=True)
class Runner:
    """A command that runs a program for each line of its input, and the measurements of its runs."""

    name: str
    command: list[str]
    most: float = 1.0  # the largest allowed ratio of the time of paco to that of this command
    runs: list[Spent] = field(default_factory=list[Spent])

    def run(self, source: Path) -> None:
        """Run the command, and record what it takes for each line."""
        with source.open("rb") as lines:
            began, wall = _cpu(), time.perf_counter()
            subprocess.run(self.command, stdin=lines, stdout=subprocess.DEVNULL, cwd=ROOT, check=True)  # noqa: S603 - own command
            self.runs.append(Spent((_cpu() - began) / RUNS, (time.perf_counter() - wall) / RUNS))


def _cpu() -> float:
    """Return the CPU seconds of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(lines: int, rounds: int) -> Iterator[Demand]:
    """Measure the commands, print the figures line by line, and yield the demands."""
    program, parallel, xargs = map(shutil.which, ("true", "parallel", "xargs"))
    if program is None:
        print("\nprograms: skipped, since there is no program called true")
        return
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "items.txt")
        ours = Runner("paco map", _command(program))
        theirs = []
        if parallel is not None and _is_gnu(parallel):
            theirs.append(Runner("GNU parallel", [parallel, "-j", str(AT_ONCE), program], 0.2))
        if xargs is not None:
            theirs.append(Runner("xargs", [xargs, "-P", str(AT_ONCE), "-n", "1", program], 2.0))
        if missing := {"GNU parallel", "xargs"} - {one.name for one in theirs}:
            print(f"\nprograms: not compared with {' and '.join(sorted(missing))}: not installed", end="")
        _write(source, RUNS)
        yield from _compare(ours, theirs, source, rounds)
        yield _memory(ours, source, max(lines, RUNS))


def _command(program: str) -> list[str]:
    return [sys.executable, "-m", "paco", "map", "--exec", program, "--limit", str(AT_ONCE), "--progress", "off"]


def _is_gnu(parallel: str) -> bool:
    """Return whether a program is GNU parallel; moreutils has another one of that name."""
    said = subprocess.run([parallel, "--version"], capture_output=True, text=True, check=False)  # noqa: S603 - found in PATH
    return "GNU parallel" in said.stdout


def _write(source: Path, count: int) -> None:
    source.write_text("".join(f"{number}\n" for number in range(count)), "utf-8")


def _compare(ours: Runner, theirs: list[Runner], source: Path, rounds: int) -> Iterator[Demand]:
    everyone = [ours, *theirs]
    for number in range(rounds):
        first = number % len(everyone)
        for one in (*everyone[first:], *everyone[:first]):
            one.run(source)
    print(HEADING)
    for one in everyone:
        times = sorted(our.wall / their.wall for our, their in zip(ours.runs, one.runs, strict=True))
        cpu = median(our.cpu / their.cpu for our, their in zip(ours.runs, one.runs, strict=True))
        figures = "".join(f"{median(getattr(run, clock) for run in one.runs) * 1e6:9.0f}" for clock in ("wall", "cpu"))
        ratios = f"{median(times):13.2f}{cpu:8.2f}   [{times[0]:.2f} .. {times[-1]:.2f}]" if one is not ours else ""
        print(f"  {one.name:14}{figures}{ratios}", flush=True)
        if one is not ours:
            text = f"programs: {RUNS:,} runs take at most {one.most:g} times the time of {one.name}"
            yield Demand(text, f"{median(times):.3f} times", median(times) <= one.most)


def _memory(ours: Runner, source: Path, most: int) -> Demand:
    peaks: list[float] = []
    for count in (RUNS, most):
        _write(source, count)
        peaks.append(_peak(ours.command, source) / 1e6)
        print(f"  memory for {count:,} runs: {peaks[-1]:.1f} MB, with the process that starts programs", flush=True)
    text = f"programs: {most:,} runs take at most {GROWTH:g} MB more memory than {RUNS:,}"
    return Demand(text, f"{peaks[1] - peaks[0]:+.1f} MB", peaks[1] - peaks[0] <= GROWTH)


def _peak(command: list[str], source: Path) -> int:
    """Return the most bytes that a command and the processes that it has started itself take together."""
    peak = 0
    with source.open("rb") as lines, subprocess.Popen(command, stdin=lines, stdout=subprocess.DEVNULL, cwd=ROOT) as run:  # noqa: S603 - own command
        watched = psutil.Process(run.pid)
        while run.poll() is None:
            try:
                peak = max(peak, sum(one.memory_info().rss for one in (watched, *watched.children())))
            except psutil.Error:  # it has just ended
                pass
            time.sleep(_EVERY)
    assert run.returncode == 0
    return peak
