"""Marks that a worker leaves in memory which the program reads: which item has its event loop, and that it goes round.

An item that blocks the event loop of its worker may hold the GIL too, so that no thread there can report it. So each
step of an item is marked before it begins and after it ends. Only `paco.remote.Workers` with ``kill_after`` pay for it.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from itertools import count
from threading import TIMEOUT_MAX
from types import coroutine
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from paco._base.check import instead_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Generator
    from concurrent.futures import Future

    from paco._base.check import ItemFunction

#: The number of changes, the chunk and the item.
_LAYOUT: Final = struct.Struct("qqq")
_NONE: Final = -1
#: In place of an item: the worker starts, or unpickles a chunk, which may import what takes long.
_PREPARING: Final = -2
#: The loop makes a mark this often in the time after which it counts as blocked. The program looks as often.
_LOOKS: Final = 8


class Mark(NamedTuple):
    """What a worker has marked: a number that differs from that of every other mark, the chunk, and the item in it."""

    change: int
    chunk: int
    item: int

    @property
    def of_item(self) -> bool:
        """Whether an item has the event loop."""
        return self.item >= 0


class Marks:
    """The place of the marks of one worker, a file that both sides map. The program creates it, without a ``path``."""

    def __init__(self, path: str = "") -> None:
        if path:
            file = os.open(path, os.O_RDWR)
        else:
            file, path = tempfile.mkstemp(prefix="paco-")
            os.write(file, _LAYOUT.pack(0, _NONE, _PREPARING))
        self.path: str = path
        self._map: Any = mmap.mmap(file, _LAYOUT.size)
        os.close(file)
        self._change = 0
        self._here = _NONE, _NONE  # the last mark
        self._late: dict[object, tuple[int, int]] = {}  # the items that wait for threads although they were cancelled

    def read(self) -> Mark:
        """Return the last mark."""
        return Mark(*_LAYOUT.unpack(self._map))

    def hide(self) -> None:
        """Remove the name of the file: both sides have it open. Windows allows that only when both have closed it."""
        with suppress(OSError):
            os.unlink(self.path)  # noqa: PTH108 - a str

    def close(self) -> None:
        """Remove the file: the worker has ended."""
        self._map.close()
        self.hide()

    # ---- in the worker

    def mark(self, chunk: int = _NONE, item: int = _NONE) -> None:
        """Mark that an item has the event loop, or none. An item that is late keeps it in this sense."""
        self._here = chunk, item
        if not self._late:
            self._write(chunk, item)

    def _write(self, chunk: int, item: int) -> None:
        self._change += 1
        _LAYOUT.pack_into(self._map, 0, self._change, chunk, item)

    @contextmanager
    def late(self) -> Generator[None]:
        """Leave no other mark than that of this item, which was cancelled, and waits for a thread that goes on."""
        key = object()
        self._late[key] = self._here
        try:
            yield
        finally:
            del self._late[key]
            self._write(*next(iter(self._late.values()), self._here))

    @contextmanager
    def preparing(self) -> Generator[None]:
        """Mark that a chunk is being unpickled."""
        self.mark(item=_PREPARING)
        try:
            yield
        finally:
            self.mark()

    def keep_marking(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        """Mark every so many seconds that the loop goes round."""
        self.mark()
        loop.call_later(seconds, self.keep_marking, loop, seconds)

    def around(self, fn: ItemFunction, chunk: int) -> ItemFunction:
        """Return ``fn`` with marks for its steps. It is called for the items of a chunk in their order."""
        numbers = count()

        async def started(item: Any) -> Any:
            return await fn(item)

        return instead_of(fn, lambda item: self._stepped(started(item), chunk, next(numbers)))

    @coroutine
    def _stepped(self, coro: Any, chunk: int, item: int) -> Generator[Any, Any, Any]:
        """Run a coroutine to its end, step by step."""
        step, value = coro.send, None
        try:
            while True:
                self.mark(chunk, item)
                try:
                    awaited = step(value)
                except StopIteration as stop:
                    return stop.value
                finally:
                    self.mark()
                try:
                    step, value = coro.send, (yield awaited)
                except GeneratorExit:
                    coro.close()
                    raise
                except BaseException as error:
                    step, value = coro.throw, error
        finally:
            del step, value  # which may refer to an error whose frames refer to this one


class HoldGuard:
    """Kills a worker process when it has left no mark for too long.

    Looks are counted instead of seconds: a program that was stopped, or whose machine slept, starts to count anew.

    Args:
        seconds: The seconds without a mark.
        kill: Kills the process.
        code: Resolved when the process has ended.
    """

    def __init__(self, seconds: float, kill: Callable[[], object], code: Future[int]) -> None:
        self.seconds: float = seconds
        #: The last mark of the process, if it was killed.
        self.held: Mark | None = None
        self._marks = Marks()
        self._kill = kill
        self._code = code

    @property
    def orders(self) -> tuple[str, float]:
        """What the worker needs to know: where to make marks, and how often."""
        return self._marks.path, self.seconds / _LOOKS

    def watch(self) -> None:
        """Watch the process until it has ended.

        It makes its first mark before it can report that it is there: an item that holds the GIL might prevent that.
        """
        last, same = None, 0
        while wait([self._code], min(self.seconds / _LOOKS, TIMEOUT_MAX)).not_done:
            mark = self._marks.read()
            if mark.change and not (last and last.change):
                self._marks.hide()
            same = same + 1 if mark == last and mark.item != _PREPARING else 0
            last = mark
            if same > _LOOKS:
                self.held = mark
                self._kill()
                break
        self._marks.close()
