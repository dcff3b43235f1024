"""The console: lines that stay, above repainted lines. Text is escaped so that it cannot disturb a terminal."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import threading
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, BinaryIO, Final, TextIO, TypeAlias, cast
from unicodedata import east_asian_width

from paco._base import system
from paco._view.writer import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

#: A text, and the name of its style.
Part: TypeAlias = tuple[str, str]
#: The parts of a line, from left to right.
Line: TypeAlias = list[Part]

#: The most bytes of a line that is not ended yet.
_LONGEST: Final = 1 << 14
#: The size of a stream that is not a terminal, and of a terminal that does not report its size.
_WIDE, _USUAL = os.terminal_size((500, 24)), os.terminal_size((80, 24))
_STYLES = {"red": "31", "green": "32", "bold": "1", "dim": "2"}


def safe(text: str) -> str:
    """Return ``text`` with every character that is not printable escaped. All foreign text is passed through this."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def safe_lines(text: str) -> str:
    """Return ``text`` made safe as by `safe`, but with its line ends."""
    return "\n".join(map(safe, text.split("\n")))


def columns(text: str) -> int:
    """Return the width of ``text`` in columns. East Asian wide characters take two."""
    return len(text) if text.isascii() else sum(2 if east_asian_width(char) in "WF" else 1 for char in text)


def fit(text: str, width: int) -> str:
    """Return ``text`` made safe and cut to ``width`` columns."""
    text = safe(text[: width + 1])
    if columns(text) <= width:
        return text
    text = text[: max(width - 3, 0)]
    while columns(text) > max(width - 3, 0):
        text = text[:-1]
    return text + "..."[:width]


def has_rich() -> bool:
    """Return whether rich is installed, which is needed to repaint lines."""
    return find_spec("rich") is not None


def _is_terminal(stream: Any) -> bool:
    """Return whether a stream is a terminal. ``None``, a closed stream, and one that cannot tell are not."""
    try:
        return bool(stream.isatty())
    except Exception:
        return False


def _encoding_of(stream: Any) -> str:
    """Return the encoding of a stream; UTF-8 if it has none that Python knows."""
    try:
        return codecs.lookup(stream.encoding).name
    except Exception:
        return "utf-8"


class Console:
    """Writes messages and progress to a stream, usually stderr, if there is one.

    The stream may be any object. What it cannot do, such as tell its width, is left out. If it refuses a text, because
    it is closed or has no reader, nothing more is written: the run goes on, since its records matter more.

    Of the environment variables, ``CI``, ``TERM``, ``NO_COLOR`` and ``FORCE_COLOR`` count. ``live`` says
    whether lines are repainted; with ``None``, they are on a terminal, unless ``CI`` is set. Repainting always needs
    rich, and a ``TERM`` that is not ``dumb``.
    """

    def __init__(self, stream: TextIO | None, environ: Mapping[str, str], *, live: bool | None = None) -> None:
        self._stream = stream
        # Reentrant: a signal handler may call say() while the main thread is inside say().
        self._lock = threading.RLock()
        self._terminal = _is_terminal(stream)
        escapes = self._terminal and system.understands_escapes(cast("TextIO", stream))
        able = escapes and not environ.get("CI") if live is None else live
        #: Whether lines are repainted. That needs rich, and a terminal that is not dumb.
        self.live = stream is not None and able and environ.get("TERM") != "dumb" and has_rich()
        #: Whether styles are shown.
        self.color = not environ.get("NO_COLOR") and (self.live or bool(environ.get("FORCE_COLOR")))
        self._encoding: str = _encoding_of(stream)
        self._writer = _writer(stream)
        #: Whether the stream can show more than ASCII.
        self.unicode = "utf" in self._encoding
        self._lines: Sequence[Line] = ()
        self._painting: Any = None  # rich's live display, while lines are shown
        if self.live:
            self._prepare()

    def size(self) -> os.terminal_size:
        """Return the present columns and lines; they change when the window is resized."""
        if self._stream is None or not self._terminal:
            return _WIDE
        with contextlib.suppress(Exception):
            size = os.get_terminal_size(self._stream.fileno())
            return size if size.columns else _USUAL  # a pseudo-terminal without a size reports 0
        return _USUAL

    def width(self) -> int:
        """Return the present number of columns."""
        return self.size().columns

    def style(self, text: str, name: str) -> str:
        """Return ``text`` in a style, or unchanged if colors are off."""
        return f"\x1b[{_STYLES[name]}m{text}\x1b[0m" if self.color and name else text

    def styled(self, line: Line) -> str:
        """Return a line as styled text."""
        return "".join(self.style(text, name) for text, name in line)

    def say(self, text: str) -> None:
        """Write lines that stay, above the repainted ones."""
        with self._lock:
            if self._painting is None:
                self._write(f"{text}\n")
            else:
                self._painter.out(text, highlight=False)

    def close(self) -> None:
        """Wait until everything is written. Give up on a terminal whose reader has stopped reading."""
        if self._writer is not None:
            self._writer.close()

    def paint(self, lines: Sequence[Line]) -> None:
        """Repaint with ``lines``, unless earlier text is not written yet. Without lines, remove the painted ones."""
        with self._lock:
            if lines and self._writer is not None and self._writer.stuck:
                return
            self._lines = lines
            if lines:
                if self._painting is None:  # a display that is restarted would overwrite the lines written since
                    self._painting = self._new_painting()
                    self._painting.start()
                self._painter.size = self.size()
                self._painting.refresh()
            elif self._painting is not None:
                self._painting.stop()
                self._painting = None

    def _prepare(self) -> None:
        """Import rich before the run starts: the import takes about 30 ms, which would block the event loop."""
        from rich.console import Console as Painter
        from rich.live import Live

        file = self._in_place_of(cast("TextIO", self._stream), self._put)
        painter: Any = Painter(file=file, force_terminal=True, color_system="auto" if self.color else None)
        painter.show_cursor = lambda _=True: False  # a hidden cursor would stay hidden after a kill
        self._painter = painter
        self._new_painting: Callable[[], Any] = partial(
            Live,
            get_renderable=self._renderable,
            console=painter,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    def _renderable(self) -> Any:
        from rich.segment import Segment, Segments

        lines = [[Segment(text, self._painter.get_style(name)) for text, name in line] for line in self._lines]
        return Segments([segment for line in lines for segment in (*line, Segment.line())][:-1])

    def _write(self, text: str) -> None:
        self._put(text.encode(self._encoding, "backslashreplace"))

    def _put(self, data: bytes) -> None:
        stream: Any = self._stream
        if stream is not None:
            try:
                if self._writer is None:
                    stream.write(data.decode(self._encoding))
                getattr(stream, "flush", str)()
            except Exception:
                self._stream = None
        if self._stream is not None and self._writer is not None:
            self._writer.write(data)

    def _in_place_of(self, stream: TextIO, write: Callable[[bytes], None]) -> TextIO:
        """Return a text stream that passes written bytes to ``write``, and is otherwise like another stream."""
        buffer = cast("BinaryIO", _Bytes(stream, write))
        return io.TextIOWrapper(buffer, self._encoding, "backslashreplace", newline="", write_through=True)

    @contextlib.contextmanager
    def guarding(self) -> Generator[None]:
        """While lines are repainted, show the output of the block above them.

        This holds for stderr, and for stdout if it is a terminal or the same file as stderr. If lines are not
        repainted, do nothing.
        """
        if not self.live:
            yield
            return
        rest = b""

        def write(data: bytes) -> None:
            nonlocal rest
            with self._lock:  # threads print too
                *lines, rest = (rest + data).split(b"\n")
                rest = _visible(rest)
                if len(rest) > _LONGEST:
                    lines, rest = [*lines, rest], b""
                if lines:
                    whole = b"\n".join(_visible(one).rstrip(b"\r") for one in lines)
                    self.say(whole.decode(self._encoding, "backslashreplace"))

        with contextlib.ExitStack() as redirected:
            if sys.stdout is not None and _is_shown_with(sys.stdout, sys.stderr):
                redirected.enter_context(contextlib.redirect_stdout(self._in_place_of(sys.stdout, write)))
            redirected.enter_context(contextlib.redirect_stderr(self._in_place_of(sys.stderr, write)))
            try:
                yield
            finally:
                if rest:  # the last line has no line end
                    write(b"\n")


def _writer(stream: TextIO | None) -> Writer | None:
    """Return what writes to the descriptor of a plain stream; another object, such as a notebook's, writes itself."""
    if type(stream) is io.TextIOWrapper:
        with contextlib.suppress(OSError, ValueError):
            return Writer(stream.fileno())
    return None


def _visible(line: bytes) -> bytes:
    """Return what a terminal shows of a line if carriage returns begin it anew, as those of progress bars do."""
    shown = line.rstrip(b"\r")
    return shown[shown.rfind(b"\r") + 1 :] + line[len(shown) :][:1]


def _is_shown_with(stdout: TextIO, stderr: TextIO) -> bool:
    if stdout is stderr or _is_terminal(stdout):
        return True
    try:
        return os.path.sameopenfile(stdout.fileno(), stderr.fileno())
    except Exception:
        return False


class _Bytes(io.RawIOBase):
    """Passes written bytes to a function. It has the name, the descriptor and the terminal of a text stream."""

    def __init__(self, stream: TextIO, write: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._write = write
        self.name: str = getattr(stream, "name", "")

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        self._write(bytes(data))
        return len(data)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()
