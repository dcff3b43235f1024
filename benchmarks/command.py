"""Measure the cost of the command: `paco map` against the same requests through the library, to a real HTTP server.

Both run alternately as separate programs, in swapped order each round; the server is a third process. The median ratio
of the rounds counts, for the CPU time of the process and for its real time.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks import by_hand, servers
from benchmarks.demands import Demand
from benchmarks.measure import Spent
from benchmarks.workloads import LIMIT

if TYPE_CHECKING:
    from collections.abc import Iterator

#: The largest allowed ratio of the command to the library.
MOST = 1.15
#: The displays of progress: a line every 10 s, as in a log, or the live lines of a terminal.
DISPLAYS = ("plain", "bar")
ROOT = Path(__file__).parent.parent
HEADING = f"""
the command: HTTP GET on 127.0.0.1, aiohttp, limit {LIMIT}, uvloop and orjson; medians; µs per item
  {"":30}{"paco map":>9}{"by hand":>10}{"ratio":>11}   [least .. greatest]"""


@dataclass(frozen=True)
class Program:
    """A command that writes a line to ``output`` for each item, and the measurements of its runs."""

    command: list[str]
    output: Path
    runs: list[Spent] = field(default_factory=list[Spent])

    def run(self, lines: int) -> None:
        """Run the command, and record what it takes per item."""
        self.output.unlink(missing_ok=True)
        cpu, wall = _cpu(), time.perf_counter()
        subprocess.run(self.command, cwd=ROOT, stderr=subprocess.DEVNULL, check=True)  # noqa: S603 - own command
        self.runs.append(Spent((_cpu() - cpu) / lines, (time.perf_counter() - wall) / lines))
        with self.output.open("rb") as records:
            assert sum(1 for _ in records) == lines


def _cpu() -> float:
    """Return the CPU seconds of all child processes that have ended, so without the server."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure(lines: int, rounds: int) -> Iterator[Demand]:
    """Measure the command, print the figures line by line, and yield the demands."""
    print(HEADING, flush=True)
    with servers.serving(servers.http) as port, tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "items.txt")
        source.write_text("".join(f"{number}\n" for number in range(lines)), "utf-8")
        for display in DISPLAYS:
            yield from _compare(_programs(f"http://{servers.HOST}:{port}", source, display), display, lines, rounds)


def _programs(url: str, source: Path, display: str) -> tuple[Program, Program]:
    ours, theirs = source.with_name("command.jsonl"), source.with_name("library.jsonl")
    target = f"{by_hand.__name__}:{by_hand.client.__name__}"
    options = ["--arg", f"url={url}", "--limit", str(LIMIT), "--output", str(ours), "--progress", display]
    return (
        Program([sys.executable, "-m", "paco", "map", target, str(source), *options], ours),
        Program([sys.executable, "-m", by_hand.__name__, url, str(source), str(theirs), str(LIMIT)], theirs),
    )


def _compare(pair: tuple[Program, Program], display: str, lines: int, rounds: int) -> Iterator[Demand]:
    for number in range(rounds):
        for program in pair if number % 2 else reversed(pair):
            program.run(lines)
    for clock in Spent._fields:
        ours, theirs = ([getattr(one, clock) for one in program.runs] for program in pair)
        times = sorted(our / their for our, their in zip(ours, theirs, strict=True))
        what = f"--progress {display}, {clock}"
        figures = f"{median(ours) * 1e6:9.1f}{median(theirs) * 1e6:10.1f}{median(times):11.2f}"
        print(f"  {what:30}{figures}   [{times[0]:.2f} .. {times[-1]:.2f}]", flush=True)
        text = f"the command, {what}: at most {MOST} times the library, {lines:,} requests"
        yield Demand(text, f"{median(times):.3f} times", median(times) <= MOST)
