"""What a person is shown: safe text, cut to the width, above lines that are repainted."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading

import pytest

from paco._view.console import Console, _visible, fit, safe, safe_lines
from tests.screens import Terminal, left

ESCAPES = ["\x1b]52;c;aGk=\x07", "\x9b2J", "\r", "\u202e", "\0", "\x7f", "\ud800", "\u2028"]


@pytest.fixture
def size(monkeypatch):
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((40, 10)))


@pytest.mark.parametrize("text", ESCAPES)
def test_unprintable_characters_are_escaped(text):
    assert safe(f"a{text}b").isprintable()
    assert safe_lines(f"{text}\nx").split("\n")[1] == "x"


def test_printable_text_is_unchanged():
    assert safe("naïve 日本 ✗") == "naïve 日本 ✗"


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("short", 10, "short"),
        ("just right", 10, "just right"),
        ("one more...", 10, "one mor..."),
        ("日本語", 6, "日本語"),
        ("日本語", 5, "日..."),
        ("\x1b\x1b", 5, "\\x..."),
        ("abcd", 2, ".."),
    ],
)
def test_text_is_cut_by_its_width_in_columns(text, width, shown):
    assert fit(text, width) == shown


def test_a_permanent_line_is_printed_above_the_repainted_one():
    screen = Terminal()
    console = Console(screen, {})
    console.paint([[("50%", "bold")], [("more", "")]])
    console.say("news")
    assert left(screen.getvalue()) == ["news", "50%", "more"]
    console.paint([])
    console.paint([])
    assert left(screen.getvalue()) == ["news"]


@pytest.mark.parametrize(
    ("environ", "live", "color"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "dumb"}, False, False),
        ({"CI": "true"}, False, False),
        ({"CI": "true", "FORCE_COLOR": "1"}, False, True),
        ({"NO_COLOR": "1"}, True, False),
    ],
)
def test_environment_variables_say_what_a_terminal_supports(environ, live, color):
    console = Console(Terminal(), environ)
    assert (console.live, console.color) == (live, color)
    assert console.style("x", "red") == ("\x1b[31mx\x1b[0m" if color else "x")


def test_without_a_terminal_output_is_neither_live_nor_colored():
    console = Console(io.StringIO(), {"TERM": "xterm"})
    assert not console.live
    assert not console.color
    assert console.width() == 500


@pytest.mark.usefixtures("size")
def test_the_width_is_that_of_the_terminal():
    assert Console(Terminal(), {}).width() == 40


def test_a_terminal_without_a_size_has_80_columns(monkeypatch):
    assert Console(Terminal(), {}).width() == 80  # the system knows no descriptor 99
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((0, 0)))
    assert Console(Terminal(), {}).width() == 80


def test_characters_that_the_stream_cannot_encode_are_escaped():
    raw = io.BytesIO()
    console = Console(io.TextIOWrapper(raw, "ascii"), {})
    console.say("✗ no")
    assert (raw.getvalue(), console.unicode) == (b"\\u2717 no\n", False)


def test_without_rich_no_line_is_repainted(monkeypatch):
    monkeypatch.setitem(sys.modules, "rich", None)
    assert not Console(Terminal(), {"TERM": "xterm"}).live


def test_a_closed_console_is_not_an_error():
    screen = Terminal()
    console = Console(screen, {})
    screen.close()
    console.say("nobody reads this")
    console.say("nor this")
    Console(None, {}).say("nor that")
    assert Console(None, {}).width() == 500


class Bare:
    """An object in place of a stream that can only be written to, and says that it is a terminal."""

    encoding = None

    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text


class Broken:
    """An object in place of a stream that raises whatever is asked of it."""

    def __getattr__(self, name):
        raise RuntimeError(name)


def detached():
    """Return a stream whose buffer was taken away."""
    stream = io.TextIOWrapper(io.BytesIO())
    stream.detach()
    return stream


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [None, object(), Broken(), detached(), closed()], ids=lambda one: type(one).__name__)
def test_any_object_may_stand_in_place_of_a_stream(stream):
    console = Console(stream, {})
    console.say("nobody reads this")
    assert not console.live
    assert console.width() == 500


def test_what_a_stream_cannot_do_is_left_out():
    stream = Bare()
    console = Console(stream, {"TERM": "xterm"})
    assert console.unicode
    assert console.width() == 80
    console.say("one")
    console.say("two")
    console.paint([[("50%", "")]])
    console.paint([])
    assert left(stream.text) == ["one", "two"]


def test_an_unknown_encoding_is_taken_for_utf_8():
    stream = Bare()
    stream.encoding = "klingon"
    Console(stream, {"TERM": "dumb"}).say("✓")
    assert stream.text == "✓\n"


@pytest.mark.parametrize("stdout", [None, object(), closed()], ids=lambda one: type(one).__name__)
def test_stdout_may_be_any_object_while_lines_are_repainted(monkeypatch, stdout):
    monkeypatch.setattr(sys, "stdout", stdout)
    with Console(Terminal(), {}).guarding():
        assert sys.stdout is stdout


def test_output_of_the_target_goes_to_stderr_as_whole_lines_above_the_repainted_one(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    console = Console(screen, {})
    console.paint([[("50%", "")]])
    with contextlib.redirect_stdout(screen), console.guarding():
        sys.stdout.write("from ")
        sys.stdout.write("print\n")
        sys.stderr.write("an error\n")
        assert sys.stdout.isatty()
        assert sys.stdout.fileno() == 99
        sys.stdout.buffer.write(b"\xff\xc3")  # bytes, whole or not, are text of the encoding of the stream
        sys.stdout.buffer.write(b"\xa9\r\n")
        sys.stdout.detach().write(b"detached\n")
        sys.stderr.write("no line end")
    assert left(screen.getvalue()) == ["from print", "an error", "\\xff\u00e9", "detached", "no line end", "50%"]
    assert sys.stderr is screen


@pytest.mark.realtime
def test_no_output_of_concurrent_threads_is_lost(monkeypatch):
    """The thread prints in the middle of another print."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with contextlib.redirect_stdout(screen), Console(screen, {}).guarding():
        thread = threading.Thread(target=sys.stdout.write, args=["of a thread"])

        def visible(line):
            if line == b"" and thread.ident is None:
                thread.start()
                thread.join(0.05)
            return _visible(line)

        monkeypatch.setattr("paco._view.console._visible", visible)
        sys.stdout.write("from ")
        sys.stdout.write("print\n")
        thread.join()
    assert screen.getvalue() == "from print\nof a thread\n"


def test_a_line_that_is_painted_over_and_over_is_shown_once_at_its_end(monkeypatch):
    """Progress bars of the target go back to the start of their line, before or after each text."""
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Console(screen, {}).guarding():
        for percent in range(101):
            sys.stderr.write(f"\r{percent}%")
        sys.stderr.write("\n")
        for percent in range(101):
            sys.stderr.write(f"{percent} percent\r")
        sys.stderr.write("\n")
        for percent in range(101):
            sys.stderr.write(f"\r{percent} of 100")
    assert screen.getvalue() == "100%\n100 percent\n100 of 100\n"


def test_a_line_without_an_end_is_shown_in_parts_so_that_its_time_is_linear(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Console(screen, {}).guarding():
        for _ in range(20):
            sys.stderr.write("." * 1000)
        assert screen.getvalue() == "." * 17_000 + "\n"
    assert screen.getvalue() == "." * 17_000 + "\n" + "." * 3000 + "\n"


def test_output_of_the_target_goes_to_a_plain_stderr_unchanged(monkeypatch):
    plain = io.StringIO()
    monkeypatch.setattr(sys, "stderr", plain)
    with contextlib.redirect_stdout(plain), Console(plain, {}).guarding():
        sys.stdout.write("hello\n")
    assert plain.getvalue() == "hello\n"


def test_no_line_end_is_added_to_output_that_ends_with_one(monkeypatch):
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    with Console(screen, {}).guarding():
        sys.stderr.write("whole\n")
    assert screen.getvalue() == "whole\n"
