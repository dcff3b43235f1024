"""How the run goes: on virtual time, so that each line is known to the character."""

from __future__ import annotations

import asyncio
import io
import json
from types import SimpleNamespace

import pytest

import paco
from paco._cli.ending import Problem, Tally
from paco._cli.progress import JSONLines, Progress
from paco._view.console import Console
from paco._view.progress import LiveLines, PlainLines
from paco.events import Worker


class Screen(Console):
    """A console of some width that remembers its lines."""

    def __init__(self, width, live=True):
        super().__init__(io.StringIO(), {})
        self.columns, self.live = width, live
        self.said, self.painted = [], []

    def width(self):
        return self.columns

    def say(self, text):
        self.said.append(text)

    def paint(self, lines):
        self.painted.append("\n".join(map(self.styled, lines)))


def made(kind=LiveLines, width=80, total=1000, **how):
    screen, tally = Screen(width, live=kind is LiveLines), Tally()
    display = None if kind is None else kind(screen)
    return screen, tally, Progress(screen, tally, lambda: total, display, **how)


class Watched:
    """A run that has waited."""

    def __init__(self, workers=(), **waited):
        self.workers, self.waited = dict(workers), waited


def item(number=0, value="https://example.org/"):
    return SimpleNamespace(id=number, value=value)


async def test_the_lines_are_repainted_ten_times_a_second():
    screen, tally, progress = made(title="fetch", limit=100, cap="500/s")
    progress.start()
    tally.started, tally.retried = 150, 1904
    for done in (50, 100):
        await asyncio.sleep(0.45)
        tally.ok = done
        progress.latencies.add(0.182)
    await asyncio.sleep(0.15)
    progress.stop()
    assert len(screen.painted) == 11
    assert screen.painted[-2].split("\n") == [
        "fetch  " + "━" * 3 + "─" * 27 + "  10%  100/1,000  eta 0:09",
        "  rate 100/s (cap 500/s)   in flight 50/100   ok 100   failed 0",
        "  p50 182ms   p95 182ms   p99 182ms   retried 1,904",
    ]
    assert screen.painted[-1] == ""


async def test_the_current_value_of_a_changing_limit_is_shown():
    screen, tally, progress = made(limit=(limit := paco.Limit(57)))
    progress.start()
    tally.started = 50
    await asyncio.sleep(0.1)
    limit.limit = 60
    await asyncio.sleep(0.1)
    progress.stop()
    assert [shown.split("   ")[1] for shown in screen.painted[:2]] == ["in flight 50/57", "in flight 50/60"]


async def test_a_limit_that_does_not_count_is_not_shown():
    screen, tally, progress = made(limit=paco.Rate(1))
    progress.start()
    tally.started = 50
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("   ")[1] == "in flight 50"


async def test_the_reason_for_waiting_is_shown_with_its_share_of_the_last_ten_seconds():
    screen, _, progress = made()
    progress.start()
    progress.watch(SimpleNamespace(run=(run := Watched(limit=0.0, rate=0.0))))
    await asyncio.sleep(20)
    assert "waiting" not in screen.painted[-1]
    run.waited = {"limit": 6.0, "rate": 2.0}
    await asyncio.sleep(0.1)
    assert screen.painted[-1].endswith("\n  waiting on limit 75%")
    await asyncio.sleep(10)
    run.waited = {"limit": 6.0, "rate": 3.0}
    await asyncio.sleep(0.1)
    assert screen.painted[-1].endswith("\n  waiting on rate 100%")
    progress.stop()


@pytest.mark.parametrize(("width", "bar"), [(100, 30), (70, 20), (65, 15), (50, 0), (20, 0)])
async def test_the_bar_fills_the_available_width(width, bar):
    screen, tally, progress = made(width=width, title="a long title of a run")
    progress.start()
    progress.say_state("draining")
    tally.ok = 500
    await asyncio.sleep(0.1)
    progress.stop()
    head = screen.painted[0].split("\n")[0]
    assert head.count("━") + head.count("─") == bar
    assert all(len(line) < width for line in screen.painted[0].split("\n"))


async def test_without_a_total_the_number_of_finished_items_is_shown():
    screen, tally, progress = made(total=None, title="fetch")
    progress.start()
    progress.say_state("draining")
    tally.started = tally.ok = 1
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[0] == "draining  fetch  1 done"


async def test_failures_are_shown_with_their_share():
    screen, tally, progress = made()
    progress.start()
    tally.ok, tally.failed = 999, 4
    await asyncio.sleep(0.1)
    progress.stop()
    assert "   failed 4 (0.4%)" in screen.painted[0]


async def test_parts_that_do_not_fit_are_omitted():
    screen, _, progress = made(width=29)
    progress.start()
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0] == "─" * 15 + "  0%  0/1,000\n  rate 0/s   in flight 0"


async def test_an_empty_input_shows_no_percentage():
    screen, _, progress = made(width=200, total=0)
    progress.start()
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[0] == "0/0"


async def test_the_rate_is_that_of_the_last_ten_seconds():
    screen, tally, progress = made()
    progress.start()
    tally.ok = 900
    await asyncio.sleep(30.05)
    progress.stop()
    assert "  rate 0/s  " in screen.painted[-2]


@pytest.mark.parametrize(("left", "shown"), [(10_000, "eta 1:40"), (800_000, "eta 2:13:20")])
async def test_the_eta_is_a_clock(left, shown):
    screen, tally, progress = made(total=10 + left, width=100)
    progress.start()
    tally.ok = 10
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[0].endswith(shown)


async def test_items_of_earlier_runs_count_as_done():
    screen = Screen(80)
    tally = Tally()
    tally.skipped = 600
    progress = Progress(screen, tally, lambda: 1000, LiveLines(screen))
    progress.start()
    tally.ok = 100
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[0].endswith("  70%  700/1,000  eta 0:00")
    tally.ok = 400
    progress.summary()
    assert "400 items   400 ok   0 failed   600 skipped" in screen.said[0]


async def test_a_plain_line_has_all_parts():
    screen, tally, progress = made(PlainLines, width=200, limit=60, title="fetch")
    progress.start()
    progress.watch(SimpleNamespace(run=Watched(input=1.0)))
    tally.started, tally.ok, tally.retried = 150, 100, 7
    progress.latencies.add(0.5)
    await asyncio.sleep(10)
    progress.stop()
    (line,) = screen.said
    assert line.startswith("fetch  10%  100/1,000  eta 1:30  rate 10/s  in flight 50/60  ok 100  failed 0  ")
    assert line.endswith("  p50 500ms  p95 500ms  p99 500ms  retried 7  waiting on input 100%")


async def test_a_run_that_does_not_go_on_as_before_has_no_estimate_and_waits_for_nothing():
    screen, tally, progress = made(PlainLines, width=200, limit=60, title="fetch")
    progress.start()
    progress.say_state("draining")
    progress.watch(SimpleNamespace(run=Watched(input=1.0)))
    tally.started, tally.ok = 150, 100
    await asyncio.sleep(10)
    progress.stop()
    assert screen.said == ["draining  fetch  10%  100/1,000  rate 10/s  in flight 50/60  ok 100  failed 0"]


async def test_json_progress_is_printed_every_second():
    screen, tally, progress = made(JSONLines)
    progress.start()
    progress.failure(item(), Problem("E", ""))
    await asyncio.sleep(1)
    tally.started, tally.ok = 20, 10
    progress.latencies.add(0.5)
    await asyncio.sleep(1)
    progress.stop()
    progress.summary("stopped", "paco map again")
    first, second, last = map(json.loads, screen.said)
    assert (first["done"], first["total"], first["rate"], first["eta"]) == (0, 1000, 0, None)
    assert (second["in_flight"], second["rate"], second["eta"], second["p95"]) == (10, 5, 198.0, 0.5)
    assert (last["ended"], last["seconds"], last["again"]) == ("stopped", 2.0, "paco map again")


async def test_without_a_terminal_a_line_is_printed_every_ten_seconds():
    screen, _, progress = made(PlainLines)
    progress.start()
    await asyncio.sleep(25)
    progress.stop()
    assert len(screen.said) == 2
    assert screen.painted == []


async def test_a_failure_is_printed_with_its_item_and_cause():
    screen, _, progress = made(width=49)
    progress.failure(item(3), Problem("ValueError", "bad \x1b[2J"))
    progress.failure(item(4, {"a": 1}), Problem("TimeoutError", ""))
    progress.failure(item(5), Problem("TimeoutError", ""), attempts=3)
    assert screen.said == [
        "✗ #3 https://example.org/  ValueError: bad \\x1...",
        "✗ #4 {'a': 1}  TimeoutError",
        "✗ #5 https://example.org/  Timeo...  (3 attempts)",
    ]


async def test_on_an_ascii_terminal_the_mark_of_a_failure_is_ascii():
    screen, _, progress = made()
    screen.unicode = False
    progress.failure(item(3), Problem("ValueError", "bad"))
    assert screen.said == ["x #3 https://example.org/  ValueError: bad"]


async def test_of_many_simultaneous_failures_only_the_first_are_printed():
    screen, _, progress = made()
    progress.start()
    for number in range(25):
        progress.failure(item(number), Problem("E", ""))
    await asyncio.sleep(0.1)
    progress.failure(item(25), Problem("E", ""))
    progress.stop()
    assert len(screen.said) == 12
    assert screen.said[10] == "  and 15 more failures; see the records"


async def test_a_log_has_at_most_twenty_failures():
    screen, _, progress = made(PlainLines)
    progress.start()
    for number in range(25):
        progress.failure(item(number), Problem("E", ""))
    await asyncio.sleep(15)
    progress.failure(item(25), Problem("E", ""))
    progress.stop()
    assert len([text for text in screen.said if "✗" in text]) == 20
    assert screen.said[-1] == "  and 6 more failures; see the records"


async def test_without_a_display_only_the_summary_is_shown():
    screen, _, progress = made(None)
    progress.start()
    progress.failure(item(), Problem("E", ""))
    await asyncio.sleep(100)
    progress.stop()
    assert screen.said == []
    progress.summary()
    assert len(screen.said) == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (3.2, "done in 3.2s    1,000 items   998 ok   2 failed   312/s"),
        (59.96, "done in 1m 00s    1,000 items   998 ok   2 failed   16.7/s"),
        (202, "done in 3m 22s    1,000 items   998 ok   2 failed   4.95/s"),
        (7380, "done in 2h 03m    1,000 items   998 ok   2 failed   0.136/s"),
        (0, "done in 0.0s    1,000 items   998 ok   2 failed"),
    ],
)
async def test_the_summary_counts_all_outcomes(seconds, shown):
    screen, tally, progress = made()
    await asyncio.sleep(seconds)
    tally.ok = 998
    tally.fail(Problem("HTTPError", "503"))
    tally.fail(Problem("HTTPError", "503"))
    progress.summary()
    assert screen.said == [f"{shown}\n  failures  2 HTTPError: 503"]


async def test_the_summary_of_a_stopped_run_counts_the_items_left():
    screen, tally, progress = made()
    tally.ok, tally.cancelled = 3, 2
    progress.summary("stopped")
    assert screen.said == ["stopped in 0.0s    3 of 1,000 items   3 ok   0 failed   2 cancelled"]


async def test_failures_are_counted_by_kind():
    screen, tally, progress = made(width=60)
    for number in range(9):
        for _ in range(number + 1):
            tally.fail(Problem(f"Error{number}", "always the same" if number == 8 else f"{_}"))
    progress.summary()
    assert screen.said[0].split("\n")[1:] == [
        "  failures  9 Error8: always the same   8 Error7   7 Error6",
        "            6 Error5   5 Error4   4 Error3   3 Error2",
        "            2 Error1   and 1 other",
    ]


# ---- workers


def crew(*names, **how):
    screen, tally, progress = made(**how)
    workers = {name: Worker(name) for name in names}
    progress.watch(SimpleNamespace(run=SimpleNamespace(workers=workers, waited={})))
    progress.start()
    return screen, tally, progress, workers


async def test_each_worker_has_a_line_with_its_items_in_flight_items_done_and_rate():
    screen, _, progress, workers = crew("process 4242 on here", "process 43 on here")
    first, second = workers.values()
    first.in_flight, first.ok, second.in_flight, second.ok, second.failed = 16, 1200, 8, 96, 4
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[-2:] == [
        "  process 4242   in flight 16   done 1,200   12,000/s",
        "  process 43     in flight 8    done 100     1,000/s    failed 4",
    ]


async def test_without_workers_there_are_no_worker_lines():
    screen, _, progress, _ = crew()
    await asyncio.sleep(0.1)
    progress.stop()
    assert len(screen.painted[0].split("\n")) == 2


async def test_workers_on_several_machines_show_the_machine_and_omit_unknown_figures():
    screen, _, progress, _ = crew("process 1 on a", "process 1 on b")
    await asyncio.sleep(0.1)
    progress.stop()
    assert screen.painted[0].split("\n")[-2:] == ["  process 1 on a   done 0   0/s", "  process 1 on b   done 0   0/s"]


@pytest.mark.parametrize("width", [200, 80, 40, 12, 3])
async def test_of_many_workers_only_the_first_are_shown_within_the_width(width):
    screen, _, progress, workers = crew(
        *[f"process {number} on \x1b[31m{'x' * 30}" for number in range(9)], width=width
    )
    for worker in workers.values():
        worker.in_flight, worker.ok, worker.failed = 1000, 10**6, 10**6
    await asyncio.sleep(0.1)
    progress.stop()
    lines = screen.painted[0].split("\n")
    assert all(len(line) < width and "\x1b" not in line for line in lines)
    if width >= 80:
        assert [line[:11] for line in lines[-5:-1]] == [f"  process {number}" for number in range(4)]
        assert lines[-1] == "  and 5 more workers"
    progress.start()
    workers[next(iter(workers))].lost = True
    await asyncio.sleep(0.1)
    progress.stop()
    assert all(len(line) < width for line in screen.painted[-2].split("\n"))
    if width >= 80:
        assert screen.painted[-2].endswith("  and 4 more workers   1 lost")


async def test_five_workers_are_all_shown():
    screen, _, progress, _ = crew(*map(str, range(5)))
    await asyncio.sleep(0.1)
    progress.stop()
    assert [line.split()[0] for line in screen.painted[0].split("\n")[-5:]] == list("01234")


async def test_a_lost_worker_is_marked_for_ten_seconds_and_then_only_counted():
    screen, tally, progress, workers = crew("process 1 on here", "process 2 on here", "process 3 on here")
    tally.failed = 1
    screen.color = True
    await asyncio.sleep(0.1)
    workers["process 1 on here"].lost = True
    await asyncio.sleep(0.1)
    assert screen.painted[1].split("\n")[-3:] == [
        "  process 2   done 0   0/s",
        "  process 3   done 0   0/s",
        "\x1b[31m  process 1   lost: its items run again\x1b[0m",
    ]
    await asyncio.sleep(10.2)
    progress.stop()
    assert screen.painted[-2].split("\n")[-3:] == [
        "  process 2   done 0   0/s",
        "  process 3   done 0   0/s",
        "\x1b[2m  1 lost\x1b[0m",
    ]


async def test_the_rate_of_a_worker_is_that_of_the_last_ten_seconds():
    screen, _, progress, workers = crew("one")
    for count in [1000] * 200 + [10] * 100:
        workers["one"].ok += count
        await asyncio.sleep(0.1)
    await asyncio.sleep(0.05)
    progress.stop()
    assert screen.painted[-2].endswith("   100/s")


async def test_a_plain_line_counts_the_workers():
    screen, _, progress, workers = crew("one", "two", "three", kind=PlainLines)
    workers["one"].lost = True
    await asyncio.sleep(10)
    del workers["one"], workers["two"]
    await asyncio.sleep(10)
    progress.stop()
    assert [line.rpartition("  ")[2] for line in screen.said] == ["2 workers, 1 lost", "1 worker"]


async def test_json_progress_has_the_figures_of_each_worker():
    screen, _, progress, workers = crew("one", kind=JSONLines)
    workers["one"].ok, workers["one"].lost = 5, True
    await asyncio.sleep(1)
    progress.stop()
    assert json.loads(screen.said[0])["workers"] == [
        {"worker": "one", "in_flight": None, "ok": 5, "failed": 0, "rate": 5.0, "lost": True}
    ]


async def test_a_summary_that_is_too_wide_goes_on_below():
    screen, tally, progress = made(width=60, total=100_000)
    progress.start()
    tally.started = tally.ok = 51_234
    tally.retried = tally.cancelled = 1_000
    await asyncio.sleep(100)
    progress.stop()
    progress.summary("stopped")
    (said,) = screen.said
    assert said.split("\n") == [
        "stopped in 1m 40s    51,234 of 100,000 items   51,234 ok",
        "            0 failed   1,000 retried",
        "            1,000 cancelled   512/s",
    ]
