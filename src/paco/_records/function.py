"""The function that made the results: its name, and a hash of its source that shows whether it has changed."""

from __future__ import annotations

import inspect
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._records.values import encode

if TYPE_CHECKING:
    from collections.abc import Mapping

_LAMBDA = "<lambda>"


class Maker(NamedTuple):
    """The identity of a function that makes results.

    Attributes:
        name: The qualified name, without the module.
        source: A hash of the source, 16 hex digits; ``None`` if the source is unknown.
    """

    name: str
    source: str | None

    def fields(self, version: int | str | None = None) -> str:
        """Return the fields of a record that name the function, as JSON with a leading comma."""
        known = {"function": self.name, "source": self.source, "version": version}
        return "".join(f',"{name}":{encode(value)}' for name, value in known.items() if value is not None)

    def has_made(self, record: Mapping[str, Any]) -> bool:
        """Return whether a record names the same function, or none."""
        return record.get("function") in (None, self.name)  # not a set: the field may hold any JSON, even a list

    def has_changed(self, source: str | None) -> bool:
        """Return whether ``source``, the hash in a record, differs from this one. An unknown source does not differ."""
        return None not in (source, self.source) and source != self.source


def made_by(fn: Any) -> Maker:
    """Return the identity of the innermost function, inside decorators and `functools.partial` objects.

    The module is left out, since a script is named ``__main__`` when it is run but not when it is imported. The source
    of a lambda counts as unknown, since `inspect` returns the whole line that contains it.
    """
    while True:
        if isinstance(fn, partial):
            fn = fn.func
        elif hasattr(fn, "__wrapped__"):
            fn = fn.__wrapped__
        else:
            break
    if not hasattr(fn, "__qualname__"):
        fn = fn.__class__
    return Maker(fn.__qualname__, None if fn.__qualname__.endswith(_LAMBDA) else _source(fn))


def _source(fn: Any) -> str | None:
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):  # typed into an interpreter, or written in C
        return None
    return blake2b(inspect.cleandoc(text).encode(), digest_size=8).hexdigest()
