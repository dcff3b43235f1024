"""The coroutine that functions with a single result return. It closes their arguments if it never starts."""

from __future__ import annotations

import inspect
from collections.abc import Coroutine, Generator
from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import Deferred
from paco._base.types import T_co
from paco._engine.source import close

if TYPE_CHECKING:
    from types import CoroutineType, TracebackType


#: The methods of a stream for which a stage or a single result is taken for one.
OF_STREAMS: Final = frozenset({"ahead", "as_completed", "batch", "buffer", "drain", "journal", "max_errors", "on"})


class Answer(Deferred, Coroutine[Any, Any, T_co]):
    """A coroutine for a single result.

    If it is closed or cancelled before its first step, ``coro`` never runs. Python would then warn that the coroutine
    objects and streams in ``given`` were never awaited, although the caller did nothing wrong. So they are closed.
    """

    __slots__ = ("__name__", "__weakref__", "_coro", "_given")

    def __init__(self, name: str, coro: Coroutine[Any, Any, T_co], given: object) -> None:
        self.__name__: str = f"paco.{name}"  # the name that asyncio shows for a task
        self._coro = cast("CoroutineType[Any, Any, T_co]", coro)
        self._coro.__qualname__ = self.__name__
        self._given = given

    def __repr__(self) -> str:
        return f"<{self.__name__} coroutine, {'not started' if self._unstarted() else 'started'}>"

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> object:
            if name not in OF_STREAMS:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            remedy = f"it belongs to a stream, before .drain(): paco.map(...).{name}(...).drain()"
            raise AttributeError(f"{self.__name__}: a single result has no {name}; {remedy}")

    def __await__(self) -> Generator[Any, Any, T_co]:
        self._given = None
        return self._coro.__await__()

    def send(self, value: Any) -> Any:
        """Resume the coroutine with ``value``."""
        self._given = None  # from now on the coroutine is responsible for them
        return self._coro.send(value)

    def throw(
        self, typ: type[BaseException] | BaseException, val: object = None, tb: TracebackType | None = None
    ) -> Any:
        """Raise an exception inside the coroutine."""
        self._close_given()
        error = typ if isinstance(typ, BaseException) else val if isinstance(val, BaseException) else typ()
        return self._coro.throw(error if tb is None else error.with_traceback(tb))

    def close(self) -> None:
        """Close the coroutine."""
        self._close_given()
        self._coro.close()

    def discard(self) -> None:
        if self._unstarted():
            self.close()

    def _unstarted(self) -> bool:
        return inspect.getcoroutinestate(self._coro) == inspect.CORO_CREATED

    def _close_given(self) -> None:
        if self._unstarted():
            close(self._given)

    def __del__(self) -> None:
        self._close_given()  # Python itself warns that the coroutine was never awaited


def is_in_async_for() -> bool:
    """Return whether the coroutine that calls this is a step of an ``async for``, and not awaited by other code."""
    import dis  # the import takes a millisecond, and only a cancellation needs it

    frame = inspect.currentframe()
    for _ in range(2):  # this function, and the coroutine
        frame = frame and frame.f_back
    code = b"" if frame is None else frame.f_code.co_code[: frame.f_lasti : 2]
    return code.rfind(dis.opmap["GET_ANEXT"]) > code.rfind(dis.opmap["GET_AWAITABLE"])
