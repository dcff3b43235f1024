"""Runs that can be killed: finished items are remembered in a file, and a run that is run again skips them.

`Stream.journal` is how it is used. The file has a record for each item, in JSON Lines, as ``paco map`` writes them:

    {"id":0,"key":"5f0a...","input":"https://e.org/a","ok":true,"result":{"status":200},"attempts":1,"slot":0,
    "start":"2026-11-22T12:04:10.115Z","ms":181.0,"function":"fetch","source":"77ab0c8e6f3d2b14"}

A result may hold what JSON can, and dataclasses (which become objects), tuples and sets (lists), enums (their values),
``datetime``, ``date`` and ``time`` (ISO 8601), ``timedelta`` (seconds), ``Path``, ``UUID`` and ``Decimal`` (text), and
``bytes`` (base64). NaN and the infinities become ``None``. Anything else is an error of its item, which names the type.
Nothing is ever pickled: to open somebody else's journal runs none of their code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._records.errors import JournalError, RecordedError
from paco._records.recorder import Recorder, Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item_function import ItemFunction
    from paco._engine.sinks import InOrder
    from paco.limits import Limiter

__all__ = ["Journal", "JournalError", "RecordedError"]

_DURABLE: Final = ("process", "power")


class Journal:
    """A journal to be kept, as `Stream.journal` describes it: checked, and not opened yet.

    Args:
        name: What was called, for messages.
        path: As of `Stream.journal`, like the others.
        key: What an item is known by.
        encode: Makes JSON of a result.
        decode: Makes a result of JSON.
        durable: What a written record survives.
        version: Records of another version do not count.
        retry_errors: Whether items that failed are run again.
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
        self, name: str, fn: ItemFunction, sink: InOrder, limit: int | Limiter, *, catch: bool
    ) -> tuple[Recorder, ItemFunction, int | Limiter]:
        """Return what keeps the journal of a run, and the function and the limit that the run is to have instead."""
        recorder = Recorder(self._settings, name, fn, sink, catch=catch)
        return recorder, *recorder.instead_of(fn, limit)
