"""The process that starts programs, and ends them when the process that asked for them is gone.

It is run by its path in an interpreter that imports nothing else, so it imports nothing of paco.

One process starts all programs, for three reasons. They end on any system even after ``kill -9``, since that closes the
connection. The process has few descriptors and little memory, so starting a program costs as little as the system
allows. And none of that takes time of the event loop.

A message is its length in 4 bytes and a tuple, by `marshal`, since both sides are the same Python. The requests are
``(number, argv, stdin)`` to start a program, where ``stdin`` may be ``None``, and ``(number,)`` to end it. The reply is
``(number, code, stdout, dropped, stderr)`` once the program has ended, or ``(number, errno)`` if it did not start.
"""

from __future__ import annotations

import marshal
import math
import os
import selectors
import signal
import sys
import time
from collections import deque
from contextlib import suppress
from functools import partial
from typing import Any

#: The most bytes of stdout and of stderr of a program that are kept: the last ones.
STDOUT = 16 << 20
STDERR = 4 << 10
#: Seconds from SIGTERM to SIGKILL, and those in which others may still write after the program itself has ended.
GRACE = 1.0
#: Seconds that the system has to end what was killed, before this process exits anyway.
PATIENCE = 3.0
#: Seconds from one look at groups that are ending to the next, at the end.
_TICK = 0.02
#: Bytes of the length of a message.
HEAD = 4
_CHUNK = 1 << 16
#: The most chunks to read from one pipe before it is another's turn.
_TURN = 16
#: Python ignores these signals. A program that it starts must not.
_DEFAULTS = [getattr(signal, name) for name in ("SIGPIPE", "SIGXFSZ") if hasattr(signal, name)]


class Tail:
    """The last bytes that are written to a pipe."""

    def __init__(self, most: int) -> None:
        #: The descriptor to read from; -1 if it is closed.
        self.pipe = -1
        #: The number of bytes that are not kept.
        self.dropped = 0
        self._most = most
        self._size = 0
        self._chunks: deque[bytes] = deque()

    def read(self) -> bool:
        """Read what is there; return whether there can be more."""
        with suppress(BlockingIOError):
            for _ in range(_TURN):
                chunk = os.read(self.pipe, _CHUNK)
                if not chunk:
                    return False
                self._chunks.append(chunk)
                self._size += len(chunk)
                while self._size - len(self._chunks[0]) >= self._most:
                    self._drop(len(self._chunks.popleft()))
        return True

    def take(self) -> bytes:
        """Return the bytes that are kept."""
        whole = b"".join(self._chunks)
        self._drop(max(self._size - self._most, 0))
        return whole[len(whole) - self._size :]

    def _drop(self, count: int) -> None:
        self._size -= count
        self.dropped += count


class Program:
    """A program that has not been reported yet."""

    def __init__(self, number: int, stdin: bytes | None) -> None:
        self.number = number
        self.pid = 0
        #: How it ended: an exit code, or the negative number of a signal; ``None`` while it runs.
        self.code: int | None = None
        self.stdout, self.stderr = Tail(STDOUT), Tail(STDERR)
        #: The descriptor of the pipe to its stdin, or -1; and what is left to write to it.
        self.stdin = -1
        self.unwritten = memoryview(stdin or b"")

    def write(self) -> bool:
        """Write what fits into the pipe; return whether anything is left to write."""
        try:
            self.unwritten = self.unwritten[os.write(self.stdin, self.unwritten) :]
        except OSError as error:  # the pipe is full; otherwise the program has closed its stdin, or ended
            return isinstance(error, BlockingIOError)
        return bool(self.unwritten)


class Starter:
    """Starts and ends programs for the process at the other end of a socket."""

    def __init__(self, connection: int) -> None:
        self._connection = connection
        os.set_inheritable(connection, False)  # a program that has it would keep it open
        self._received = bytearray()
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._environment = dict(os.environb)
        self._nothing = os.open(os.devnull, os.O_RDWR)
        self._apart: dict[str, Any] = {"setsid": True}
        self._programs: dict[int, Program] = {}  # by their numbers
        self._running: dict[int, Program] = {}  # by their process IDs, which are those of their groups
        #: When not to wait any longer for the output of programs that have ended, and when to kill groups.
        self._reports: dict[Program, float] = {}
        self._kills: dict[int, float] = {}

    def serve(self) -> None:
        """Serve until the other end is closed; then end all programs."""
        woken, waking = os.pipe()
        os.set_blocking(woken, False)
        os.set_blocking(waking, False)
        before = signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
        handlers = {number: signal.signal(number, _do_nothing) for number in self._handled()}
        self._selector.register(woken, selectors.EVENT_READ, partial(self._reap, woken))
        self._selector.register(self._connection, selectors.EVENT_READ, self._receive)
        last = math.inf
        try:
            while self._open or ((self._running or self._kills) and time.monotonic() < last):
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._look_at_clock()
                if not self._open:
                    last = min(last, time.monotonic() + GRACE + PATIENCE)
                    self._kills = {pid: when for pid, when in self._kills.items() if _is_there(pid)}
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            signal.set_wakeup_fd(before)
            self._selector.close()
            for descriptor in (woken, waking, self._nothing, self._connection):
                os.close(descriptor)

    @staticmethod
    def _handled() -> list[int]:
        """Return the signals at which nothing is done: those that would end this process before its programs.

        They are not ignored, since programs would inherit that. One that is ignored already, as by nohup, stays so.
        """
        endings = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        return [signal.SIGCHLD, *(one for one in endings if signal.getsignal(one) is not signal.SIG_IGN)]

    # ---- messages

    def _receive(self) -> None:
        try:
            data = os.read(self._connection, _CHUNK)
        except OSError:
            data = b""
        if not data:
            self._close()
            return
        received = self._received
        received += data
        while len(received) >= HEAD and len(received) >= (end := HEAD + int.from_bytes(received[:HEAD])):
            request = marshal.loads(received[HEAD:end])  # noqa: S302 - from the process that started this one
            del received[:end]
            if len(request) == 1:
                self._end(request[0])
            else:
                self._start(*request)

    def _reply(self, *values: Any) -> None:
        """Send a reply, and wait until it is sent: the other side always reads, and memory is bounded."""
        data = marshal.dumps(values)
        left = memoryview(len(data).to_bytes(HEAD) + data)
        with suppress(OSError):  # closed
            while self._open and left:
                left = left[os.write(self._connection, left) :]

    def _close(self) -> None:
        self._open = False
        self._selector.unregister(self._connection)  # closed at the end, which tells the other side
        for pid in self._running:
            self._end_group(pid)

    # ---- programs

    def _start(self, number: int, argv: list[bytes], stdin: bytes | None) -> None:
        program = Program(number, stdin)
        ends: list[int] = []
        try:
            if stdin is not None:
                end, program.stdin = os.pipe()
                ends.append(end)
            for tail in (program.stdout, program.stderr):
                tail.pipe, end = os.pipe()
                ends.append(end)
            program.pid = self._spawn(argv, ends if program.stdin >= 0 else [self._nothing, *ends])
        except OSError as error:
            for descriptor in (program.stdin, program.stdout.pipe, program.stderr.pipe):
                if descriptor >= 0:
                    os.close(descriptor)
            self._reply(number, error.errno)
            return
        finally:
            for end in ends:
                os.close(end)
        self._programs[number] = self._running[program.pid] = program
        self._kills.pop(program.pid, None)  # that of an earlier group, which is gone: its number is used again
        self._connect(program)

    def _spawn(self, argv: list[bytes], streams: list[int]) -> int:
        actions = [(os.POSIX_SPAWN_DUP2, descriptor, number) for number, descriptor in enumerate(streams)]
        while True:
            try:
                return os.posix_spawnp(
                    argv[0], argv, self._environment, file_actions=actions, setsigdef=_DEFAULTS, **self._apart
                )
            except NotImplementedError:  # this system cannot start a session so, but a group
                self._apart = {"setpgroup": 0}

    def _connect(self, program: Program) -> None:
        """Read and write the pipes of a program from now on."""
        for tail in (program.stdout, program.stderr):
            os.set_blocking(tail.pipe, False)
            self._selector.register(tail.pipe, selectors.EVENT_READ, partial(self._read, program, tail))
        if program.stdin >= 0:
            os.set_blocking(program.stdin, False)
            if program.write():
                self._selector.register(program.stdin, selectors.EVENT_WRITE, partial(self._write, program))
            else:
                os.close(program.stdin)
                program.stdin = -1

    def _write(self, program: Program) -> None:
        if program.stdin >= 0 and not program.write():
            self._disconnect(program.stdin)
            program.stdin = -1

    def _read(self, program: Program, tail: Tail) -> None:
        if tail.pipe >= 0 and not tail.read():
            self._disconnect(tail.pipe)
            tail.pipe = -1
            if program.code is not None:
                self._report_if_silent(program)

    def _disconnect(self, descriptor: int) -> None:
        self._selector.unregister(descriptor)
        os.close(descriptor)

    def _end(self, number: int) -> None:
        """End a program that is not wanted any more."""
        if (program := self._programs.get(number)) is not None:
            self._end_group(program.pid)

    # ---- the end of programs

    def _reap(self, woken: int) -> None:
        os.read(woken, _CHUNK)
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                program = self._running.pop(ended[0])
                program.code = os.waitstatus_to_exitcode(ended[1])
                for tail in (program.stdout, program.stderr):
                    self._read(program, tail)
                self._report_if_silent(program)

    def _report_if_silent(self, program: Program) -> None:
        """Report a program that has ended once nothing that it started can write its output."""
        if program.stdout.pipe < 0 and program.stderr.pipe < 0:
            self._report(program)
        else:
            self._reports.setdefault(program, time.monotonic() + GRACE)

    def _report(self, program: Program) -> None:
        if self._programs.pop(program.number, None) is None:  # pragma: no cover - its grace and its output end together
            return
        self._reports.pop(program, None)
        for descriptor in (program.stdin, program.stdout.pipe, program.stderr.pipe):
            if descriptor >= 0:
                self._disconnect(descriptor)
        program.stdin = program.stdout.pipe = program.stderr.pipe = -1
        stdout = program.stdout.take()
        self._reply(program.number, program.code, stdout, program.stdout.dropped, program.stderr.take())
        self._end_group(program.pid)

    def _end_group(self, pid: int) -> None:
        """Have the processes of a group end, if there are any: ask them now, and kill them later."""
        if pid not in self._kills:
            with suppress(OSError):  # ESRCH: there are none
                os.killpg(pid, signal.SIGTERM)
                self._kills[pid] = time.monotonic() + GRACE

    def _look_at_clock(self) -> None:
        if not self._reports and not self._kills:
            return
        now = time.monotonic()
        for program in [one for one, when in self._reports.items() if when <= now]:
            self._report(program)
        for pid in [one for one, when in self._kills.items() if when <= now]:
            del self._kills[pid]
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)

    def _pause(self) -> float | None:
        """Return the seconds until something must be done; ``None`` if nothing must."""
        if not self._open:
            return _TICK
        times = [*self._reports.values(), *self._kills.values()]
        return max(min(times) - time.monotonic(), 0) if times else None


def _do_nothing(_number: int, _frame: object) -> None:
    """Do nothing at a signal: it has woken the loop by its descriptor."""


def _is_there(pid: int) -> bool:
    """Return whether a process group has processes."""
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    Starter(int(sys.argv[1])).serve()
