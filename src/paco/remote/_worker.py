"""A process of `paco.remote.Workers`: it receives chunks through a socket and sends reports until the socket closes."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from importlib import import_module
from multiprocessing import connection
from typing import TYPE_CHECKING, Any, Final

from paco._base.system import KEYS
from paco.remote._host import Host
from paco.remote._messages import Line

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

#: The class of connections in this process, which is another one on Windows.
_Connection: Final[Any] = getattr(connection, "PipeConnection", connection.Connection)
#: The seconds that items have to end after the program that sent them is gone.
_GRACE: Final = 1.0


def main(descriptor: int) -> None:
    """Run chunks until the program closes the connection or is gone.

    Args:
        descriptor: The file descriptor (on Windows, the handle) of the connection to the program.
    """
    for key in KEYS:
        signal.signal(key, signal.SIG_IGN)  # the program handles Ctrl-C, and then cancels the items here
    line = Line(_Connection(descriptor))
    sys.path[:], loops = pickle.loads(line.receive() or b"")  # noqa: S301 - from the program that started this process
    host = Host(_maker(loops))
    line.send(b"")  # tells the program that this process is ready
    if not serve(line, host):
        leave = threading.Timer(_GRACE, os._exit, [1])
        leave.daemon = True
        leave.start()
    host.close()
    line.close()


def _maker(package: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return the ``new_event_loop`` function of a package; ``None`` if the package or the function is missing."""
    with suppress(ImportError):
        return getattr(import_module(package), "new_event_loop", None)
    return None


def serve(line: Line, host: Host) -> bool:
    """Run the chunks that arrive; return true after the closing message, false if the other side is gone."""

    def report(number: int, done: Future[bytes]) -> None:
        with suppress(CancelledError):  # this process ended before the chunk began
            line.send(pickle.dumps((number, done.result())))

    while (data := line.receive()) is not None:
        if not data:
            return True
        number, *rest = pickle.loads(data)  # noqa: S301 - from the program that started this process
        if number is None:
            host.cancel(*rest)
        else:
            host.start(*rest).add_done_callback(partial(report, number))
    return False
