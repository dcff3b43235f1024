"""The function that made the results, by its name and a hash of its source."""

from __future__ import annotations

import functools
import inspect
import io
import tokenize
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, NamedTuple

from paco._records.lines import encode

if TYPE_CHECKING:
    from collections.abc import Mapping


class Maker(NamedTuple):
    """The identity of a function that makes results."""

    name: str  # the qualified name, without the module
    source: str | None  # what `_hash_of` returns
    arguments: Mapping[str, str] | None = None  # hashes of those besides the item, by name; None if they do not matter
    by: str | None = None  # the field that identifies an item; None if that is its content, or a function says it

    def fields(self, version: int | str | None = None) -> bytes:
        """Return the fields of a record that name the function, as JSON with a leading comma."""
        arguments = self.arguments or None
        known = {
            "function": self.name,
            "source": self.source,
            "version": version,
            "arguments": arguments,
            "by": self.by,
        }
        given = [b',"%b":%b' % (name.encode(), encode(value)) for name, value in known.items() if value is not None]
        return b"".join(given)


def made_by(fn: Any) -> Maker:
    """Return the identity of the innermost function, inside decorators and `functools.partial` objects.

    The module is left out, since a script is named ``__main__`` when it is run but not when it is imported.
    """
    while isinstance(fn, functools.partial) or hasattr(fn, "__wrapped__"):
        fn = fn.func if isinstance(fn, functools.partial) else fn.__wrapped__
    if not hasattr(fn, "__qualname__"):
        fn = fn.__class__
    return Maker(fn.__qualname__, _hash_of(fn))


def _hash_of(fn: Any) -> str | None:
    """Return a hash of the source, 16 hex digits, which does not depend on comments; ``None`` if the source is unknown.

    The source of a lambda counts as unknown, since `inspect` returns the whole line that contains it.
    """
    if fn.__qualname__.endswith("<lambda>"):
        return None
    try:
        text = inspect.getsource(fn)
    except (OSError, TypeError):  # typed into an interpreter, or written in C
        return None
    code = inspect.cleandoc(_without_comments(text))
    return blake2b(code.encode(), digest_size=8).hexdigest()


def _without_comments(text: str) -> str:
    """Return the source without its comments and the lines that hold nothing else."""
    lines = text.splitlines(keepends=True)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):  # of a file that was changed since it was imported
        return text
    for token in tokens:
        if token.type == tokenize.COMMENT:
            row, column = token.start
            code = lines[row - 1][:column].rstrip()
            lines[row - 1] = f"{code}\n" if code else ""
    return "".join(lines)
