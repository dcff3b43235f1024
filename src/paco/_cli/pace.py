"""The pace of a run: the errors to retry, and the limit of --limit, --rate and --budget, which keys change."""

from __future__ import annotations

import builtins
import importlib
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import paco
from paco._cli.ending import CommandError, suggest
from paco._cli.options import AUTO
from paco._cli.target import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paco._cli.options import MapOptions

    #: The errors to retry: a function of an error, or a type.
    RetryOn: TypeAlias = Callable[[Exception], Any] | type[Exception]


# ---- the errors to retry


def retry_on(names: Sequence[str], folder: str) -> RetryOn:
    """Return the errors to retry: a function of an error, or ``Exception`` if there are no names.

    Raises:
        CommandError: A name is neither an exception nor a function.
    """
    verdicts = [_verdict(name, folder) for name in names]

    def any_of(error: Exception) -> Any:
        for verdict in verdicts:
            answer = isinstance(error, verdict) if isinstance(verdict, type) else verdict(error)
            if answer is not False and answer is not None:
                return answer
        return False

    return any_of if verdicts else Exception


def _verdict(name: str, folder: str) -> RetryOn:
    found = find_target(name, folder) if ":" in name else _exception(name)
    if isinstance(found, type):
        if issubclass(found, Exception):
            return found
    elif callable(found):
        return cast("RetryOn", found)
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


# ---- the limit

#: The errors, and the HTTP statuses, that mean overload to ``--limit auto`` without ``--retry-on``.
_OVERLOADS = (TimeoutError, ConnectionError)
_BUSY = {429, 503}  # Too Many Requests, Service Unavailable: RFC 6585, section 4; RFC 9110, section 15.6.4
#: A rate gets a burst of one more for each this many starts per second, since real timers are a millisecond late.
_EACH_BURST = 250


class Pace(NamedTuple):
    """What decides when items start."""

    limit: int | paco.Limiter
    in_flight: paco.Limit | None = None  # the part of it that keys change
    gate: paco.Gate | None = None  # the part of it that a key pauses


def pace_of(options: MapOptions, on: RetryOn, *, steered: bool = False) -> Pace:
    """Return the pace of the options; ``on`` says which errors are retried, ``steered`` whether keys change it.

    The errors of ``--retry-on`` mean overload; without it, timeouts, connection errors, and HTTP statuses 429 and 503.
    """
    drop_on: Callable[[Exception], bool] = _is_overload if isinstance(on, type) else partial(_is_wanted, on)
    limit: int | paco.Limiter = paco.Adaptive(drop_on=drop_on) if options.limit == AUTO else options.limit
    in_flight = gate = None
    if steered:
        gate = paco.Gate()
        if isinstance(limit, int) and limit:
            limit = in_flight = paco.Limit(limit)
        limit = limit & gate
    if options.rate is not None:
        starts, seconds = options.rate.starts, options.rate.seconds
        burst = 1 + int(starts / seconds / _EACH_BURST)
        # At most `starts` starts in any `seconds`, and nearly as many.
        limit = paco.Rate(starts - burst + 1, seconds, burst) & limit
    return Pace(limit, in_flight, gate)


def _is_wanted(on: Callable[[Exception], Any], error: Exception) -> bool:
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
