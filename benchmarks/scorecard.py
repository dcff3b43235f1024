"""Run the torture scenarios on paco and on the peers, and print how many each passes.

A library passes a scenario if it does the right thing *and* leaves nothing behind. A scenario is n/a if the library
does not have the form that it needs (a stream, an async source, exceptions as values). paco runs on each given Python,
on asyncio's loop in virtual time and on uvloop in real time, with normal and with eager tasks. The peers run on the
Python that runs this script. A scenario without an answer for 40 s hangs, and has failed.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import signal
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.torture.ours import PACO

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
#: Seconds without an answer after which a scenario counts as hanging.
PATIENCE = 40.0
#: The width of the names of the rows, in characters.
LABEL = 36
#: The number of failures printed for a lane of paco, unless --verbose is given.
SHOWN = 20


@dataclass(frozen=True)
class Row:
    """A library on one Python, event loop and task factory."""

    library: str
    label: str
    python: str
    loop: str = "asyncio"
    eager: bool = False

    def command(self, first: int) -> list[str]:
        """Return the command that runs the scenarios from number ``first`` on."""
        eager = ["--eager"] if self.eager else []
        return [self.python, "-m", "benchmarks.torturer", self.library, self.loop, *eager, "--first", str(first)]


@dataclass(frozen=True)
class Verdict:
    """The result of a scenario: ``passed``, ``failed`` or ``n/a``."""

    area: str
    name: str
    verdict: str
    reason: str


def measure(row: Row) -> list[Verdict]:
    """Run all scenarios. One that hangs or ends the process has failed; the next one starts in a new process."""
    verdicts: list[Verdict] = []
    while True:
        before = len(verdicts)
        command = row.command(before)
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - own command
            asked = read(process, verdicts)
        if asked is None and process.returncode == 0:
            return verdicts
        if asked is None:
            raise SystemExit(f"{row.label}: the process ended between scenarios with exit code {process.returncode}")
        reason = "it hangs" if process.returncode == -signal.SIGKILL else "it ended the process"
        verdicts.append(Verdict(asked["area"], asked["name"], "failed", reason))


def read(process: subprocess.Popen[str], verdicts: list[Verdict]) -> dict[str, Any] | None:
    """Add the verdicts that the process prints, and return the scenario without an answer, if there is one."""
    asked: dict[str, Any] | None = None
    for line in patiently(process):
        message = json.loads(line)
        if "number" in message:
            asked = message
        elif asked is not None:
            verdicts.append(Verdict(asked["area"], asked["name"], message["verdict"], message["reason"]))
            asked = None
    return asked


def patiently(process: subprocess.Popen[str]) -> Iterator[str]:
    """Yield the lines of a process, and kill it if it is silent for `PATIENCE` seconds."""
    lines = iter(process.stdout or ())
    while True:
        timer = threading.Timer(PATIENCE, process.kill)
        timer.start()
        try:
            line = next(lines, None)
        finally:
            timer.cancel()
        if line is None:
            return
        yield line


# ---- the rows


def lanes(pythons: list[str]) -> list[Row]:
    """Return a row of paco for each lane of each Python."""
    rows = []
    for python, loop, eager in itertools.product(pythons, ["asyncio", "uvloop"], [False, True]):
        number = python_version(python)
        if not eager or number >= (3, 12):
            label = f"paco, {'.'.join(map(str, number))}, {loop}{', eager tasks' if eager else ''}"
            rows.append(Row(PACO.name, label, python, loop, eager))
    return rows


def python_version(python: str) -> tuple[int, ...]:
    code = "import sys; print(*sys.version_info[:3])"
    done = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, text=True, check=True)  # noqa: S603 - own command
    return tuple(int(part) for part in done.stdout.split())


def peers(python: str) -> list[Row]:
    """Return a row for each peer, on asyncio's loop."""
    from benchmarks.rivals import RIVALS

    rows = []
    for rival in RIVALS:
        own = [f"{package} {version(package)}" for package in rival.packages[:1]]
        label = own[0] if own and own[0].startswith(rival.name) else ", ".join([rival.name, *own])
        rows.append(Row(rival.name, label, python))
    return rows


# ---- output


def heading(areas: list[str]) -> str:
    return f"{'':{LABEL}}" + "".join(f"{area:>11}" for area in areas) + f"{'passed':>10}{'':6}{'n/a':>5}"


def line(row: Row, verdicts: list[Verdict], areas: list[str]) -> str:
    """Return the row of a library: passed and applicable scenarios, by area and in total."""
    counts = Counter((one.area, one.verdict) for one in verdicts)
    cells = [f"{counts[area, 'passed']}/{counts[area, 'passed'] + counts[area, 'failed']}" for area in areas]
    passed, failed = (sum(counts[area, verdict] for area in areas) for verdict in ("passed", "failed"))
    share = f"{100 * passed // (passed + failed)}%"
    return (
        f"{row.label:{LABEL}}"
        + "".join(f"{'-' if cell == '0/0' else cell:>11}" for cell in cells)
        + f"{f'{passed}/{passed + failed}':>10}{share:>6}{len(verdicts) - passed - failed:>5}"
    )


def show(rows: list[Row], *, jobs: int, verbose: bool) -> dict[str, list[Verdict]]:
    """Measure and print the rows in order, with the failures of paco below, and of all libraries if ``verbose``."""
    measured = {}
    with ThreadPoolExecutor(jobs) as pool:
        for row, verdicts in zip(rows, pool.map(measure, rows), strict=True):
            areas = sorted({one.area for one in verdicts})
            if not measured:
                print(heading(areas))
            measured[row.label] = verdicts
            print(line(row, verdicts, areas), flush=True)
            failed = [one for one in verdicts if one.verdict == "failed"]
            shown = failed if verbose else failed[:SHOWN] if row.library == PACO.name else []
            for one in shown:
                print(f"    {one.area}: {one.name}: {one.reason}")
    return measured


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev torture", description=__doc__)
    parser.add_argument("--python", action="append", metavar="FILE", help="an interpreter for paco; may be repeated")
    parser.add_argument("--quick", action="store_true", help="run on this Python only")
    parser.add_argument("--ours", action="store_true", help="run paco only")
    parser.add_argument("--verbose", action="store_true", help="print why each scenario failed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="rows at once (default: number of CPUs)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all verdicts to FILE")
    options = parser.parse_args()
    pythons = [sys.executable] if options.quick or not options.python else options.python
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs; passed / applicable scenarios, by area")
    measured = show(lanes(pythons), jobs=options.jobs, verbose=options.verbose)
    failed = sum(one.verdict == "failed" for verdicts in measured.values() for one in verdicts)
    if not options.ours:
        print(f"\npeers, each used as its documentation shows, on Python {platform.python_version()}, asyncio")
        measured |= show(peers(sys.executable), jobs=options.jobs, verbose=options.verbose)
    if options.json:
        found = {label: [asdict(one) for one in verdicts] for label, verdicts in measured.items()}
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
