"""What the functions with one result return: a coroutine that lets go of what it was given when it never starts."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, cast

from paco._base.types import T_co
from paco._engine.source import close

if TYPE_CHECKING:
    from types import CoroutineType, TracebackType


class Answer(Coroutine[Any, Any, T_co]):
    """One result, to await.

    A coroutine that is closed, or cancelled before its first step, does not run at all: what it was to await (coroutine
    objects, a stream) would be reported as never awaited, which is nobody's fault.

    Args:
        name: The operation, for messages: ``race``.
        coro: The coroutine object that does it.
        given: What it was given, as `paco._engine.source.close` lets go of it.
    """

    __slots__ = ("__name__", "__weakref__", "_coro", "_given")

    def __init__(self, name: str, coro: Coroutine[Any, Any, T_co], given: object) -> None:
        self.__name__: str = f"paco.{name}"  # by which asyncio shows a task of it
        self._coro = cast("CoroutineType[Any, Any, T_co]", coro)
        self._coro.__qualname__ = self.__name__
        self._given = given

    def __repr__(self) -> str:
        return f"<{self.__name__} that has {'not started' if self._unstarted() else 'started'}>"

    def __await__(self) -> Generator[Any, Any, T_co]:
        self._given = None
        return self._coro.__await__()

    def send(self, value: Any) -> Any:
        """Go on, as a coroutine."""
        self._given = None  # it is the coroutine's from now on
        return self._coro.send(value)

    def throw(
        self,
        typ: type[BaseException] | BaseException,
        val: BaseException | object = None,
        tb: TracebackType | None = None,
    ) -> Any:
        """Raise inside, as a coroutine."""
        self._let_go()
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        return self._coro.throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        """End it, as a coroutine."""
        self._let_go()
        self._coro.close()

    def _unstarted(self) -> bool:
        return inspect.getcoroutinestate(self._coro) == inspect.CORO_CREATED

    def _let_go(self) -> None:
        if self._unstarted():
            close(self._given)

    def __del__(self) -> None:
        self._let_go()  # the coroutine itself tells that it was never awaited
