"""What goes wrong with a journal."""

from __future__ import annotations


class JournalError(RuntimeError):
    """A journal that cannot be used: another run has it, it is damaged, or its results are those of another function.

    The message says what to do. No item has been run.
    """


class RecordedError(Exception):
    """The error that an item had, as its record tells it: the exception itself is not remembered, only its words.

    Attributes:
        type: The name of the exception's type: ``HTTPError``.
        message: Its text.
    """

    def __init__(self, type: str, message: str) -> None:
        super().__init__(type, message)
        self.type: str = type
        self.message: str = message

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.message else self.type
