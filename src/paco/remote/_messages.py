"""The form of what goes to a worker, and of what comes back. Both are bytes: any engine can carry them."""

from __future__ import annotations

import pickle
import platform
import sys
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from paco._base import __version__

if TYPE_CHECKING:
    from paco._base.types import OnError
    from paco.remote._errors import PackedError

#: Without the same of all of these on both sides, nothing that follows can be read.
_VERSIONS: Final = (sys.implementation.name, *sys.version_info[:2], __version__)


class Order(NamedTuple):
    """What is to be done with a chunk of items.

    Attributes:
        run: For which run: what `cancel` is told.
        name: The operation, for messages.
        digest: Of the bytes of the function.
        limit: Items in flight at most.
        seconds: After so many nothing new starts.
        on_error: Whether an item's error ends the chunk (raise) or leaves the others alone (return).
        watched: Whether the times of the items are wanted.
        deadline: The seconds that are left of the `paco.deadline` of the run, or infinity.
        flag: A path that comes into being when the run is cancelled; empty where the engine has another way.
        number: Of the chunk, in its run.
        after: The number of the chunk in the same process whose slots it has, as they become free; 0 for none. What
            its limit is beyond that of the other, it has at once.
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
        """Make bytes of it, after what is needed to read them."""
        return pickle.dumps((_VERSIONS, *self))

    @classmethod
    def load(cls, data: bytes) -> Order:
        """Read it.

        Raises:
            RuntimeError: The other side has another Python or another paco.
        """
        versions, *fields = pickle.loads(data)  # noqa: S301 - of a connection that this program has opened
        if versions != _VERSIONS:
            there, here = (
                f"{name} {major}.{minor} with paco {paco}" for name, major, minor, paco in (versions, _VERSIONS)
            )
            raise RuntimeError(
                f"a worker on {platform.node()} runs {here}, and the program that has sent it items runs {there}; "
                "install the same Python x.y and the same paco on both"
            )
        return cls(*fields)


#: When an item of a chunk ran: its number, its slot in that process, from when to when by the clock of the worker, its
#: attempts, whether it failed. A plain tuple: others take five times as long to pickle.
Span: TypeAlias = "tuple[int, int, float, float, int, bool]"


class Report(NamedTuple):
    """What became of a chunk.

    Attributes:
        where: Which process that was.
        started: How many of the items were started. The others have not been touched.
        seconds: How long it took.
        busy: How many of these the thread of the event loop had something to do.
        tail: How many of these nothing more was to be started.
        values: The results, by the numbers of the items in the chunk, as bytes.
        errors: What items have raised, in the same way.
        late: What items have raised that were being cancelled, likewise.
        spans: When they ran, if that was wanted.
        now: What the clock of the worker says, by which they are timed.
        refusal: Why nothing was done at all.
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
        """Make bytes of it."""
        return pickle.dumps(tuple(self))

    @classmethod
    def load(cls, data: bytes) -> Report:
        """Read it."""
        fields: tuple[Any, ...] = pickle.loads(data)  # noqa: S301 - of a connection that this program has opened
        return cls(*fields)
