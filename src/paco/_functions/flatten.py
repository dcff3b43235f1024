"""Flatten nested iterables lazily."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, cast

from paco._engine.source import Upstream, close, opened

if TYPE_CHECKING:
    from collections.abc import Iterator


def leaves(nested: Iterable[Any]) -> Generator[Any]:
    """Yield the leaves of nested iterables, depth first. Text is a leaf. Close generators that are left early."""
    stack: list[Iterator[Any]] = [iter(nested)]
    try:
        while stack:
            for element in stack[-1]:
                if isinstance(element, Iterable) and not isinstance(element, str | bytes | bytearray):
                    stack.append(iter(cast("Iterable[object]", element)))
                    break
                yield element
            else:
                stack.pop()
    finally:
        for iterator in reversed(stack):
            close(iterator)


class AsyncLeaves(AsyncIterator[Any], Upstream):
    """The leaves of an async source. If the source is an `Upstream`, calls are passed on to it."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._leaves = self._walk()

    async def _walk(self) -> AsyncGenerator[Any]:
        async with opened(self._source) as items:
            async for item in items:
                for leaf in leaves((item,)):
                    yield leaf

    async def __anext__(self) -> Any:
        return await anext(self._leaves)

    async def aclose(self) -> None:
        await self._leaves.aclose()

    def feeds(self, fail: Callable[[BaseException], None]) -> None:
        if isinstance(self._source, Upstream):
            self._source.feeds(fail)

    def abandon(self) -> None:
        close(self._source)
