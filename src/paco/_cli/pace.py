"""Turn the options for limits, rates, timeouts and retries into the limits and wrappers of the library."""

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

#: The errors, and the HTTP statuses, that mean overload to ``--limit auto`` without ``--retry-on``.
_OVERLOADS = (TimeoutError, ConnectionError)
_BUSY = {429, 503}  # Too Many Requests, Service Unavailable: RFC 6585, section 4; RFC 9110, section 15.6.4
#: A rate gets a burst of one more for each this many starts per second, since real timers are a millisecond late.
_EACH_BURST = 250


def limit_of(options: MapOptions, on: _Verdict | type[Exception]) -> int | paco.Limiter:
    """Return the limit of ``--limit`` and ``--rate``; ``on`` says which errors are retried."""
    limit = paco.Adaptive(drop_on=too_many(on)) if options.limit == AUTO else options.limit
    return limit if options.rate is None else _rate(options.rate) & limit


def too_many(on: _Verdict | type[Exception]) -> Callable[[Exception], bool]:
    """Return a function that says whether an error means overload.

    These are the errors of ``--retry-on``; without it, timeouts, connection errors, and HTTP statuses 429 and 503.
    """
    return _is_overload if isinstance(on, type) else partial(_is_wanted, on)


def _is_wanted(on: _Verdict, error: Exception) -> bool:
    try:
        return on(error) is not False
    except Exception:  # the user's function failed; the retry calls it too, and reports that
        return False


def _is_overload(error: Exception) -> bool:
    """Return whether an error is a timeout, a connection error, or has the HTTP status 429 or 503."""
    if isinstance(error, _OVERLOADS):
        return True
    with suppress(Exception):  # an attribute of a foreign class may raise anything
        # aiohttp: error.status; httpx and requests: error.response.status_code
        told: Any = getattr(error, "response", error)
        return getattr(told, "status", getattr(told, "status_code", None)) in _BUSY
    return False


def _rate(rate: RateOption) -> paco.Rate:
    """Return a rate that allows at most ``rate.starts`` starts in any ``rate.seconds``, and nearly as many."""
    burst = 1 + int(rate.starts / rate.seconds / _EACH_BURST)
    return paco.Rate(rate.starts - burst + 1, rate.seconds, burst)


def attempted(function: Function, options: MapOptions, on: _Verdict | type[Exception]) -> Function:
    """Return the function with ``--timeout`` and ``--retries`` applied. With retries it is settled."""
    if options.retries:  # settle() counts the attempts, which takes 3 us
        return paco.settle(paco.retry(function, options.retries + 1, on, timeout=options.timeout))
    return function if options.timeout is None else paco.timeout(function, options.timeout)


def retry_on(names: Sequence[str]) -> _Verdict | type[Exception]:
    """Return the errors to retry: a function of an error, or ``Exception`` if there are no names.

    Raises:
        CommandError: A name is neither an exception nor a function.
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
        f"--retry-on {name}: expected a subclass of Exception, or a function of an error that says whether to retry, "
        f"got {found!r}"
    )


def _exception(name: str) -> Any:
    module, dot, attribute = name.rpartition(".")
    known = [one for one, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, Exception)]
    try:
        return getattr(importlib.import_module(module) if dot else builtins, attribute)
    except (ImportError, AttributeError):
        hint = suggest(name, known) or "; give its module too, as in aiohttp.ClientError"
        raise CommandError(f"--retry-on {name}: there is no such exception{hint}") from None
