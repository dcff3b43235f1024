"""The fork server: a process that imports once what all workers need, and forks each worker.

It can be forked safely because it has one thread, no event loop, and no state of the program. The program itself is
never forked, because it may have threads.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
from contextlib import suppress

from paco._base.system import KEYS
from paco.remote import _worker
from paco.remote._processes import NUMBER


def main(descriptor: int) -> None:
    """Fork a worker for each request, until the socket of the requests is closed and all workers have ended."""
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

    def serve(self) -> int | None:
        """Serve all requests. In each worker, return the descriptor of its socket; in the server, return ``None``."""
        gc.freeze()  # otherwise the last collection of each worker copies every page, which takes 40 of 60 ms
        os.set_blocking(self._woken, False)
        for key in KEYS:
            signal.signal(key, signal.SIG_IGN)  # the program handles Ctrl-C
        signal.signal(signal.SIGCHLD, _wake_up)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        sources: list[socket.socket | int] = [self._wake, self._requests]
        while len(sources) > 1 or self._pipes:
            ready, _, _ = select.select(sources, [], [])
            if self._wake in ready:
                os.read(self._wake, 1024)
                self._reap()
            if self._requests in ready:
                request, descriptors, _, _ = socket.recv_fds(self._requests, 1, 2)
                if not request:
                    sources.remove(self._requests)
                elif self._fork(*descriptors):
                    return descriptors[0]
        return None

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
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
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
