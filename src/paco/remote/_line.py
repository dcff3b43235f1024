"""A connection that can be sent to from any thread without waiting: a thread of its own does."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Line:
    """Messages to and from another process, each some bytes.

    Args:
        connection: Which is this one's from now on.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # In a context of its own: without a GIL, a thread would keep that of whoever starts it for as long as it lives.
        send = partial(Context().run, self._send_all)
        self._thread = threading.Thread(target=send, name="paco-line", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Send when it is its turn; what the other side does not take any more is dropped."""
        self._queue.put(data)

    def receive(self) -> bytes | None:
        """Wait for the next message: ``None`` when the other side is gone."""
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        """Send what there is, and close."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _send_all(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._connection.send_bytes(data)
            except OSError:
                return
