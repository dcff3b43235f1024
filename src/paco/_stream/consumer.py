"""The use of a run by its one consumer: an ``async for``, or the run that reads its results."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from paco._engine.sinks import NOTHING
from paco._engine.source import Upstream, close, heeds
from paco._stream.coroutine import is_in_async_for

if TYPE_CHECKING:
    from paco._engine.nursery import Nursery
    from paco._engine.run import Scheduler
    from paco._stream.plan import Plan


class Consumer(Upstream):
    """Starts a run when its first result is asked for, takes its results, and ends it."""

    __slots__ = ("_block", "_downstream", "_plan", "heeds", "run", "use")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        #: How the results are used; empty if they are not used yet.
        self.use: str = ""
        self._block = False  # whether an `async with` block will end the run
        #: The run; ``None`` if it has not started.
        self.run: Scheduler | None = None
        self._downstream: Nursery | None = None
        self.heeds: bool = heeds(plan.source)

    def claim(self, use: str) -> None:
        """Use the results, which is possible once."""
        if self.use:
            name = f"paco.{self._plan.name}"
            used = f"a stream can be used once, and this one was {self.use}"
            raise RuntimeError(f"{name}: {used}; call {name} again")
        self.use = use

    # ---- async for, async with

    def iterate(self) -> None:
        """Claim the results for an iteration. Another one may continue it until its end has been told."""
        if self.use != "iterated" or (self.run is not None and self.run.told):
            self.claim("iterated")

    def enter(self) -> None:
        """Claim the results for a block that ends the run."""
        self.claim("iterated")
        self._block = True

    async def next(self) -> Any:
        """Wait for the next result and return it, as ``__anext__`` does."""
        run = self.run or self._start()
        result = run.take()
        if result is NOTHING:
            try:
                result = await run.next()
            except asyncio.CancelledError as error:
                if not self._block and is_in_async_for():  # a consumer that calls `anext` may wait again
                    await self.cancelled(error)
                raise
            if result is NOTHING:
                raise StopAsyncIteration
        return result

    def _start(self) -> Scheduler:
        if self.use != "iterated":
            self.claim("iterated")
        run = self.run = self._plan.start(self._plan.consumed(), self._downstream)
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
        self._plan.source_end.ask()
        return True

    def abandon(self) -> None:
        """Cancel what is running, without waiting for it."""
        if self.run is not None:
            self.run.abandon()
        else:
            self.use = self.use or "closed"
            close(self._plan.source)
