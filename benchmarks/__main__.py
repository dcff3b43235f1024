"""Measure paco against bare tasks and the other libraries, on this machine, and print what came out.

Machines are shared, so a figure is a ratio: paco and a peer run in turns in one process, and the median of the rounds'
ratios of CPU per item counts. `docs/benchmarks.md` says how it is measured.
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

from benchmarks import report
from benchmarks.measure import compare
from benchmarks.peers import SHAPES
from benchmarks.workloads import LIMIT, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.measure import Comparison


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="only what is demanded, with fewer items: half a minute")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that count, beside a warm-up (default: 5)")
    parser.add_argument("--loop", choices=["asyncio", "uvloop"], default="asyncio", help="the event loop")
    parser.add_argument("--check", action="store_true", help="exit with 1 when a demand is not met")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure there")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds must be 1 or more, got {options.rounds}")
    return options


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    if name == "asyncio":
        return None
    import uvloop

    return uvloop.new_event_loop


def compare_all(loop: str, rounds: int, *, quick: bool) -> list[Comparison]:
    """Print a table for each workload and each way to use paco, line by line as it is measured."""
    comparisons = []
    with asyncio.Runner(loop_factory=loop_factory(loop)) as runner:
        for workload, (shape, (ours, peers)) in itertools.product(WORKLOADS, SHAPES.items()):
            asked = [peer for peer in peers if any(one.covers(workload, shape, peer) for one in report.SPEED_DEMANDS)]
            chosen = asked if quick else peers
            if chosen:
                print(report.heading(workload, shape))
            for peer in chosen:
                count = peer.count // 2 if quick else peer.count
                one = runner.run(compare(shape, ours, peer, workload, count, rounds))
                comparisons.append(one)
                print(report.row(one), flush=True)
    return comparisons


def judge_all(comparisons: list[Comparison], count: int) -> list[report.Demand]:
    """Print what is demanded and whether it is met; memory and timers are measured on the way."""
    print(f"\n  {'demand':88}{'measured':>18}   met")
    demands = []
    judged = (one.judge(comparisons) for one in report.SPEED_DEMANDS)
    for demand in itertools.chain(judged, report.footprint_demands(count)):
        demands.append(demand)
        print(report.verdict(demand), flush=True)
    return demands


def main() -> int:
    options, begin = arguments(), time.monotonic()
    facts = report.machine(options.loop)
    print(", ".join(f"{name} {value}" for name, value in facts.items()))
    print(f"CPU per item, the least of {options.rounds} rounds; limit {LIMIT}; ratios: the median of the rounds")
    comparisons = compare_all(options.loop, options.rounds, quick=options.quick)
    demands = judge_all(comparisons, 300_000 if options.quick else 1_000_000)
    missed = sum(not demand.met for demand in demands)
    print(f"\n{len(demands) - missed} of {len(demands)} demands met, in {time.monotonic() - begin:.0f} s")
    if options.json:
        figures = [one.as_json() for one in comparisons]
        found = {"machine": facts, "comparisons": figures, "demands": [vars(demand) for demand in demands]}
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    return int(bool(missed and options.check))


if __name__ == "__main__":
    sys.exit(main())
