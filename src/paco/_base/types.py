"""Type variables and aliases that the other modules share."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from enum import Enum
from typing import Any, Final, Literal, ParamSpec, Protocol, TypeAlias, TypeVar, runtime_checkable

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)

#: What every function over items reads: an iterable, an async iterable, or an awaitable of one.
Source: TypeAlias = Iterable[T] | AsyncIterable[T] | Awaitable[Iterable[T] | AsyncIterable[T]]

#: What the loose ends take (``compose``, ``whilst``): any callable whose result is awaitable.
AnyCoroutineFunction: TypeAlias = Callable[..., Awaitable[Any]]

#: The ``loop`` parameter of the documented signatures: checked, and of no other effect.
Loop: TypeAlias = AbstractEventLoop | None


class _Missing(Enum):
    """The type of `MISSING`: an enum, because type checkers tell its one member apart from every other value."""

    MISSING = "not given"


#: Stands for an argument that was left out, where ``None`` is a value like others.
MISSING: Final = _Missing.MISSING
Missing: TypeAlias = Literal[_Missing.MISSING]


class Future(Protocol):
    """What an executor gives for a call: as of `concurrent.futures`."""

    def result(self) -> Any:
        """Return the result, which is there."""
        ...

    def cancel(self) -> object:
        """Do not start it, if it has not been."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Call when it is done, in any thread."""
        ...


@runtime_checkable
class Executor(Protocol):
    """All that is asked of what runs items elsewhere; what it is to call, and with what, can be pickled."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future:
        """Call in another thread, process or machine."""
        ...


class Pool(Protocol):
    """What is known here of `paco.remote.Workers`."""

    count: int

    def start(self) -> None:
        """Start the processes that are missing."""
        ...
