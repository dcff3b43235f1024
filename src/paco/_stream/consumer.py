"""The use of a run by its one consumer: an ``await``, an ``async for``, or the run that reads its results."""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any, cast

from paco._base.deadline import call_in
from paco._engine.sinks import NOTHING
from paco._engine.source import Upstream, close, end_source, heeds
from paco._stream.coroutine import is_in_async_for

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._engine.nursery import Nursery
    from paco._engine.run import Scheduler
    from paco._stream.plan import Plan


class Consumer(Upstream):
    """Starts a run when its first result is asked for, takes its results, and ends it, or only its source.

    Args:
        plan: The run.
        before: The consumer whose place this one takes, with other options. What ends its source ends that of this one.
    """

    __slots__ = ("_block", "_downstream", "_plan", "_running", "heeds", "heir", "run", "stopped", "use")

    def __init__(self, plan: Plan, before: Consumer | None = None) -> None:
        self._plan = plan
        #: How the results are used; empty if they are not used yet.
        self.use: str = ""
        self._block = False  # whether an `async with` block will end the run
        #: The run whose results are taken one by one; ``None`` if it has not started.
        self.run: Scheduler | None = None
        self._downstream: Nursery | None = None
        self.heeds: bool = heeds(plan.source)
        #: Whether the source is to end, or has ended.
        self.stopped: bool = before is not None and before.stopped
        self._running: Callable[[], Scheduler | None] | None = None  # the run, while something else refers to it
        #: The consumer that takes its place.
        self.heir: Consumer | None = None
        if before is not None:
            before.heir = self

    def claim(self, use: str) -> None:
        """Use the results, which is possible once."""
        if self.use:
            name = f"paco.{self._plan.name}"
            used = f"a stream can be used once, and this one was {self.use}"
            raise RuntimeError(f"{name}: {used}; call {name} again")
        self.use = use

    # ---- ending the source

    def follow(self, run: Scheduler) -> None:
        """Note the run, which has begun, and end its source if that has been asked for."""
        self._running = weakref.ref(run)
        if self.stopped:
            end_source(run)

    def stop(self) -> None:
        """Take nothing more from the source: at once, or when the run begins."""
        self.stopped = True
        if self.heir is not None:
            self.heir.stop()
        run = None if self._running is None else self._running()
        if run is not None:
            call_in(run.loop, end_source, run)

    # ---- async for, async with

    def iterate(self) -> None:
        """Claim the results for an iteration. Another one may continue it until its end has been told."""
        if self.use != "iterated" or (self.run is not None and self.run.told):
            self.claim("iterated")

    def enter(self) -> None:
        """Claim the results for a block that ends the run."""
        self.claim("iterated")
        self._block = True

    async def next(self, wanted: Callable[[], bool] | None = None, /) -> Any:
        """Wait for the next result and return it, as ``__anext__`` does; with ``wanted``, as `Upstream.next` does."""
        run = self.run or self._start()
        result = run.take()
        if result is NOTHING:
            try:
                while result is NOTHING:
                    if run.done:
                        await run.join()
                        raise StopAsyncIteration
                    waiter = run.until_result()
                    try:
                        await waiter
                    finally:
                        if run.consumer is waiter:
                            run.consumer = None
                    if wanted is not None and run.has_result() and not wanted():
                        break
                    result = run.take()
            except asyncio.CancelledError as error:
                if not self._block and is_in_async_for():  # a consumer that calls `anext` may wait again
                    await self.cancelled(error)
                raise
        return result

    def _start(self) -> Scheduler:
        if self.use != "iterated":
            self.claim("iterated")
        run = self.run = self._plan.start(self._plan.consumed(), self, self._downstream)
        return run

    async def cancelled(self, error: asyncio.CancelledError) -> None:
        """Stop the run, and raise the cancellation of its consumer when everything has finished."""
        run = cast("Scheduler", self.run)
        run.stop()
        try:
            await run.join(error)
        finally:
            self.run, self.use = None, "cancelled"
            del error

    async def exit(self, error: BaseException | None) -> None:
        """End the run at the end of its block, which had this error."""
        if isinstance(error, asyncio.CancelledError) and self.run is not None:
            await self.cancelled(error)
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what is running, and wait until it has finished."""
        if self.run is not None:
            await self.run.close()
        elif self.use in {"", "iterated"}:
            self.use = "closed"
            close(self._plan.source)

    # ---- as the source of another run

    def feeds(self, run: Nursery) -> None:
        """Let another run take the results, and fail at once with an error of this one."""
        self.claim("iterated")
        self._downstream = run

    def starves(self) -> None:
        if self.run is not None and self.run.reader is not None:
            self.run.reader.starves()

    def has_result(self) -> bool:
        return self.run is not None and self.run.has_result()

    def take(self) -> Any:
        return NOTHING if self.run is None else self.run.take()

    def end_source(self) -> bool:
        self.stop()
        return True

    def abandon(self) -> None:
        """Cancel what is running, without waiting for it."""
        if self.run is not None:
            self.run.abandon()
        else:
            self.use = self.use or "closed"
            close(self._plan.source)
