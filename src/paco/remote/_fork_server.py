"""The fork server: a process that imports once what all workers need, and forks each worker.

It can be forked safely because it has one thread, no event loop, and no state of the program. The program itself is
never forked, because it may have threads. When the program is gone, the server kills the workers that do not end by
themselves, because an item holds the GIL or they are stopped. On Linux, it is woken for that even if it is stopped, and
workers are killed when it is.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from contextlib import suppress

from paco._base import system
from paco.remote import _worker
from paco.remote._processes import GRACE, NUMBER


def main(descriptor: int) -> None:
    """Fork a worker for each request, until the program closes the socket and all workers have ended, or it is gone."""
    worker = Server(socket.socket(fileno=descriptor)).serve()
    if worker is not None:
        _worker.main(worker)


class Server:
    """The loop that forks workers and reaps them.

    Args:
        requests: The socket that receives requests. A request is one byte with two descriptors: the socket of the
            worker, and the pipe for its numbers.
    """

    def __init__(self, requests: socket.socket) -> None:
        self._requests = requests
        self._pipes: dict[int, int] = {}  # by process ID
        self._wake, self._woken = os.pipe()
        self._program = os.getppid()

    def serve(self) -> int | None:
        """Serve all requests. In each worker, return the descriptor of its socket; in the server, return ``None``."""
        gc.freeze()  # otherwise the last collection of each worker copies every page, which takes 40 of 60 ms
        os.set_blocking(self._woken, False)
        for key in system.KEYS:
            signal.signal(key, signal.SIG_IGN)  # the program handles Ctrl-C
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.signal(signal.SIGCONT, _wake_up)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())  # a program that blocks signals hands that down
        system.signal_after_parent(signal.SIGCONT)
        sources: list[socket.socket | int] = [self._wake, self._requests]
        while len(sources) > 1 or self._pipes:
            # Without requests, the program is ending, or gone: not every system sends a signal then.
            ready, _, _ = select.select(sources, [], [], GRACE if len(sources) == 1 else None)
            if self._wake in ready:
                os.read(self._wake, 1024)
                self._reap()
            if self._requests in ready:
                request, descriptors, _, _ = socket.recv_fds(self._requests, 1, 2)
                if not request:
                    sources.remove(self._requests)
                elif self._fork(*descriptors):
                    return descriptors[0]
            if os.getppid() != self._program:
                self._end()
                break
        return None

    def _end(self) -> None:
        """Give the workers time to end, then kill them."""
        end = time.monotonic() + GRACE
        while self._pipes and (left := end - time.monotonic()) > 0:
            if select.select([self._wake], [], [], left)[0]:
                os.read(self._wake, 1024)
                self._reap()
        for child in self._pipes:
            os.kill(child, signal.SIGKILL)

    def _fork(self, worker: int, pipe: int) -> bool:
        """Fork, and return whether this is the new process."""
        try:
            child = os.fork()
        except OSError:  # out of memory, or too many processes: report that the worker has failed
            self._write(pipe, 0)
            self._write(pipe, 1)
            os.close(pipe)
            os.close(worker)
            return False
        if child:
            self._pipes[child] = pipe
            self._write(pipe, child)
            os.close(worker)
            return False
        system.signal_after_parent(signal.SIGKILL)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGCONT):
            signal.signal(number, signal.SIG_DFL)
        for descriptor in (self._requests.detach(), self._wake, self._woken, pipe, *self._pipes.values()):
            os.close(descriptor)
        return True

    def _reap(self) -> None:
        """Write the exit codes of the workers that have ended."""
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)) != (0, 0):
                child, status = ended
                pipe = self._pipes.pop(child)
                self._write(pipe, os.waitstatus_to_exitcode(status))
                os.close(pipe)

    def _write(self, pipe: int, number: int) -> None:
        with suppress(BrokenPipeError):  # the program has ended
            os.write(pipe, NUMBER.pack(number))


def _wake_up(number: int, frame: object) -> None:
    """Do nothing. The handler must exist, because a signal without one does not wake the server."""
