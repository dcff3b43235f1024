"""What the functions over items return: a `Stream` of results, to await or to iterate."""

from __future__ import annotations

import sys
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import replace
from operator import length_hint
from typing import TYPE_CHECKING, Any, Generic, Literal, cast, overload

from paco._base import check
from paco._base.types import R, T_co
from paco._engine.outcomes import Unfinished, settled
from paco._engine.sinks import NOTHING, SKIP, InOrder
from paco._engine.source import Upstream, close
from paco._stream.coroutine import Answer

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType

    from paco._base.types import Executor, Pool
    from paco._engine.plan import Plan
    from paco._engine.run import Run


# The list that `await` gives is a fresh one: nobody else sees it as a list of something wider, so T may be covariant.
class Stream(
    Coroutine[Any, Any, list[T_co]],  # pyright: ignore[reportInvalidTypeArguments]
    AsyncIterator[T_co],
    Upstream,
    Generic[T_co],
):
    """The results of an async function over items: ``await`` it for the list, or iterate it in constant memory.

    Nothing starts before it is used, and it is used once. While it is iterated, the function runs ahead of the
    consumer: by at most ``limit`` items in flight and as many finished ones (`buffer` changes that). Leaving an
    ``async with`` block, being cancelled, an error and the end all come back when everything that was started has
    finished. A stream that is dropped after a plain ``break`` cancels what runs, within the next steps of the loop.

    ```python
    pages = await paco.map(fetch, urls, limit=50)

    async with paco.map(fetch, urls, limit=50) as pages:
        async for page in pages:
            ...
    ```

    Errors are raised when the results before them have been taken: an item's own exception with a note that names the
    item, ``TimeoutError`` from the call's ``timeout``.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return [number async for number in paco.map(double, range(3), limit=2)]
        >>> paco.run(main())
        [0, 2, 4]
    """

    __slots__ = ("__name__", "__weakref__", "_coro", "_downstream", "_plan", "_run", "_sink", "_use")

    def __init__(self, plan: Plan) -> None:
        self._use = ""
        self._plan = plan
        self.__name__: str = f"paco.{plan.name}"  # by which asyncio shows a task of this stream
        self._run: Run | None = None
        self._sink: InOrder | None = None
        self._coro: Answer[list[T_co]] | None = None
        self._downstream: Callable[[BaseException], None] | None = None

    def __repr__(self) -> str:
        plan = self._plan
        return f"<paco.{plan.name} stream of {check.shorten(plan.fn)}, limit={plan.limit}, {self._use or 'unused'}>"

    def __length_hint__(self) -> int:
        hint = -1 if self._plan.gaps else length_hint(self._plan.source, -1)
        return NotImplemented if hint < 0 else hint

    # ---- the same run in another form

    def as_completed(self) -> Stream[T_co]:
        """Return the stream that gives each result as soon as it is there, in order of completion."""
        return self._become(ordered=False)

    def buffer(self, count: int) -> Stream[T_co]:
        """Return the stream that lets up to ``count`` finished results wait for a slow consumer.

        Without a limit all that is in flight may finish: then nothing more starts, about, while so many results wait.

        Args:
            count: An ``int`` of 0 or more. The default is as many as the limit, or about 1,000 without one.
        """
        return self._become(buffer=check.integer(f"{self._plan.name}.buffer", "count", count, 0))

    @overload
    def journal(
        self,
        path: str | PathLike[str],
        *,
        key: Callable[[Any], object] | str | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: None = None,
        durable: Literal["process", "power"] = "process",
        version: int | str | None = None,
        retry_errors: bool = True,
    ) -> Stream[Any]: ...
    @overload
    def journal(
        self,
        path: str | PathLike[str],
        *,
        key: Callable[[Any], object] | str | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], R],
        durable: Literal["process", "power"] = "process",
        version: int | str | None = None,
        retry_errors: bool = True,
    ) -> Stream[R]: ...
    def journal(
        self,
        path: str | PathLike[str],
        *,
        key: Callable[[Any], object] | str | None = None,
        encode: Callable[[Any], object] | None = None,
        decode: Callable[[Any], Any] | None = None,
        durable: Literal["process", "power"] = "process",
        version: int | str | None = None,
        retry_errors: bool = True,
    ) -> Stream[Any]:
        """Return the stream that remembers its results in a file, and hands them on again when it is run again.

        A result is handed on when its record, one line of JSON, has been written, within about 20 ms; its slot is free
        meanwhile. A run that was killed is run again: what is recorded is handed on, in the order of the items, and the
        rest runs. So the function runs at least once for each item, and what has been handed on once is not another
        thing later. Results come back as JSON brings them back, in the first run too: ``json.loads(json.dumps(v))``.

        Args:
            path: The file; a new one may be read by its owner only. It is locked as long as the run lasts.
            key: What an item is known by, if not by its content: a function, or the name of a field or key.
            encode: Makes of a result what JSON can hold, if it is more than JSON and `paco.journal` know.
            decode: Makes a result of it again.
            durable: What a record that has been written survives: the end of the ``"process"``, in whatever way, or
                also a loss of ``"power"``, for a sync of the disk with each group of records.
            version: Only records of the same version count: a new one has everything run again.
            retry_errors: Run items that failed again. ``False``: hand on their errors, as `paco.journal.RecordedError`.

        Raises:
            TypeError: An argument is of the wrong type; or, when it runs, an item has no JSON form and there is no key.
            ValueError: ``durable`` is something else.
            paco.journal.JournalError: When it runs: the file is in use, damaged, or another function's.
            OSError: When it runs: the file cannot be written. All that was handed on is in it.

        Examples:
            >>> import tempfile
            >>> async def measure(word):
            ...     print("measures", word)
            ...     return len(word)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     paco.run(paco.map(measure, ["one", "three"]).journal(f"{folder}/run.jsonl"))
            ...     paco.run(paco.map(measure, ["one", "two", "three"]).journal(f"{folder}/run.jsonl"))
            measures one
            measures three
            [3, 5]
            measures two
            [3, 3, 5]
        """
        from paco.journal import Journal

        plan = self._plan
        if plan.gaps or plan.journal is not None:
            raise RuntimeError(
                f"paco.{plan.name}: a journal remembers what a function returns, once; "
                "give it to the map, flat_map or repeat, and filter what comes out"
            )
        how = Journal(
            f"{plan.name}.journal", path, key, encode, decode, durable, version=version, retry_errors=retry_errors
        )
        return self._become(journal=how)

    def on(self, engine: int | str | Pool | Executor, *, slots: int | None = None) -> Stream[T_co]:
        """Return the stream whose function runs elsewhere: on all cores of this machine, or on a cluster.

        The function, the items and the results travel, as bytes; all else is as ever: ``limit`` holds for all workers
        together, results come in order or as completed, the first error arrives as itself, with a note that has its
        traceback; and a break, a timeout, a cancellation or an error comes back when nothing runs there any more. A
        worker runs one event loop for as long as it lives. Items travel in chunks of about a quarter of a second of
        work; what a chunk has made comes back together. Up to 10,000 items may be with the workers beside those in
        flight (`buffer` and the consumer hold them back). `paco.remote` tells more.

        A worker that dies is replaced, and what it had not brought back is run again: so an item is run at least once,
        and its result handed on once. An item whose worker dies three times is an error, `paco.remote.WorkerLost`.

        With a limit object each item waits here for its permit. `Rate` then holds for what is sent, and the workers
        start it a few milliseconds later; where an engine takes few chunks at once, as executors and Dask do, it may
        wait there for the next.

        Args:
            engine: So many processes of this machine, for this run; `paco.remote.Workers`, which are kept for several;
                any executor, such as ``ProcessPoolExecutor``: anything with ``submit(fn, *args)`` that gives a future;
                a client of Dask, or an address, ``"dask://host:8786"``. What is given is left open.
            slots: Chunks that an executor or a cluster works on at once, if you know better; for a cluster that grows
                when it is asked to, as many as its workers may become.

        Raises:
            TypeError: It is no engine; or, when it runs, the function cannot be sent: the text says what in it.
            ValueError: A number below 1, or another kind of address.
            ImportError: It needs a package that is not there: the text says which.

        Examples:
            >>> import math
            >>> paco.run(paco.map(paco.wraps(math.sqrt), [4, 9, 16], limit=2).on(2))
            [2.0, 3.0, 4.0]
        """
        from paco.remote._engines import engine_of

        return self._become(engine=engine_of(f"{self._plan.name}.on", engine, slots))

    def max_errors(self, most: float) -> Stream[T_co]:
        """Return the stream that ends early, with `TooManyErrors`, when more items than that have failed.

        Errors are the `Err` values of a settled function and, with ``return_exceptions``, the exceptions; without
        either the first one ends the run anyway. What had finished is in the ``outcomes`` of the error.

        Args:
            most: How many are borne: an ``int`` of 0 or more; or a float between 0 and 1, the fraction of the finished
                items, which is judged when 20 have finished, and from then on at each.

        Examples:
            >>> async def invert(number):
            ...     return 1 / number
            >>> async def main():
            ...     try:
            ...         return await paco.map(paco.settle(invert), [1, 0, 2, 0, 4, 5], limit=1).max_errors(1)
            ...     except paco.TooManyErrors as error:
            ...         print(error)
            ...         return paco.partition(error.outcomes)[0]
            >>> [one.value for one in paco.run(main())]
            paco.map: 2 of 4 items failed, and max_errors is 1
            [1.0, 0.5]
        """
        return self._become(max_errors=check.count_or_fraction(f"{self._plan.name}.max_errors", "most", most))

    def _become(self, **changes: Any) -> Stream[T_co]:
        self._claim("replaced")
        return Stream(replace(self._plan, **changes))

    def _claim(self, use: str) -> None:
        if self._use:
            name = self._plan.name
            raise RuntimeError(f"paco.{name}: a stream is used once, and this one has been {self._use}; call it again")
        self._use = use

    # ---- await

    def __await__(self) -> Generator[Any, Any, list[T_co]]:
        self._claim("awaited")
        return self._collect().__await__()

    async def _collect(self) -> list[T_co]:
        if self._plan.ordered and self._plan.journal is None:
            return await self._plan.collect()
        # A list has room for all that waits for a slow item.
        stream, results = Stream[T_co](replace(self._plan, buffer=sys.maxsize)), list[T_co]()
        try:
            async for result in stream:
                results.append(result)
        except Unfinished as error:
            error.outcomes = (*settled(results), *settled(cast("InOrder", stream._sink).left()))
            raise
        return results

    def send(self, value: Any) -> Any:
        """Go on as a coroutine: ``asyncio.run`` and ``create_task`` drive a stream through this."""
        return self._coroutine().send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Raise inside, as a coroutine."""
        return self._coroutine().throw(typ, val, tb)

    def close(self) -> None:
        """End it as a coroutine: what has not been started will not be."""
        if self._coro is not None:
            self._coro.close()
        elif not self._use:
            self._use = "closed"
            close(self._plan.source)

    def _coroutine(self) -> Answer[list[T_co]]:
        if self._coro is None:
            self._claim("awaited")
            self._coro = Answer(self._plan.name, self._collect(), self._plan.source)
        return self._coro

    # ---- async for, async with

    def __aiter__(self) -> Stream[T_co]:
        if self._use != "iterated" or (self._run is not None and self._run.told):
            self._claim("iterated")
        return self

    async def __anext__(self) -> T_co:
        run, sink = self._run, self._sink
        if run is None or sink is None:
            run, sink = self._start()
        while True:
            result: T_co = sink.take()
            if result is NOTHING:
                if not await run.next(sink):
                    raise StopAsyncIteration
                continue
            if run.hungry:
                run.release()
            if result is not SKIP:
                return result

    def _start(self) -> tuple[Run, InOrder]:
        if self._use != "iterated":
            self._claim("iterated")
        sink = self._plan.consumed()
        run = self._plan.run(sink)
        if self._downstream is not None:
            run.feeds(self._downstream)
        run.start()  # raises what the source's __iter__ raises: then there is no run to close
        self._run, self._sink = run, sink
        return run, sink

    async def __aenter__(self) -> Stream[T_co]:
        self._claim("iterated")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel what runs and wait until it has finished. Does nothing where there is nothing left."""
        if self._run is not None:
            await self._run.close()
        elif self._use in {"", "iterated"}:
            self._use = "closed"
            close(self._plan.source)

    # ---- being the source of another run

    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        """Be iterated by a run that is to fail with this one, at once."""
        self._claim("iterated")
        self._downstream = fail

    def abandon(self) -> None:
        """Cancel what runs, without waiting."""
        if self._run is not None:
            self._run.abandon()
        else:
            self._use = self._use or "closed"
            close(self._plan.source)

    def __del__(self) -> None:
        if not self._use:
            message = f"paco.{self._plan.name}(...) was never awaited or iterated"
            warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)
            self.close()
        elif self._run is not None:
            self._run.abandon_soon()
