"""Charts of a run as SVG: the timeline, the items in flight, the histogram of latencies.

A chart stretches to the available width. Its labels are HTML beside it, so that they stay legible on a phone. It has no
script, so it looks the same in a notebook, in a mail and on paper.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from paco._pictures.numbers import (
    Tick,
    histogram,
    in_flight,
    log_share,
    log_ticks,
    peak_of,
    quantile,
    round_up,
    time_ticks,
)
from paco._pictures.record import CANCELLED, FAILED, OK, RETRIED, STATES
from paco._pictures.rows import is_elsewhere, rows
from paco._view.console import safe
from paco._view.meter import compact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paco._pictures.record import ItemTable
    from paco._pictures.rows import Rows

#: The width of a timeline in units, and its largest number of rows: about one per pixel.
_WIDTH: Final = 1600
_ROWS: Final = 400
#: Bars of at least this width are drawn separately, with a gap after them. Shorter bars that touch are merged.
_LONG, _GAP = 16, 1
#: The least width of a bar by its state, so that failures stay visible.
_LEAST: Final = {OK: 1, RETRIED: 3, FAILED: 5, CANCELLED: 1}
_QUANTILES: Final = (50, 95, 99)
_COLUMNS: Final = 200
_TOP: Final = 100  # the height of the other charts, in units
_ROW_PIXELS, _LOWEST, _HIGHEST = 12, 48, 380
_SOME_ROWS = 60
#: The largest number of worker labels beside a timeline, and of workers that are separated by lines.
_LABELS = 16


def text(words: object) -> str:
    """Return a user's text for a page, with markup and unprintable characters escaped."""
    return escape(safe(str(words)))


def timeline(record: ItemTable) -> str:
    """Return the timeline: a row for each slot, a bar for each item, rows grouped by worker."""
    where = rows(record)
    slots = where.height
    drawn = min(slots, _ROWS)
    paths = [
        f'<path class="{STATES[state]}" d="{path}"/>'
        for state in (OK, CANCELLED, RETRIED, FAILED)  # later ones are drawn on top
        if (path := "".join(_bars(record, state, where, drawn)))
    ]
    thick = 0.8 if drawn <= _SOME_ROWS else 1
    bounds = "".join(_bounds(where, drawn)) if len(where.lanes) <= _LABELS else ""
    body = f'<g transform="translate(0 .5)" stroke-width="{thick}">{"".join(paths)}</g>{bounds}'
    height = min(max(drawn * _ROW_PIXELS, _LOWEST), _HIGHEST)
    seconds = record.end() - record.run.start
    middle, what = 0.5 / slots, "slot"
    ys = [Tick(1 - middle, "0"), Tick(middle, compact(slots - 1))] if slots > 1 else [Tick(0.5, "0")]
    name = f"Timeline: {len(record):,} items in {slots:,} slots"
    if is_elsewhere(record):
        many = "workers" if len(where.lanes) > 1 else "worker"
        ys, what, name = _lanes(where), "worker", f"{name} of {len(where.lanes):,} {many}"
    return _plot(name, (_WIDTH, drawn), body, time_ticks(seconds), ys, (what, "time since the start"), height)


def _lanes(where: Rows) -> list[Tick]:
    """Return the labels of the workers, each in the middle of its rows, as many as fit."""
    every = -(-len(where.lanes) // _LABELS)
    middles = (1 - (lane.first + lane.rows / 2) / where.height for lane in where.lanes)
    return [Tick(at, str(number)) for number, at in enumerate(middles, 1) if (number - 1) % every == 0]


def _bounds(where: Rows, drawn: int) -> Iterable[str]:
    """Yield the lines between the workers."""
    for lane in where.lanes[1:]:
        yield f'<path class="bound" d="M0 {_round(lane.first * drawn / where.height)}h{_WIDTH}"/>'


def _bars(record: ItemTable, state: int, where: Rows, drawn: int) -> Iterable[str]:
    """Yield the bars of the items with this state, as parts of an SVG path."""
    start = record.run.start
    scale = _WIDTH / ((record.end() - start) or 1.0)
    least = _LEAST[state]
    waiting: dict[int, tuple[int, int]] = {}  # by row, the last short bar, which the next one may touch
    slots = where.height
    for one, slot, begin, end in zip(record.states, where.row, record.starts, record.ends, strict=True):
        if one != state:
            continue
        row = slot * drawn // slots
        left = min(int((begin - start) * scale), _WIDTH - least)
        right = max(int((end - start) * scale), left + least)
        if right - left >= _LONG:
            yield f"M{left} {row}h{right - left - _GAP}"
            continue
        before = waiting.get(row)
        if before is not None and before[0] - 1 <= right and left <= before[1] + 1:
            left, right = min(left, before[0]), max(right, before[1])
        elif before is not None:
            yield _bar(row, before)
        waiting[row] = left, right
    for row, bar in waiting.items():
        yield _bar(row, bar)


def _bar(row: int, bar: tuple[int, int]) -> str:
    return f"M{bar[0]} {row}h{bar[1] - bar[0]}"


def curve(record: ItemTable) -> str:
    """Return the chart of the items in flight: their mean and maximum, and the limit if it is near."""
    limit, flight = record.run.limit, in_flight(record, _COLUMNS)
    peak = peak_of(record)
    top = max(peak, limit if limit <= 2 * peak else 0)
    scale = _TOP / (top * 1.1)
    mean = "".join(f"L{column} {_round(value * scale)}h1" for column, value in enumerate(flight.mean))
    most = "".join(f"V{_round(value * scale)}h1" for value in flight.most)
    lines = [f'<path class="area" d="M0 0{mean}V0Z"/>', f'<path class="line" d="M0 0{most}V0"/>']
    ys = [Tick(0, "0"), Tick(peak / top / 1.1, compact(peak))]
    if limit and limit <= 2 * peak:
        lines.append(f'<path class="limit" d="M0 {_round(limit * scale)}h{_COLUMNS}"/>')
        ys = [Tick(0, "0"), Tick(1 / 1.1, compact(limit))]
    body = f'<g transform="matrix(1 0 0 -1 0 {_TOP})">{"".join(lines)}</g>'
    xs = time_ticks(record.end() - record.run.start)
    name = f"Items in flight: {peak:,} at the peak"
    return _plot(name, (_COLUMNS, _TOP), body, xs, ys, ("items", "time since the start"), 140)


def distribution(record: ItemTable, ordered: Sequence[float]) -> str:
    """Return the histogram of the latencies on a logarithmic axis, with quantiles."""
    bars = histogram(record)
    if not bars:
        return "<p>No item has finished.</p>"
    top = round_up(max(bar.ok + bar.failed for bar in bars))
    scale = _TOP / top
    parts: list[str] = []
    for place, bar in enumerate(bars):
        for kind, count, below in (("ok", bar.ok, 0), ("failed", bar.failed, bar.ok)):
            if count:
                at = f'x="{place + 0.05:g}" y="{_round(below * scale)}" width=".9" height="{_round(count * scale)}"'
                parts.append(f'<rect class="{kind}" {at}/>')
    body = f'<g transform="matrix(1 0 0 -1 0 {_TOP})">{"".join(parts)}</g>'
    marks = "".join(_mark(log_share(bars, value), f"p{percent}") for percent, value in quantiles(ordered))
    ys = [Tick(0, "0"), Tick(0.5, compact(top / 2)), Tick(1, compact(top))]
    name = f"Latencies of {len(ordered):,} items"
    return _plot(name, (len(bars), _TOP), body, log_ticks(bars), ys, ("items", "latency"), 200, marks)


def quantiles(ordered: Sequence[float]) -> list[tuple[int, float]]:
    """Return the percent and value of each quantile shown; empty without items."""
    return [(percent, quantile(ordered, percent / 100)) for percent in _QUANTILES] if ordered else []


def _mark(share: float, label: str) -> str:
    side = ' class="left"' if share > 0.9 else ""  # noqa: PLR2004 - beyond this a label on the right does not fit
    return f'<i style="left:{_percent(share)}"{side}><b>{text(label)}</b></i>'


def _plot(
    name: str,
    size: tuple[int, int],
    body: str,
    xs: Sequence[Tick],
    ys: Sequence[Tick],
    titles: tuple[str, str],
    height: int,
    marks: str = "",
) -> str:
    """Return a chart with its axes."""
    width, rows = size
    grid = "".join(f'<path class="grid" d="M{_round(tick.share * width)} 0v{rows}"/>' for tick in xs)
    svg = f'<svg viewBox="0 0 {width} {rows}" preserveAspectRatio="none" role="img" aria-label="{text(name)}">'
    below = "".join(f'<span style="left:{_percent(tick.share)}">{text(tick.label)}</span>' for tick in xs)
    beside = "".join(f'<span style="bottom:{_percent(tick.share)}">{text(tick.label)}</span>' for tick in ys)
    return (
        f'<div class="plot"><em class="yt">{titles[0]}</em><div class="ys">{beside}</div>'
        f'<div class="field" style="height:{height}px">{svg}{grid}{body}</svg>{marks}</div>'
        f'<div class="xs">{below}</div><em class="xt">{titles[1]}</em></div>'
    )


def _round(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _percent(share: float) -> str:
    return f"{_round(100 * share)}%"
