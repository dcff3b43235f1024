"""Interpreters inside of this process, as an engine: ``InterpreterPoolExecutor``, from Python 3.14 on.

Each has its own GIL, so they compute at the same time. Each has one thread, which works on one chunk at a time, and may
not start daemon threads. So the event loop runs in that thread while there is a chunk, and pauses until the next.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import sys
from contextvars import Context
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from paco._base.errors import add_note
from paco._view.console import message
from paco.remote._engines import Called
from paco.remote._host import Bench, called, chunk_in
from paco.remote._messages import Order

if TYPE_CHECKING:
    from paco._base.types import Future
    from paco.remote._chunk import Chunk

_INSTEAD: Final = "give processes instead, such as .on(4)"
_FIND: Final = f"install paco or set PYTHONPATH, or {_INSTEAD}"


class Interpreters(Called):
    """A pool of interpreters as an engine."""

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._executor.submit(work, pickle.dumps(sys.path), order, function, items)

    def lost(self, error: BaseException) -> int | None:
        if type(error).__name__ == "NotShareableError":  # bytes can be shared, so it is `work` that cannot be imported
            add_note(error, f"paco is not on the sys.path that the interpreters start with; {_FIND}")
        return super().lost(error)


def is_pool(executor: Any) -> bool:
    """Return whether an executor is a pool of interpreters."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(executor, module.InterpreterPoolExecutor)


class _Bench(Bench):
    """A bench whose import errors say what to do."""

    def _prepared(self, data: bytes, function: bytes, items: bytes) -> Chunk:
        try:
            return super()._prepared(data, function, items)
        except ImportError as error:
            raise ImportError(
                f"paco.{Order.load(data).name}: what its function or an item needs cannot be imported in an "
                f"interpreter of InterpreterPoolExecutor: {_reason(error)}; {_INSTEAD}"
            ) from error


def _reason(error: BaseException) -> str:
    """Return the message of the original error: numpy raises another one of 30 lines from it."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return message(error)


class _Worker:
    """The bench of an interpreter, and its event loop."""

    def __init__(self) -> None:
        here = import_module("concurrent.interpreters").get_current()
        self._runner = asyncio.Runner()
        self._bench = _Bench(f"interpreter {here.id} of {called(os.getpid())}")
        atexit.register(self._runner.close)  # cancels the tasks that items have left running

    def work(self, *chunk: bytes) -> bytes:
        return self._runner.run(chunk_in(self._bench, *chunk), context=Context())


_worker: _Worker | None = None


def work(path: bytes, *chunk: bytes) -> bytes:
    """Run a chunk in this interpreter, and return its report.

    Args:
        path: The program's ``sys.path``, pickled: an interpreter starts with the one that Python started with.
        chunk: The arguments of `Bench.work`.
    """
    global _worker  # noqa: PLW0603 - one for each interpreter is what it is for
    if _worker is None:
        sys.path[:] = pickle.loads(path)  # noqa: S301 - of this process
        _worker = _Worker()
    return _worker.work(*chunk)
