"""A chart of the CPU time per item as an SVG, with bars for each library on a logarithmic scale."""

from __future__ import annotations

from html import escape
from math import log10
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.shapes import FLOORS, LIST, PLAIN
from benchmarks.workloads import CPU, INSTANT, LIMIT, SLEEP_0

if TYPE_CHECKING:
    from benchmarks.measure import Comparison

WIDTH, LEFT, RIGHT = 760, 208, 70
TOP, ROW, BAR = 64, 31, 11
LEAST, MOST = 1e-7, 1e-4  # seconds at the ends of the axis

STYLE = """
  text { font: 13px system-ui, -apple-system, "Segoe UI", sans-serif; fill: #1f2328 }
  .title { font-weight: 600; font-size: 15px }
  .small { font-size: 11px; fill: #59636e }
  .ours { font-weight: 700 }
  line { stroke: #d1d9e0 }
  .a { fill: #8fa1b3 } .b { fill: #57687a }
  .floor.a { fill: #d5dde5 } .floor.b { fill: #b4c0cc }
  .ours.a { fill: #3fb68b } .ours.b { fill: #12805c }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 }
    .small { fill: #9198a1 }
    line { stroke: #3d444d }
    .a { fill: #64748b } .b { fill: #94a3b8 }
    .floor.a { fill: #334155 } .floor.b { fill: #475569 }
    .ours.a { fill: #1f8f6a } .ours.b { fill: #4ade9f }
  }
"""


def draw(comparisons: list[Comparison], machine: dict[str, str]) -> str:
    """Return the chart for lists of results: paco, the lower bounds and the libraries, cheapest first."""
    spent = _spent(comparisons)
    names = sorted(spent, key=lambda name: sum(map(log10, spent[name].values())))
    bottom = TOP + ROW * len(names)
    title = f"CPU per item, {LIMIT} at once (less is better, logarithmic)"
    facts = ", ".join(f"{name} {machine[name]}" for name in ("python", "loop", "cpu", "date"))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {bottom + 44}" role="img" aria-label="{title}">',
        f"<style>{STYLE}</style>",
        _text(12, 24, title, "title"),
        *_legend(),
        *(_grid(power, bottom) for power in range(-7, -3)),
        *(part for place, name in enumerate(names) for part in _bars(TOP + ROW * place, name, spent[name])),
        _text(12, bottom + 34, facts, "small"),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _spent(comparisons: list[Comparison]) -> dict[str, dict[str, float]]:
    """Return the seconds per item by name and workload, for all names with both workloads measured."""
    setting = comparisons[0].setting if comparisons else ""
    ours: dict[str, list[float]] = {"a": [], "b": []}
    spent: dict[str, dict[str, float]] = {"paco": {}}
    for one in comparisons:
        key = {INSTANT.name: "a", SLEEP_0.name: "b"}.get(one.workload)
        if key and (one.shape, one.limit, one.setting) == (LIST.name, LIMIT, setting):
            mine, theirs = map(CPU.best, one.counted())
            ours[key].append(mine)
            spent.setdefault(one.peer, {})[key] = theirs
    # The median, not the minimum: paco has many more rounds than a peer, and so a lower minimum.
    spent["paco"] = {key: median(values) for key, values in ours.items() if values}
    return {name: both for name, both in spent.items() if len(both) == len(ours) and name != PLAIN.name}


def _text(x: float, y: float, text: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" class="{kind}" text-anchor="{anchor}">{escape(text)}</text>'


def _place(seconds: float) -> float:
    share = (log10(seconds) - log10(LEAST)) / (log10(MOST) - log10(LEAST))
    return LEFT + min(max(share, 0.005), 1) * (WIDTH - LEFT - RIGHT)


def _legend() -> list[str]:
    texts = {"a": "a function that returns at once", "b": "one that awaits asyncio.sleep(0)"}
    parts = []
    for x, (key, text) in zip((LEFT, LEFT + 230), texts.items(), strict=True):
        parts.append(f'<rect x="{x}" y="38" width="{BAR}" height="{BAR}" class="{key}"/>')
        parts.append(_text(x + 17, 48, text, "small"))
    return parts


def _grid(power: int, bottom: int) -> str:
    x = _place(10.0**power)
    line = f'<line x1="{x:.0f}" x2="{x:.0f}" y1="{TOP - 6}" y2="{bottom}"/>'
    return line + _text(x, bottom + 14, f"{10.0 ** (power + 6):g} µs", "small", "middle")


def _bars(top: int, name: str, spent: dict[str, float]) -> list[str]:
    kind = "ours" if name == "paco" else "floor" if name in {peer.name for peer in FLOORS} else ""
    parts = [_text(LEFT - 8, top + 17, name, kind, "end")]
    for number, key in enumerate(sorted(spent)):
        y, end = top + 2 + number * (BAR + 1), _place(spent[key])
        size = f'width="{end - LEFT:.1f}" height="{BAR}"'
        parts.append(f'<rect x="{LEFT}" y="{y}" {size} class="{kind} {key}"/>')
        parts.append(_text(end + 5, y + 9, f"{spent[key] * 1e6:.3g} µs", "small"))
    return parts
