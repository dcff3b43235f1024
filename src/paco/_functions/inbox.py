"""`Inbox`: a source to which items are added while a run reads it."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Generic

from paco._base import check
from paco._base.types import T
from paco._engine.reader import is_calm
from paco._engine.sinks import NOTHING
from paco._engine.source import Upstream
from paco._functions.room import Room

if TYPE_CHECKING:
    from paco._engine.run import Scheduler


def _itself(item: Any) -> Any:
    return item


class Inbox(AsyncIterator[T], Upstream, Generic[T]):
    """A source for work that finds work: a run reads it, and its items add to it.

    It ends by itself when nothing is left in it and nothing that reads it can add more: no item is in flight, in the
    run that reads it or in a later stage of the pipeline, and an ``async for`` over the results waits for the next one.
    So add from inside an item, from a later stage, or from the body of that ``async for``. In a plain
    ``async for item in inbox:``, asking for the next item ends the one before.

    With `Stream.journal`, add in the body of that ``async for``, from the results. A recorded item does not run again,
    so a function that adds to the inbox adds nothing for it, and a resumed run ends early.

    Every added item is given out once, first in, first out. One run can read an inbox, once. If that run ends early,
    the inbox is closed, and what is left in it is dropped.

    Args:
        items: The first items, which are read at once.
        unique: Drop items that were added before: ``True`` compares the items, a function the keys that it returns for
            them. Keys are hashable, and the inbox remembers all of them.
        maxsize: The number of items in the inbox from which on `put` waits; ``None`` for no limit.

    Examples:
        >>> links = {"/": ["/a", "/b"], "/a": ["/", "/b"], "/b": ["/c"], "/c": []}
        >>> inbox = paco.Inbox(["/"], unique=True)
        >>> async def crawl(page):
        ...     inbox.add(*links[page])
        ...     return page
        >>> paco.run(paco.map(crawl, inbox, limit=10))
        ['/', '/a', '/b', '/c']
    """

    heeds: bool = True

    def __init__(
        self,
        items: Iterable[T] = (),
        *,
        unique: Callable[[T], Hashable] | bool | None = None,
        maxsize: int | None = None,
    ) -> None:
        check.plain_iterable("Inbox", items, "items")
        if not isinstance(unique, bool | None):
            check.plain_function("Inbox", unique, "unique")
        self._key: Any = _itself if unique is True else unique or None
        self._maxsize = None if maxsize is None else check.integer("Inbox", "maxsize", maxsize, 1)
        self._items: deque[T] = deque()
        self._seen: set[Hashable] = set()
        self._lock = threading.RLock()  # reentrant: comparing keys may run code of the user
        self._state = "open"  # or "closed": it takes nothing more; or "ended"
        self._loop: asyncio.AbstractEventLoop | None = None
        self._run: Scheduler | None = None
        self._waiter: asyncio.Future[None] | None = None  # that of its reader, which waits for an item
        self._room = Room()
        self.add(*items)

    def __repr__(self) -> str:
        return f"<paco.Inbox with {len(self._items)} items, {self._state}>"

    # ---- adding

    def add(self, *items: T) -> int:
        """Add items, and return how many were added: not those that `unique` drops, and none after `close`.

        It does not wait for room. It may be called from any thread, inside an item: one that runs in a thread.

        Raises:
            RuntimeError: The inbox has ended by itself, so nothing would run the items.
            TypeError: A key is not hashable.
        """
        return sum([self._add(item) for item in items])

    async def put(self, item: T) -> bool:
        """Add an item when there is room for it, and return whether it was added, as for `add`.

        Raises:
            RuntimeError: It would wait forever, because all items of the run that reads the inbox wait for room here.
                That is noticed if the limit of the run counts items. It is not noticed for items of a later stage: use
                `add` there. Or the inbox has ended.
        """
        while self._state == "open" and self._is_full() and not self._is_known(item):
            self._room.refuse_deadlock(self._run, "Inbox", "use add(), or a larger maxsize")
            await self._room.wait()
        added = self.add(item) > 0
        if not self._is_full():
            self._room.make()
        return added

    def close(self) -> None:
        """Take no more items, and end when those in the inbox have been given out."""
        with self._lock:
            if self._state == "open":
                self._state = "closed"
        self._wake()

    def _add(self, item: T) -> bool:
        key = None if self._key is None else self._key(item)
        with self._lock:
            if self._state == "ended":
                raise RuntimeError(
                    "paco.Inbox: it has ended, because it was empty and no item was in flight; add from inside an item "
                    "or from the loop over the results"
                )
            if self._state == "closed" or (self._key is not None and self._has(key)):
                return False
            if self._key is not None:
                self._seen.add(key)
            self._items.append(item)
        self._wake()
        return True

    def _has(self, key: Any) -> bool:
        try:
            return key in self._seen
        except TypeError as error:
            expected = "the keys of unique must be hashable"
            raise TypeError(f"paco.Inbox: {expected}, got {check.shorten(key)}; pass unique=a_function") from error

    def _is_known(self, item: T) -> bool:
        return self._key is not None and self._has(self._key(item))

    def _is_full(self) -> bool:
        return self._maxsize is not None and len(self._items) >= self._maxsize

    def _wake(self) -> None:
        """Wake the reader, from any thread."""
        loop = self._loop
        if loop is None:
            return
        if asyncio._get_running_loop() is loop:
            self._resolve()
        else:
            loop.call_soon_threadsafe(self._resolve)

    def _resolve(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # ---- giving out

    def __anext__(self) -> Coroutine[Any, Any, T]:
        return self.next()

    async def next(self, wanted: Callable[[], bool] | None = None, /) -> Any:
        """Wait for the next item and return it, as ``__anext__`` does; a run passes whether it is still ``wanted``."""
        self._loop = loop = asyncio.get_running_loop()
        while (item := self.take()) is NOTHING:
            if self._state != "open":
                raise StopAsyncIteration
            self._waiter = loop.create_future()
            self.starves()
            try:
                await self._waiter
            finally:
                self._waiter = None
            if wanted is not None and self._items and not wanted():
                break
        return item

    def has_result(self) -> bool:
        return bool(self._items)

    def take(self) -> Any:
        """Remove and return the next item; `NOTHING` if there is none."""
        if not self._items:
            return NOTHING
        item = self._items.popleft()
        if self._room:
            self._room.make()
        return item

    # ---- ending

    def feeds(self, run: Any) -> None:
        if self._run is not None or self._loop is not None:
            raise RuntimeError("paco.Inbox: one run can read an inbox, once; make another inbox")
        self._run, self._loop = run, asyncio.get_running_loop()

    def starves(self) -> None:
        waits = self._waiter is not None and not self._waiter.done()
        if waits and not self._room and (self._run is None or is_calm(self._run)):
            with self._lock:
                # Another thread may have added an item, or closed the inbox, and not woken the reader yet.
                self._state = "ended" if self._state == "open" and not self._items else self._state
            self._resolve()

    def abandon(self) -> None:
        with self._lock:
            if self._state == "open":
                self._state = "closed"
            self._items.clear()
        self._run = None
        self._room.open()

    async def aclose(self) -> None:
        """Close the inbox, and drop what is left in it."""
        self.abandon()
