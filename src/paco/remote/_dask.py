"""A Dask cluster as an engine: <https://distributed.dask.org>."""

from __future__ import annotations

import asyncio
import importlib
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.errors import install
from paco._engine.nursery import background
from paco.remote._worker import end, work

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco.remote._engines import Engine

#: Seconds between two queries for the workers of the cluster.
_LOOK: Final = 1.0
#: The seconds after which a scheduler that does not answer counts as lost.
_PATIENCE: Final = 10.0
_SCHEME: Final = "dask://"


def dask_engine(name: str, engine: Any, slots: int | None) -> Callable[[], Engine]:
    """Return a function that opens the cluster when a run starts; the arguments are those of `engine_of`.

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
        raise ImportError(f"paco.{name}: a Dask cluster needs the Dask client; {install('dask')}") from error
    if not isinstance(engine, (str, distributed.Client)):
        raise TypeError(f"paco.{name}: engine must be a Dask client, got {check.shorten(engine)}")
    return lambda: Cluster(engine, slots)


class Cluster:
    """A Dask cluster as the engine of one run.

    Args:
        engine: Its client, which is left open, or the address of its scheduler.
        slots: The maximum number of chunks at once, for a cluster that grows; ``None`` for its number of threads.
    """

    flag = ""
    ours = False
    slots = processes = 1

    def __init__(self, engine: Any, slots: int | None) -> None:
        self._address = engine if isinstance(engine, str) else None
        self._client: Any = None if self._address else engine
        self._slots = slots
        self._sent: dict[Future[bytes], Any] = {}  # futures of the standard library, with those of Dask
        self._looking: asyncio.Task[None] | None = None

    async def open(self) -> None:
        if self._address is not None:
            connect: Any = importlib.import_module("distributed").Client
            address = "tcp://" + self._address.removeprefix(_SCHEME)
            self._client = connect(address, asynchronous=True, set_as_default=False)
            try:
                async with asyncio.timeout(_seconds_to_connect() + _PATIENCE):
                    await self._client
            except TimeoutError as error:
                raise ConnectionError(f"the scheduler of the Dask cluster at {address} gives no answer") from error
        await self._look()
        self._looking = background(self._keep_looking(), "paco.remote.look")

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
            with suppress(InvalidStateError):  # the scheduler was lost, and has come back
                future.set_result(report)
        except BaseException as error:
            with suppress(InvalidStateError):
                future.set_exception(error)
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
        with suppress(OSError):  # the scheduler is gone
            await self._client.run(end, run, on_error="ignore")
            await self._client.cancel([self._sent[future] for future in futures if future in self._sent], force=True)

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            with suppress(asyncio.CancelledError):
                await self._looking
        if self._address is not None and self._client is not None:
            await self._client.close()

    async def _keep_looking(self) -> None:
        """Query the cluster again and again; when its scheduler does not answer, fail all chunks."""
        try:
            while True:
                await asyncio.sleep(_LOOK)
                await self._look()
        except ConnectionError as lost:
            for future in tuple(self._sent):
                with suppress(InvalidStateError):  # it has just come back
                    future.set_exception(lost)

    async def _look(self) -> None:
        """Query the workers of the cluster, in the loop of the client, which may run in another thread.

        Raises:
            ConnectionError: The scheduler does not answer.
        """
        loop = self._client.loop.asyncio_loop
        try:
            async with asyncio.timeout(_PATIENCE):
                threads = await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._count(), loop))
        except Exception as error:
            raise ConnectionError(
                f"the scheduler of the Dask cluster is gone: it gave no answer for {_PATIENCE:.0f} s"
            ) from error
        self.slots = self._slots or sum(threads.values()) or 1
        self.processes = self._slots or len(threads) or 1

    async def _count(self) -> dict[str, int]:
        threads: dict[str, int] = await self._client.nthreads()
        return threads


def _seconds_to_connect() -> float:
    """Return the seconds that Dask tries to connect. Then it waits without end for a scheduler that is stopped."""
    dask: Any = importlib.import_module("dask")
    seconds: float = dask.utils.parse_timedelta(dask.config.get("distributed.comm.timeouts.connect"))
    return seconds
