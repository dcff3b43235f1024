"""Where the lines of items go: to the writer as they come, or in the order in which their items were started."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from paco._cli.writer import Writer

#: Bytes that wait for their turn at which further items wait as well.
_FULL_BYTES = 8 << 20


class Output(Protocol):
    """Takes the line of each item; ``number`` is the place of the item in the order of the starts."""

    def add(self, number: int, line: bytes, /) -> None:
        """Take the line of an item; an empty one is a turn that is passed."""
        ...

    @property
    def full(self) -> bool:
        """Whether too much waits to be written."""
        ...

    async def room(self) -> None:
        """Wait while it is full."""
        ...

    def flush(self) -> None:
        """Hear that no more lines come."""
        ...


class AsFinished:
    """Hands lines on as they come."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    def add(self, _number: int, line: bytes) -> None:
        """Take the line of an item."""
        self._writer.add(line)

    @property
    def full(self) -> bool:
        """Whether more than 8 MB wait to be written."""
        return self._writer.full

    async def room(self) -> None:
        """Wait while it is full."""
        await self._writer.room()

    def flush(self) -> None:
        """Hear that no more lines come."""


class InOrder:
    """Hands lines on in the order of the starts. At most some 8 MB wait for the line of one slow item."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._next = 0
        self._held: dict[int, bytes] = {}
        self._bytes = 0
        self._waiting: list[asyncio.Future[None]] = []

    def add(self, number: int, line: bytes) -> None:
        """Take the line of an item, and hand on all whose turn has come."""
        self._held[number] = line
        self._bytes += len(line)
        while (line_ := self._held.pop(self._next, None)) is not None:
            self._next += 1
            self._bytes -= len(line_)
            self._writer.add(line_)
        if self._bytes <= _FULL_BYTES:
            self._wake()

    @property
    def full(self) -> bool:
        """Whether too much waits for its turn, or for the writer."""
        return self._bytes > _FULL_BYTES or self._writer.full

    async def room(self) -> None:
        """Wait while too much waits for its turn, or for the writer. The item whose turn it is never waits here."""
        while self._bytes > _FULL_BYTES:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future
        await self._writer.room()

    def flush(self) -> None:
        """Hand on what waits for items that have been cancelled: they will have no line."""
        for _, line in sorted(self._held.items()):
            self._writer.add(line)
        self._held.clear()

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)
