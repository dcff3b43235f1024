"""Compare the speed of paco with hand-written code and other libraries on this machine, and print the results.

The machine may be shared, so each result is a ratio: paco and a peer run alternately in one process, and the median
ratio of the rounds counts. `docs/benchmarks.md` describes the method.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import busy, chart, command, jobs, markdown, memory, programs, remote, report, ring
from benchmarks.demands import SPEED, footprint_demands, growth_demands
from benchmarks.findings import Findings
from benchmarks.measure import Setting, compare
from benchmarks.plan import Table, plan, selected
from benchmarks.workloads import LIMIT

if TYPE_CHECKING:
    from benchmarks.peers import Peer


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="main demands only, with fewer items: half a minute")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="e.g. b/list, streamable, memory")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds after the warm-up (default: 5)")
    parser.add_argument("--lines", type=int, default=100_000, help="items for the command (default: 100,000)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop")
    parser.add_argument("--eager", action="store_true", help="use the eager task factory (Python 3.12 or later)")
    parser.add_argument("--check", action="store_true", help="exit with 1 if a demand is not met")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="write the tables to FILE, between its markers if it has them"
    )
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write a chart of the CPU time per item to FILE")
    options = parser.parse_args()
    for name in ("rounds", "lines"):
        if (number := getattr(options, name)) < 1:
            parser.error(f"--{name} must be 1 or more, got {number}")
    options.setting = Setting(options.loop, options.eager)
    if not options.setting.possible:
        parser.error(f"--eager needs Python 3.12 or later, got {sys.version.split()[0]}")
    return options


def wanted(table: Table, options: argparse.Namespace) -> list[Peer]:
    """Return the selected peers of a table."""
    peers = [peer for peer in table.shape.peers if not table.peers or peer.name in table.peers]
    if options.quick:
        asked = [one for one in SPEED if one.quick and table.setting == options.setting]
        peers = [peer for peer in peers if any(one.covers(table, peer.name) for one in asked)]
    return [peer for peer in peers if selected(options.only, table.labels(peer.name))]


async def fill(table: Table, peers: list[Peer], found: Findings, options: argparse.Namespace) -> None:
    """Measure a table and print its rows as they are measured."""
    print(report.heading(table))
    async with table.workload.opened(table.limit) as fn:
        for peer in peers:
            count = min(peer.count, table.items) // (2 if options.quick else 1)
            one = await compare(table, peer, fn, count, max(round(options.rounds * table.rounds), 1))
            print(report.row(table, one), flush=True)
            found.comparisons.append(one)


def compare_all(found: Findings, options: argparse.Namespace) -> None:
    """Measure and print the selected tables."""
    for table in plan(options.setting):
        if peers := wanted(table, options):
            with asyncio.Runner(loop_factory=table.setting.new_loop) as runner:
                runner.run(fill(table, peers, found, options))


def measure_memory(found: Findings, options: argparse.Namespace) -> None:
    """Measure and print memory and timer delays of the selected subjects."""
    subjects = [one for one in memory.SUBJECTS if selected(options.only, ("memory", "timer", one.name))]
    if subjects and not options.quick:
        print(report.FOOTPRINTS)
        for subject, count in itertools.product(subjects, memory.COUNTS):
            if count <= subject.most:
                found.footprints.append(memory.footprint(subject, count))
                print(report.footprint_row(found.footprints[-1]), flush=True)


def judge_all(found: Findings, options: argparse.Namespace) -> None:
    """Print each demand and whether it is met. Measure what the demands on memory and timers need."""
    print(report.DEMANDS)
    for demand in found.demands:
        print(report.verdict(demand))
    judged = (one.judge(found.comparisons) for one in SPEED)
    weighed = footprint_demands(300_000 if options.quick else 1_000_000)
    if not selected(options.only, ("memory", "timer")):
        weighed = iter(())
    for demand in itertools.chain(filter(None, judged), growth_demands(found.footprints), weighed):
        found.demands.append(demand)
        print(report.verdict(demand), flush=True)


def measure_busy(found: Findings, options: argparse.Namespace) -> None:
    """Measure limits against a server with a capacity; only if selected by name, because it takes seven minutes."""

    def wanted(part: str) -> bool:
        return selected(options.only, ("busy", part))

    if options.only and any(map(wanted, busy.PARTS)):
        for demand in busy.measure(wanted):
            found.demands.append(demand)


def measure_command(found: Findings, options: argparse.Namespace) -> None:
    """Measure the command against the library; only if selected by name, because it takes ten minutes."""
    if options.only and selected(options.only, ("command",)):
        for demand in command.measure(options.lines, options.rounds):
            found.demands.append(demand)


def measure_programs(found: Findings, options: argparse.Namespace) -> None:
    """Measure programs that the command runs; only if selected by name, because it takes ten minutes."""
    if options.only and selected(options.only, ("exec",)):
        for demand in programs.measure(options.lines, options.rounds):
            found.demands.append(demand)


def measure_remote(found: Findings, options: argparse.Namespace) -> None:
    """Measure items that run on workers; only if selected by name, because it takes four minutes."""
    if options.only and selected(options.only, ("remote",)):
        for demand in remote.measure():
            found.demands.append(demand)


def measure_ring(found: Findings, options: argparse.Namespace) -> None:
    """Measure features against the same by hand; only if selected by name, because it takes two minutes."""
    if options.only and selected(options.only, ("ring",)):
        for demand in ring.measure(options.rounds, options.setting.new_loop):
            found.demands.append(demand)


def measure_jobs(found: Findings, options: argparse.Namespace) -> None:
    """Measure whole jobs against the same by hand; only if selected by name, because it takes three minutes."""

    def wanted(part: str) -> bool:
        return selected(options.only, ("jobs", part))

    if options.only and any(map(wanted, jobs.PARTS)):
        for demand in jobs.measure(options.rounds, options.setting.new_loop, wanted):
            found.demands.append(demand)


def write(found: Findings, options: argparse.Namespace) -> None:
    """Write the requested files."""
    if options.json:
        options.json.write_text(json.dumps(found.as_json(), indent=1) + "\n", "utf-8")
    if options.markdown:
        markdown.write(options.markdown, found)
    if options.svg:
        options.svg.write_text(chart.draw(found.comparisons, found.machine), "utf-8")


def main() -> int:
    options, begin = arguments(), time.monotonic()
    found = Findings(report.machine(options.setting), options.rounds)
    print(", ".join(f"{name} {value}" for name, value in found.machine.items()))
    print(f"{options.rounds} rounds, more or fewer in some tables; limit {LIMIT} unless a table names another")
    try:
        compare_all(found, options)
        measure_memory(found, options)
        measure_busy(found, options)
        measure_command(found, options)
        measure_programs(found, options)
        measure_remote(found, options)
        measure_ring(found, options)
        measure_jobs(found, options)
        judge_all(found, options)
    finally:
        write(found, options)  # also after Ctrl-C: write what has been measured
    missed = sum(not demand.met for demand in found.demands)
    print(f"\n{len(found.demands) - missed} of {len(found.demands)} demands met, in {time.monotonic() - begin:.0f} s")
    return int(bool(missed and options.check))


if __name__ == "__main__":
    sys.exit(main())
