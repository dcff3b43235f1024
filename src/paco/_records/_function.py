"""What has made the results in a journal: the name of a function, and whether its source is still the same."""

from __future__ import annotations

import inspect
from functools import partial
from hashlib import blake2b
from typing import Any, NamedTuple

_LAMBDA = "<lambda>"


class Maker(NamedTuple):
    """The name of a function, without its module, and 16 hex digits of its source, or ``None`` where there is none."""

    name: str
    source: str | None


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
