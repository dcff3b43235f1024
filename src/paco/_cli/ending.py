"""What ends the command: errors, signals and exit codes; and the counts of how its items ended."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import difflib
import importlib
import linecache
import os
import signal
import socket
import sys
import threading
import traceback
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from paco._base.check import message
from paco._base.system import ENDINGS, how_ended
from paco._view.console import fit, safe, safe_lines

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from multiprocessing.process import BaseProcess
    from types import FrameType

# ---- exit codes

FAILED: Final = 1
WRONG_USE: Final = 2
HALTED: Final = 3
#: 128 + SIGPIPE, which a shell reports for `yes` in `yes | head`.
CLOSED_PIPE: Final = 141


# ---- errors

#: The files between the command and the user's code. Their frames say nothing about the user's error.
_STARTS_THREADS = (threading.__file__, str(Path(concurrent.futures.__file__).parent))
_LIBRARY, _INSTALLED = str(Path(os.__file__).parent), frozenset({"site-packages", "dist-packages"})
_BETWEEN = ("<frozen ", str(Path(__file__).parent.parent), str(Path(importlib.__file__).parent), contextlib.__file__)


class CommandError(Exception):
    """Raised for wrong use, or a target that cannot be set up. Nothing was run; the exit code is 2."""


class ClosingError(Exception):
    """Raised if the user's context manager fails when it exits, after the items. The text has its traceback."""


class Problem(NamedTuple):
    """The error of an item, as its record has it: the name of a type, and a message; of a program more."""

    type: str
    message: str
    code: int | None = None  # the exit code of a program, or the negative number of the signal that ended it
    stderr: str = ""  # the end of what the program wrote there

    @property
    def kind(self) -> tuple[str, str]:
        """The kind of the error, for a count, and what it says besides: ``KeyError`` and ``'city'``."""
        if self.code is None:
            return self.type, self.message
        return how_ended(self.code).removeprefix("with ").removeprefix("by "), self.stderr

    def error(self) -> Exception:
        """Return an exception with this type name and message, for listeners, which receive exceptions."""
        kind: type[Exception] = type(safe(self.type), (Exception,), {})  # a record may have any name, even with a NUL
        return kind(self.message)


def suggest(wrong: str, known: Iterable[str]) -> str:
    """Return ``; did you mean X?`` with the known word that is similar to ``wrong``, or an empty text."""
    close = difflib.get_close_matches(wrong, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""


def explain(error: BaseException) -> str:
    """Return the traceback of ``error``, from the first frame of the user's code on."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(_BETWEEN):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    module = type(error).__module__
    return text.removeprefix(f"{module}.") if module.startswith("paco._") else text  # users do not know the module


def origin(error: BaseException) -> str:
    """Return where the user's code raised ``error``, and the code there; an empty text if it did not."""
    places = [(frame.f_code, line) for frame, line in traceback.walk_tb(error.__traceback__)]
    own = [(code, line) for code, line in places if not code.co_filename.startswith((*_BETWEEN, _LIBRARY))]
    own = [place for place in own if not _INSTALLED.intersection(Path(place[0].co_filename).parts)] or own
    if not own:
        return ""
    code, line = own[-1]
    file = code.co_filename
    with contextlib.suppress(OSError):  # the folder was deleted
        file = file.removeprefix(f"{Path.cwd()}{os.sep}")
    return f"{file}:{line} in {code.co_name}: {linecache.getline(code.co_filename, line).strip()}"


def reason(error: Exception) -> str:
    """Return the system's message of ``error``, without its number, or else its text."""
    return getattr(error, "strerror", None) or message(error)


def describe(error: OSError, name: str | None = None) -> str:
    """Return the system's message of ``error``, without its number, after the file; ``name`` replaces its name."""
    file = name or error.filename
    return reason(error) if file is None else f"{file}: {reason(error)}"


# ---- signals


def is_interrupt(error: BaseException) -> bool:
    """Return whether an error is a Ctrl-C because TARGET has restored Python's handler, which raises anywhere."""
    return isinstance(error, KeyboardInterrupt) and signal.getsignal(signal.SIGINT) is signal.default_int_handler


_HANGUP = getattr(signal, "SIGHUP", None)
#: The signal that asks for the state.
_STATE = getattr(signal, "SIGUSR1", None)
#: The number of signals at which the process exits at once.
_LEAVE = 3


class Interrupts:
    """Counts SIGINT, SIGTERM, SIGHUP and, on Windows, SIGBREAK, and passes them and SIGUSR1 on to the run.

    The handlers are set with ``signal.signal``, not with the loop: so a third Ctrl-C exits at once even if an item
    blocks the loop, and it works on Windows too. A handler raises only within ``raising``, and only once: its exception
    can come between any two bytecodes, and a second one could interrupt the handling of the first.

    With ``for_good``, they are handled until the process ends: it is one of the command.
    """

    def __init__(self, *, for_good: bool) -> None:
        self.for_good = for_good
        self.count = 0
        #: The number of the first signal, which decides the exit code.
        self.first: int | None = None
        self._raising = False
        self._code: int | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._advance: Callable[[], None] | None = None
        self._last: Callable[[], None] | None = None
        self._show: Callable[[], None] | None = None
        self._wake: Callable[[], int] | None = None

    @contextmanager
    def caught(self) -> Generator[None]:
        """Handle the signals within the block.

        Do nothing outside the main thread, where Python allows no signal handlers.
        """
        handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(ENDINGS, self._handle)
        if _STATE is not None:  # pragma: no branch - Windows has none
            handlers[_STATE] = self._show_state
        with contextlib.ExitStack() as stack:
            for number, handler in handlers.items():
                if number == _HANGUP and signal.getsignal(number) is signal.SIG_IGN:  # by nohup
                    continue
                with contextlib.suppress(ValueError):
                    before = signal.signal(number, handler)
                    if self.for_good:
                        # At exit Python resets every signal that has a handler to its default, but not ignored ones.
                        atexit.register(_ignore, number)
                    else:
                        stack.callback(signal.signal, number, before)
            yield

    @contextmanager
    def raising(self) -> Generator[None]:
        """Raise ``KeyboardInterrupt`` on the first signal. For blocks that may wait long, outside the event loop."""
        if self.count:
            raise KeyboardInterrupt
        self._raising = True
        try:
            yield
        finally:
            self._raising = False

    def end(self, code: int) -> None:
        """Have any further signal exit at once with this code, since the process is about to end."""
        self._code = code

    @contextmanager
    def attached(
        self, advance: Callable[[], None], last: Callable[[], None], show: Callable[[], None]
    ) -> Generator[None]:
        """Within the block, call ``advance`` in the running loop for each signal; the third calls ``last`` and exits.

        SIGUSR1 calls ``show`` in the loop.

        Each signal also wakes the loop. Python runs handlers between two bytecodes, so a signal that arrives just
        before the loop starts to wait would be handled only after the wait, which may never end. asyncio does the same
        in ``add_signal_handler``, but closes its socket while signals are still written to it.
        """
        self._loop = loop = asyncio.get_running_loop()
        self._advance, self._last, self._show = advance, last, show
        if self.count:
            loop.call_soon(advance)
        with contextlib.ExitStack() as stack:
            # NotImplementedError: on Windows the loop does this by itself. ValueError: not in the main thread.
            with contextlib.suppress(NotImplementedError, ValueError):
                receiver, sender = map(stack.enter_context, socket.socketpair())
                receiver.setblocking(False)
                sender.setblocking(False)
                # A Python function: handlers run between bytecodes, and uvloop, which is compiled, executes none.
                loop.add_reader(receiver, lambda: receiver.recv(4096))
                stack.callback(loop.remove_reader, receiver)
                wake = partial(signal.set_wakeup_fd, sender.fileno(), warn_on_full_buffer=False)
                stack.callback(_stop_waking, wake())
                self._wake = wake
            yield

    def resumed(self) -> None:
        """Wake the loop again after it was ended and runs on: uvloop has put its own descriptor in place."""
        if self._wake is not None:
            self._wake()

    def _handle(self, number: int, _frame: object) -> None:
        if number == self.first == _HANGUP:  # the system sends it, and the shell once more
            return
        self.count += 1
        self.first = self.first or number
        if self._code is not None:
            os._exit(self._code)
        if self.count == _LEAVE:
            if self._last is not None:
                self._last()
            os._exit(128 + self.first)
        if self._raising and self.count == 1:
            raise KeyboardInterrupt
        self._call(self._advance)

    def _show_state(self, _number: int, _frame: object) -> None:
        self._call(self._show)

    def _call(self, function: Callable[[], None] | None) -> None:
        if self._loop is not None and function is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                self._loop.call_soon_threadsafe(function)


# ---- what TARGET has left running

#: The seconds that tasks, and then threads, have to end after the items.
PATIENCE: Final = 2.0


def still_running(what: Iterable[str], then: str = "left behind") -> str:
    """Return a message that names what does not end, and says what is done then."""
    return "\n    ".join([f"paco: still running {PATIENCE:g} s after the end, so {then}:", *what])


def leave(code: int) -> None:
    """Have this process end soon: if threads keep it, name them, and exit with this code.

    If processes of `multiprocessing` keep it, name and kill them.
    """
    children = _children()
    if children or any(map(_keeps, threading.enumerate())):
        timer = threading.Timer(PATIENCE, _leave, [code])
        timer.daemon = True
        if not children:  # functions at exit, which may take their time, wait for them
            atexit.register(timer.cancel)
        timer.start()


def _children() -> list[BaseProcess]:
    """Return the processes of `multiprocessing` for which this one waits at its end."""
    started = sys.modules.get("multiprocessing.process")
    return [] if started is None else [one for one in started.active_children() if not one.daemon]


def _keeps(thread: threading.Thread) -> bool:
    return thread.is_alive() and not thread.daemon and thread is not threading.main_thread()


def _leave(code: int) -> None:
    if children := _children():
        print(safe_lines(still_running([f"process {one.name!r}" for one in children], "killed")), file=sys.stderr)
        for one in children:
            one.kill()
        leave(code)  # a thread that has waited for one ends now
        return
    frames: dict[int, FrameType] = vars(sys)["_current_frames"]()  # private by its name, but documented
    left = [_described(one, frames.get(one.ident or 0)) for one in threading.enumerate() if _keeps(one)]
    if left:
        print(safe_lines(still_running(left)), file=sys.stderr)
        vars(atexit)["_run_exitfuncs"]()  # Python does so too, once all threads have ended
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):  # TARGET may have put anything there
                stream.flush()
        os._exit(code)


def _described(thread: threading.Thread, frame: FrameType | None) -> str:
    """Return the name of a thread, and where it is, apart from the frames that start threads."""
    while frame is not None and frame.f_code.co_filename.startswith(_STARTS_THREADS):
        frame = frame.f_back
    if frame is None:
        return f"thread {thread.name!r}"
    return f"thread {thread.name!r}, at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_qualname}"


def _ignore(number: int) -> None:
    with contextlib.suppress(ValueError):  # in the thread that ends the process
        signal.signal(number, signal.SIG_IGN)


def _stop_waking(before: int) -> None:
    try:
        signal.set_wakeup_fd(before)
    except (OSError, ValueError):  # uvloop has closed it since
        signal.set_wakeup_fd(-1)


# ---- items

#: The most kinds of failures in a summary.
_KINDS = 8


class Tally:
    """Counts items by how they ended."""

    def __init__(self) -> None:
        self.started = self.ok = self.failed = self.cancelled = 0
        self.skipped = 0  # because of records of earlier runs
        self.retried = 0  # the number of further attempts of all items
        self._kinds: dict[str, tuple[int, str | None]] = {}

    @property
    def done(self) -> int:
        """Items that succeeded or failed."""
        return self.ok + self.failed

    @property
    def in_flight(self) -> int:
        return self.started - self.done - self.cancelled

    def fail(self, problem: Problem) -> None:
        """Count a failure by its kind. Keep the message as long as all failures of the kind have the same."""
        self.failed += 1
        kind, said = problem.kind
        count, text = self._kinds.get(kind, (0, said))
        self._kinds[kind] = count + 1, text if text == said else None

    def kinds(self) -> list[str]:
        """Return texts such as ``311 TimeoutError`` or ``64 HTTPError: 503``, the most frequent first."""
        ranked = sorted(self._kinds.items(), key=lambda kind: -kind[1][0])
        texts = [f"{count:,} {name}{': ' + fit(text, 50) if text else ''}" for name, (count, text) in ranked]
        return texts[:_KINDS] + ([f"and {len(texts) - _KINDS} other"] if len(texts) > _KINDS else [])
