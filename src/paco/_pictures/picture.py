"""Charts of a run as SVG: the timeline, the items in flight, the histogram of latencies.

A chart stretches to the available width. Its labels are HTML beside it, so that they stay legible on a phone. It has no
script, so it looks the same in a notebook, in a mail and on paper.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._pictures.record import CANCELLED, FAILED, OK, RETRIED, STATES, ItemTable, Rows, in_flight, peak_of, rows
from paco._view.console import safe
from paco._view.meter import compact, latency

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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

#: Bars of the histogram per factor of ten.
_PER_DECADE: Final = 10
#: The least latency in seconds; shorter ones count as this, because clocks are not finer and zero has no logarithm.
_SHORTEST: Final = 1e-7
#: Distances between ticks on a time axis, in seconds, minutes or hours.
_STEPS: Final = (1, 2, 5, 10, 15, 30)
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
_TICKS: Final = 5


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
        if state in record.states and (path := "".join(_bars(record, state, where, drawn)))
    ]
    thick = 0.8 if drawn <= _SOME_ROWS else 1
    bounds = "".join(_bounds(where, drawn)) if len(where.lanes) <= _LABELS else ""
    body = f'<g transform="translate(0 .5)" stroke-width="{thick}">{"".join(paths)}</g>{bounds}'
    height = min(max(drawn * _ROW_PIXELS, _LOWEST), _HIGHEST)
    middle, what = 0.5 / slots, "slot"
    ys = [Tick(1 - middle, "0"), Tick(middle, compact(slots - 1))] if slots > 1 else [Tick(0.5, "0")]
    name = f"Timeline: {len(record):,} items in {slots:,} slots"
    if record.is_elsewhere():
        many = "workers" if len(where.lanes) > 1 else "worker"
        ys, what, name = _lanes(where), "worker", f"{name} of {len(where.lanes):,} {many}"
    return _plot(name, (_WIDTH, drawn), body, time_ticks(record.seconds()), ys, (what, "time since the start"), height)


def _lanes(where: Rows) -> list[Tick]:
    """Return the labels of the workers, each in the middle of its rows, as many as fit."""
    every = -(-len(where.lanes) // _LABELS)
    middles = (1 - (lane.first + lane.rows / 2) / where.height for lane in where.lanes)
    return [Tick(at, str(number)) for number, at in enumerate(middles, 1) if (number - 1) % every == 0]


def _bounds(where: Rows, drawn: int) -> Iterable[str]:
    """Yield the lines that separate the rows of the workers."""
    for lane in where.lanes[1:]:
        yield f'<path class="bound" d="M0 {_round(lane.first * drawn / where.height)}h{_WIDTH}"/>'


def _bars(record: ItemTable, state: int, where: Rows, drawn: int) -> Iterable[str]:
    """Yield the bars of the items with this state, as parts of an SVG path."""
    start = record.run.start
    scale = _WIDTH / (record.seconds() or 1.0)
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
    name = f"Items in flight: {peak:,} at the peak"
    xs, titles = time_ticks(record.seconds()), ("items", "time since the start")
    return _plot(name, (_COLUMNS, _TOP), body, xs, ys, titles, 140)


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


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that is not exceeded by at least this share of the values (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


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


# ---- axes


class HistogramBar(NamedTuple):
    """A bar of the histogram: latencies from ``low`` to ``high`` seconds."""

    low: float
    high: float
    ok: int
    failed: int


def histogram(record: ItemTable) -> list[HistogramBar]:
    """Return the histogram of the latencies, with bars of equal width on a logarithmic axis; empty without items."""
    counts: dict[tuple[int, bool], int] = {}
    for start, end, state in zip(record.starts, record.ends, record.states, strict=True):
        if state != CANCELLED:
            place = math.floor(math.log10(max(end - start, _SHORTEST)) * _PER_DECADE), state == FAILED
            counts[place] = counts.get(place, 0) + 1
    if not counts:
        return []
    bins = [number for number, _ in counts]
    spare = max(_PER_DECADE - (max(bins) - min(bins)), 2)  # if all latencies are similar, half a decade on each side
    first, last = min(bins) - spare // 2, max(bins) + spare // 2
    return [
        HistogramBar(_edge(one), _edge(one + 1), counts.get((one, False), 0), counts.get((one, True), 0))
        for one in range(first, last + 1)
    ]


def _edge(number: int) -> float:
    return math.pow(10, number / _PER_DECADE)


class Tick(NamedTuple):
    """A tick of an axis: its place as a share of the length, and its label."""

    share: float
    label: str


def time_ticks(seconds: float) -> list[Tick]:
    """Return at most five ticks for an axis from zero to ``seconds``, and one at zero."""
    if seconds <= 0:
        return [Tick(0.0, "0s")]
    step = _step(seconds / _TICKS)
    count = math.floor(seconds / step + 1e-9)
    return [Tick(number * step / seconds, latency(number * step)) for number in range(count + 1)]


def _step(least: float) -> float:
    """Return the smallest round number of seconds that is at least ``least``."""
    for unit, most in ((1, _MINUTE), (_MINUTE, _HOUR), (_HOUR, _DAY)):
        if unit <= least * 2 and least <= most / 2:
            return next(step * unit for step in _STEPS if step * unit >= least)
    return round_up(least)


def round_up(value: float) -> float:
    """Return the smallest 1, 2 or 5 times a power of ten that is at least ``value``."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def log_ticks(bars: Sequence[HistogramBar]) -> list[Tick]:
    """Return the ticks of a histogram: the powers of ten, and 2 and 5 times these if there are few."""
    low, high = bars[0].low, bars[-1].high
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high <= 101 * low else (1,)  # seven ticks fit on a phone
    values = (math.pow(10, power) * factor for power in powers for factor in factors)
    inside = (value for value in values if low * (1 - 1e-9) <= value <= high * (1 + 1e-9))
    return [Tick(log_share(bars, value), latency(value)) for value in inside]


def log_share(bars: Sequence[HistogramBar], seconds: float) -> float:
    """Return the place of a latency on the axis of a histogram, as a share of the length."""
    low, high = math.log10(bars[0].low), math.log10(bars[-1].high)
    return (math.log10(max(seconds, _SHORTEST)) - low) / (high - low)
