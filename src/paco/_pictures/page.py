"""The report: one page of HTML that needs nothing else, no network and no script."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

from paco._base import __version__
from paco._pictures.numbers import latencies, peak_of
from paco._pictures.picture import curve, distribution, quantiles, text, timeline
from paco._pictures.record import CANCELLED, OK, SLOWEST, STATES
from paco._pictures.rows import done, is_elsewhere, rows
from paco._pictures.style import STYLE
from paco._pictures.words import pace, where_the_time_went
from paco._view.units import duration, latency, per_second, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paco._pictures.record import Detail, Record

#: Runs that get pictures, at most: those that took longest. Kinds of failures that get a row.
_SHOWN: Final = 12
_KINDS: Final = 20
#: Workers that get a row, and what is said of one that is gone.
_WORKERS: Final = 50
_LOST: Final = '<b class="lost">lost; what it had was run again</b>'

#: Nothing is loaded and nothing is run, whatever an item contains.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(records: Sequence[Record]) -> str:
    """Return the whole page."""
    title = records[0].run.title if len(records) == 1 else f"{len(records):,} runs"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>paco: {text(title)}</title><style>body{{margin:0}}</style></head><body>\n"
        f"{fragment(records)}</body></html>\n"
    )


def fragment(records: Sequence[Record]) -> str:
    """Return what the page shows, to be shown inside another one."""
    if not records:
        body = "<p>No run was recorded: a trace holds the runs that start inside of its block.</p>"
    else:
        shown = _to_show(records)
        body = _overview(shown, len(records)) if len(records) > 1 else ""
        body += "".join(map(_section, shown))
    return f'<style>{STYLE}</style><div class="paco-report">{body}<footer>paco {__version__}</footer></div>\n'


def _to_show(records: Sequence[Record]) -> list[Record]:
    """Return the runs to show, in order: those that took longest, and rather not those inside an item of another."""
    ranked = sorted(records, key=lambda one: (one.run.parent is not None, one.run.start - one.end()))
    return sorted(ranked[:_SHOWN], key=lambda one: one.run.order)


def _overview(shown: Sequence[Record], count: int) -> str:
    rows = (
        (
            f'<a href="#run-{one.run.id}">{text(one.run.title)}</a>',
            f"{len(one):,}",
            f"{one.run.failed:,}",
            duration(one.end() - one.run.start),
            _rate(one),
            text(pace(one)),
        )
        for one in shown
    )
    rest = f"<p>Shown are the {len(shown)} that took longest.</p>" if len(shown) < count else ""
    table = _table(("run", "items", "failed", "took", "rate", "mostly waited for"), rows)
    return f"<header><h1>{count:,} runs</h1></header>{table}{rest}"


def _section(record: Record) -> str:
    run = record.run
    began = datetime.fromtimestamp(run.date).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    limit = f"limit {run.limit:,}" if run.limit else "no limit"
    facts = " · ".join((f"started {began}", limit, _ending(record)))
    parts = [
        f'<section id="run-{run.id}"><header><h1>{text(run.title)}</h1><p class="facts">{text(facts)}</p></header>',
        f'<p class="verdict">{text(where_the_time_went(record))}</p>',
        f'<div class="tiles">{"".join(_tiles(record))}</div>',
    ]
    if len(record):
        ordered = latencies(record)
        parts += [
            f"<h2>Timeline{_legend(record)}</h2>",
            timeline(record),
            *_workers(record),
            '<h2>In flight<small class="key"><s class="area"></s>on average <s class="line"></s>at most</small></h2>',
            curve(record),
            f"<h2>Latency{_quantiles(ordered)}</h2>",
            distribution(record, ordered),
            *_failures(record),
            *_slowest(record),
        ]
    return "".join(parts) + "</section>"


def _ending(record: Record) -> str:
    ended = record.ended
    if ended is None:
        return "had not ended"
    words = {"ok": "ran to its end", "cancelled": "was left early"}
    return words.get(ended.outcome) or f"failed with {type(ended.error).__name__}"


def _tiles(record: Record) -> Iterable[str]:
    run, seconds = record.run, record.end() - record.run.start
    total = run.done + run.cancelled
    items = f"{total:,}" if run.total in (None, total) else f"{total:,} of {run.total:,}"
    yield _tile("items", items)
    yield _tile("failed", f"{run.failed:,}", share(run.failed, total) if run.failed else "", bad=run.failed > 0)
    yield _tile("retried", f"{run.retried:,}", share(run.retried, total) if run.retried else "")
    yield _tile("wall time", duration(seconds) if seconds >= 1 else latency(seconds))
    yield _tile("rate", _rate(record))
    yield _tile("peak in flight", f"{peak_of(record):,}", f"of {run.limit:,}" if run.limit else "")


def _tile(name: str, value: str, aside: str = "", *, bad: bool = False) -> str:
    small = f" <small>{text(aside)}</small>" if aside else ""
    return f"<div{' class=bad' if bad else ''}><span>{text(name)}</span><b>{text(value)}{small}</b></div>"


def _rate(record: Record) -> str:
    seconds = record.end() - record.run.start
    return per_second(record.run.done / seconds) if seconds > 0 else "-"


def _legend(record: Record) -> str:
    there = set(record.states)
    return '<small class="key">{}</small>'.format(
        " ".join(f'<s class="{STATES[state]}"></s>{STATES[state]}' for state in range(CANCELLED + 1) if state in there)
    )


def _quantiles(ordered: Sequence[float]) -> str:
    words = " · ".join(f"p{percent} {latency(value)}" for percent, value in quantiles(ordered))
    return f"<small>{words}</small>"


def _workers(record: Record) -> Iterable[str]:
    """Give what each worker has done, by the number that it has on the timeline, and which of them were lost."""
    if not is_elsewhere(record):
        return
    yield "<h2>Workers<small>busy: had items; in flight: on average, while it was</small></h2>"
    lines = [*_busy(record), *_idle(record)]
    yield _table(("#", "worker", "items", "failed", "busy", "in flight", ""), lines[:_WORKERS])
    if len(lines) > _WORKERS:
        yield f"<p>And {len(lines) - _WORKERS:,} more.</p>"


def _busy(record: Record) -> Iterable[Sequence[str]]:
    whole, workers = record.end() - record.run.start, record.run.workers
    for number, lane in enumerate(rows(record).lanes, 1):
        did, lost = done(record, lane), lane.name in workers and workers[lane.name].lost
        yield (
            str(number),
            text(lane.name or "this process"),
            f"{did.items:,}",
            f"{did.failed:,}",
            f"{latency(did.busy)} ({share(did.busy, whole)})" if whole > 0 else "-",
            f"{did.seconds / did.busy:.3g}" if did.busy else "-",
            _LOST if lost else "",
        )


def _idle(record: Record) -> Iterable[Sequence[str]]:
    """Give those from which nothing has come back."""
    for worker in record.run.workers.values():
        if worker.name not in record.names:
            yield "", text(worker.name), "0", "0", "-", "-", _LOST if worker.lost else ""


def _failures(record: Record) -> Iterable[str]:
    if not record.kinds:
        return
    yield "<h2>Failures</h2>"
    ranked = sorted(record.kinds.items(), key=lambda kind: -kind[1].count)
    rows = ((f"{kind.count:,}", text(name), *_item(kind.first)) for name, kind in ranked[:_KINDS])
    yield _table(("count", "error", "#", "the first item"), rows)
    if len(ranked) > _KINDS:
        yield f"<p>And {len(ranked) - _KINDS:,} other kinds.</p>"


def _slowest(record: Record) -> Iterable[str]:
    slowest = record.slowest()[: SLOWEST // 2]
    if slowest:
        yield "<h2>Slowest items</h2>"
        rows = (
            (latency(one.elapsed), str(one.attempts), *_item(one), text(one.error or STATES[OK])) for one in slowest
        )
        yield _table(("took", "attempts", "#", "item", "outcome"), rows)


def _item(detail: Detail) -> tuple[str, str]:
    return f"{detail.position:,}", f"<code>{text(detail.item)}</code>"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells that are HTML already."""
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join("<tr>{}</tr>".format("".join(f"<td>{cell}</td>" for cell in row)) for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
