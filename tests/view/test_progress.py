"""`paco.progress`: on virtual time, so that each line is known to the character."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import re
import struct
import sys
from types import SimpleNamespace

import pytest
from rich.cells import cell_len
from rich.progress import Progress

import paco
from paco import events, testing
from paco._view import lines, progress
from paco._view.progress import Board, Display, FedBar, LiveLines, PlainLines
from paco.events import ItemEnded, RunEnded, RunStarted
from paco.testing import AsyncSource
from tests.pictures.test_trace import HOSTILE
from tests.screens import ESCAPES, Terminal, left, painted


async def nap(seconds):
    await asyncio.sleep(seconds)
    return seconds


async def work(number):
    """Take a second; some are retried, some fail."""
    await asyncio.sleep(1)
    if number % 10 == 0:
        events.retried()
    if number % 25 == 0:
        raise ValueError(number)


def words(line):
    return "".join(text for text, _ in line)


class Screen(Display):
    """A display that keeps the live lines of some width, and of each run that has ended how it went."""

    every = 1.0

    def __init__(self, width=80):
        self.width, self.frames, self.ends, self.rests = width, [], [], 0

    def show(self, meters):
        self.frames.append([words(line) for line in lines.live(meters, self.width)])

    def end(self, meter):
        self.ends.append(words(lines.ended(meter, self.width)))

    def rest(self):
        self.rests += 1


class watched:  # noqa: N801 - used as a function
    """What `paco.progress` does, on a display of our own."""

    def __init__(self, display, total=None):
        self.board = Board(display, total)
        self.listening = [
            paco.listening(self.board.started, RunStarted),
            paco.listening(self.board.item, ItemEnded),
            paco.listening(self.board.ended, RunEnded),
        ]

    def __enter__(self):
        for one in self.listening:
            one.__enter__()

    def __exit__(self, *exc_info):
        for one in reversed(self.listening):
            one.__exit__(*exc_info)
        self.board.close()


def on_stderr(monkeypatch, stream):
    """Put a stream in the place of stderr, as the displays see it: pytest itself replaces that of `sys` again."""
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=stream, stdout=io.StringIO()))
    return stream


@pytest.fixture
def terminal(monkeypatch):
    stream = on_stderr(monkeypatch, Terminal())
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((80, 24)))
    return stream


@pytest.fixture
def log(monkeypatch):
    return on_stderr(monkeypatch, io.StringIO())


# ---- what is shown


async def test_a_run_has_three_lines_with_progress_rate_and_latency():
    screen = Screen(100)
    with watched(screen):
        await paco.each(work, range(1000), 100, return_exceptions=True)
    assert screen.frames[3] == [
        "each work  ━━━━━━━━━─────────────────────  30%  300/1,000  eta 0:09",
        "  rate 75/s   in flight 100/100   ok 288   failed 12 (4%)",
        "  p50 1s   p95 1s   p99 1s   retried 30   waiting on limit 100%",
    ]
    (end,) = screen.ends
    assert end == "each work  1,000 items in 10.0s  100/s  failed 40 (4%)  40 ValueError  retried 100  p50 1s  p95 1s"


async def test_the_last_line_names_the_most_frequent_kinds_of_failures():
    async def breaks(number):
        raise (OSError, KeyError, ValueError, TypeError, LookupError)[int(number**0.5)]

    screen = Screen(200)
    with watched(screen):
        await paco.map(breaks, range(24, -1, -1), return_exceptions=True)
        await paco.map(breaks, range(4), return_exceptions=True)
    some, few = screen.ends
    assert "failed 25 (100%)  9 LookupError, 7 TypeError, 5 ValueError, 2 other kinds" in some
    assert "failed 4 (100%)  3 KeyError, 1 OSError" in few


@pytest.mark.parametrize("limit", [lambda _: 4, lambda gate: paco.Rate(2) & 4 & gate], ids=["stream", "gate"])
async def test_a_run_that_stops_shows_that_it_does_and_no_time_left(limit):
    screen, gate = Screen(100), paco.Gate()
    with watched(screen):
        run = paco.map(nap, [1] * 8 + [5] * 92, limit=limit(gate))
        asyncio.get_running_loop().call_later(4.5, run.stop if limit(gate) == 4 else gate.close)
        await run
    assert [frame[0].startswith("stopping  map nap") for frame in screen.frames[:6]] == [False] * 4 + [True] * 2
    assert "eta" in screen.frames[3][0]
    assert not any("eta" in line or "waiting" in line for frame in screen.frames[4:] for line in frame)


@pytest.mark.parametrize("width", [*range(1, 60, 3), *range(60, 220, 9)])
async def test_no_line_is_wider_than_the_terminal(width):
    async def odd(number):
        await work(number)

    odd.__name__ = "名前_that_is_longer_than_anybody_would_like_to_read_it"
    screen = Screen(width)
    with watched(screen):
        await paco.each(odd, range(200), 100, return_exceptions=True)
    for frame in screen.frames:
        assert all(cell_len(line) <= width for line in frame)


async def test_at_80_columns_all_important_figures_are_shown():
    screen = Screen(80)
    with watched(screen):
        await paco.each(work, range(1000), 100, return_exceptions=True)
    for wanted in (
        "300/1,000",
        "eta 0:09",
        "75/s",
        "in flight 100/100",
        "failed 12 (4%)",
        "p95 1s",
        "waiting on limit",
    ):
        assert wanted in "".join(screen.frames[3])


async def test_the_reason_for_waiting_is_shown():
    screen = Screen()
    with watched(screen):
        await paco.each(nap, [1] * 300, 100)
        await paco.each(nap, AsyncSource([0.25] * 4, delay=2), 100)
    assert screen.frames[1][2].endswith("   waiting on limit 100%")
    assert screen.frames[-1][2].endswith("   waiting on input 100%")


def gives_workers(event):
    event.run.workers.update({name: events.Worker(name) for name in ("one", "two", "three")})
    event.run.workers["two"].lost = True


async def test_each_worker_of_a_run_has_a_line():
    screen = Screen()
    with watched(screen), paco.listening(gives_workers, events.RunStarted):
        await paco.each(nap, [1] * 300, 100)
    assert screen.frames[1][2].endswith("   p99 1s   waiting on limit 100%")
    assert screen.frames[1][3:] == [
        "  one     done 0   0/s",
        "  three   done 0   0/s",
        "  two   lost: its items run again",
    ]


async def test_the_workers_of_several_runs_are_counted():
    screen = Screen()
    with watched(screen), paco.listening(gives_workers, events.RunStarted):
        await asyncio.gather(*(paco.each(nap, [1] * 200, 100) for _ in range(2)))
    assert len(screen.frames[1]) == 6
    assert screen.frames[1][2].endswith("   2 workers, 1 lost   waiting on limit 100%")


async def test_without_a_total_the_finished_items_are_shown():
    screen = Screen()
    with watched(screen):
        await paco.each(nap, (one for one in [1, 1, 1]), 1)
    assert screen.frames[1][0] == "each nap  1 done"


async def test_a_total_can_be_given_for_sources_that_cannot_tell_it():
    screen = Screen(50)
    with watched(screen, total=4):
        await paco.each(nap, (one for one in [0.9] * 4), 1)
        await paco.each(nap, [0.9] * 2, 1)
        await paco.each(nap, (one for one in [0.9] * 5), 1)
    assert [frame[0] for frame in screen.frames if "%" in frame[0]] == [
        "each nap  ━━━━━───────────────  25%  1/4  eta 0:03",
        "each nap  ━━━━━━━━━━──────────  50%  2/4  eta 0:02",
        "each nap  ━━━━━━━━━━━━━━━─────  75%  3/4  eta 0:01",
        "each nap  ━━━━━━━━━━──────────  50%  1/2  eta 0:01",
        "each nap  ━━━━━───────────────  25%  1/4  eta 0:03",
        "each nap  ━━━━━━━━━━──────────  50%  2/4  eta 0:02",
        "each nap  ━━━━━━━━━━━━━━━─────  75%  3/4  eta 0:01",
        "each nap  ━━━━━━━━━━━━━━━━━━━  100%  4/4  eta 0:00",
    ]
    assert screen.ends[-1].startswith("each nap  5 of 4 items in 4.5s")


async def test_the_rate_is_that_of_the_last_ten_seconds():
    screen = Screen(200)
    with watched(screen):
        await paco.each(nap, [0.125] + [0.25] * 80 + [1] * 30, 1)
    rates = [re.search(r"  rate ([\d.]+/s)", frame[1])[1] for frame in screen.frames]
    assert rates[8] == rates[18] == "4/s"
    assert rates[25] == "2.2/s"
    assert rates[-1] == "1/s"


async def test_unknown_figures_are_omitted():
    screen, meters = Screen(), []
    screen.end = meters.append
    with watched(screen):
        await paco.each(nap, [])
    (meter,) = meters
    assert words(lines.ended(meter, 80)) == "each nap  0 items in 0s  failed 0"
    assert [words(line) for line in lines.live(meters, 80)] == [
        "each nap  0/0",
        "  rate 0/s   in flight 0   ok 0   failed 0",
    ]


async def test_runs_inside_an_item_are_not_shown():
    async def outer(_):
        await paco.each(nap, [1, 1], 1)

    screen = Screen()
    with watched(screen):
        await paco.map(outer, [1, 2], 1)
    assert {line.split("  ")[0] for frame in screen.frames for line in frame} == {"map outer", ""}
    assert len(screen.ends) == 1


async def test_the_stages_of_a_pipeline_are_shown_in_order_from_the_source():
    screen = Screen(200)
    with watched(screen, total=9):
        await ((one for one in [1.5] * 3) | paco.map(nap, limit=1) | paco.filter(nap) | paco.each(nap))
    heads = [line for line in screen.frames[1] if not line.startswith("  ")]
    assert [line.split("  ")[0] for line in heads] == ["map nap", "filter nap", "each nap"]
    assert ["/9" in line for line in heads] == [True, False, False]


async def test_of_many_runs_at_once_four_are_shown():
    screen = Screen()
    with watched(screen):
        await asyncio.gather(*(paco.map(nap, [2]) for _ in range(6)))
    assert len(screen.frames[0]) == 13 - 4  # no item has ended, and nothing has been waited for
    assert screen.frames[0][-1] == "and 2 more runs"


async def test_cancelled_items_are_counted_and_have_no_latency():
    screen = Screen(200)
    with watched(screen), pytest.raises(TimeoutError):
        await paco.each(nap, [1, 9, 9], timeout=2)
    assert screen.ends == ["each nap  1 of 3 items in 2.0s  0.5/s  failed 0  cancelled 2  p50 1s  p95 1s  p99 1s"]


# ---- when


async def test_failures_of_a_resumed_run_are_shown_as_a_share_of_all_items_with_results(tmp_path):
    async def breaks(number):
        if number % 10 == 0:
            raise ValueError

    screen = Screen(200)
    with watched(screen):
        for _ in range(2):
            await paco.map(breaks, range(100), return_exceptions=True).journal(tmp_path / "run.jsonl")
    assert "100 items in" in screen.ends[0]
    assert "failed 10 (10%)" in screen.ends[0]
    assert "failed 10 (10%)  10 ValueError  skipped 90" in screen.ends[1]


async def test_skipped_items_are_counted_apart_and_have_neither_rate_nor_latency(tmp_path):
    async def known(seconds):
        if not seconds:
            events.skipped()
        return await nap(seconds)

    screen = Screen(200)
    with watched(screen):
        await paco.each(known, [0] * 4 + [2] * 6, 2)
    assert screen.frames[3][0].endswith("60%  6/10  eta 0:08")
    assert screen.frames[3][1].startswith("  rate 0.5/s   in flight 2/2   ok 2")
    assert screen.frames[3][2].startswith("  skipped 4   p50 2s   p95 2s   p99 2s   ")
    assert screen.ends == ["each known  6 items in 6.0s  1/s  failed 0  skipped 4  p50 2s  p95 2s  p99 2s"]


async def test_lines_are_repainted_only_while_a_run_is_active():
    screen = Screen()
    with watched(screen):
        await nap(5)
        await paco.each(nap, [2.5])
        assert (len(screen.frames), screen.rests) == (2, 1)
        await nap(5)
        await asyncio.gather(paco.each(nap, [2.5]), paco.each(nap, [4.5]))
        assert (len(screen.frames), screen.rests) == (6, 2)


async def test_at_the_end_of_the_block_the_final_lines_of_all_runs_are_shown():
    screen = Screen()
    with watched(screen):
        task = asyncio.create_task(paco.map(nap, [1, 5], limit=2))
        await nap(2.5)
    assert screen.ends == ["map nap  1 of 2 items in 2.5s  0.4/s  failed 0  p50 1s  p95 1s  p99 1s"]
    await task
    assert len(screen.ends) == 1
    assert len(screen.frames) == 2


def test_one_block_may_span_several_event_loops():
    screen = Screen()
    with watched(screen):
        for _ in range(2):
            testing.run(lambda: paco.each(nap, [2.5]))
    assert (len(screen.frames), len(screen.ends)) == (4, 2)


# ---- lines in a log


async def test_a_log_gets_a_line_every_ten_seconds_and_one_at_the_end(log):
    with paco.progress():
        await paco.each(nap, [1] * 25, 1)
    rest = "p50 1s  p95 1s  p99 1s  waiting on limit 100%"
    assert log.getvalue().splitlines() == [
        f"each nap  36%  9/25  eta 0:18  rate 0.9/s  in flight 1/1  ok 9  failed 0  {rest}",
        f"each nap  76%  19/25  eta 0:06  rate 1/s  in flight 1/1  ok 19  failed 0  {rest}",
        "each nap  25 items in 25.0s  1/s  failed 0  p50 1s  p95 1s  p99 1s",
    ]


async def test_on_a_dumb_terminal_a_line_is_wrapped_instead_of_cut(terminal, monkeypatch):
    monkeypatch.setenv("TERM", "dumb")
    with paco.progress():
        await paco.each(nap, [1] * 25, 1)
    assert terminal.getvalue().count("waiting on limit 100%\n") == 2


async def test_of_many_short_runs_only_ten_leave_a_line(log):
    with paco.progress():
        for _ in range(14):
            await paco.each(nap, [0.5])
        await paco.each(nap, [1])
    lines = log.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[0] == "each nap  1 item in 500ms  2/s  failed 0  p50 500ms  p95 500ms  p99 500ms"
    assert lines[-2].startswith("each nap  1 item in 1.0s")
    assert lines[-1] == "and 4 more runs of less than a second"


async def test_a_log_has_no_control_sequences_even_with_a_hostile_function_name(log):
    async def odd(_):
        await nap(11)

    for name in HOSTILE:
        odd.__name__ = name
        with paco.progress():
            await paco.each(odd, [1])
    assert all(line.isprintable() for line in log.getvalue().splitlines())
    assert len(log.getvalue().splitlines()) == 2 * len(HOSTILE)


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("CI", "1")])
def test_a_dumb_terminal_and_ci_get_plain_lines(terminal, monkeypatch, setting):
    monkeypatch.setenv(*setting)
    assert type(progress.display_for(None)) is PlainLines


def test_a_terminal_without_rich_gets_plain_lines(terminal, monkeypatch):
    assert type(progress.display_for(None)) is LiveLines
    monkeypatch.setitem(sys.modules, "rich", None)
    assert type(progress.display_for(None)) is PlainLines


@pytest.mark.parametrize("stream", [None, object()])
async def test_without_a_proper_stderr_nothing_is_shown(monkeypatch, stream):
    on_stderr(monkeypatch, stream)
    with paco.progress():
        await paco.each(nap, [11])


# ---- a terminal


async def test_on_a_terminal_the_lines_are_repainted_in_place_and_a_line_stays_at_the_end(terminal):
    with paco.progress():
        await paco.each(nap, [1] * 3, 1)
        shown = painted(terminal.getvalue())
        await paco.each(nap, [0.05])
        await paco.each(nap, [1])
    assert shown[0] == "each nap  ──────────────────────────────  0%  0/3"
    heads = [line for line in shown if line.startswith("each nap")]
    assert 28 <= len(heads) <= 31  # one in each tenth of a second
    assert left(terminal.getvalue()) == [
        "each nap  3 items in 3.0s  1/s  failed 0  p50 1s  p95 1s  p99 1s",
        "each nap  1 item in 50ms  20/s  failed 0  p50 50ms  p95 50ms  p99 50ms",
        "each nap  1 item in 1.0s  1/s  failed 0  p50 1s  p95 1s  p99 1s",
    ]
    assert "\x1b[?25" not in terminal.getvalue()  # the cursor stays: a process that is killed could not bring it back


@pytest.mark.parametrize("width", [20, 80, 200])
async def test_no_line_of_a_terminal_exceeds_its_width(terminal, monkeypatch, width):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((width, 24)))
    with paco.progress():
        await paco.each(work, range(300), 100, return_exceptions=True)
    assert all(len(line) < width for line in painted(terminal.getvalue()))
    assert ("waiting on" in terminal.getvalue()) is (width >= 80)


async def test_an_ascii_terminal_receives_only_ascii(terminal, monkeypatch):
    monkeypatch.setattr(Terminal, "encoding", "ascii")
    with paco.progress():
        await paco.each(nap, [1, 1], 1)
    assert terminal.getvalue().isascii()
    assert "each nap  ===============---------------  50%  1/2" in painted(terminal.getvalue())[-4]


async def test_colors_are_omitted_if_disabled(terminal, monkeypatch):
    with paco.progress():
        await paco.each(nap, [1])
    assert "\x1b[1m" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    with paco.progress():
        await paco.each(work, [0], return_exceptions=True)
    assert "\x1b[31m" not in terminal.getvalue()
    assert "\x1b[32m" not in terminal.getvalue()


async def test_a_hostile_function_name_does_not_disturb_the_terminal(terminal):
    async def odd(_):
        await nap(1)

    for name in [*HOSTILE, "[red]markup[/red]", "a\nb"]:
        odd.__name__ = name
        with paco.progress():
            await paco.each(odd, [1])
    rest = ESCAPES.sub("", terminal.getvalue()).replace("\n", "")
    assert rest.isprintable()
    assert "[red]markup[/red]" in rest


@pytest.mark.parametrize("both", [False, True])
async def test_output_during_a_run_stays_above_and_redirected_output_is_untouched(terminal, monkeypatch, both):
    async def talk(number):
        await nap(0.55)
        sys.stdout.write(f"data {number}\n")
        sys.stderr.write(f"word {number}\n")

    stdout = Terminal() if both else io.StringIO()
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(progress, "sys", SimpleNamespace(stderr=terminal, stdout=stdout))
    with paco.progress():
        await paco.each(talk, [1, 2], 1)
    above = ["data 1", "word 1", "data 2"] if both else ["word 1"]  # the last words come when the run has ended
    assert [line for line in left(terminal.getvalue()) if line in above] == above
    assert stdout.getvalue() == ("" if both else "data 1\ndata 2\n")


async def test_a_failing_block_restores_the_terminal(terminal):
    with pytest.raises(ValueError, match="out"), paco.progress():
        task = asyncio.create_task(paco.each(nap, [9]))
        await nap(1)
        raise ValueError("out")
    assert left(terminal.getvalue()) == ["each nap  0 of 1 items in 1.0s  0/s  failed 0"]
    await task


@pytest.mark.realtime
@pytest.mark.posix
@pytest.mark.parametrize("width", [80, 200])
def test_lines_fit_a_real_terminal_of_any_width(width, tmp_path, start):
    """The last items end when enough has been shown."""
    import fcntl
    import pty
    import termios

    enough = tmp_path / "enough"
    script = (
        "import asyncio, paco, pathlib\n"
        "async def fetch(number):\n"
        "    await asyncio.sleep(0.02)\n"
        f"    while number >= 200 and not pathlib.Path({str(enough)!r}).exists():\n"
        "        await asyncio.sleep(0.02)\n"
        "with paco.progress():\n"
        "    paco.run(paco.each(fetch, range(300), 10))\n"
    )
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    environ = {"CI": "", "COLUMNS": "", "LINES": "", "TERM": "xterm"}
    process = start("-c", script, environ=environ, stdin=other, stdout=other, stderr=other)
    os.close(other)
    sent = b""
    with contextlib.suppress(OSError):  # the end of a terminal
        while part := os.read(main, 65536):
            sent += part
            shown = painted(sent.decode(errors="replace"))
            if len(shown) > 6 and any("p95" in line for line in shown[:-1]):
                enough.touch()
    os.close(main)
    assert process.wait() == 0
    shown = painted(sent.decode())
    assert len(shown) > 6
    assert all(len(line) < width for line in shown)
    assert any("p95" in line for line in shown[:-1])
    assert "waiting on limit" in sent.decode()
    (line,) = left(sent.decode())
    assert re.fullmatch(r"each fetch  300 items in .*  p95 \d+(\.\d+)?ms(  p99 .*)?", line)


# ---- bars


class Bar:
    def __init__(self):
        self.calls = []

    def update(self, n):
        self.calls.append((testing.now(), n))


async def test_a_bar_is_updated_ten_times_a_second_with_newly_finished_items():
    bar = Bar()
    with paco.progress(bar):
        await paco.each(nap, [0.26] * 6, 2)
        await paco.each(nap, [0.26])
    assert [(round(time, 6), n) for time, n in bar.calls] == [(0.3, 2), (0.6, 2), (0.78, 2), (1.04, 1)]


async def test_a_bar_shows_the_first_stage_of_a_pipeline():
    bar = Bar()
    with paco.progress(bar):
        await (range(5) | paco.map(nap, limit=1) | paco.filter(nap) | paco.each(nap))
    assert sum(n for _, n in bar.calls) == 5


async def batched(source, size):
    """Yield the items of a source in batches."""
    batch = []
    async for item in source:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []


async def same(item):
    return item


@pytest.mark.parametrize("completed", [False, True])
async def test_a_bar_shows_the_run_that_a_source_iterates_as_the_first_stage(completed):
    bar = Bar()
    with paco.progress(bar):
        pages = paco.map(nap, [0.1] * 30, limit=3)
        await paco.each(same, batched(pages.as_completed() if completed else pages, 10))
    assert sum(n for _, n in bar.calls) == 30


async def test_a_bar_shows_each_run_that_a_source_awaits():
    async def rows():
        for row in await paco.map(nap, [0.1] * 3):
            yield await paco.hedge(same, 1)(row)
        yield await paco.race([nap(0), nap(1)])

    bar = Bar()
    with paco.progress(bar):
        await paco.each(same, rows())
    assert sum(n for _, n in bar.calls) == 3 + 3 + 1 + 4


async def test_a_bar_shows_a_flat_map_over_an_async_source():
    bar = Bar()
    with paco.progress(bar):
        await paco.flat_map(nap, AsyncSource([[0.1, 0.2], [0.3]]))
    assert sum(n for _, n in bar.calls) == 3


async def test_a_total_is_that_of_the_run_that_reads_no_other():
    bar = Progress(console=None, disable=True)
    screen = Screen()
    with paco.progress(bar, total=30), watched(screen, total=30):
        await paco.each(same, batched(paco.map(nap, AsyncSource([0.1] * 30), limit=3), 10))
    assert [(task.description, task.completed, task.total) for task in bar.tasks] == [("map nap", 30, 30)]
    assert [end.partition("  ")[2].partition(" items")[0] for end in screen.ends] == ["30", "3"]


async def test_a_bar_of_rich_gets_a_task_for_each_run():
    bar = Progress(console=None, disable=True)
    with paco.progress(bar, total=7):
        await paco.each(work, range(5), 1, return_exceptions=True)
        await paco.each(nap, (one for one in [1]))
    assert [(task.description, task.completed, task.total) for task in bar.tasks] == [
        ("each work", 5, 5),
        ("each nap", 1, 7),
    ]


async def test_the_name_of_a_run_is_not_interpreted_as_rich_markup():
    async def odd(_): ...

    odd.__name__ = "[red]\x1b"
    bar = Progress(disable=True)
    with paco.progress(bar):
        await paco.each(odd, [1])
    assert bar.tasks[0].description == r"each \[red]\x1b"


async def test_a_bar_that_raises_is_reported_and_does_not_affect_the_run():
    class Broken:
        def update(self, n):
            raise ValueError(n)

    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(str(report["exception"])))
    with paco.progress(Broken()):
        assert await paco.map(nap, [1] * 5, 1) == [1] * 5
    assert reports == ["1", "4"]


def test_displays_do_nothing_by_default():
    display = Display()
    assert (display.show([]), display.end(None), display.rest(), display.close()) == (None,) * 4
    assert type(progress.display_for(Bar())) is FedBar


# ---- bad input


@pytest.mark.parametrize("bar", [5, "bar", object(), [1]])
def test_a_bar_must_have_an_update_method(bar):
    expected = r"bar must be an object with update\(n\), such as a bar of tqdm, or be left out, got "
    with pytest.raises(TypeError, match=rf"^paco\.progress: {expected}"):
        paco.progress(bar)


@pytest.mark.parametrize("total", [-1, True, 1.5, "9"])
def test_a_total_must_be_a_number_of_items(total):
    with pytest.raises((TypeError, ValueError), match=r"^paco\.progress: total must be an int of 0 or more, got "):
        paco.progress(total=total)
