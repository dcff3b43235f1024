"""The `Stream` that functions over items return: await it for a list of results, or iterate it."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Coroutine, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Literal, Unpack, overload

from paco._base import check
from paco._base.errors import called_from
from paco._base.types import T_co
from paco._stream.consumer import Consumer
from paco._stream.coroutine import Answer
from paco._stream.plan import Plan, identical

if TYPE_CHECKING:
    from os import PathLike
    from types import TracebackType

    from paco._base.types import Executor, JournalOptions, OrAny, Pool
    from paco._engine.outcomes import Err, Item, Ok


# T may be covariant, although a list is not: `await` returns a new list, which nothing else refers to.
class Stream(
    check.Deferred,
    Coroutine[Any, Any, list[T_co]],  # pyright: ignore[reportInvalidTypeArguments]
    AsyncIterator[T_co],
    Generic[T_co],
):
    """The results of an async function over items: ``await`` it for the list, or iterate it in constant memory.

    A stream starts when it is used, and it can be used once. While it is iterated, the function runs ahead of the
    consumer, by at most ``limit`` items in flight and as many finished results (see `buffer`). Control returns when
    everything that the stream started has finished: at its end, after an error, at the end of an ``async with`` block,
    and after a cancellation of an ``async for`` outside such a block. After a plain ``break`` without that block,
    running items are cancelled within the next steps of the event loop, once nothing refers to the stream.

    A timeout around ``anext()`` ends only that wait, and so does any other cancellation of it: the run continues, and
    the next ``anext()`` waits for the same result. The same holds for an ``async for`` inside an ``async with`` block.

    ```python
    pages = await paco.map(fetch, urls, limit=50)

    async with paco.map(fetch, urls, limit=50) as pages:
        async for page in pages:
            ...
    ```

    An error is raised after the results before it have been taken. An item's own exception has a note that names the
    item. The ``timeout`` of the call raises ``TimeoutError``.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> async def main():
        ...     return [number async for number in paco.map(double, range(3), limit=2)]
        >>> paco.run(main())
        [0, 2, 4]
    """

    _remedy = "await this or pass it to paco.run(...) for a list, or write `async for`; in sync code, "
    _remedy += "`with paco.iterate(this) as results:` before the `for`"

    def __init__(self, plan: Plan, before: Consumer | None = None) -> None:
        # Whether it may be dropped without a warning. Each option sets this: it raises an error or replaces the stream.
        self._excused = False
        self._plan = plan
        self.__name__: str = f"paco.{plan.name}"  # the name that asyncio shows for a task
        self._consumer = Consumer(plan, before)
        self._coro: Answer[list[T_co]] | None = None
        self._made = called_from()

    def __repr__(self) -> str:
        plan, use = self._plan, self._consumer.use or "unused"
        return f"<paco.{plan.name} stream of {check.shorten(plan.fn)}, limit={plan.limit}, {use}>"

    def discard(self) -> None:
        self._excused = True

    def __length_hint__(self) -> int:
        return self._plan.length_hint()

    def as_completed(self) -> Stream[T_co]:
        """Return a stream that yields each result as soon as it is ready, in order of completion."""
        return self._become(ordered=False)

    def buffer(self, count: int) -> Stream[T_co]:
        """Return a stream that holds up to ``count`` finished results for a slow consumer.

        When the buffer is full, no more items start. Without a limit, and with a limit object, items in flight still
        finish, so that more than ``count`` results can wait.

        Args:
            count: An ``int`` of 0 or more. The default is the limit; about 1,000 without a limit; or, with a limit
                object, the number of items that have been in flight at once.
        """
        self._excused = True
        return self._become(buffer=check.integer(f"{self._plan.name}.buffer", "count", count, 0))

    def ahead(self, count: int) -> Stream[T_co]:
        """Return a stream that reads up to ``count`` items of an async source before there are slots for them.

        By default an item is read only when it can start: no message of a queue is taken and then waits here. Reading
        ahead pays if the source often has to wait, as a cursor does for its next page. The count is 0 or more.

        Examples:
            >>> async def double(number):
            ...     return 2 * number
            >>> paco.run(paco.map(double, paco.testing.AsyncSource([1, 2, 3]), limit=2).ahead(100))
            [2, 4, 6]
        """
        self._excused = True
        return self._become(ahead=check.integer(f"{self._plan.name}.ahead", "count", count, 0))

    def batch(self, size: int, *, within: float | None = None) -> Stream[list[T_co]]:
        """Return a stream that delivers the results in lists of ``size``, in order; the last one may be shorter.

        When the run ends, also with an error, what there is of the next list is delivered first. While the consumer is
        busy, the function runs ahead by one list and the items in flight, and by `buffer`, which is 0 by default here.
        Applied twice, it returns lists of lists. As a stage of a pipeline, and for items as they are: `paco.batch`.

        Args:
            size: The number of results in a list, 1 or more.
            within: Seconds after which the first result of a list does not wait for others: the list is delivered as it
                is, or gets further results until the consumer asks for it. ``None`` for no such limit.

        Examples:
            >>> async def double(number):
            ...     return 2 * number
            >>> paco.run(paco.map(double, range(5), limit=2).batch(2))
            [[0, 2], [4, 6], [8]]
        """
        self._excused = True
        name = f"{self._plan.name}.batch"
        lists = check.integer(name, "size", size, 1), check.timeout(name, within, "within")
        if self._plan.batch is not None:
            return Stream(Plan("batch", identical, self, 1, batch=lists))
        return self._become(batch=lists)

    def drain(self) -> Coroutine[Any, Any, int]:
        """Return a coroutine that runs all items for their side effects, in constant memory.

        It discards the results and returns the number of items, or raises what awaiting the list would raise. It is
        `paco.each` for what has options, such as a `journal`.

        Examples:
            >>> async def show(number):
            ...     print(number)
            >>> paco.run(paco.map(show, [1, 2], limit=1).drain())
            1
            2
            2
        """
        self._consumer.claim("drained")
        return Answer(f"{self._plan.name}.drain", self._plan.count(self._consumer), self._plan.source)

    @overload
    def journal(
        self: Stream[Ok[Item, Any] | Err[Item]],
        path: str | PathLike[str],
        *,
        decode: Callable[[Any], OrAny] | None = None,
        **how: Unpack[JournalOptions],
    ) -> Stream[Ok[Item, OrAny] | Err[Item]]: ...
    @overload
    def journal(
        self, path: str | PathLike[str], *, decode: Callable[[Any], OrAny] | None = None, **how: Unpack[JournalOptions]
    ) -> Stream[OrAny]: ...
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
        """Return a stream that records its results in a file, and resumes from that file when it runs again.

        A result is delivered after its record, one line of JSON, is written: about 20 ms later at most, while its slot
        is already free, and whatever the event loop does. If the run is killed, run it again: recorded results are
        delivered in the order of the items, and only the other items run. So the function runs at least once for each
        item, and a delivered result never changes on a later run. On every run, a result is what reading its record
        returns: a tuple is a list, and `paco.journal` says what becomes of the types that JSON does not have. An item
        with a record adds nothing to an `Inbox`, because it does not run: add in the loop over the results.

        Args:
            path: The file. A new one is readable by its owner only. It is locked while the run lasts.
            key: What identifies an item: a function of the item, or the name of a field. By default, its content.
            encode: Converts a result to JSON, for types that neither JSON nor `paco.journal` supports.
            decode: Converts the JSON back to a result; for a settled function, to the value of its `Ok`.
            durable: What a written record survives: ``"process"``, the end of the process, however it ends; or
                ``"power"``, a power failure too, at the cost of a disk sync for each group of records.
            version: Only records of this version are used; a new version runs every item again.
            retry_errors: Whether failed items run again. If not, they fail with `paco.journal.RecordedError`.

        Raises:
            TypeError: At the call, an argument has the wrong type. During the run, an item has no JSON form and there
                is no ``key``.
            ValueError: ``durable`` is neither of these.
            RuntimeError: The stream drops items, as `filter` does, or has a journal already.
            paco.journal.JournalError: During the run, the file is in use, is damaged, or belongs to another function.
            OSError: During the run, the file cannot be written. It contains every result delivered so far.

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

        plan, self._excused = self._plan, True
        if plan.gaps or plan.journal is not None:
            raise RuntimeError(
                f"paco.{plan.name}: a journal records what one function returns, once; "
                "call .journal() on the map, flat_map or repeat, and filter its results"
            )
        how = f"{plan.name}.journal", path, key, encode, decode, durable
        return self._become(journal=Journal(*how, version=version, retry_errors=retry_errors))

    def on(self, engine: int | str | Pool | Executor, *, slots: int | None = None) -> Stream[T_co]:
        """Return a stream whose function runs elsewhere: on all cores of this machine, or on a cluster.

        The function, the items and the results are pickled. All else stays the same: ``limit`` holds for all workers
        together, results come in order or as completed, and an error is raised as itself, with its remote traceback in
        a note. However the run ends, control returns when nothing runs there any more. Each worker runs one event loop
        for its whole life. Items travel in chunks of about a quarter of a second of work, whose results come back
        together. Besides those in flight, up to 10,000 items may be with the workers; `buffer` and a slow consumer
        reduce that. See `paco.remote`.

        A worker that dies is replaced, and the items that it had not returned run again. So each item runs at least
        once, and its result is delivered once. An item fails with `paco.remote.WorkerLost` when its worker has died at
        least three times, and at least twice with no other item in it.

        A ``ThreadPoolExecutor`` runs each item in one of its threads, in an event loop of that item, with the caller's
        context variables. Nothing is pickled. The function may block, or not be async; a run waits for blocking calls.

        With a limit object, each item waits here for its permit, so a `Rate` limits how fast items are sent. Workers
        start them a few milliseconds later, or longer if an executor or a cluster takes few chunks at once.

        Args:
            engine: A number of processes to start here for this run, such as ``os.cpu_count()``; `paco.remote.Workers`,
                which serve several runs; an executor such as ``ThreadPoolExecutor``, ``ProcessPoolExecutor`` or, from
                Python 3.14 on, ``InterpreterPoolExecutor``, or any object whose ``submit(fn, *args)`` returns a future;
                a Dask client or its address, ``"dask://host:8786"``. Objects that are passed in are not closed.
            slots: The number of chunks that an executor or a cluster works on at once; for a ``ThreadPoolExecutor``, of
                items. The default is what it reports. For a cluster that grows, pass the most threads it can have.

        Raises:
            TypeError: ``engine`` is none of these; or, in the run, the function cannot be pickled.
            ValueError: ``engine`` or ``slots`` is a number below 1, or ``engine`` is an unknown address.
            ImportError: A package is missing; the message names it.

        Examples:
            >>> import math
            >>> paco.run(paco.map(paco.wraps(math.sqrt), [4, 9, 16], limit=2).on(2))
            [2.0, 3.0, 4.0]
        """
        from paco.remote._engines import elsewhere

        plan, self._excused = self._plan, True
        return self._become(**elsewhere(f"{plan.name}.on", engine, slots, plan.fn, plan.limit))

    on.__defaults__ = (None,)  # what refuses it says what to pass; type checkers refuse a call without it

    def max_errors(self, most: float) -> Stream[T_co]:
        """Return a stream that ends early, with `TooManyErrors`, when more than ``most`` items have failed.

        An item has failed if its result is the `Err` of a settled function or, with ``return_exceptions``, an
        exception. Without either, the first error ends the run anyway.

        Args:
            most: The number of failures to accept, an ``int`` of 0 or more. Or the fraction of finished items to
                accept, a float between 0 and 1; it is checked after each item once 20 have finished.

        Examples:
            >>> async def invert(number):
            ...     return 1 / number
            >>> try:
            ...     paco.run(paco.map(paco.settle(invert), [1, 0, 2, 0, 4, 5], limit=1).max_errors(1))
            ... except paco.TooManyErrors as error:
            ...     print(error, [one.value for one in paco.partition(error.outcomes)[0]])
            paco.map: 2 of 4 items failed, and max_errors is 1 [1.0, 0.5]
        """
        self._excused = True
        return self._become(max_errors=check.count_or_fraction(f"{self._plan.name}.max_errors", "most", most))

    def _become(self, **changes: Any) -> Stream[Any]:
        self._consumer.claim("replaced")
        return Stream(replace(self._plan, **changes), self._consumer)

    def stop(self) -> None:
        """Take nothing more from the source, finish what has been taken, and end as if the source had ended.

        All results of what has been taken are delivered: the list is shorter, ``async for`` ends earlier. In a
        pipeline, every stage before this one stops too, and what it has taken flows through to the end. An async source
        that is waiting, such as for ``queue.get()``, is cancelled and closed. Does not wait. A stream that is stopped
        before it is used has no results.

        `Gate` does the same for all runs that share it, and can be closed from other threads and by signals.

        Examples:
            >>> async def main():
            ...     numbers = paco.map(paco.wraps(abs), range(1_000_000), limit=1)
            ...     async for number in numbers:
            ...         numbers.stop()
            ...     return number < 10
            >>> paco.run(main())
            True
        """
        self._consumer.stop()

    def __await__(self) -> Generator[Any, Any, list[T_co]]:
        self._consumer.claim("awaited")
        return self._plan.collect(self._consumer).__await__()

    def send(self, value: Any) -> Any:
        """Resume the stream as a coroutine, as ``asyncio.run`` and ``create_task`` do."""
        return self._coroutine().send(value)

    def throw(
        self, typ: type[BaseException] | BaseException, val: object = None, tb: TracebackType | None = None
    ) -> Any:
        """Raise an exception inside the stream, as inside a coroutine."""
        return self._coroutine().throw(typ, val, tb)

    def close(self) -> None:
        """Close the stream as a coroutine. If it has not started, close its source too."""
        if self._coro is not None:
            self._coro.close()
        elif not self._consumer.use:
            self._consumer.abandon()

    def _coroutine(self) -> Answer[list[T_co]]:
        if self._coro is None:
            self._consumer.claim("awaited")
            self._coro = Answer(self._plan.name, self._plan.collect(self._consumer), self._plan.source)
        return self._coro

    def __aiter__(self) -> Stream[T_co]:
        self._consumer.iterate()
        return self

    def __anext__(self) -> Coroutine[Any, Any, T_co]:
        return self._consumer.next()

    async def __aenter__(self) -> Stream[T_co]:
        self._consumer.enter()
        return self

    async def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        await self._consumer.exit(error)

    async def aclose(self) -> None:
        """Cancel what is running, and wait until it has finished. Does nothing after the end."""
        await self._consumer.aclose()

    def __upstream__(self) -> Consumer:
        return self._consumer

    def __del__(self) -> None:
        if not self._consumer.use:
            if not self._excused:
                message = f"paco.{self._plan.name}(...) was never awaited or iterated{self._made}"
                warnings.warn(message, RuntimeWarning, stacklevel=2, source=self)
            self.close()
        elif self._consumer.run is not None:
            self._consumer.run.abandon_soon()
