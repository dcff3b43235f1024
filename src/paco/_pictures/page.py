"""The report: one HTML page without network access or scripts, for light and dark, wide and narrow screens."""

from __future__ import annotations

from datetime import datetime
from importlib import resources
from typing import TYPE_CHECKING, Final

from paco._base import __version__
from paco._pictures.file import REPORT
from paco._pictures.picture import curve, distribution, quantiles, text, timeline
from paco._pictures.record import OK, SLOWEST, STATES, Detail, ItemTable, done, latencies, peak_of, rows
from paco._view.meter import duration, latency, most_waited, per_second, share

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from paco.events import Waiting

#: The largest numbers of runs with charts, of kinds of failures, and of workers in the tables.
_SHOWN: Final = 12
_KINDS: Final = 20
_WORKERS: Final = 50
_LOST: Final = '<b class="lost">lost; its items were run again</b>'

#: The content security policy: the page loads and runs nothing, whatever an item contains.
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(records: Sequence[ItemTable]) -> str:
    """Return the whole page."""
    title = records[0].run.title if len(records) == 1 else f"{len(records):,} runs"
    return (
        f'{REPORT}<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f"<title>paco: {text(title)}</title><style>body{{margin:0}}</style></head><body>\n"
        f"{fragment(records)}</body></html>\n"
    )


def fragment(records: Sequence[ItemTable]) -> str:
    """Return the body of the page, to be embedded in another page."""
    if not records:
        body = "<p>No run was recorded: a trace records the runs that start inside its block.</p>"
    else:
        shown = _to_show(records)
        body = _overview(shown, len(records)) if len(records) > 1 else ""
        body += "".join(map(_section, shown))
    return f'<style>{_style()}</style><div class="paco-report">{body}<footer>paco {__version__}</footer></div>\n'


def _style() -> str:
    return resources.files("paco._pictures").joinpath("page.css").read_text("utf-8").partition("\n")[2]


def _to_show(records: Sequence[ItemTable]) -> list[ItemTable]:
    """Return the runs to show, in order: the longest ones, and nested runs only if there is space left."""
    ranked = sorted(records, key=lambda one: (one.run.parent is not None, -one.seconds()))
    return sorted(ranked[:_SHOWN], key=lambda one: one.run.order)


def _overview(shown: Sequence[ItemTable], count: int) -> str:
    rows = (
        (
            f'<a href="#run-{one.run.id}">{text(one.run.title)}</a>',
            f"{len(one):,}",
            f"{one.run.failed:,}",
            duration(one.seconds()),
            _rate(one),
            text(_pace(one)),
        )
        for one in shown
    )
    rest = f"<p>Only the {len(shown)} longest runs are shown.</p>" if len(shown) < count else ""
    table = _table(("run", "items", "failed", "took", "rate", "mostly waiting for"), rows)
    return f"<header><h1>{count:,} runs</h1></header>{table}{rest}"


def _section(record: ItemTable) -> str:
    run = record.run
    began = datetime.fromtimestamp(run.date).astimezone().strftime("%Y-%m-%d %H:%M:%S %Z")
    known = [f"limit {run.limit:,}" if run.limit else "no limit"] if record.facts is None else record.facts
    facts = " · ".join((f"started {began}", *known, _ending(record)))
    parts = [
        f'<section id="run-{run.id}"><header><h1>{text(run.title)}</h1><p class="facts">{text(facts)}</p></header>',
        f'<p class="verdict">{text(_where_the_time_went(record))}</p>',
        f'<div class="tiles">{"".join(_tiles(record))}</div>',
    ]
    if len(record):
        ordered = latencies(record)
        shown = (f"p{percent} {latency(value)}" for percent, value in quantiles(ordered))
        parts += [
            f"<h2>Timeline{_legend(record)}</h2>",
            timeline(record),
            *_workers(record),
            '<h2>In flight<small class="key"><s class="area"></s>average <s class="line"></s>maximum</small></h2>',
            curve(record),
            f"<h2>Latency<small>{' · '.join(shown)}</small></h2>",
            distribution(record, ordered),
            *_failures(record),
            *_slowest(record),
        ]
    return "".join(parts) + "</section>"


def _ending(record: ItemTable) -> str:
    ended = record.ended
    if ended is None:
        return "still running"
    words = {"ok": "completed", "cancelled": "ended early"}
    return words.get(ended.outcome) or f"failed with {type(ended.error).__name__}"


def _tiles(record: ItemTable) -> Iterable[str]:
    run, seconds = record.run, record.seconds()
    total = run.done + run.cancelled
    items = f"{total:,}" if run.total in (None, total + run.skipped) else f"{total:,} of {run.total:,}"
    yield _tile("items", items)
    if run.skipped:
        yield _tile("skipped", f"{run.skipped:,}")
    yield _tile("failed", f"{run.failed:,}", share(run.failed, total) if run.failed else "", bad=run.failed > 0)
    yield _tile("retried", f"{run.retried:,}", share(run.retried, total) if run.retried else "")
    yield _tile("wall time", duration(seconds) if seconds >= 1 else latency(seconds))
    yield _tile("rate", _rate(record))
    yield _tile("peak in flight", f"{peak_of(record):,}", f"of {run.limit:,}" if run.limit else "")


def _tile(name: str, value: str, aside: str = "", *, bad: bool = False) -> str:
    small = f" <small>{text(aside)}</small>" if aside else ""
    return f"<div{' class=bad' if bad else ''}><span>{text(name)}</span><b>{text(value)}{small}</b></div>"


def _rate(record: ItemTable) -> str:
    seconds = record.seconds()
    return per_second(record.run.done / seconds) if seconds > 0 else "-"


def _legend(record: ItemTable) -> str:
    names = (STATES[state] for state in sorted(set(record.states)))
    return '<small class="key">{}</small>'.format(" ".join(f'<s class="{name}"></s>{name}' for name in names))


def _workers(record: ItemTable) -> Iterable[str]:
    """Yield the table of the workers, numbered as on the timeline, with the lost ones marked."""
    if not record.is_elsewhere():
        return
    yield "<h2>Workers<small>busy: time with items in flight; in flight: average while busy</small></h2>"
    idle = (worker for worker in record.run.workers.values() if worker.name not in record.names)
    rest = (("", text(worker.name), "0", "0", "-", "-", _LOST if worker.lost else "") for worker in idle)
    lines = [*_busy(record), *rest]
    yield _table(("#", "worker", "items", "failed", "busy", "in flight", ""), lines[:_WORKERS])
    if len(lines) > _WORKERS:
        yield f"<p>And {len(lines) - _WORKERS:,} more.</p>"


def _busy(record: ItemTable) -> Iterable[Sequence[str]]:
    whole, workers = record.seconds(), record.run.workers
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


def _failures(record: ItemTable) -> Iterable[str]:
    if not record.kinds:
        return
    yield "<h2>Failures</h2>"
    ranked = record.kinds.most_common(_KINDS)
    rows = ((f"{count:,}", text(kind), *_item(record.first[kind])) for kind, count in ranked)
    yield _table(("count", "error", "#", "first item"), rows)
    if len(record.kinds) > _KINDS:
        yield f"<p>And {len(record.kinds) - _KINDS:,} other kinds.</p>"


def _slowest(record: ItemTable) -> Iterable[str]:
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
    """Return a table. The cells are HTML, already escaped."""
    head = "".join(f"<th>{one}</th>" for one in heads)
    body = "".join("<tr>{}</tr>".format("".join(f"<td>{cell}</td>" for cell in row)) for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


# ---- where the time went


def _where_the_time_went(record: ItemTable) -> str:
    """Return a sentence about what items waited for most of the time, with advice."""
    most = most_waited(record.run.waited)
    if most is None or not len(record):
        return "What the items waited for was not recorded." if len(record) else "No item has ended."
    detail = [f"; the slowest, #{one.position:,}, took {latency(one.elapsed)}" for one in record.slowest()[:1]]
    sentence = _SENTENCES[most[0]].format(limit=f"{record.run.limit:,}", slowest="".join(detail))
    return f"For {share(most[1], 1)} of the time {sentence}"


def _pace(record: ItemTable) -> str:
    """Return what items waited for most of the time, and its share: ``a free slot, 68%``."""
    most = most_waited(record.run.waited) if len(record) else None
    return "-" if most is None else f"{_WAITED_FOR[most[0]]}, {share(most[1], 1)}"


#: What a run waits for, as the end of a sentence with advice.
_SENTENCES: Final[dict[Waiting, str]] = {
    "limit": "all {limit} slots were busy: the function sets the pace. A higher limit is faster if the service that "
    "the function calls can handle it.",
    "rate": "slots were free, but the limit let no more items start: its rate sets the pace.",
    "input": "slots were free, but there were no items: the source sets the pace.",
    "output": "slots were free, but finished results waited for the consumer: the consumer sets the pace.",
    "order": "slots were free, but finished results waited for an earlier item: buffer(n) lets more results wait, "
    "as_completed() delivers them without order.",
    "loop": "items could have started, but the event loop was busy: the function, the source or other code uses the "
    "CPU, or blocks.",
    "tail": "no items were left to start, and the last ones were still running{slowest}.",
}
#: What a run waits for, as words in a table.
_WAITED_FOR: Final[dict[Waiting, str]] = {
    "limit": "a free slot",
    "rate": "the rate",
    "input": "the source",
    "output": "the consumer",
    "order": "an earlier item",
    "loop": "the event loop",
    "tail": "the last items",
}
