"""Errors that come from other processes, and those about such processes."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from paco._base.errors import add_note, trim
from paco._view.console import message
from paco.remote import _pickles

if TYPE_CHECKING:
    from typing import Self

#: Characters of a traceback that travel; causes that do, one of the other.
_TEXT: Final = 20_000
_CAUSES: Final = 5
_CAUSE: Final = vars(BaseException)["__cause__"]


class WorkerLost(RuntimeError):
    """An item whose worker has died each time that it ran, three times at least, the last two with nothing else in it.

    A worker that dies for another reason has its items run again elsewhere, and nobody hears of it.
    """


class RemoteError(RuntimeError):
    """An item's error, or what became of its result, that could not come back as it was; the text tells what it was."""


class PackedError(NamedTuple):
    """An error that travels: as itself, if it survives that, and in words."""

    kind: str
    text: str
    traceback: str
    data: bytes | None
    cause: PackedError | None

    @classmethod
    def of(cls, error: BaseException, depth: int = 0) -> Self:
        """Pack an error: it is pickled, and unpickled to see that this works."""
        trim(error)
        shown = "".join(traceback.format_exception(error)) if not depth else ""
        cause = error.__cause__
        packed = None if cause is None or depth >= _CAUSES else PackedError.of(cause, depth + 1)
        return cls(type(error).__name__, message(error), shown[-_TEXT:], _pickled(error), packed)

    def error(self, where: str) -> BaseException:
        """Return the error, with a note that has the traceback from where it was raised."""
        error = self._itself()
        cause = None if self.cause is None else self.cause.error("")
        _CAUSE.__set__(error, cause)  # not by assignment: a frozen exception refuses that
        if where:
            add_note(error, f"in {where}:\n{self.traceback.rstrip()}")
        return error

    def _itself(self) -> BaseException:
        why = "it cannot be pickled"
        if self.data is not None:
            try:
                return cast("BaseException", _pickles.loads(self.data))
            except Exception as failed:
                why = f"it cannot be unpickled here: {message(failed)}"
        return RemoteError(f"{self.kind}: {self.text} ({why})")


def _pickled(error: BaseException) -> bytes | None:
    try:
        data = _pickles.dump_error(error)
        same = type(_pickles.loads(data)).__name__ == type(error).__name__
    except Exception:
        return None
    return data if same else None
