"""The output at the terminal: the tables, line by line as they are measured."""

from __future__ import annotations

import datetime as dt
import platform
import re
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import paco
from benchmarks.plan import limit_name
from benchmarks.shapes import SHAPES

if TYPE_CHECKING:
    from benchmarks.demands import Demand
    from benchmarks.measure import Comparison, Setting
    from benchmarks.memory import Footprint
    from benchmarks.plan import Table


def machine(setting: Setting) -> dict[str, str]:
    """Return the facts that the figures depend on: machine, versions, settings."""
    cpuinfo = Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", cpuinfo.read_text("utf-8")) if cpuinfo.exists() else None
    packages = {name for shape in SHAPES for peer in shape.peers for name in peer.packages}
    return {
        "date": dt.datetime.now(dt.UTC).date().isoformat(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "loop": setting.name,
        "cpu": model[1] if model else platform.processor(),
        "system": f"{platform.system()} {platform.machine()}",
        "paco": paco.__version__,
        **{name: version(name) for name in sorted({*packages, "aiohttp", "uvloop"})},
    }


def heading(table: Table) -> str:
    """Return the heading of a table."""
    columns = f"  {'peer':30}{'paco':>9}{'peer':>10}{'peer/paco':>11}   [least .. greatest]"
    where = f"{table.shape.name}, {limit_name(table.limit)}, {table.setting.name}"
    return f"\n{table.workload.name}: {where}: {table.workload.unit.name}\n  {table.shape.ours.name}\n{columns}"


def row(table: Table, one: Comparison) -> str:
    """Return a row of the table: a peer, the figures of both, and the ratios of the rounds."""
    unit = table.workload.unit
    ours, theirs = (unit.show(unit.best(spent), one.count) for spent in one.counted())
    times = sorted(one.times)
    return f"  {one.peer:30}{ours:>9}{theirs:>10}{median(times):11.2f}   [{times[0]:.2f} .. {times[-1]:.2f}]"


FOOTPRINTS = f"""
memory: results dropped if possible, (b), limit 100, in separate processes; delay of a 1 ms timer during (a)
  {"":42}{"items":>10}{"allocated":>12}{"process":>12}{"CPU ns":>9}{"timer late":>12}"""


def footprint_row(one: Footprint) -> str:
    """Return a row of the table of memory and timer delays."""
    allocated, grown = (f"{size / 1e6:,.2f} MB" for size in (one.traced, one.resident))
    figures = f"{allocated:>12}{grown:>12}{one.cpu * 1e9:>9,.0f}{one.late * 1e3:>9,.1f} ms"
    return f"  {one.subject:42}{one.count:>10,}{figures}"


DEMANDS = f"\n  {'demand':92}{'measured':>24}   met"


def verdict(demand: Demand) -> str:
    """Return a row of the table of demands."""
    return f"  {demand.text:92}{demand.measured:>24}   {'yes' if demand.met else 'NO'}"
