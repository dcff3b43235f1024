"""The tables of the documentation as Markdown, with a column for each limit."""

from __future__ import annotations

from itertools import groupby
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.plan import limit_name
from benchmarks.workloads import LIMIT, WORKLOADS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from benchmarks.findings import Findings
    from benchmarks.measure import Comparison
    from benchmarks.memory import Footprint

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"

LEGEND = """\
In brackets: the cost of the peer divided by that of paco, so above 1 where paco is ahead. It is the median ratio of the
rounds. It can differ from the ratio of the two figures, which are the minimum (CPU) or the median (time) of the rounds.
"""


def write(path: Path, found: Findings) -> None:
    """Write the tables to a file, between its markers if it has them."""
    text = "\n".join([BEGIN, "", *_page(found), END]) + "\n"
    if path.exists() and BEGIN in (old := path.read_text("utf-8")):
        before, rest = old.split(BEGIN, 1)
        text = before + text.rstrip("\n") + rest.split(END, 1)[1]
    path.write_text(text, "utf-8")


def _page(found: Findings) -> Iterator[str]:
    yield ", ".join(f"{name} {value}" for name, value in found.machine.items()) + f"; {found.rounds} rounds."
    yield ""
    yield LEGEND
    base = [one for one in found.comparisons if one.setting == found.comparisons[0].setting]
    for (workload, shape), group in groupby(sorted(base, key=_place), key=lambda one: (one.workload, one.shape)):
        ours = list(group)
        ours.sort(key=lambda one: one.limit or float("inf"))
        yield from _comparisons(f"{workload}: {shape}", ours, lambda one: limit_name(one.limit))
    others = {(one.workload, one.shape) for one in found.comparisons if one not in base}
    for workload, shape in sorted(others):
        ours = [one for one in found.comparisons if (one.workload, one.shape, one.limit) == (workload, shape, LIMIT)]
        some = {one.peer for one in ours if one not in base}
        ours = [one for one in ours if one.peer in some]
        yield from _comparisons(f"{workload}: {shape}, by event loop, limit {LIMIT}", ours, lambda one: one.setting)
    if found.footprints:
        yield from _footprints(found.footprints)
    yield from _table(
        "Demands", ["", "measured", "met"], ([one.text, one.measured, _yes(one.met)] for one in found.demands)
    )


def _place(one: Comparison) -> tuple[str, str]:
    return one.workload, one.shape


def _yes(met: bool) -> str:
    return "yes" if met else "**no**"


def _table(title: str, head: list[str], rows: Iterable[list[str]]) -> Iterator[str]:
    yield f"**{title}**"
    yield ""
    for cells in (head, ["---"] + ["---:"] * (len(head) - 1), *rows):
        yield f"| {' | '.join(cells)} |"
    yield ""


def _comparisons(title: str, found: list[Comparison], column: Callable[[Comparison], str]) -> Iterator[str]:
    unit = next(one.unit for one in WORKLOADS if one.name == found[0].workload)
    columns = list(dict.fromkeys(map(column, found)))
    ours: dict[str, list[float]] = {name: [] for name in columns}
    cells: dict[str, dict[str, str]] = {one.peer: {} for one in found}
    for one in found:
        spent, theirs = one.counted()
        ours[column(one)].append(unit.best(spent))
        cells[one.peer][column(one)] = f"{unit.show(unit.best(theirs), one.count)} ({median(one.times):.3g})"
    counts = {column(one): one.count for one in found}
    first = ["**paco**", *(unit.show(median(ours[name]), counts[name]) for name in columns)]
    rows = ([peer, *(row.get(name, "") for name in columns)] for peer, row in cells.items())
    yield from _table(f"{title}, {unit.name}", ["", *columns], [first, *rows])


def _footprints(found: list[Footprint]) -> Iterator[str]:
    counts = sorted({one.count for one in found})
    by_name: dict[str, dict[int, Footprint]] = {one.subject: {} for one in found}
    for one in found:
        by_name[one.subject][one.count] = one
    measures: dict[str, Callable[[Footprint], str]] = {
        "Peak memory allocated by Python, MB": lambda one: f"{one.traced / 1e6:,.2f}",
        "Peak growth of the process, MB": lambda one: f"{one.resident / 1e6:,.1f}",
        "Largest delay of a 1 ms timer while items return at once, ms": lambda one: f"{one.late * 1e3:,.1f}",
    }
    for title, show in measures.items():
        rows = (
            [name, *(show(row[count]) if count in row else "" for count in counts)] for name, row in by_name.items()
        )
        yield from _table(title, ["", *(f"{count:,} items" for count in counts)], rows)
