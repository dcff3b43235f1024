"""A process of `paco.remote.Workers`: it gets chunks through a socket and sends back reports, until that is closed."""

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
from paco.remote._line import Line

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable
    from concurrent.futures import Future

#: What a pipe is in this process; it is another class on Windows.
_Connection: Final[Any] = getattr(connection, "PipeConnection", connection.Connection)
#: Seconds in which items can end when the program that has sent them is gone.
_GRACE: Final = 1.0


def main(descriptor: int) -> None:
    """Work until the other side says that this is all, or is gone."""
    for key in KEYS:
        signal.signal(key, signal.SIG_IGN)  # Ctrl-C is for the program, which then cancels what runs here
    line = Line(_Connection(descriptor))
    sys.path[:], loops = pickle.loads(line.receive() or b"")  # noqa: S301 - of the program that has started this one
    host = Host(_maker(loops))
    line.send(b"")  # it is there
    if not serve(line, host):
        leave = threading.Timer(_GRACE, os._exit, [1])
        leave.daemon = True
        leave.start()
    host.close()
    line.close()


def _maker(package: str) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what a package makes event loops by; ``None`` where it is not here, or cannot."""
    with suppress(ImportError):
        return getattr(import_module(package), "new_event_loop", None)
    return None


def serve(line: Line, host: Host) -> bool:
    """Do what comes through the line; true when the other side has said goodbye, false when it is gone."""

    def report(number: int, done: Future[bytes]) -> None:
        with suppress(CancelledError):  # before it began, because this process ends
            line.send(pickle.dumps((number, done.result())))

    while (data := line.receive()) is not None:
        if not data:
            return True
        number, *rest = pickle.loads(data)  # noqa: S301 - of the program that has started this one
        if number is None:
            host.cancel(*rest)
        else:
            host.start(*rest).add_done_callback(partial(report, number))
    return False
