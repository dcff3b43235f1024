"""Functions and sources that misbehave as planned, and record what happened."""

from __future__ import annotations

import asyncio
import contextvars
import weakref
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, ClassVar

MARK: contextvars.ContextVar[object] = contextvars.ContextVar("MARK", default=None)


class Violation(AssertionError):
    """A promise of paco was broken."""


class Planned(Exception):
    """A planned error of an item or a source. Its text names the run."""


class Result:
    """An item of a source or a result of a function. One that is alive after its batch is a leak."""

    __slots__ = ("__weakref__", "value")
    alive: ClassVar[weakref.WeakSet[Result]] = weakref.WeakSet()

    def __init__(self, value: Any) -> None:
        self.value = value
        self.alive.add(self)


#: What `shown` returns for an exception.
ERROR = "error"


def shown(result: Any) -> Any:
    """Return a comparable form of a result: the value of a `Result`, `ERROR` for an exception, anything else as is."""
    if isinstance(result, Result):
        return result.value
    return ERROR if isinstance(result, Exception) else result


@dataclass(frozen=True, slots=True)
class Fate:
    """What one item will do."""

    naps: tuple[float | None, ...]  # seconds; None does not suspend
    fails: type[Exception] | None = None
    cancels_itself: bool = False
    marks: bool = False
    suppresses: bool = False
    cleanup: float | None = None
    cleanup_fails: bool = False


@dataclass
class Log:
    """One run: its random generator, and what happened in it."""

    seed: str
    number: int
    random: Random = field(init=False)
    catch: bool = False
    timeout: float | None = None
    cancels: int = 0
    #: The errors and results of items in order, each with the function that raised or returned it.
    events: list[tuple[Work, str, Any]] = field(default_factory=list)
    source_error: BaseException | None = None
    works: list[Work] = field(default_factory=list)
    open_sources: int = 0
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.random = Random(f"{self.seed}/{self.number}")
        likely = self.random.choice
        self.failing: float = likely([0, 0, 0, 0.05, 0.4])
        self.cancelling: float = likely([0, 0, 0, 0, 0.1])
        self.marking: float = likely([0, 0, 0.3])
        self.stubborn: float = likely([0, 0, 0.3])
        self.paces: list[float | None] = likely(
            [[None], [None, 0], [0], [0, 0.0003], [0.001], [None, 0, 0.0002, 0.002]]
        )

    def chance(self, probability: float) -> bool:
        """Return ``True`` with this probability."""
        return self.random.random() < probability

    def limit(self) -> int:
        """Return a random limit."""
        return self.random.choice([0, 1, 1, 2, 3, 5, 8, 20])

    def count(self) -> int:
        """Return a random number of items."""
        return self.random.choice([0, 1, 2, 3, 5, 8, 13, 21, 40, 90])

    def planned(self, what: object) -> Planned:
        """Return an error that names this run."""
        return Planned(f"run {self.number}: {what}")

    def raised(self) -> list[BaseException]:
        """Return the errors that items raised, in order, without those that became results."""
        return [error for work, kind, error in self.events if kind == "raised" and not (self.catch or work.catches)]


class Work:
    """An async function of one item. The seed decides what each item does, so that timing does not change it."""

    def __init__(self, log: Log, limit: int = 0, answer: Callable[[Any], Any] = Result, *, tame: bool = False) -> None:
        self.log = log
        self.limit = limit
        self.answer = answer
        self.tame = tame
        self.catches = False
        self.started: list[Any] = []
        self.cancelled: set[Any] = set()  # items that have cancelled themselves
        self.running = self.peak = 0
        self._stage = len(log.works)
        log.works.append(self)

    def fate(self, item: Any) -> Fate:
        """Return what an item will do; always the same for the same item."""
        log = self.log
        dice = Random(f"{log.seed}/{log.number}/{self._stage}/{item}")
        naps = tuple(dice.choice(log.paces) for _ in range(dice.choice([1, 1, 2])))
        if self.tame:
            return Fate(naps)
        stubborn = dice.random() < log.stubborn
        return Fate(
            naps,
            fails=dice.choice([Planned, Planned, StopIteration, KeyError]) if dice.random() < log.failing else None,
            cancels_itself=dice.random() < log.cancelling,
            marks=dice.random() < log.marking,
            suppresses=stubborn and dice.random() < 0.3,
            cleanup=dice.choice([0, 0.001, 0.004]) if stubborn else None,
            cleanup_fails=stubborn and dice.random() < 0.2,
        )

    def predict(self, item: Any) -> Any:
        """Return the expected result of an item in the form of `shown`, which is `ERROR` if it fails."""
        fate = self.fate(item)
        survives = fate.suppresses and not fate.cleanup_fails if fate.cancels_itself else not fate.fails
        return shown(self.answer(item)) if survives else ERROR

    async def __call__(self, item: Any = 0) -> Any:
        """Do what is planned for this item."""
        item = shown(item)
        log, fate = self.log, self.fate(item)
        if MARK.get() is not None:
            log.broken.append(f"item {item} sees the context variable of item {MARK.get()}")
        if fate.marks:
            MARK.set(item)
        self.started.append(item)
        self.running += 1
        self.peak = max(self.peak, self.running)
        try:
            result = await self._live(item, fate)
        except BaseException as error:
            mine = item in self.cancelled or not isinstance(error, asyncio.CancelledError)
            log.events.append((self, "raised" if mine else "ended", error))
            raise
        else:
            log.events.append((self, "returned", shown(result)))
            return result
        finally:
            self.running -= 1

    async def _live(self, item: Any, fate: Fate) -> Any:
        try:
            await self._nap(item, fate)
        except asyncio.CancelledError:
            if fate.cleanup is not None:
                await asyncio.sleep(fate.cleanup)
            if fate.cleanup_fails:
                raise self.log.planned(f"cleanup of {item}") from None
            if fate.suppresses:
                return self.answer(item)
            raise
        if fate.fails:
            raise fate.fails(f"run {self.log.number}: item {item}")
        return self.answer(item)

    async def _nap(self, item: Any, fate: Fate) -> None:
        for nap in fate.naps:
            if nap is not None:
                await asyncio.sleep(nap)
        if fate.cancels_itself:
            self.cancelled.add(item)
            current().cancel()
            await asyncio.sleep(0)


def current() -> asyncio.Task[Any]:
    """Return the running task."""
    task = asyncio.current_task()
    if task is None:
        raise Violation("an item must run in a task, but no task is running")
    return task


class Source:
    """A source of items 0, 1, 2 … of a random kind. It may fail, and records whether it is open."""

    def __init__(self, log: Log, count: int) -> None:
        self._log = log
        self._count = count
        self._fails_at = log.random.randrange(count + 1) if log.chance(0.06) else None
        self._naps = log.chance(0.3)

    def made(self) -> Any:
        """Return the source as a list, a generator, an async generator, an async iterator or an awaitable."""
        shapes: list[Callable[[], Any]] = [
            self.generator,
            self.async_generator,
            self.async_generator,
            self.awaited,
            lambda: Plain(self),
        ]
        if self._fails_at is None:
            shapes.append(lambda: [Result(index) for index in range(self._count)])
        return self._log.random.choice(shapes)()

    def item(self, index: int) -> Result | None:
        """Return an item, or ``None`` after the last one."""
        if index == self._fails_at:
            self._log.source_error = self._log.planned("the source")
            raise self._log.source_error
        return Result(index) if index < self._count else None

    def generator(self) -> Generator[Result]:
        """Return the items as a generator."""
        index = 0
        self._log.open_sources += 1
        try:
            while (item := self.item(index)) is not None:
                yield item
                index += 1
        finally:
            self._log.open_sources -= 1

    async def async_generator(self) -> AsyncGenerator[Result]:
        """Return the items as an async generator that may wait between items and in its cleanup."""
        index = 0
        self._log.open_sources += 1
        try:
            while (item := self.item(index)) is not None:
                if self._naps and index % 4 == 0:
                    await asyncio.sleep(0.0005)
                yield item
                index += 1
        finally:
            try:
                if self._naps:
                    await asyncio.sleep(0)
            finally:
                self._log.open_sources -= 1

    async def awaited(self) -> Iterator[Result]:
        """Return a generator when awaited."""
        await asyncio.sleep(0)
        return self.generator()


class Plain(AsyncIterator[Result]):
    """An async iterator without ``aclose`` that fails if it is asked after its end or for two items at once."""

    def __init__(self, source: Source) -> None:
        self._source: Source | None = source
        self._index = -1
        self._asked = False

    async def __anext__(self) -> Result:
        source = self._source
        if source is None or self._asked:
            raise Violation("a source was asked for an item after its end, or for two items at once")
        self._asked, self._source, self._index = True, None, self._index + 1
        item = source.item(self._index)
        if self._index % 3 == 0:
            await asyncio.sleep(0)
        self._asked = False
        if item is None:
            raise StopAsyncIteration
        self._source = source
        return item
