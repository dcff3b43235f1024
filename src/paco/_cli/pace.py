"""How fast items start, and how often each is tried: the options, as the library's own limits and wrappers."""

from __future__ import annotations

import builtins
import importlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import paco
from paco._cli.errors import CommandError, suggest
from paco._cli.options import AUTO
from paco._cli.target import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paco._cli.options import MapOptions, RateOption
    from paco._cli.target import Function

    _Verdict: TypeAlias = Callable[[Exception], Any]

#: What means that too much was in flight, where nobody says what does; and the statuses of HTTP that do.
_OVERLOADS = (TimeoutError, ConnectionError)
_BUSY = {429, 503}  # Too Many Requests, Service Unavailable: RFC 6585, section 4; RFC 9110, section 15.6.4
#: Starts a second for each further one that may be made up for at once, since real timers are late by a millisecond.
_EACH_BURST = 250


def limit_of(options: MapOptions, on: _Verdict | type[Exception]) -> int | paco.Limiter:
    """Return what ``--limit`` and ``--rate`` say, where ``on`` says which errors are to be retried."""
    limit = paco.Adaptive(drop_on=too_many(on)) if options.limit == AUTO else options.limit
    return limit if options.rate is None else _rate(options.rate) & limit


def too_many(on: _Verdict | type[Exception]) -> Callable[[Exception], bool]:
    """Return which errors mean that too much was in flight: what ``--retry-on`` names, else the signs of overload."""
    return _is_overload if isinstance(on, type) else partial(_is_wanted, on)


def _is_wanted(on: _Verdict, error: Exception) -> bool:
    try:
        return on(error) is not False
    except Exception:  # of the user's, and told where it is asked about a retry
        return False


def _is_overload(error: Exception) -> bool:
    """Say whether an error is a timeout, a refused connection, or tells a status of HTTP that says "too many"."""
    if isinstance(error, _OVERLOADS):
        return True
    with suppress(Exception):  # what attributes do is up to their class
        # aiohttp: error.status; httpx and requests: error.response.status_code
        told: Any = getattr(error, "response", error)
        return getattr(told, "status", getattr(told, "status_code", None)) in _BUSY
    return False


def _rate(rate: RateOption) -> paco.Rate:
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
