"""The errors of a journal, and the errors of items as an earlier run recorded them."""

from __future__ import annotations


class JournalError(RuntimeError):
    """Raised if a journal cannot be used: it is in use, is damaged, or holds the results of another function.

    The message says what to do. No item has run, unless the file was changed during the run.
    """


class RecordedError(Exception):
    """Raised for an item that failed in an earlier run. A record holds only the name and the message of an exception.

    Attributes:
        type: The name of the exception's type, such as ``HTTPError``.
        message: The message of the exception.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type: str = type
        self.message: str = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
