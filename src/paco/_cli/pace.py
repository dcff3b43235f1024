"""The pace of a run: the errors to retry, and the limit of --limit, --rate and --budget, which keys change."""

from __future__ import annotations

import builtins
import importlib
from contextlib import suppress
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

import paco
from paco._cli.budget import Cost
from paco._cli.ending import CommandError, suggest
from paco._cli.options import AUTO
from paco._cli.target import find_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from paco._cli.options import MapOptions
    from paco._cli.values import RateOption

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
        several = f"; give each by itself: --retry-on {name.replace(',', ' --retry-on ')}" if "," in name else ""
        hint = several or suggest(name, known) or "; give its module too, as in aiohttp.ClientError"
        raise CommandError(f"--retry-on {name}: there is no such exception{hint}") from None


def may_mend(on: RetryOn, error: Exception) -> Any:
    """Return what ``on`` says about an error of a program; no attempt mends an item that no program can receive."""
    if isinstance(error, ValueError):
        return False
    return isinstance(error, on) if isinstance(on, type) else on(error)


# ---- the limit

#: The errors, and the HTTP statuses, that mean overload to ``--limit auto`` without ``--retry-on``.
_OVERLOADS = (TimeoutError, ConnectionError)
_BUSY = {429, 503}  # Too Many Requests, Service Unavailable: RFC 6585, section 4; RFC 9110, section 15.6.4
#: The seconds by which starts may be late without being lost, and by which a timer usually is.
_LATE, _TIMER = 0.004, 0.001
#: The share of the starts of a rate that may be made up for.
_SPARE = 0.05


class Pacing(NamedTuple):
    """What decides when items start."""

    limit: int | paco.Limiter
    in_flight: paco.Limit | None = None  # the part of it that keys change
    gate: paco.Gate | None = None  # the part of it that a key pauses
    budget: paco.Budget | None = None  # the part of it that ends the run when it is spent
    cost: Cost | None = None  # what an item takes from the budget

    def charge(self, result: Any) -> None:
        """Take from the budget what an item with this result costs."""
        budget, cost = cast("paco.Budget", self.budget), cast("Cost", self.cost)
        budget.charge(cost.read(result))


def pace_of(options: MapOptions, on: RetryOn, *, steered: bool = False) -> Pacing:
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
    for rate in options.rate:
        limit = rate_of(rate, options.burst) & limit
    if options.budget is None:
        return Pacing(limit, in_flight, gate)
    cost = Cost(options.cost)
    budget = paco.Budget(options.budget, cost.at_start)
    return Pacing(limit & budget, in_flight, gate, budget, cost)


def rate_of(rate: RateOption, burst: int | None = None) -> paco.Rate:
    """Return the limit of a rate and a burst.

    Without a burst, no window sees more starts than the rate, and a few of these may be made up for: without that, a
    timer that fires a millisecond late would cost a tenth of 100 starts a second. As many as are due within `_LATE`
    seconds may, a twentieth at most, unless the lateness costs less.
    """
    starts, seconds = rate.starts, rate.seconds
    if burst is not None:
        return paco.Rate(starts, seconds, burst)
    spare = min(ceil(starts / seconds * _LATE), int(starts * _SPARE))
    spare = spare if spare / starts < starts / seconds * _TIMER else 0
    return paco.Rate(starts - spare, seconds, 1 + spare)


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
