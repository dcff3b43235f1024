"""Errors of items that ran in other processes, and errors about those processes."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from paco._base.errors import add_note, trim
from paco._view.console import message
from paco.remote import _pickles

if TYPE_CHECKING:
    from typing import Self

#: The maximum number of characters of a traceback to send, and the maximum depth of the chain of causes.
_TEXT: Final = 20_000
_CAUSES: Final = 5
_CAUSE: Final = vars(BaseException)["__cause__"]


class WorkerLost(RuntimeError):
    """An item's worker died each time that the item ran: at least three times, at least twice with no other item in it.

    If a worker dies for another reason, its items run again on another worker, without an error.
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
        shown = "".join(traceback.format_exception(error)) if not depth else ""
        cause = error.__cause__
        packed = None if cause is None or depth >= _CAUSES else PackedError.of(cause, depth + 1)
        return cls(type(error).__name__, message(error), shown[-_TEXT:], _pickled(error), packed)

    def error(self, where: str) -> BaseException:
        """Return the original error or a `RemoteError`, with a note that contains the traceback from the worker.

        Args:
            where: The name of the worker; empty for no note.
        """
        error = self._itself()
        cause = None if self.cause is None else self.cause.error("")
        _CAUSE.__set__(error, cause)  # not by assignment, which a frozen exception refuses
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
