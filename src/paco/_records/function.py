"""What has made the results in a journal: the name of a function, and whether its source is still the same."""

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
    """The name of a function, without its module, and 16 hex digits of its source, or ``None`` where there is none."""

    name: str
    source: str | None

    def fields(self, version: int | str | None = None) -> str:
        """Return the part of a record that tells who has made it, after a comma."""
        told = {"function": self.name, "source": self.source, "version": version}
        return "".join(f',"{name}":{encode(value)}' for name, value in told.items() if value is not None)

    def has_made(self, record: Mapping[str, Any]) -> bool:
        """Say whether a record is of the same function, or of none that it names."""
        return record.get("function") in (None, self.name)  # no set: anything may stand there

    def has_changed(self, source: str | None) -> bool:
        """Say whether this is another source than the one that a record tells."""
        return None not in (source, self.source) and source != self.source


def made_by(fn: Any) -> Maker:
    """Return what a function is known by: the innermost one, below decorators and `functools.partial` objects.

    The module is left out: a script is ``__main__`` when it is run, and has its name when it is imported. Of a lambda
    the source is not looked at: there is no telling where in its line it ends.
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
