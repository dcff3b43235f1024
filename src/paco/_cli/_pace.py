"""How fast items start, and how often each is tried: the options, as the library's own limits and wrappers."""

from __future__ import annotations

import builtins
import importlib
from typing import TYPE_CHECKING, Any, TypeAlias

import paco
from paco._cli._errors import CommandError, suggest
from paco._cli._target import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paco._cli._function import Function
    from paco._cli._options import MapOptions
    from paco._cli._words import Rate

    _Verdict: TypeAlias = Callable[[Exception], Any]

#: Starts a second for each further one that may be made up for at once, since real timers are late by a millisecond.
_EACH_BURST = 250


def limit_of(options: MapOptions) -> int | paco.Limiter:
    """Return what ``--limit`` and ``--rate`` say."""
    if options.rate is None:
        return options.limit
    rate = _rate(options.rate)
    return rate & paco.Limit(options.limit) if options.limit else rate


def _rate(rate: Rate) -> paco.Rate:
    """Return a rate that never lets more start in any such time than was said, and comes near it."""
    burst = 1 + int(rate.starts / rate.seconds / _EACH_BURST)
    return paco.Rate(rate.starts - burst + 1, rate.seconds, burst)


def attempted(function: Function, options: MapOptions, on: _Verdict | type[Exception]) -> Function:
    """Return the function with ``--timeout`` and ``--retries`` around each call; settled, if there are retries."""
    if options.retries:  # which `settle` counts, for 3 us
        return paco.settle(paco.retry(function, options.retries + 1, on, timeout=options.timeout))
    return function if options.timeout is None else paco.timeout(function, options.timeout)


def retry_on(names: Sequence[str]) -> _Verdict | type[Exception]:
    """Return which errors are to be retried.

    Raises:
        CommandError: A name stands for nothing that can tell.
    """
    verdicts = [_verdict(name) for name in names]

    def any_of(error: Exception) -> Any:
        for verdict in verdicts:
            answer = isinstance(error, verdict) if isinstance(verdict, type) else verdict(error)
            if answer is not False and answer is not None:
                return answer
        return False

    return any_of if verdicts else Exception


def _verdict(name: str) -> _Verdict | type[Exception]:
    found = find_target(name) if ":" in name else _exception(name)
    if isinstance(found, type):
        if issubclass(found, Exception):
            return found
    elif callable(found):
        verdict: _Verdict = found
        return verdict
    raise CommandError(
        f"--retry-on {name}: expected a kind of Exception, or a function of an error that returns whether to retry, "
        f"got {found!r}"
    )


def _exception(name: str) -> Any:
    module, dot, attribute = name.rpartition(".")
    known = [one for one, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)]
    try:
        return getattr(importlib.import_module(module) if dot else builtins, attribute)
    except (ImportError, AttributeError):
        hint = suggest(name, known) or "; name it with its module, as in aiohttp.ClientError"
        raise CommandError(f"--retry-on {name}: there is no such exception{hint}") from None
