"""Journals: a run records its finished items in a file, and skips them when it runs again.

Use `Stream.journal`. The file is in JSON Lines, with one record for each item, as ``paco map`` writes it:

    {"id":0,"key":"5f0a...","input":"https://e.org/a","ok":true,"result":{"status":200},"attempts":1,"slot":0,
    "start":"2026-11-22T12:04:10.115Z","ms":181.0,"function":"fetch","source":"77ab0c8e6f3d2b14"}

A result may contain every value that JSON can hold. It may also contain dataclasses, which become objects; tuples and
sets (lists); enums (their values); ``datetime``, ``date`` and ``time`` (ISO 8601); ``timedelta`` (seconds); ``Path``,
``UUID`` and ``Decimal`` (strings); and ``bytes`` (base64). NaN and the infinities become ``None``. A value of any other
type fails its item, with an error that names the type. Nothing is pickled, so opening another person's journal runs
none of their code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._records.file import JournalError, RecordedError
from paco._records.recorder import Recorder, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.check import ItemFunction
    from paco._base.item import Ran
    from paco._base.types import OnError
    from paco._engine.sinks import InOrder
    from paco.limits import Limiter

__all__ = ["Journal", "JournalError", "RecordedError"]

_DURABLE: Final = ("process", "power")


class Journal:
    """The checked arguments of `Stream.journal`, which describes them. The file is not open yet.

    Args:
        name: The operation, for messages.
        path: The file.
        key: A function of an item, or the name of a field, that identifies the item.
        encode: Converts a result to JSON.
        decode: Converts JSON to a result.
        durable: What a written record survives.
        version: Records of other versions are ignored.
        retry_errors: Whether failed items run again.
    """

    def __init__(
        self,
        name: str,
        path: object,
        key: Callable[[Any], object] | str | None,
        encode: Callable[[Any], object] | None,
        decode: Callable[[Any], Any] | None,
        durable: str,
        *,
        version: int | str | None,
        retry_errors: bool,
    ) -> None:
        check.one_of(name, "durable", durable, _DURABLE)
        check.flag(name, "retry_errors", retry_errors)
        check.version(name, version)
        functions = {"key": None if isinstance(key, str) else key, "encode": encode, "decode": decode}
        for parameter, fn in functions.items():
            if fn is not None:
                check.plain_function(name, fn, parameter)
        self._settings = Settings(
            check.path(name, "path", path), key, encode, decode, durable == "power", version, retry_errors
        )

    def begin(
        self,
        name: str,
        fn: ItemFunction,
        sink: InOrder,
        limit: int | Limiter,
        *,
        on_error: OnError,
        ran: Callable[[], Ran | None],
    ) -> tuple[Recorder, ItemFunction, int | Limiter]:
        """Return the recorder of a run, and the function and the limit that replace those of the run."""
        recorder = Recorder(self._settings, name, fn, sink, on_error=on_error, ran=ran)
        return recorder, *recorder.instead_of(fn, limit)
