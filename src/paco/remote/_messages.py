"""Orders to workers, their reports, errors in a form that can be sent, and the connection to a worker process.

Orders and reports are bytes, so that any engine can carry them.
"""

from __future__ import annotations

import pickle
import platform
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from paco._base import __version__
from paco._base.check import message, shorten
from paco._base.errors import add_note, trim
from paco._engine.outcomes import Err, Ok, Outcome
from paco.remote import _pickles

if TYPE_CHECKING:
    from typing import Self

    from paco._base.types import OnError

#: The versions that must be equal on both sides, because the format depends on them.
_VERSIONS: Final = (sys.implementation.name, *sys.version_info[:2], __version__)


class Order(NamedTuple):
    """How a worker must run a chunk of items."""

    run: str  # the id of the run, with which `Engine.cancel` cancels it
    name: str  # of the operation, for messages
    limit: int  # the maximum number of items in flight
    seconds: float  # after these, no further item starts
    on_error: OnError  # whether an item's error ends the chunk (raise) or not (return)
    watched: bool  # whether to report the times of the items
    deadline: float  # the seconds left of the run's `paco.deadline`; infinity for none
    flag: str  # a path that is created when the run is cancelled; empty if the engine cancels in another way
    retries: bool = False  # whether to report the retries of the items

    def dump(self) -> bytes:
        """Return the order as bytes, with the versions needed to read it."""
        return pickle.dumps((_VERSIONS, *self))

    @classmethod
    def load(cls, data: bytes) -> Order:
        """Return the order from its bytes.

        Raises:
            RuntimeError: The sender has another version of Python or of paco.
        """
        versions, *fields = pickle.loads(data)  # noqa: S301 - from a connection that this program opened
        if versions != _VERSIONS:
            there, here = (
                f"{name} {major}.{minor} with paco {paco}" for name, major, minor, paco in (versions, _VERSIONS)
            )
            raise RuntimeError(
                f"a worker on {platform.node()} runs {here}, but the program that sent it items runs {there}; "
                "install the same versions of Python (x.y) and paco on both"
            )
        return cls(*fields)


#: When an item of a chunk ran: its number, its slot in the worker, its start and end on the clock of the worker, its
#: attempts, and whether it failed. It is a plain tuple because other types take five times as long to pickle.
Span: TypeAlias = "tuple[int, int, float, float, int, bool]"


#: A retry of an item of a chunk: its number, the attempt that failed, its error, and the pause. Without a number, -1.
Retry: TypeAlias = "tuple[int, int, PackedError | None, float]"


class Report(NamedTuple):
    """The outcome of a chunk. Items are known by their numbers in the chunk."""

    where: str  # the name of the process that ran it
    started: int = 0  # the number of items that were started, from the first one on
    seconds: float = 0.0  # how long the chunk took
    busy: float = 0.0  # the CPU time of the thread of the event loop during that time, in seconds
    tail: float = 0.0  # the seconds at the end during which no further item could start
    values: bytes = b""  # the pickled dict of results by number
    outcomes: frozenset[int] = frozenset()  # the numbers of those that `sent` returned: each is an `Ok` or an `Err`
    errors: dict[int, PackedError] | None = None  # the errors that items raised, by number
    late: dict[int, PackedError] | None = None  # the errors that items raised while they were cancelled, by number
    spans: list[Span] | None = None  # when the items ran, if requested
    now: float = 0.0  # the time on the worker's clock when the report was made
    refusal: PackedError | None = None  # why the chunk was not run at all
    retries: list[Retry] | None = None  # the retries of the items, if requested

    def dump(self) -> bytes:
        """Return the report as bytes."""
        return pickle.dumps(tuple(self))

    @classmethod
    def load(cls, data: bytes) -> Report:
        """Return the report from its bytes."""
        fields: tuple[Any, ...] = pickle.loads(data)  # noqa: S301 - from a connection that this program opened
        return cls(*fields)


#: Characters of a traceback that travel; causes that do, one of the other.
_TEXT: Final = 20_000
_CAUSES: Final = 5
_CAUSE: Final = vars(BaseException)["__cause__"]


class WorkerLost(RuntimeError):
    """An item's worker died each time that the item ran: at least three times, at least twice with no other item in it.

    Or the item held its process for longer than the ``kill_after`` of its `Workers`; once is enough for that. If a
    worker dies for another reason, its items run again on another worker, without an error.
    """


class RemoteError(RuntimeError):
    """Replaces an error that the worker could not pickle or this process could not unpickle.

    Its message contains the type and the message of the original error.
    """


class PackedError(NamedTuple):
    """An error in a form that can be sent: pickled if possible, and as text."""

    kind: str
    text: str
    traceback: str
    data: bytes | None
    cause: PackedError | None

    @classmethod
    def of(cls, error: BaseException, depth: int = 0) -> Self:
        """Return the failure for an error, which is pickled, and unpickled to verify that this works."""
        trim(error)
        cause = error.__cause__
        bare = error.__traceback__ is None and cause is None  # the text would be the message, again
        shown = "" if depth or bare else "".join(traceback.format_exception(error))
        packed = None if cause is None or depth >= _CAUSES else PackedError.of(cause, depth + 1)
        return cls(type(error).__name__, message(error), shown[-_TEXT:], pickled(error), packed)

    def error(self, where: str) -> BaseException:
        """Return the original error or a `RemoteError`, with the traceback from the worker ``where`` as a note.

        There is no note if ``where`` is empty.
        """
        error = self._itself()
        cause = None if self.cause is None else self.cause.error("")
        _CAUSE.__set__(error, cause)  # not by assignment, which a frozen exception refuses
        if where:
            add_note(error, f"in {where}:\n{self.traceback.rstrip()}" if self.traceback else f"in {where}")
        return error

    def _itself(self) -> BaseException:
        why = "it cannot be pickled"
        if self.data is not None:
            try:
                return _unpickled(self.data, self.kind)
            except Exception as failed:
                why = f"it cannot be unpickled here: {message(failed)}"
        return RemoteError(f"{self.kind}: {self.text} ({why})")


def pickled(error: BaseException) -> bytes | None:
    """Return an error as bytes; ``None`` if it cannot be pickled or unpickled, or unpickles to something else."""
    try:
        data = _pickles.dump_error(error)
        return data if _kinds(_pickles.loads(data)) == _kinds(error) else None
    except Exception:
        return None


def _kinds(error: Any) -> list[Any]:
    """Return the name of the type of an error and, for a group, those of its errors."""
    parts: tuple[Any, ...] = error.exceptions if issubclass(type(error), BaseExceptionGroup) else ()
    return [type(error).__name__, *map(_kinds, parts)]


def _unpickled(data: bytes, kind: str) -> BaseException:
    error = _pickles.loads(data)
    if isinstance(error, BaseException) and type(error).__name__ == kind:
        return error
    raise TypeError(f"it unpickles to {shorten(error)}")


def sent(outcome: Outcome[Any, Any], item: object) -> tuple[Any, ...]:
    """Return the fields of an outcome, with its error packed. To pickle them takes a seventh of the time.

    An outcome of ``item`` leaves it out: the caller has it, and the function may have made it unfit for pickle.
    """
    result = outcome.value if isinstance(outcome, Ok) else PackedError.of(outcome.error)
    other = () if outcome.item is item else (outcome.item,)
    return isinstance(outcome, Ok), other, result, outcome.attempts, outcome.start, outcome.elapsed


def received(fields: tuple[Any, ...], item: object, where: str) -> Outcome[Any, Any]:
    """Return the outcome of these fields, which the worker ``where`` sent for ``item``."""
    ok, other, result, *rest = fields
    (item,) = other or (item,)
    return Ok(item, result, *rest) if ok else Err(item, result.error(where), *rest)
