"""`paco.progress`: on virtual time, so that each line is known to the character."""

from __future__ import annotations

import asyncio
import contextlib
import io
import math
import os
import random
import re
import struct
import subprocess
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.progress import Progress
from test_trace import HOSTILE

import paco
from paco import events, testing
from paco._view import meter as _meter
from paco._view import progress
from paco._view.progress import Board, Display, Fed, Lines, LiveLines
from paco.events import ItemEnded, RunEnded, RunStarted
from paco.testing import AsyncSource

ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]|\r")


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


def words(parts):
    return "  ".join(text for text, _ in parts)


class Screen(Display):
    """A display that keeps the live lines of some width, and of each run that has ended how it went."""

    every = 1.0

    def __init__(self, width=80):
        self.width, self.frames, self.ends, self.rests = width, [], [], 0

    def show(self, meters):
        self.frames.append([words(parts) for parts in _meter.lines(meters, self.width)])

    def end(self, meter):
        self.ends.append(words(_meter.summary_of(meter)))

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


class Terminal(io.StringIO):
    """A terminal that remembers all it was sent."""

    def isatty(self):
        return True


def painted(sent):
    """Return all lines that were on the screen at some time."""
    sent = re.sub(r"\x1b\[[0-9;]*m", "", sent)
    return [line.rstrip() for line in ESCAPES.sub("\n", sent).split("\n") if line.strip()]


def left(sent):
    """Return the lines that are on the screen in the end."""
    screen, row = [""], 0
    for piece in re.findall(r"\x1b\[[0-9;?]*[a-zA-Z]|\r\n|.|\n", sent):
        if piece in {"\n", "\r\n"}:
            row += 1
            screen += [""] * (row + 1 - len(screen))
        elif piece == "\x1b[1A":
            row -= 1
        elif piece == "\x1b[2K":
            screen[row] = ""
        elif len(piece) == 1 and piece != "\r":
            screen[row] += piece
    return [line.rstrip() for line in screen if line.strip()]


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
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "24")
    return stream


@pytest.fixture
def log(monkeypatch):
    return on_stderr(monkeypatch, io.StringIO())


# ---- what is shown


async def test_a_run_has_two_lines_that_say_how_far_it_is_and_how_it_goes():
    screen = Screen(100)
    with watched(screen):
        await paco.each(work, range(1000), 100, return_exceptions=True)
    assert screen.frames[3] == [
        "each work  ━━━━━━━━━─────────────────────  30%  300/1,000  eta 0:09",
        "  75/s  100/100 in flight  12 failed (4%)  p50 1s  p95 1s  30 retried  waiting for a free slot 100%",
    ]
    assert screen.ends == ["each work  1,000 items in 10.0s  100/s  40 failed (4%)  p50 1s  p95 1s  100 retried"]


@pytest.mark.parametrize("width", range(1, 220, 3))
async def test_no_line_is_wider_than_there_is_room(width):
    async def with_a_name_that_is_longer_than_anybody_would_like_to_read_it(number):
        await work(number)

    screen = Screen(width)
    with watched(screen):
        await paco.each(
            with_a_name_that_is_longer_than_anybody_would_like_to_read_it, range(200), 100, return_exceptions=True
        )
    for frame in screen.frames:
        assert all(len(line) <= width for line in frame)


async def test_at_80_columns_there_is_all_that_matters():
    screen = Screen(80)
    with watched(screen):
        await paco.each(work, range(1000), 100, return_exceptions=True)
    for wanted in ("300/1,000", "eta 0:09", "75/s", "100/100 in flight", "12 failed (4%)", "p50 1s", "p95 1s"):
        assert wanted in "".join(screen.frames[3])


async def test_at_200_columns_it_says_what_is_waited_for():
    screen = Screen(200)
    with watched(screen):
        await paco.each(nap, [1] * 300, 100)
        await paco.each(nap, AsyncSource([0.25] * 4, delay=2), 100)
    assert screen.frames[1][1] == "  50/s  100/100 in flight  0 failed  p50 1s  p95 1s  waiting for a free slot 100%"
    assert screen.frames[-1][1].endswith("waiting for the source 100%")


async def test_of_a_run_whose_items_are_elsewhere_it_counts_the_workers_and_those_that_were_lost():
    screen = Screen(200)

    def give(event):
        event.run.workers.update({name: events.Worker(name) for name in ("one", "two", "three")})
        event.run.workers["two"].lost = True

    with watched(screen), paco.listening(give, events.RunStarted):
        await paco.each(nap, [1] * 300, 100)
    assert screen.frames[1][1].endswith("  2 workers, 1 lost  waiting for a free slot 100%")


async def test_without_a_total_it_says_what_is_done():
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
        "each nap  25%  1/4  eta 0:03",
        "each nap  50%  2/4  eta 0:02",
        "each nap  75%  3/4  eta 0:01",
        "each nap  50%  1/2  eta 0:01",
        "each nap  25%  1/4  eta 0:03",
        "each nap  50%  2/4  eta 0:02",
        "each nap  75%  3/4  eta 0:01",
        "each nap  100%  4/4  eta 0:00",
    ]
    assert screen.ends[-1].startswith("each nap  5 of 4 items in 4.5s")


async def test_the_rate_is_that_of_the_last_ten_seconds():
    screen = Screen(200)
    with watched(screen):
        await paco.each(nap, [0.125] + [0.25] * 80 + [1] * 30, 1)
    rates = [re.search(r"  ([\d.]+/s)", frame[1])[1] for frame in screen.frames]
    assert rates[8] == rates[18] == "4/s"
    assert rates[25] == "2.2/s"
    assert rates[-1] == "1/s"


async def test_nothing_is_shown_where_nothing_is_known():
    screen, meters = Screen(), []
    screen.end = meters.append
    with watched(screen):
        await paco.each(nap, [])
    (meter,) = meters
    assert words(_meter.summary_of(meter)) == "each nap  0 items in 0s  0 failed"
    assert [words(parts) for parts in _meter.lines(meters, 80)] == ["each nap  0/0", "  0/s  0 in flight  0 failed"]


async def test_runs_inside_an_item_are_not_shown():
    async def outer(_):
        await paco.each(nap, [1, 1], 1)

    screen = Screen()
    with watched(screen):
        await paco.map(outer, [1, 2], 1)
    assert {line.split("  ")[0] for frame in screen.frames for line in frame} == {"map outer", ""}
    assert len(screen.ends) == 1


async def test_the_stages_of_a_pipeline_are_shown_from_the_source_on():
    screen = Screen(200)
    with watched(screen, total=9):
        await ((one for one in [1.5] * 3) | paco.map(nap, limit=1) | paco.filter(nap) | paco.each(nap))
    assert [line[:20].split("  ")[0] for line in screen.frames[1]] == ["map nap", "", "filter nap", "", "each nap", ""]
    assert ["/9" in line for line in screen.frames[1]] == [True, False, False, False, False, False]


async def test_of_many_runs_at_once_four_are_shown():
    screen = Screen()
    with watched(screen):
        await asyncio.gather(*(paco.map(nap, [2]) for _ in range(6)))
    assert len(screen.frames[0]) == 9
    assert screen.frames[0][-1] == "and 2 more runs"


async def test_cancelled_items_are_counted_and_have_no_latency():
    screen = Screen(200)
    with watched(screen), pytest.raises(TimeoutError):
        await paco.each(nap, [1, 9, 9], timeout=2)
    assert screen.ends == ["each nap  1 of 3 items in 2.0s  0.5/s  0 failed  p50 1s  p95 1s  2 cancelled"]


# ---- when


async def test_lines_are_repainted_while_a_run_goes_on_and_not_otherwise():
    screen = Screen()
    with watched(screen):
        await nap(5)
        await paco.each(nap, [2.5])
        assert (len(screen.frames), screen.rests) == (2, 1)
        await nap(5)
        await asyncio.gather(paco.each(nap, [2.5]), paco.each(nap, [4.5]))
        assert (len(screen.frames), screen.rests) == (6, 2)


async def test_a_block_that_is_left_shows_how_far_the_runs_were():
    screen = Screen()
    with watched(screen):
        task = asyncio.create_task(paco.map(nap, [1, 5], limit=2))
        await nap(2.5)
    assert screen.ends == ["map nap  1 of 2 items in 2.5s  0.4/s  0 failed  p50 1s  p95 1s"]
    await task
    assert len(screen.ends) == 1
    assert len(screen.frames) == 2


def test_one_block_may_hold_several_loops():
    screen = Screen()
    with watched(screen):
        for _ in range(2):
            testing.run(lambda: paco.each(nap, [2.5]))
    assert (len(screen.frames), len(screen.ends)) == (4, 2)


# ---- lines in a log


async def test_in_a_log_there_is_a_line_each_ten_seconds_and_one_at_the_end(log):
    with paco.progress():
        await paco.each(nap, [1] * 25, 1)
    assert log.getvalue().splitlines() == [
        "each nap  36%  9/25  eta 0:18  0.9/s  1/1 in flight  0 failed  p50 1s  p95 1s  waiting for a free slot 100%",
        "each nap  76%  19/25  eta 0:06  1/s  1/1 in flight  0 failed  p50 1s  p95 1s  waiting for a free slot 100%",
        "each nap  25 items in 25.0s  1/s  0 failed  p50 1s  p95 1s",
    ]


async def test_of_many_short_runs_ten_leave_a_line(log):
    with paco.progress():
        for _ in range(14):
            await paco.each(nap, [0.5])
        await paco.each(nap, [1])
    lines = log.getvalue().splitlines()
    assert len(lines) == 12
    assert lines[0] == "each nap  1 item in 500ms  2/s  0 failed  p50 503ms  p95 503ms"
    assert lines[-2].startswith("each nap  1 item in 1.0s")
    assert lines[-1] == "and 4 more runs of less than a second"


async def test_a_log_has_no_control_sequences_whatever_the_function_is_called(log):
    async def odd(_):
        await nap(11)

    for name in HOSTILE:
        odd.__name__ = name
        with paco.progress():
            await paco.each(odd, [1])
    assert all(line.isprintable() for line in log.getvalue().splitlines())
    assert len(log.getvalue().splitlines()) == 2 * len(HOSTILE)


@pytest.mark.parametrize("setting", [("TERM", "dumb"), ("CI", "1")])
def test_a_dumb_terminal_and_ci_get_lines_that_stay(terminal, monkeypatch, setting):
    monkeypatch.setenv(*setting)
    assert type(progress.display_for(None)) is Lines


def test_so_does_a_terminal_without_rich(terminal, monkeypatch):
    assert type(progress.display_for(None)) is LiveLines
    monkeypatch.setitem(sys.modules, "rich.live", None)
    assert type(progress.display_for(None)) is Lines


async def test_without_a_stderr_nothing_is_shown(monkeypatch):
    on_stderr(monkeypatch, None)
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
    assert 57 <= len(shown) <= 61  # two in each tenth of a second
    assert left(terminal.getvalue()) == [
        "each nap  3 items in 3.0s  1/s  0 failed  p50 1s  p95 1s",
        "each nap  1 item in 50ms  20/s  0 failed  p50 50ms  p95 50ms",
        "each nap  1 item in 1.0s  1/s  0 failed  p50 1s  p95 1s",
    ]
    assert terminal.getvalue().count("\x1b[?25l") == terminal.getvalue().count("\x1b[?25h") == 2


@pytest.mark.parametrize("columns", [20, 80, 200])
async def test_no_line_on_a_terminal_is_wider_than_it(terminal, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    with paco.progress():
        await paco.each(work, range(300), 100, return_exceptions=True)
    assert all(len(line) < columns for line in painted(terminal.getvalue()))
    assert ("waiting for" in terminal.getvalue()) is (columns == 200)


async def test_colours_are_left_out_when_nobody_wants_them(terminal, monkeypatch):
    with paco.progress():
        await paco.each(nap, [1])
    assert "\x1b[1m" in terminal.getvalue()
    terminal.truncate(0)
    monkeypatch.setenv("NO_COLOR", "1")
    with paco.progress():
        await paco.each(work, [0], return_exceptions=True)
    assert "\x1b[31m" not in terminal.getvalue()
    assert "\x1b[32m" not in terminal.getvalue()


async def test_a_terminal_is_not_disturbed_whatever_the_function_is_called(terminal):
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
async def test_what_is_printed_meanwhile_stays_above_and_data_that_goes_elsewhere_stays_there(
    terminal, monkeypatch, both
):
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


async def test_a_terminal_is_left_in_order_by_a_block_that_fails(terminal):
    with pytest.raises(ValueError, match="out"), paco.progress():
        task = asyncio.create_task(paco.each(nap, [9]))
        await nap(1)
        raise ValueError("out")
    assert left(terminal.getvalue()) == ["each nap  0 of 1 items in 1.0s  0/s  0 failed"]
    assert terminal.getvalue().rindex("\x1b[?25h") > terminal.getvalue().rindex("\x1b[?25l")
    await task


@pytest.mark.realtime
@pytest.mark.posix
@pytest.mark.parametrize("columns", [80, 200])
def test_in_a_real_terminal_of_some_width(columns, tmp_path):
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
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "COLUMNS", "LINES"}}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=other, stdout=other, stderr=other, env={**environment, "TERM": "xterm"}
    ) as process:
        os.close(other)
        sent = b""
        with contextlib.suppress(OSError):  # the end of a terminal
            while part := os.read(main, 65536):
                sent += part
                shown = painted(sent.decode(errors="replace"))
                if len(shown) > 6 and any("p95" in line for line in shown[:-1]):
                    enough.touch()
    os.close(main)
    assert process.returncode == 0
    shown = painted(sent.decode())
    assert len(shown) > 6
    assert all(len(line) < columns for line in shown)
    assert any("p95" in line for line in shown[:-1])
    assert ("waiting for a free slot" in sent.decode()) is (columns == 200)
    (line,) = left(sent.decode())
    assert re.fullmatch(r"each fetch  300 items in .*  p95 \d+(\.\d+)?ms", line)


# ---- bars


class Bar:
    def __init__(self):
        self.calls = []

    def update(self, n):
        self.calls.append((testing.now(), n))


async def test_a_bar_is_told_ten_times_a_second_how_many_items_more_are_done():
    bar = Bar()
    with paco.progress(bar):
        await paco.each(nap, [0.26] * 6, 2)
        await paco.each(nap, [0.26])
    assert [(round(time, 6), n) for time, n in bar.calls] == [(0.3, 2), (0.6, 2), (0.78, 2), (1.04, 1)]


async def test_of_a_pipeline_a_bar_is_told_of_the_first_stage():
    bar = Bar()
    with paco.progress(bar):
        await (range(5) | paco.map(nap, limit=1) | paco.filter(nap) | paco.each(nap))
    assert sum(n for _, n in bar.calls) == 5


async def test_a_bar_of_rich_gets_a_task_for_each_run():
    bar = Progress(console=None, disable=True)
    with paco.progress(bar, total=7):
        await paco.each(work, range(5), 1, return_exceptions=True)
        await paco.each(nap, (one for one in [1]))
    assert [(task.description, task.completed, task.total) for task in bar.tasks] == [
        ("each work", 5, 5),
        ("each nap", 1, 7),
    ]


async def test_the_name_of_a_run_is_no_markup_for_rich():
    async def odd(_): ...

    odd.__name__ = "[red]\x1b"
    bar = Progress(disable=True)
    with paco.progress(bar):
        await paco.each(odd, [1])
    assert bar.tasks[0].description == r"each \[red]\x1b"


async def test_a_bar_that_raises_is_reported_and_disturbs_nothing():
    class Broken:
        def update(self, n):
            raise ValueError(n)

    reports = []
    asyncio.get_running_loop().set_exception_handler(lambda _, report: reports.append(str(report["exception"])))
    with paco.progress(Broken()):
        assert await paco.map(nap, [1] * 5, 1) == [1] * 5
    assert reports == ["1", "4"]


def test_displays_do_nothing_of_themselves():
    display = Display()
    assert (display.show([]), display.end(None), display.rest(), display.close()) == (None,) * 4
    assert type(progress.display_for(Bar())) is Fed


# ---- quantiles


@given(st.lists(st.floats(1e-8, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_at_most_one_percent_too_high(times, share):
    sketch = _meter.Sketch()
    for time in times:
        sketch.add(time)
    exact = sorted(times)[max(math.ceil(share * len(times)) - 1, 0)]
    assert exact * (1 - 1e-9) <= sketch.quantile(share) <= exact * 1.01 * (1 + 1e-9)


def test_quantiles_take_constant_memory():
    sketch, dice = _meter.Sketch(), random.Random(1)  # noqa: S311 - dice, not secrets
    for _ in range(20_000):
        sketch.add(dice.lognormvariate(0, 2))
    assert len(sketch._counts) < 2000


def test_what_takes_no_time_is_told_so():
    sketch = _meter.Sketch()
    assert sketch.quantile(0.5) == 0
    sketch.add(0)
    assert sketch.quantile(0.5) == 0


# ---- bad input


@pytest.mark.parametrize("bar", [5, "bar", object(), [1]])
def test_a_bar_has_a_method_update(bar):
    expected = r"bar must be an object with update\(n\), such as a bar of tqdm, or be left out, got "
    with pytest.raises(TypeError, match=rf"^paco\.progress: {expected}"):
        paco.progress(bar)


@pytest.mark.parametrize("total", [-1, True, 1.5, "9"])
def test_a_total_is_a_number_of_items(total):
    with pytest.raises((TypeError, ValueError), match=r"^paco\.progress: total must be an int of 0 or more, got "):
        paco.progress(total=total)
