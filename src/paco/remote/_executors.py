"""Executors as engines; among them pools of interpreters."""

from __future__ import annotations

import asyncio
import atexit
import os
import pickle
import sys
import tempfile
import uuid
from concurrent.futures import BrokenExecutor
from contextlib import suppress
from contextvars import Context
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from paco._base.check import message
from paco._base.errors import add_note
from paco.remote._chunk import ChunkRunner
from paco.remote._messages import Order
from paco.remote._processes import called
from paco.remote._worker import work

if TYPE_CHECKING:
    from paco._base.types import Executor, Future
    from paco.remote._chunk import Chunk


class ExecutorEngine:
    """Any executor as an engine. It is left open; ``slots`` is the number of calls that it makes at once."""

    ours = False

    def __init__(self, executor: Executor, slots: int) -> None:
        self._executor = executor
        self.slots: int = slots
        self.processes: int = slots
        self.flag: str = str(Path(tempfile.gettempdir(), f"paco-{uuid.uuid4().hex}"))

    async def open(self) -> None:
        """Do nothing: the executor is open."""

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._executor.submit(work, order, function, items)

    def lost(self, error: BaseException) -> int | None:
        if isinstance(error, BrokenExecutor):
            why = "an executor cannot be used after one of its workers has died"
            add_note(error, f"{why}; pass a number of processes instead, as in .on(4): these are replaced")
        return None

    def cancel(self, run: str, futures: list[Future]) -> None:
        Path(self.flag).touch()
        for future in futures:
            future.cancel()

    async def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.flag)  # noqa: PTH108 - not in a thread, because it takes microseconds


def slots_of(executor: Executor) -> int:
    """Return how many calls an executor makes at once, from the attributes of the standard library, loky and MPI.

    Without such an attribute, this is the number of processors.
    """
    for name in ("slots", "_max_workers", "num_workers"):
        if isinstance(count := getattr(executor, name, None), int) and count > 0:
            return count
    return os.cpu_count() or 1


_INSTEAD: Final = "use processes instead, as in .on(4)"
_FIND: Final = f"install paco or set PYTHONPATH, or {_INSTEAD}"


class Interpreters(ExecutorEngine):
    """An ``InterpreterPoolExecutor`` as an engine, since Python 3.14.

    Each interpreter has its own GIL, so they compute in parallel. Each has one thread, which runs one chunk at a time,
    and cannot start daemon threads. So the event loop runs in that thread during a chunk, and pauses until the next.
    """

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._executor.submit(interpret, pickle.dumps(sys.path), order, function, items)

    def lost(self, error: BaseException) -> int | None:
        if type(error).__name__ == "NotShareableError":  # bytes are shareable: `interpret` was not found
            add_note(error, f"paco is not on the sys.path that the interpreters start with; {_FIND}")
        return super().lost(error)


def is_pool(executor: Any) -> bool:
    """Return whether an executor is a pool of interpreters."""
    module = sys.modules.get("concurrent.futures.interpreter")
    return module is not None and isinstance(executor, module.InterpreterPoolExecutor)


class _InterpreterRunner(ChunkRunner):
    """Runs the chunks of an interpreter, in an event loop of its own. It adds advice to import errors."""

    def __init__(self) -> None:
        here = import_module("concurrent.interpreters").get_current()
        super().__init__(f"interpreter {here.id} of {called(os.getpid())}")
        self.loop = asyncio.Runner()
        atexit.register(self.loop.close)  # cancels the tasks that items have left running

    def _prepared(self, data: bytes, function: bytes, items: bytes, number: int) -> Chunk:
        try:
            return super()._prepared(data, function, items, number)
        except ImportError as error:
            raise self._refused(Order.load(data).name, error) from error

    def _refused(self, name: str, error: Exception) -> Exception:
        if not isinstance(error, ImportError):
            return super()._refused(name, error)
        refused = ImportError(
            f"paco.{name}: what its function or an item needs cannot be imported in an interpreter of "
            f"InterpreterPoolExecutor: {_reason(error)}; {_INSTEAD}"
        )
        refused.__cause__ = error
        return refused


def _reason(error: BaseException) -> str:
    """Return the message of the original error. For example, numpy wraps it in an error with 30 lines of text."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return message(error)


_runner: _InterpreterRunner | None = None


def interpret(path: bytes, *chunk: bytes) -> bytes:
    """Run a chunk in this interpreter, and return its report.

    Args:
        path: The program's pickled ``sys.path``. An interpreter starts with the original one, without later changes.
        *chunk: The arguments of `ChunkRunner.work`.
    """
    global _runner  # noqa: PLW0603 - there is one for each interpreter
    if _runner is None:
        sys.path[:] = pickle.loads(path)  # noqa: S301 - from this process
        _runner = _InterpreterRunner()
    return _runner.loop.run(_runner.work(*chunk), context=Context())
