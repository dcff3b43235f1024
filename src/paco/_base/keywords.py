"""Check the keyword arguments that functions of paco pass on to the user's function."""

from __future__ import annotations

import functools
import inspect
from types import FunctionType, MethodType
from typing import Any, Final

from paco._base.check import called, shorten

#: The similarity from which on a keyword is taken for a mistyped one: "limt" and "limit" have 0.89.
_CLOSE: Final = 0.85
#: What other libraries call a parameter.
_ELSEWHERE: Final = {
    "limit": "concurrency max_concurrency concurrent max_concurrent max_at_once max_workers workers n_jobs num_workers",
    "attempts": "tries max_tries max_attempts",
    "attempts (retries + 1)": "retries max_retries",
    "on": "exceptions exception retry_on",
}
_HERE: Final = {theirs: ours for ours, names in _ELSEWHERE.items() for theirs in names.split()}


def check_keywords(name: str, coro: Any, kw: dict[str, Any], *own: str) -> None:
    """Refuse keyword arguments for ``coro`` that it does not take, or that look like a mistyped parameter of ``own``.

    A function that takes any keyword argument would take a mistyped one silently, and the run would have no limit.
    """
    named = _keywords(coro) if kw else None
    for key, value in kw.items():
        if named is not None and key in named:
            continue
        close, fn = _closest(key, own), called(coro)
        if named is not None:
            here = _HERE.get(key.lower(), "")
            close = here if here.partition(" ")[0] in own else close
            remedy = f"{fn} takes {', '.join(named) or 'no keyword arguments'}"
        elif close and not _names(coro, key):
            remedy = f"If {fn} takes {key}, pass functools.partial({fn}, {key}=...) as the function"
        else:
            continue
        raise TypeError(f"paco.{name}: got {key}={shorten(value)}:{f' did you mean {close}?' * bool(close)} {remedy}")


def _keywords(coro: Any) -> tuple[str, ...] | None:
    """Return the parameters that can be passed to a function by name; ``None`` if it takes any, or if that is unknown.

    Only the code of a Python function is certain: a signature can be replaced.
    """
    fn = coro.__func__ if isinstance(coro, MethodType) else coro
    if not isinstance(fn, FunctionType) or fn.__code__.co_flags & inspect.CO_VARKEYWORDS:
        return None
    code, first = fn.__code__, int(fn is not coro)  # without `self`
    return code.co_varnames[max(code.co_posonlyargcount, first) : code.co_argcount + code.co_kwonlyargcount]


@functools.lru_cache
def _closest(key: str, own: tuple[str, ...]) -> str:
    """Return the parameter that a keyword is most similar to; an empty text if none is similar."""
    import difflib  # the import takes a millisecond

    key = key.lower()
    if close := difflib.get_close_matches(key, own, 1, _CLOSE):
        return close[0]
    return next((one for one in own if key in _swapped(one)), "")


def _swapped(word: str) -> set[str]:
    """Return a word with each two letters that are next to each other in the wrong order: "limti" for "limit"."""
    return {f"{word[:at]}{word[at + 1]}{word[at]}{word[at + 2 :]}" for at in range(len(word) - 1)}


def _names(coro: Any, key: str) -> bool:
    """Return whether a function has a parameter of that name, or does not tell its parameters."""
    try:
        parameter = inspect.signature(coro).parameters.get(key)
    except (TypeError, ValueError):
        return True
    return parameter is not None and parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
