"""A connection to another process. Any thread can send without waiting, because a separate thread writes."""

from __future__ import annotations

import threading
from contextvars import Context
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from multiprocessing.connection import Connection


class Line:
    """Sends messages of bytes to another process, and receives them.

    Args:
        connection: The connection, which `close` closes.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._queue: SimpleQueue[bytes | None] = SimpleQueue()
        # In an empty context: without the GIL, a thread would keep the context of its starter as long as it lives.
        send = partial(Context().run, self._send_all)
        self._thread = threading.Thread(target=send, name="paco-line", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        """Queue a message. It is dropped if the other side is gone."""
        self._queue.put(data)

    def receive(self) -> bytes | None:
        """Wait for the next message; return ``None`` if the other side is gone."""
        try:
            return self._connection.recv_bytes()
        except (EOFError, OSError):
            return None

    def close(self) -> None:
        """Send all queued messages, then close the connection."""
        self._queue.put(None)
        self._thread.join()
        self._connection.close()

    def _send_all(self) -> None:
        while (data := self._queue.get()) is not None:
            try:
                self._connection.send_bytes(data)
            except OSError:
                return
