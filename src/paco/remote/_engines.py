"""What chunks can be given to: a pool of ours, an executor, a Dask cluster. `engine_of` tells which one is meant."""

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
from typing import TYPE_CHECKING, Any, Final, Protocol, runtime_checkable

from paco._base import check
from paco._base.errors import add_note
from paco._base.types import Executor
from paco._view.console import message
from paco.remote._host import Bench, called, chunk_in, work
from paco.remote._messages import Order

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.types import Future
    from paco.remote._chunk import Chunk


class Engine(Protocol):
    """What a run asks of the engine that it has chosen."""

    async def open(self) -> None:
        """Be there, when the run begins."""
        ...

    @property
    def slots(self) -> int:
        """How many chunks can be worked on at once."""
        ...

    @property
    def processes(self) -> int:
        """In how many processes, as far as that is known."""
        ...

    @property
    def apart(self) -> int:
        """How many chunks, if there are no others, each have a process of their own for sure."""
        ...

    @property
    def flag(self) -> str:
        """A path that comes into being with `cancel`; empty where that is not how it works."""
        ...

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        """Have a chunk worked on. The future has the report, or an error."""
        ...

    def lost(self, error: BaseException) -> int | None:
        """Say whether an error only means that a worker is gone, and another one may do the same.

        Returns:
            ``None`` for an error of another kind, 1 if the worker has died with the chunk, 0 if that had not begun.
        """
        ...

    def cancel(self, run: str, futures: list[Future]) -> None:
        """Cancel what the workers do for a run, and what they have not begun. The futures tell when that is done."""
        ...

    async def close(self) -> None:
        """Let go of it, at the end of the run."""
        ...


@runtime_checkable
class Following(Protocol):
    """What an engine of processes of this machine has: a chunk can be given to the one that works on another one."""

    def submit_after(self, before: Future, order: bytes, function: bytes, items: bytes) -> Future:
        """Have a chunk worked on by who has another one, or by anybody if that worker is gone."""
        ...


class Called:
    """Any executor as an engine.

    Args:
        executor: It; it is left open.
        slots: How many calls it makes at once.
    """

    def __init__(self, executor: Executor, slots: int) -> None:
        self._executor = executor
        self.slots: int = slots
        self.processes: int = slots
        self.apart: int = 1
        self.flag: str = str(Path(tempfile.gettempdir(), f"paco-{uuid.uuid4().hex}"))

    async def open(self) -> None:
        """Do nothing: an executor is there."""

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._executor.submit(work, order, function, items)

    def lost(self, error: BaseException) -> int | None:
        if isinstance(error, BrokenExecutor):
            why = "an executor is broken for good when one of its workers dies"
            add_note(error, f"{why}; give a number of processes instead, .on(4), which are replaced")
        return None

    def cancel(self, run: str, futures: list[Future]) -> None:
        Path(self.flag).touch()
        for future in futures:
            future.cancel()

    async def close(self) -> None:
        with suppress(FileNotFoundError):
            os.unlink(self.flag)  # noqa: PTH108 - in no thread: it takes microseconds


def engine_of(name: str, engine: Any, slots: int | None) -> Callable[[], Engine]:
    """Return what opens an engine, when a run starts.

    Args:
        name: What was called, for messages.
        engine: As of `Stream.on`.
        slots: Chunks at once at most, if somebody knows better than the engine.

    Raises:
        TypeError: It is none.
        ValueError: A number of processes below 1, or an address of another kind.
    """
    if slots is not None:
        slots = check.integer(name, "slots", slots, 1)
    if isinstance(engine, int):
        from paco.remote._workers import Own

        count = check.integer(name, "engine", engine, 1)
        return lambda: Own(count)
    return _given(name, engine, slots)


def _given(name: str, engine: Any, slots: int | None) -> Callable[[], Engine]:
    from paco.remote._workers import Lent, Workers

    if isinstance(engine, Workers):
        return lambda: Lent(engine)
    if isinstance(engine, str) or type(engine).__module__.partition(".")[0] == "distributed":
        from paco.remote._dask import dask_engine

        return dask_engine(name, engine, slots)
    if not isinstance(engine, type) and isinstance(engine, Executor):
        kind = Interpreters if is_pool(engine) else Called
        return lambda: kind(engine, slots or _slots_of(engine))
    raise TypeError(
        f"paco.{name}: engine must be a number of processes, paco.remote.Workers, an executor (anything with submit), "
        f"a Dask client or an address such as 'dask://host:8786', got {check.shorten(engine)}"
    )


def _slots_of(executor: Executor) -> int:
    """Return how many calls an executor makes at once: what those of the standard library, loky and MPI tell."""
    for name in ("slots", "_max_workers", "num_workers"):
        if isinstance(count := getattr(executor, name, None), int) and count > 0:
            return count
    return os.cpu_count() or 1


_INSTEAD: Final = "give processes instead, such as .on(4)"
_FIND: Final = f"install paco or set PYTHONPATH, or {_INSTEAD}"


class Interpreters(Called):
    """The interpreters of an ``InterpreterPoolExecutor``, from Python 3.14 on, as an engine.

    Each has its own GIL, so they compute at the same time. Each has one thread, which works on one chunk at a time, and
    may not start daemon threads. So the event loop runs in that thread while there is a chunk, and pauses until the
    next.
    """

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future:
        return self._executor.submit(interpret, pickle.dumps(sys.path), order, function, items)

    def lost(self, error: BaseException) -> int | None:
        if type(error).__name__ == "NotShareableError":  # bytes can be shared: `interpret` cannot be imported
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


def interpret(path: bytes, *chunk: bytes) -> bytes:
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
