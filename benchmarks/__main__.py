"""Measure paco against bare tasks and the other libraries, on this machine, and print what came out.

Machines are shared, so a figure is a ratio: paco and a peer run in turns in one process, and the median of the rounds'
ratios of CPU per item counts. `docs/benchmarks.md` says how it is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from pathlib import Path

from benchmarks import report
from benchmarks.measure import Comparison, compare
from benchmarks.peers import SHAPES
from benchmarks.workloads import LIMIT, WORKLOADS


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the items: half a minute, rough figures")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, beside a warm-up (default: 5)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a demand is not met")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {options.rounds}")
    return options


def compare_all(loop: str, rounds: int, share: int) -> list[Comparison]:
    """Print a table for each workload and each way to use paco, line by line as it is measured."""
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    comparisons = []
    with asyncio.Runner(loop_factory=factory) as runner:
        for workload in WORKLOADS:
            for shape, (ours, peers) in SHAPES.items():
                print(report.heading(workload, shape))
                for peer in peers:
                    one = runner.run(compare(shape, ours, peer, workload, peer.count // share, rounds))
                    comparisons.append(one)
                    print(report.row(one), flush=True)
    return comparisons


def main() -> int:
    options, begin = arguments(), time.monotonic()
    share = 10 if options.quick else 1
    facts = report.machine(options.loop)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"CPU per item, the least of {options.rounds} rounds; limit {LIMIT}; ratios: the median of the rounds")
    comparisons = compare_all(options.loop, options.rounds, share)

    print(f"\n  {'demand':82}{'measured':>18}   met")
    demands = []
    for found in (report.speed_demands(comparisons), report.footprint_demands(1_000_000 // share)):
        for demand in found:
            demands.append(demand)
            print(report.verdict(demand), flush=True)
    missed = sum(not demand.met for demand in demands)
    print(f"\n{missed or 'none'} of {len(demands)} demands not met, in {time.monotonic() - begin:.0f} s")
    if options.json:
        figures = [one.as_json() for one in comparisons]
        found_out = {"machine": facts, "comparisons": figures, "demands": [vars(demand) for demand in demands]}
        options.json.write_text(json.dumps(found_out, indent=1) + "\n", "utf-8")
    return int(bool(missed and options.check))


if __name__ == "__main__":
    sys.exit(main())
