"""`paco.trace`: what it keeps, the file for Perfetto read back, and the page taken apart."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import re
from collections import Counter
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import paco
from paco import events, testing
from paco._pictures import page, picture
from paco._pictures import record as records
from paco.events import ItemEnded, Run, RunEnded, Worker
from paco.events._kinds import WAITING
from paco.testing import AsyncSource

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style></svg></section><h1>",
    "&lt;b&gt; &amp;",
    "\x1b]0;owned\x07\x00\u202e\ud800",
    "{share} %s {0}",
]


async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds


async def uneven(number):
    """Take from 0.1 to 0.7 s; some are retried, some fail, some both."""
    await asyncio.sleep(0.1 + (number * 7 % 13) / 20)
    if number % 11 == 0:
        events.retried()
    if number % 7 == 3:
        raise ConnectionError(f"{500 + number % 2} from the server")
    return number


def traced(call):
    """Run on virtual time under a trace, whatever comes of it."""

    async def main():
        await asyncio.gather(call(), return_exceptions=True)

    with paco.trace() as trace:
        testing.run(main)
    return trace


def record_of(spans, *, limit=0, name="work", states=None, workers=(None,)):
    """Return the record of a run with items of these starts and ends, each in the lowest free slot.

    The workers take turns.
    """
    run = Run("map", name, limit, len(spans), [1.0, *[0.0] * (len(WAITING) - 1)])
    record, free, busy = records.ItemTable(run), list(range(len(spans))), []
    for position, (start, end) in enumerate(sorted(spans)):
        while busy and busy[0][0] <= start:
            heapq.heappush(free, heapq.heappop(busy)[1])
        slot = heapq.heappop(free)
        heapq.heappush(busy, (end, slot))
        outcome = "ok" if states is None else states[position]
        error = None if outcome == "ok" else ValueError("bad")
        run.started += 1
        setattr(run, outcome, getattr(run, outcome) + 1)
        record.add(
            ItemEnded(run, position, slot, position, start, end, 1, outcome, error, workers[position % len(workers)])
        )
    return record


spans = st.lists(
    st.tuples(st.integers(0, 50), st.integers(0, 50)).map(lambda pair: (min(pair) / 4, max(pair) / 4)), max_size=30
)


# ---- recording


def test_a_trace_records_the_runs_that_start_in_its_block():
    trace = traced(lambda: paco.map(nap, [1, 1]))
    testing.run(lambda: paco.map(nap, [1]))
    assert [run.ok for run in trace.runs] == [2]
    assert repr(trace) == "<paco trace: runs 1, items 2>"


def test_a_trace_that_is_entered_again_continues():
    trace = traced(lambda: paco.map(nap, [1, 1]))
    with trace:
        testing.run(lambda: paco.map(nap, [1]))
    assert [run.ok for run in trace.runs] == [2, 1]


def test_an_item_takes_29_bytes():
    record = records.ItemTable(Run("map", "f", 0, None, [0.0] * len(WAITING)))
    columns = (record.starts, record.ends, record.positions, record.slots, record.states, record.workers)
    assert sum(column.itemsize for column in columns) == 29


def test_the_texts_of_only_so_many_failures_and_slow_items_are_kept():
    async def work(number):
        await asyncio.sleep(number % 97)
        raise ValueError(f"{number % 150}: " + "x" * 1000)

    (record,) = traced(lambda: paco.map(work, range(3000), 50, return_exceptions=True))._records.values()
    assert len(record.failures) == 1000
    assert len(record.kinds) == 101
    assert record.kinds.total() == record.run.failed == 3000
    assert record.kinds["ValueError"] > 900
    assert max(map(len, record.kinds)) == 200
    assert [one.elapsed for one in record.slowest()] == [96.0] * 20


def test_a_cancelled_item_counts_neither_as_slow_nor_as_failed():
    async def fails(seconds):
        await asyncio.sleep(seconds)
        if seconds == 1:
            raise ValueError

    (record,) = traced(lambda: paco.map(fails, [9, 1, 9], limit=3))._records.values()
    assert Counter(record.states) == {records.CANCELLED: 2, records.FAILED: 1}
    assert list(record.kinds) == ["ValueError"]
    assert [one.position for one in record.slowest()] == [1]


# ---- the file for Perfetto


def read(trace, folder):
    """Read the file as the format has it, times exactly, and return the events by kind."""
    trace.save(folder / "trace.json")
    document = json.loads((folder / "trace.json").read_text("utf-8"), parse_float=Decimal)
    assert document["displayTimeUnit"] == "ms"
    assert document["otherData"] == {"producer": f"paco {paco.__version__}"}
    kinds = {"M": [], "X": [], "C": []}
    for event in document["traceEvents"]:
        assert isinstance(event["pid"], int)
        assert isinstance(event["name"], str)
        if event["ph"] != "M":
            assert event["ts"] >= 0
        kinds[event["ph"]].append(event)
    return kinds


def rows(kinds):
    """Return the spans of each row, in order; each row has a name."""
    named = {(event["pid"], event["tid"]) for event in kinds["M"] if event["name"] == "thread_name"}
    found = {}
    for event in kinds["X"]:
        found.setdefault((event["pid"], event["tid"]), []).append((event["ts"], event["ts"] + event["dur"]))
    assert set(found) == named
    return {row: sorted(spans) for row, spans in found.items()}


def assert_no_overlap(found):
    for spans in found.values():
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans))


def test_in_the_saved_trace_no_spans_of_a_row_overlap_and_no_item_is_missing(tmp_path):
    kinds = read(traced(lambda: paco.map(uneven, range(500), 17, return_exceptions=True)), tmp_path)
    found = rows(kinds)
    assert_no_overlap(found)
    assert sorted(found) == [(1, slot + 1) for slot in range(17)]
    assert sorted(int(event["name"].partition("#")[2]) for event in kinds["X"]) == list(range(500))
    expected = Counter(
        "failed" if number % 7 == 3 else "retried" if number % 11 == 0 else "ok" for number in range(500)
    )
    assert Counter(event["cat"] for event in kinds["X"]) == expected


@pytest.mark.realtime
def test_on_the_real_clock_no_spans_of_a_row_overlap_either(tmp_path):
    async def work(number):
        for _ in range(number % 3):
            await asyncio.sleep(0)

    with paco.trace() as trace:
        paco.run(paco.each(work, range(1000), 30))
    found = rows(read(trace, tmp_path))
    assert_no_overlap(found)
    assert sum(map(len, found.values())) == 1000


WORKERS = ["process 1 on a", None, "process 2 on b"]


@given(spans, st.integers(1, 3))
def test_each_worker_has_as_many_rows_as_concurrent_items_and_no_spans_overlap(spans, count):
    record = record_of(spans, workers=WORKERS[:count])
    laid = records.rows(record)
    at, found = 0, {}
    for lane in laid.lanes:
        assert lane.first == at
        at += lane.rows
        for item in lane.items:
            assert lane.first <= laid.row[item] < at
            assert lane.name == WORKERS[record.positions[item] % count]
            found.setdefault(laid.row[item], []).append((record.starts[item], record.ends[item]))
        times = sorted({record.starts[item] for item in lane.items})
        running = [sum(record.starts[one] <= time < record.ends[one] for one in lane.items) for time in times]
        assert lane.rows >= max(running, default=0)
        if all(record.starts[item] < record.ends[item] for item in lane.items):
            assert lane.rows == max(running, default=0)
    assert sorted(item for lane in laid.lanes for item in lane.items) == list(range(len(spans)))
    assert set(found) == set(range(laid.height))
    assert_no_overlap({row: sorted(spans) for row, spans in found.items()})


@given(spans)
def test_a_worker_counts_as_busy_while_it_has_an_item(spans):
    record = record_of([(start * 4, end * 4) for start, end in spans], workers=WORKERS[:1])
    for lane in records.rows(record).lanes[: len(spans)]:
        did = records.done(record, lane)
        seconds = [(start * 4, end * 4) for start, end in spans]
        assert did.items == len(spans)
        assert did.busy == sum(any(start <= at < end for start, end in seconds) for at in range(201))
        assert did.seconds == sum(end - start for start, end in seconds)


def test_in_a_saved_trace_each_worker_is_a_process_beside_that_of_the_run(tmp_path):
    with paco.trace() as trace:
        testing.run(lambda: paco.map(nap, [1]))
    (run,) = trace.runs
    trace._records[run] = record_of([(0, 2), (1, 3), (1, 4), (2, 5), (3, 6)], workers=WORKERS, limit=3)
    kinds = read(trace, tmp_path)
    assert_no_overlap(rows(kinds))
    named = {event["pid"]: event["args"]["name"] for event in kinds["M"] if event["name"] == "process_name"}
    assert [re.sub(r"run \d+", "run", name) for name in named.values()] == [
        "map work (run, limit 3)",
        "map work (run): process 1 on a",
        "map work (run): process 2 on b",
    ]
    assert [(event["name"], event["pid"], event["tid"]) for event in kinds["X"]] == [
        ("ok #0", 2, 1),
        ("ok #3", 2, 1),
        ("ok #1", 1, 1),
        ("ok #4", 1, 1),
        ("ok #2", 3, 1),
    ]
    assert {event["pid"] for event in kinds["C"]} == {1}


def test_times_in_the_saved_trace_are_microseconds_from_the_first_start(tmp_path):
    async def later():
        await asyncio.sleep(100)
        await paco.map(nap, [0.25, 1e-7], limit=1)

    (first, second) = read(traced(later), tmp_path)["X"]
    assert (first["ts"], first["dur"]) == (0, 250_000)
    assert (second["ts"], second["dur"]) == (250_000, Decimal("0.100"))


def test_each_run_of_a_saved_trace_is_a_process_with_its_items_in_flight(tmp_path):
    async def outer(item):
        await paco.map(nap, [item])
        return item

    kinds = read(traced(lambda: [1, 2] | paco.map(outer, limit=1) | paco.map(nap)), tmp_path)
    named = [event["args"]["name"] for event in kinds["M"] if event["name"] == "process_name"]
    assert [re.sub(r"run \d+", "run", name) for name in named] == [
        "map nap (run)",
        "map outer (run, limit 1)",
        "map nap (run)",
        "map nap (run)",
    ]
    assert [event["pid"] for event in kinds["X"]] == [1, 1, 2, 2, 3, 4]
    flights = [[event["args"]["items"] for event in kinds["C"] if event["pid"] == pid] for pid in (2, 3)]
    assert flights == [[1, 0], [1, 0]]


def test_failures_in_a_saved_trace_have_their_item_and_error(tmp_path):
    async def fails(item):
        raise ValueError(item)

    kinds = read(traced(lambda: paco.map(fails, HOSTILE, return_exceptions=True)), tmp_path)
    told = [event["args"] for event in kinds["X"]]
    assert [args["attempts"] for args in told] == [1] * len(HOSTILE)
    assert all(args["item"].isprintable() and args["error"].isprintable() for args in told)
    assert told[0]["error"] == "ValueError: <script>alert(1)</script>"


def test_a_trace_without_runs_or_items_can_be_saved(tmp_path):
    with paco.trace() as trace:
        pass
    assert read(trace, tmp_path) == {"M": [], "X": [], "C": []}
    assert read(traced(lambda: paco.map(nap, [])), tmp_path)["X"] == []


# ---- the page


class Page(HTMLParser):
    """A page taken apart; it must be well formed."""

    VOID = frozenset({"meta", "img", "br", "path", "rect"})

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.texts, self.values = [], [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [(name, value or "") for name, value in attrs]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.values += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if data.strip() and self.open[-1] != "style":
            self.texts.append(data.strip())

    def tile(self, name):
        return self.texts[self.texts.index(name) + 1]


def page_of(trace, folder):
    trace.report(folder / "report.html")
    html = (folder / "report.html").read_text("utf-8")
    assert html.startswith("<!DOCTYPE html>\n")
    return Page(html)


def test_the_report_has_figures_charts_and_tables(tmp_path):
    trace = traced(lambda: paco.map(uneven, range(500), 17, return_exceptions=True))
    shown = page_of(trace, tmp_path)
    assert shown.texts[0] == "paco: map uneven"
    assert [shown.tile(name) for name in ("items", "failed", "retried", "peak in flight")] == ["500", "71", "46", "17"]
    assert shown.tile("wall time") == "12.1s"  # 12.05
    assert shown.tile("rate") == "41.5/s"
    assert shown.tags.count("svg") == 3
    assert "For 96% of the time all 17 slots were busy" in " ".join(shown.texts)
    words = " ".join(shown.texts)
    assert "36 ConnectionError: 501 from the server" in words
    assert "35 ConnectionError: 500 from the server" in words
    assert "p50 400ms · p95 700ms · p99 700ms" in words
    assert shown.tags.count("table") == 2
    assert "0.7s" not in words
    assert shown.texts[shown.texts.index("took") + 5] == "700ms"


def worked(*workers, **how):
    """Return a record whose items ran in workers, one of which is lost."""
    record = record_of([(at / 10, at / 10 + 1) for at in range(40)], workers=workers, **how)
    for name in (*workers, "process 9 on c"):
        record.run.workers[name] = Worker(name)
    record.run.workers["process 9 on c"].lost = record.run.workers[workers[0]].lost = True
    return record


def test_the_report_has_a_section_of_the_timeline_and_a_row_for_each_worker():
    shown = Page(page.page([worked("process 1 on a", "process 2 on b", limit=20)]))
    table = shown.texts[shown.texts.index("#") : shown.texts.index("In flight")]
    assert table[:6] == ["#", "worker", "items", "failed", "busy", "in flight"]
    assert table[6:] == [
        *("1", "process 1 on a", "20", "0", "4.8s (98%)", "4.17", "lost; its items were run again"),
        *("2", "process 2 on b", "20", "0", "4.8s (98%)", "4.17"),
        *("process 9 on c", "0", "0", "-", "-", "lost; its items were run again"),
    ]
    at = shown.texts.index("worker")
    assert shown.texts[at : at + 3] == ["worker", "1", "2"]
    assert ("aria-label", "Timeline: 40 items in 10 slots of 2 workers") in shown.values
    assert [value for name, value in shown.values if name == "d" and value.startswith("M0 5h")] == ["M0 5h1600"]
    assert shown.tile("peak in flight") == "10"


def test_the_report_names_fifty_workers_and_counts_the_others():
    shown = Page(page.page([worked(*[f"process {number} on <b>" for number in range(60)][:40])]))
    at = shown.texts.index("worker")
    assert shown.texts[at + 1 : at + 15] == [str(number) for number in range(1, 41, 3)]
    record = record_of([(0, 1)] * 70, workers=[f"process {number} on <b>" for number in range(70)])
    shown = Page(page.page([record]))
    assert "And 20 more." in shown.texts
    assert "process 49 on <b>" in shown.texts
    assert "process 50 on <b>" not in shown.texts


def test_the_peak_never_exceeds_the_limit_even_if_clocks_differ():
    assert records.peak_of(record_of([(0, 2), (1, 3), (1.5, 4)], limit=2, workers=WORKERS[:1])) == 2
    assert records.peak_of(record_of([(0, 2), (1, 3), (1.5, 4)], workers=WORKERS[:1])) == 3
    assert records.peak_of(record_of([(0, 0)], limit=2, workers=WORKERS[:1])) == 1


def test_a_worker_whose_items_took_no_time_counts_as_idle():
    shown = Page(page.page([record_of([(0, 0)], workers=["process 1"])]))
    at = shown.texts.index("process 1")
    assert shown.texts[at : at + 5] == ["process 1", "1", "0", "-", "-"]


def test_the_report_loads_nothing_and_runs_nothing(tmp_path):
    shown = page_of(traced(lambda: paco.map(uneven, range(50), 17, return_exceptions=True)), tmp_path)
    assert not {"script", "img", "link", "iframe", "object", "image", "use"} & set(shown.tags)
    for name, value in shown.values:
        assert name not in {"src", "srcset", "xlink:href"}
        assert not name.startswith("on")
        assert "url(" not in value
        assert "//" not in value
        assert name != "href" or value.startswith("#")
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in shown.values
    assert ("content", "width=device-width, initial-scale=1") in shown.values


def test_text_from_items_and_errors_is_escaped(tmp_path):
    class Item:
        def __init__(self, text):
            self.text = text

        def __repr__(self):
            return self.text

    async def work(item):
        raise ValueError(item.text)

    usual = page_of(traced(lambda: paco.map(nap, [1] * len(HOSTILE))), tmp_path)
    for hostile in HOSTILE:
        work.__name__ = hostile
        trace = traced(lambda: paco.map(work, map(Item, HOSTILE), return_exceptions=True))
        for shown in (page_of(trace, tmp_path), Page(trace._repr_html_())):
            assert set(shown.tags) <= {*usual.tags, "code"}
            assert all(text.isprintable() for text in shown.texts)
            words = " ".join(shown.texts)
            assert "<script>alert(1)</script>" in words
            assert r"\x1b]0;owned\x07\x00\u202e\ud800" in words


def test_an_item_or_error_whose_repr_fails_is_shown_by_its_type():
    class Bad(Exception):
        def __str__(self):
            raise KeyError

        __repr__ = __str__

    async def work(item):
        raise item

    trace = traced(lambda: paco.map(work, [Bad()], return_exceptions=True))
    words = " ".join(Page(trace._repr_html_()).texts)
    assert "Bad: <Bad whose str() failed>" in words
    assert "<Bad whose repr raised KeyError>" in words


def test_in_a_notebook_the_report_styles_nothing_else():
    html = traced(lambda: paco.map(nap, [1]))._repr_html_()
    assert not {"html", "body", "head"} & set(Page(html).tags)
    style = re.search(r"<style>(.*)</style>", html, re.DOTALL)[1]
    style = re.sub(r"@media\([^)]*\)\{(.*?\})\}", r"\1", style, flags=re.DOTALL)
    selectors = re.findall(r"([^{}]+)\{", style)
    assert len(selectors) > 30
    assert all(".paco-report" in part for selector in selectors for part in selector.split(","))


def test_a_report_without_runs_says_how_to_record_one(tmp_path):
    with paco.trace() as trace:
        pass
    assert (
        "No run was recorded: a trace records the runs that start inside its block." in page_of(trace, tmp_path).texts
    )


def test_a_run_without_items_has_no_charts(tmp_path):
    shown = page_of(traced(lambda: paco.map(nap, [])), tmp_path)
    assert "svg" not in shown.tags
    assert "No item has ended." in shown.texts
    assert (shown.tile("items"), shown.tile("rate"), shown.tile("wall time")) == ("0", "-", "0s")


def test_items_that_take_no_time_are_shown(tmp_path):
    async def at_once(item):
        return item

    shown = page_of(traced(lambda: paco.map(at_once, [1, 2], limit=1)), tmp_path)
    assert shown.tags.count("svg") == 3
    assert "p50 0s · p95 0s · p99 0s" in " ".join(shown.texts)


def test_a_run_without_finished_items_has_no_latencies(tmp_path):
    shown = page_of(traced(lambda: paco.map(nap, [9, 9], timeout=1)), tmp_path)
    assert "No item has finished." in shown.texts
    assert "failed with RunTimeout" in " ".join(shown.texts)
    assert shown.tile("items") == "2"


async def test_a_report_can_be_written_during_a_run(tmp_path):
    with paco.trace() as trace:
        task = asyncio.create_task(paco.map(nap, [1, 5], limit=2))
        await asyncio.sleep(2)
        words = " ".join(page_of(trace, tmp_path).texts)
        await task
    assert "still running" in words
    assert "1 of 2" in words
    assert "completed" in " ".join(page_of(trace, tmp_path).texts)


async def test_an_abandoned_run_is_marked_as_such(tmp_path):
    with paco.trace() as trace:
        async with paco.map(nap, [1, 2, 3], limit=1) as results:
            async for _ in results:
                break
    assert "ended early" in " ".join(page_of(trace, tmp_path).texts)


def test_several_runs_have_an_overview_with_pipelines_in_order_from_the_source(tmp_path):
    async def main():
        await ([1, 2] | paco.map(nap) | paco.filter(nap) | paco.each(nap))
        await paco.map(uneven, [3], return_exceptions=True)

    shown = page_of(traced(main), tmp_path)
    assert shown.texts[0] == "paco: 4 runs"
    heads = [text for text in shown.texts if text in {"map nap", "filter nap", "each nap", "map uneven"}]
    assert heads == ["map nap", "filter nap", "each nap", "map uneven"] * 2
    links = [value for name, value in shown.values if name == "href"]
    assert [f"#{value}" for name, value in shown.values if name == "id"] == links
    assert "the last items, 100%" in " ".join(shown.texts)


def test_of_many_runs_the_longest_are_shown_and_nested_runs_last(tmp_path):
    async def outer(seconds):
        await paco.map(nap, [seconds])

    async def main():
        await paco.map(outer, [1, 2])
        for seconds in range(1, 14):
            await paco.series(nap(seconds / 10))

    shown = page_of(traced(main), tmp_path)
    assert shown.texts[0] == "paco: 16 runs"
    assert "Only the 12 longest runs are shown." in shown.texts
    assert shown.tags.count("section") == 12
    assert "map nap" not in shown.texts
    assert shown.texts.count("map outer") == 2


def test_more_than_twenty_kinds_of_failures_are_counted(tmp_path):
    async def work(number):
        raise ValueError(number)

    shown = page_of(traced(lambda: paco.map(work, range(25), return_exceptions=True)), tmp_path)
    assert "And 5 other kinds." in shown.texts


async def busy(_):
    loop = asyncio.get_running_loop()
    loop._set_time(loop.time() + 3)


async def slow_first():
    async for _ in paco.map(nap, [60] + [1] * 10, limit=2):
        pass


async def slow_consumer():
    async for _ in paco.map(nap, [1] * 5, limit=2):
        await asyncio.sleep(10)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: paco.map(nap, [1] * 30, limit=3), "all 3 slots were busy: the function sets the pace"),
        (lambda: paco.map(nap, AsyncSource([1] * 3, delay=9), limit=3), "no items: the source sets the pace"),
        (slow_first, "finished results waited for an earlier item: buffer(n) lets more"),
        (slow_consumer, "finished results waited for the consumer: the consumer sets the pace"),
        (lambda: paco.map(busy, [1] * 5, limit=3), "the event loop was busy"),
        (lambda: paco.map(nap, [1, 9, 2]), "were still running; the slowest, #1, took 9s."),
        (lambda: paco.each(nap, [2] * 2, timeout=1), "were still running."),
    ],
    ids=["limit", "input", "order", "output", "loop", "tail", "timeout"],
)
def test_one_sentence_says_where_the_time_went(call, sentence, tmp_path):
    assert sentence in " ".join(page_of(traced(call), tmp_path).texts)


# ---- pictures of many items


def paths(html, state):
    return re.findall(r"M(\d+) (\d+)h([\d.]+)", "".join(re.findall(rf'<path class="{state}" d="([^"]*)"', html)))


def test_adjacent_short_items_share_a_bar_and_each_failure_stays_visible():
    times = [(number / 100, (number + 1) / 100) for number in range(10_000)]
    states = ["failed" if number % 2500 == 50 else "ok" for number in range(10_000)]
    html = page.page([record_of(times, states=states)])
    assert [(left, row) for left, row, _ in paths(html, "failed")] == [
        ("8", "0"),
        ("408", "0"),
        ("808", "0"),
        ("1208", "0"),
    ]
    assert {length for _, _, length in paths(html, "failed")} == {"5"}
    assert len(paths(html, "ok")) == 1
    assert len(html) < 20_000


def test_long_items_are_bars_with_a_gap_between():
    html = page.page([record_of([(0, 1), (1, 2), (2, 4), (0, 4)])])
    assert paths(html, "ok") == [("0", "0", "399"), ("0", "1", "1599"), ("400", "0", "399"), ("800", "0", "799")]


def test_several_slots_share_a_row_if_there_are_more_slots_than_pixels():
    html = page.page([record_of([(slot / 1000, 10) for slot in range(1000)])])
    assert {int(row) for _, row, _ in paths(html, "ok")} == set(range(400))
    assert 'viewBox="0 0 1600 400"' in html


def test_a_limit_far_above_the_peak_is_not_drawn():
    assert 'class="limit"' not in page.page([record_of([(0, 1)], limit=9)])
    assert 'class="limit"' in page.page([record_of([(0, 1)], limit=2)])


# ---- numbers


@pytest.mark.parametrize(("share", "value"), [(0.5, 5), (0.95, 10), (0.1, 1), (0.11, 2), (1, 10), (0, 1)])
def test_a_quantile_is_a_value_by_nearest_rank(share, value):
    assert picture.quantile(range(1, 11), share) == value


@given(spans, st.integers(1, 40))
@example([(0, 0), (0, 4)], 3)
@example([(6.75, 11.25)], 35)
def test_the_curve_of_items_in_flight_counts_running_items(times, columns):
    curve = records.in_flight(record_of(times), columns)
    assert sum(curve.mean) * curve.width == pytest.approx(sum(end - start for start, end in times))
    for column, most in enumerate(curve.most):
        left, right = curve.start + column * curve.width, curve.start + (column + 1) * curve.width
        # A start at the edge of two columns is in the second one, whatever rounding says.
        moments = {left, *(start for start, _ in times if left <= start < right != pytest.approx(start))}
        expected = max(sum(start <= moment < end for start, end in times) for moment in moments)
        assert most >= expected or left == pytest.approx(right)
        assert curve.mean[column] <= most + 1e-9


def test_the_curve_has_a_point_for_each_change():
    curve = records.in_flight(record_of([(0, 4), (1, 2)]), 4)
    assert (curve.mean, curve.most) == ([1, 2, 1, 1], [1, 2, 1, 1])
    assert list(curve.points()) == [(0, 1), (1, 2), (2, 1), (4, 0)]


@given(spans)
def test_the_histogram_counts_every_item_once(times):
    bars = picture.histogram(record_of(times, states=["failed" if one % 3 else "ok" for one in range(len(times))]))
    assert sum(bar.ok + bar.failed for bar in bars) == len(times)
    assert all(first.high == second.low for first, second in itertools.pairwise(bars))
    for start, end in times:
        if end > start:
            assert any(bar.low <= (end - start) * (1 + 1e-9) and (end - start) * (1 - 1e-9) < bar.high for bar in bars)


def labels(ticks):
    return [tick.label for tick in ticks]


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, ["0s"]),
        (0.0012, ["0s", "500us", "1ms"]),
        (1, ["0s", "200ms", "400ms", "600ms", "800ms", "1s"]),
        (7, ["0s", "2s", "4s", "6s"]),
        (108, ["0s", "30s", "60s", "90s"]),
        (3600, ["0s", "15m 00s", "30m 00s", "45m 00s", "1h 00m"]),
        (90_000, ["0s", "5h 00m", "10h 00m", "15h 00m", "20h 00m", "25h 00m"]),
        (864_000, ["0s", "55h 33m", "111h 06m", "166h 40m", "222h 13m"]),
    ],
)
def test_ticks_of_time_are_round_and_few(seconds, expected):
    assert labels(picture.time_ticks(seconds)) == expected


def test_ticks_of_latencies_are_powers_of_ten_or_finer_if_few():
    bars = picture.histogram(record_of([(0, 0.003), (0, 0.02)]))
    assert labels(picture.log_ticks(bars)) == ["2ms", "5ms", "10ms", "20ms"]
    bars = picture.histogram(record_of([(0, 0.0001), (0, 100)]))
    assert labels(picture.log_ticks(bars)) == ["100us", "1ms", "10ms", "100ms", "1s", "10s", "1m 40s"]


# ---- bad input


@pytest.mark.parametrize("method", ["save", "report"])
@pytest.mark.parametrize("path", [None, 5, b"bytes", SimpleNamespace()])
def test_a_path_must_be_a_path(method, path):
    with pytest.raises(
        TypeError, match=rf"^paco\.trace\(\)\.{method}: path must be the path of a file \(a str or a Path\), got "
    ):
        getattr(paco.trace(), method)(path)


def test_a_path_may_be_text(tmp_path):
    trace = traced(lambda: paco.map(nap, [1]))
    trace.save(str(tmp_path / "a.json"))
    trace.report(str(tmp_path / "a.html"))
    assert {path.name for path in Path(tmp_path).iterdir()} == {"a.json", "a.html"}
    assert isinstance(trace._records[trace.runs[0]].ended, RunEnded)


# ---- files


@pytest.mark.parametrize("method", ["save", "report"])
def test_a_file_of_another_kind_is_not_replaced(tmp_path, method):
    trace, path = traced(lambda: paco.map(nap, [1])), tmp_path / "it"
    path.write_text("mine")
    with pytest.raises(FileExistsError, match=r"it exists and is not a (trace|report) of paco; give another name"):
        getattr(trace, method)(path)
    assert path.read_text() == "mine"
    path.unlink()
    getattr(trace, method)(path)
    getattr(trace, method)(path)
    other = {"save": "report", "report": "save"}[method]
    with pytest.raises(FileExistsError):
        getattr(trace, other)(path)


@pytest.mark.posix
@pytest.mark.parametrize("method", ["save", "report"])
def test_only_its_owner_reads_a_new_file_and_no_link_is_followed(tmp_path, method):
    trace = traced(lambda: paco.map(nap, [1]))
    getattr(trace, method)(tmp_path / "it")
    assert (tmp_path / "it").stat().st_mode & 0o777 == 0o600
    for target in ("it", "missing"):
        (tmp_path / "link").unlink(missing_ok=True)
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(FileExistsError, match="it is a link"):
            getattr(trace, method)(tmp_path / "link")
    assert not (tmp_path / "missing").exists()
