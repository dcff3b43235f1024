"""What a person is shown: whole lines and one line repainted in place, with nothing that disturbs a terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, TextIO, cast
from unicodedata import east_asian_width

from paco._base.system import understands_escapes

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

#: Width for a stream that is no terminal: long enough for any line, short enough for a log.
_WIDE = 500
_ERASE = "\r\x1b[K"
#: The same for several lines: up, and all below.
_ERASE_LINES = "\r\x1b[{}A\x1b[J"
_STYLES = {"red": "31", "green": "32", "bold": "1", "dim": "2"}


def safe(text: str) -> str:
    """Return ``text`` with everything escaped that is not printable: the one boundary before any print."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def safe_lines(text: str) -> str:
    """Return ``text`` made safe, its line ends kept."""
    return "\n".join(map(safe, text.split("\n")))


def message(error: BaseException) -> str:
    """Return the text of ``error``; one whose ``__str__`` fails is named instead."""
    with contextlib.suppress(Exception):
        return str(error)
    return f"<{type(error).__name__} whose str() failed>"


def _columns(text: str) -> int:
    return len(text) if text.isascii() else sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def fit(text: str, width: int) -> str:
    """Return ``text`` made safe and cut to ``width`` columns; East Asian wide characters count as two."""
    text = safe(text[: width + 1])
    if _columns(text) <= width:
        return text
    text = text[: max(width - 3, 0)]
    while _columns(text) > max(width - 3, 0):
        text = text[:-1]
    return text + "..."[:width]


class Console:
    """The stream for people (stderr), which data never goes to."""

    def __init__(self, stream: TextIO | None, environ: Mapping[str, str], *, live: bool | None = None) -> None:
        self._stream = stream
        self._line = ""
        # Reentrant: the handler of a third Ctrl-C may speak while the main thread is inside say().
        self.lock = threading.RLock()
        terminal = stream is not None and stream.isatty()
        escapes = stream is not None and terminal and understands_escapes(stream)
        able = escapes and environ.get("TERM") != "dumb" and not environ.get("CI")
        self.live = able if live is None else live
        self.colour = not environ.get("NO_COLOR") and (self.live or bool(environ.get("FORCE_COLOR")))
        self._terminal = terminal

    def width(self) -> int:
        """Return the columns of a line, asked for each time: a window may be resized."""
        if self._stream is None or not self._terminal:
            return _WIDE
        with contextlib.suppress(OSError, ValueError):
            # A pseudo-terminal without a size says 0.
            return os.get_terminal_size(self._stream.fileno()).columns or 80
        return 80

    def style(self, text: str, name: str) -> str:
        """Return ``text`` in a style, or as it is where colour is not wanted."""
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if self.colour and name else text

    def say(self, text: str) -> None:
        """Write whole lines that stay, above the repainted one."""
        with self.lock:
            self._write(f"{self._erased()}{text}\n{self._line}" if self._line else f"{text}\n")

    def paint(self, line: str) -> None:
        """Show ``line``, or several, in the place of what was shown before; an empty one clears it."""
        with self.lock:
            if line or self._line:
                self._write(self._erased() + line)
            self._line = line

    def _erased(self) -> str:
        """Return what erases what is shown."""
        above = self._line.count("\n")
        return _ERASE_LINES.format(above) if above else _ERASE

    def _write(self, text: str) -> None:
        if self._stream is not None:
            try:
                self._stream.write(text)
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads it any more (`2>&1 | head`): the run goes on, its records matter more.
                self._stream = None

    @contextlib.contextmanager
    def guarding(self) -> Generator[None]:
        """Send what the target prints to stderr, above the repainted line: stdout is for records alone."""
        if not self.live:
            with contextlib.redirect_stdout(sys.stderr):
                yield
            return
        aside = _Aside(self, sys.stderr)
        stream = cast("TextIO", aside)
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            try:
                yield
            finally:
                aside.finish()


class _Aside(io.TextIOBase):
    """A text stream whose whole lines are said by the console; in all but writing it is stderr itself."""

    def __init__(self, console: Console, stream: TextIO) -> None:
        self._console = console
        self._stream = stream
        self._rest = ""

    def write(self, text: str, /) -> int:
        with self._console.lock:  # threads print too
            *lines, self._rest = (self._rest + text).split("\n")
            if lines:
                self._console.say("\n".join(lines))
        return len(text)

    def finish(self) -> None:
        """Say what came without a line end."""
        if self._rest:
            self.write("\n")

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
