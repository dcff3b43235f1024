"""A Dask cluster as an engine: <https://distributed.dask.org>."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._engine.nursery import background
from paco.remote._worker import end, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco.remote._engines import Engine

#: Seconds between two queries for the workers of the cluster.
_LOOK: Final = 1.0
_SCHEME: Final = "dask://"


def dask_engine(name: str, engine: Any, slots: int | None) -> Callable[[], Engine]:
    """Return a function that opens the cluster when a run starts.

    Args:
        name: The operation, for messages.
        engine: A Dask client, or an address such as ``dask://host:8786``.
        slots: The maximum number of chunks at once, for a cluster that grows; ``None`` for its number of threads.

    Raises:
        ImportError: ``distributed`` is not installed.
        TypeError: ``engine`` is another object of Dask.
        ValueError: ``engine`` is another kind of address.
    """
    if isinstance(engine, str) and not engine.startswith(_SCHEME):
        raise ValueError(f"paco.{name}: engine must be an address such as 'dask://host:8786', got {engine!r}")
    try:
        distributed = importlib.import_module("distributed")
    except ImportError as error:
        raise ImportError(f"paco.{name}: a Dask cluster needs the Dask client; pip install paco[dask]") from error
    if isinstance(engine, str):
        address = "tcp://" + engine.removeprefix(_SCHEME)
        return lambda: Cluster(None, address, slots)
    if not isinstance(engine, distributed.Client):
        raise TypeError(f"paco.{name}: engine must be a Dask client, got {check.shorten(engine)}")
    return lambda: Cluster(engine, "", slots)


class Cluster:
    """A Dask cluster as the engine of one run.

    Args:
        client: Its client, which is left open; or ``None`` to connect to ``address``.
        address: The address of its scheduler, if there is no client.
        slots: The maximum number of chunks at once; ``None`` for its number of threads.
    """

    flag = ""
    ours = False

    def __init__(self, client: Any, address: str, slots: int | None) -> None:
        self._client: Any = client
        self._address = address
        self._own = client is None
        self._slots = slots
        self._threads: dict[str, int] = {}
        self._sent: dict[Future[bytes], Any] = {}  # futures of the standard library, with those of Dask
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self._own:
            connect: Any = importlib.import_module("distributed").Client
            self._client = await connect(self._address, asynchronous=True, set_as_default=False)
        await self._look()
        self._looking = background(self._keep_looking(), "paco.remote.look")

    @property
    def slots(self) -> int:
        return self._slots or sum(self._threads.values()) or 1

    @property
    def processes(self) -> int:
        return self._slots or len(self._threads) or 1

    def submit(self, order: bytes, function: bytes, items: bytes) -> Future[bytes]:
        sent = self._client.submit(work, order, function, items, pure=False)  # pure would run equal chunks only once
        future: Future[bytes] = Future()
        self._sent[future] = sent
        self._client.loop.add_callback(self._follow, future, sent)
        return future

    async def _follow(self, future: Future[bytes], sent: Any) -> None:
        """Copy the outcome of a Dask future to a standard one. Dask's own executor does so too, but cannot cancel."""
        try:
            report: bytes = await sent
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(report)
        finally:
            del self._sent[future], sent, future  # the cluster keeps the result as long as the Dask future exists

    def lost(self, error: BaseException) -> int | None:
        if isinstance(error, importlib.import_module("distributed").scheduler.KilledWorker):
            return 1
        return 0 if isinstance(error, CancelledError) else None

    def cancel(self, run: str, futures: list[Any]) -> None:
        self._client.loop.add_callback(self._cancel, run, futures)

    async def _cancel(self, run: str, futures: list[Any]) -> None:
        """Cancel the run in each worker, wait until its items have ended, then cancel the chunks that have not begun.

        The order matters: a Dask future that is cancelled first counts as done while its items still run.
        """
        await self._client.run(end, run, on_error="ignore")
        await self._client.cancel([self._sent[future] for future in futures if future in self._sent], force=True)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._own and self._client is not None:
            await self._client.close()

    async def _keep_looking(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self._look()

    async def _look(self) -> None:
        """Query the workers of the cluster, in the loop of the client, which may run in another thread."""
        loop = self._client.loop.asyncio_loop
        self._threads = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._count(), loop))

    async def _count(self) -> dict[str, int]:
        threads: dict[str, int] = await self._client.nthreads()
        return threads
