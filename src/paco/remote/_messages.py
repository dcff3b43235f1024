"""The format of orders to workers and of their reports. Both are bytes, so that any engine can carry them."""

from __future__ import annotations

import pickle
import platform
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from paco._base import __version__

if TYPE_CHECKING:
    from paco._base.types import OnError
    from paco.remote._errors import PackedError

#: The versions that must be equal on both sides, because the format depends on them.
_VERSIONS: Final = (sys.implementation.name, *sys.version_info[:2], __version__)


class Order(NamedTuple):
    """How a worker must run a chunk of items.

    Attributes:
        run: The id of the run, with which `Engine.cancel` cancels it.
        name: The operation, for messages.
        digest: The digest of the pickled function.
        limit: The maximum number of items in flight.
        seconds: The seconds after which no further item starts.
        on_error: Whether an item's error ends the chunk (raise) or not (return).
        watched: Whether to report the times of the items.
        deadline: The seconds left of the run's `paco.deadline`; infinity for none.
        flag: A path that is created when the run is cancelled; empty if the engine cancels in another way.
        number: The number of the chunk, unique in the sending process.
        after: The number of the chunk in the same worker whose slots it takes over as they become free; 0 for none.
            If its limit is larger than that of the other chunk, it has the difference at once.
    """

    run: str
    name: str
    digest: bytes
    limit: int
    seconds: float
    on_error: OnError
    watched: bool
    deadline: float
    flag: str
    number: int = 0
    after: int = 0

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


class Report(NamedTuple):
    """The outcome of a chunk.

    Attributes:
        where: The name of the process that ran it.
        started: The number of items that were started, from the first one on.
        seconds: The seconds that the chunk took.
        busy: The CPU time of the thread of the event loop during that time, in seconds.
        tail: The seconds at the end during which no further item could start.
        values: The pickled results, by the numbers of the items in the chunk.
        errors: The errors that items raised, by number.
        late: The errors that items raised while they were cancelled, by number.
        spans: When the items ran, if requested.
        now: The time on the worker's clock when the report was made.
        refusal: Why the chunk was not run at all.
    """

    where: str
    started: int = 0
    seconds: float = 0.0
    busy: float = 0.0
    tail: float = 0.0
    values: bytes = b""
    errors: dict[int, PackedError] | None = None
    late: dict[int, PackedError] | None = None
    spans: list[Span] | None = None
    now: float = 0.0
    refusal: PackedError | None = None

    def dump(self) -> bytes:
        """Return the report as bytes."""
        return pickle.dumps(tuple(self))

    @classmethod
    def load(cls, data: bytes) -> Report:
        """Return the report from its bytes."""
        fields: tuple[Any, ...] = pickle.loads(data)  # noqa: S301 - from a connection that this program opened
        return cls(*fields)
