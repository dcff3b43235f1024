"""Type variables, aliases and protocols that other modules share."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine, Iterable
from enum import Enum
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    Generic,
    Literal,
    Never,
    ParamSpec,
    Protocol,
    TypeAlias,
    TypedDict,
    TypeVar,
    runtime_checkable,
)

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")
T_co = TypeVar("T_co", covariant=True)
T_contra = TypeVar("T_contra", contravariant=True)
if TYPE_CHECKING:  # at runtime, the default of a type variable needs Python 3.13; type checkers know it on all
    #: The type of an optional argument that changes the type of the result. The default applies if it is omitted.
    OrNever = TypeVar("OrNever", default=Never)  # pyright: ignore[reportGeneralTypeIssues]
    OrNone = TypeVar("OrNone", default=None)  # pyright: ignore[reportGeneralTypeIssues]
    OrAny = TypeVar("OrAny", default=Any)  # pyright: ignore[reportGeneralTypeIssues]

#: The input of a function over items: an iterable, an async iterable, or an awaitable of one.
Source: TypeAlias = Iterable[T] | AsyncIterable[T] | Awaitable[Iterable[T] | AsyncIterable[T]]

#: Any callable whose result is awaitable; for functions such as ``compose`` that accept any signature.
AnyCoroutineFunction: TypeAlias = Callable[..., Awaitable[Any]]

#: The ``loop`` parameter of old signatures: checked, but otherwise unused.
Loop: TypeAlias = AbstractEventLoop | None

#: What becomes of an item's exception: it ends the run, it is the result of the item, the result is an `Err` (because
#: the function is settled), or the sink collects it.
OnError: TypeAlias = Literal["raise", "return", "settle", "collect"]

#: Returns what the journal knows of an item: the beginning of its new record, and its earlier record or ``None``.
LookUp: TypeAlias = Callable[[Any], tuple[Any, Any]]


if TYPE_CHECKING:
    # pyrefly 1.5 takes what comes before ``*args: P.args`` for required. So it needs overloads without further
    # arguments. mypy must not match them: where overloads match that differ in the type of the function, it infers Any.
    # It takes the first of these definitions, the others take the second.
    if 0:

        class OneItem(Generic[T, R]):
            """No function is one."""

            def __init__(self, item: T, result: R) -> None: ...

    else:
        #: A function of one item.
        OneItem: TypeAlias = Callable[[T], Awaitable[R]]  # type: ignore[no-redef]


class JournalOptions(TypedDict, total=False):
    """The options of `Stream.journal` that do not change the type of its results."""

    key: Callable[[Any], object] | str | None
    encode: Callable[[Any], object] | None
    durable: Literal["process", "power"]
    version: int | str | None
    retry_errors: bool


class _Missing(Enum):
    """The type of `MISSING`. An enum, because type checkers can tell its only member from every other value."""

    MISSING = "not given"

    def __repr__(self) -> str:  # as signatures show it, in `help` and in IPython
        return "<not given>"


#: The default of a parameter for which ``None`` is a valid argument.
MISSING: Final = _Missing.MISSING
Missing: TypeAlias = Literal[_Missing.MISSING]


class Future(Protocol):
    """The future of a call, as `concurrent.futures` defines it."""

    def result(self) -> Any:
        """Return the result. The future is done when this is called."""
        ...

    def cancel(self) -> object:
        """Cancel the call if it has not started."""
        ...

    def add_done_callback(self, fn: Callable[[Any], object], /) -> object:
        """Call ``fn`` with the future when it is done, in any thread."""
        ...


@runtime_checkable
class Executor(Protocol):
    """An engine that runs calls elsewhere. What it receives can be pickled, unless it is a ``ThreadPoolExecutor``."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future:
        """Start ``fn(*args)`` in another thread, process or machine, and return its future."""
        ...


class Pool(Protocol):
    """The part of `paco.remote.Workers` that other rooms use."""

    count: int

    def start(self) -> None:
        """Start processes until ``count`` are running."""
        ...


class Service(Protocol):
    """Work that must outlive the other tasks of a nursery, such as writing the journal or sending items to workers."""

    #: What its task does, for the name of the task.
    role: str

    def prepare(self, run: Any, /) -> None:
        """Set up before any task starts, in the context that the tasks copy."""
        ...

    def serve(self) -> Coroutine[Any, Any, None]:
        """Run as a task until `finish` has been called."""
        ...

    def finish(self) -> None:
        """Finish: all other tasks have ended."""
        ...


class WithoutItems:
    """A function over items that has not got them: the base of a `Stage`.

    It is called with them. Awaiting or iterating it is a mistake, and the methods for that say so.
    """

    __slots__ = ("_name",)

    def __init__(self, name: str) -> None:
        self._name = name

    def _no_items(self, how: str) -> TypeError:
        call = "" if "|" in self._name else f"paco.{self._name}(..., items), or "
        return TypeError(f"paco.{self._name}: no items were given; write {call}{how}")

    if not TYPE_CHECKING:  # type checkers must still refuse all of this

        def __await__(self) -> object:
            raise self._no_items("items | stage")

        def __aiter__(self) -> object:
            raise self._no_items("items | stage")

        def __getitem__(self, index: object) -> object:
            # Python calls this for a plain `for`, and for `keys | stage` if these are the keys of a dict.
            raise self._no_items("stage(list(items))")
