"""Listeners: of the runs that start in a block, or of all runs of the process."""

from __future__ import annotations

import asyncio
import inspect
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, overload

from paco._base import check
from paco.events._kinds import EVENTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextvars import Token

    from paco.events._kinds import E, Event, Run


def _ignore(_: Any) -> None:
    """Replace a listener that is no longer called."""


class Subscription:
    """A listener, as runs hold it. ``call`` calls the listener until its block ends or it raises."""

    def __init__(self, listener: Callable[[Any], object], kinds: Iterable[type]) -> None:
        self._listener = listener
        self.kinds: frozenset[type] = frozenset(kinds)
        self.call: Callable[[Any], object] = listener

    def close(self) -> None:
        """Stop calling the listener."""
        self.call = _ignore

    def tell(self, event: Event) -> None:
        """Call the listener. If it raises, that does not affect the run, and it is not called again."""
        try:
            self.call(event)
        except (Exception, asyncio.CancelledError) as error:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """Report an error of the listener to the event loop, and stop calling the listener."""
        self.close()
        message = f"paco.listening: {check.called(self._listener)} raised, and will not be called again"
        asyncio.get_running_loop().call_exception_handler({"message": message, "exception": error})


#: The listeners for a run that starts here.
listeners: ContextVar[tuple[Subscription, ...]] = ContextVar("paco.listeners", default=())
#: The run whose item is executing.
current: ContextVar[Run | None] = ContextVar("paco.run", default=None)
#: The run whose async source is executing.
reading: ContextVar[Run | None] = ContextVar("paco.reading", default=None)


#: The listeners for every run that starts in this process.
installed: Final[list[Subscription]] = []


def _check(name: str, listener: object, kinds: tuple[object, ...]) -> None:
    """Check a listener, and the types of the events that it is for."""
    if not callable(listener):
        raise TypeError(check.refusal(name, "listener", "a callable that takes an event", listener))
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(type(listener).__call__):
        raise TypeError(
            f"paco.{name}: listener must not be async, got the coroutine function {check.called(listener)}, "
            "which paco does not await; pass a plain function that puts the events into a queue"
        )
    for kind in kinds:
        if kind not in EVENTS:
            names = ", ".join(one.__name__ for one in EVENTS)
            raise TypeError(check.refusal(name, "kind", f"one of {names}", kind) + "; for all events, pass no kind")


class listening:  # noqa: N801 - used as a function; a generator would check its arguments only when entered
    """Call a listener with the events of each run that starts inside the block.

    The listener runs in the event loop's thread and delays the run, so it should be fast and must not block. If it
    raises, the error goes to the loop's exception handler, the listener is not called again, and the run continues.

    A run calls the listeners that were active when it started. No listener is called after its block has ended.
    Listening costs 2 to 6 µs per item, less for one kind of event, plus the time of the listener;
    ``./dev bench --only listeners`` measures it.

    Args:
        listener: Called with each event: a `RunStarted`, `ItemStarted`, `ItemRetried`, `ItemEnded` or `RunEnded` of
            `paco.events`. Any callable that is not async.
        kinds: The types of events to listen to; all if none is given. Events without a listener are not created.

    Raises:
        TypeError: At the call, if ``listener`` is not a callable, or is async, or one of ``kinds`` is not a type of
            event.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> def tell(event):
        ...     print(event.run.title, event.outcome, event.run.ok)
        >>> with paco.listening(tell, paco.events.RunEnded):
        ...     paco.run(paco.map(double, [1, 2, 3]))
        map double ok 3
        [2, 4, 6]
    """

    @overload
    def __init__(self, listener: Callable[[Event], object]) -> None: ...
    @overload
    def __init__(self, listener: Callable[[E], object], kind: type[E], /, *kinds: type[E]) -> None: ...
    def __init__(self, listener: Callable[[Any], object], *kinds: type[Any]) -> None:
        _check("listening", listener, kinds)
        self._listener = listener
        self._kinds = kinds or EVENTS
        self._entered: list[tuple[Subscription, Token[tuple[Subscription, ...]]]] = []

    def __enter__(self) -> None:
        subscription = Subscription(self._listener, self._kinds)
        self._entered.append((subscription, listeners.set((*listeners.get(), subscription))))

    def __exit__(self, *exc_info: object) -> None:
        subscription, token = self._entered.pop()
        subscription.close()
        try:
            listeners.reset(token)
        except ValueError:  # exited in another context than entered, as in a pytest fixture
            listeners.set(tuple(one for one in listeners.get() if one is not subscription))


@overload
def install(listener: Callable[[Event], object]) -> Callable[[], None]: ...
@overload
def install(listener: Callable[[E], object], kind: type[E], /, *kinds: type[E]) -> Callable[[], None]: ...
def install(listener: Callable[[Any], object], *kinds: type[Any]) -> Callable[[], None]:
    """Call a listener with the events of every run that starts in this process from now on, in any thread and context.

    For programs whose runs start in tasks that do not inherit the context of a `listening` block, such as the requests
    of a web application whose metrics are set up in its lifespan. The listener is called in the thread of each run, as
    by `listening`.

    Args:
        listener: Called with each event. Any callable that is not async.
        kinds: The types of events to listen to; all if none is given.

    Returns:
        A function that removes the listener. It is not called after that.

    Raises:
        TypeError: ``listener`` is not a callable, or is async, or one of ``kinds`` is not a type of event.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> uninstall = paco.events.install(lambda event: print(event.run.title, event.outcome), paco.events.RunEnded)
        >>> paco.run(paco.map(double, [1, 2, 3]))
        map double ok
        [2, 4, 6]
        >>> uninstall()
    """
    _check("events.install", listener, kinds)
    subscription = Subscription(listener, kinds or EVENTS)
    installed.append(subscription)

    def uninstall() -> None:
        subscription.close()
        with suppress(ValueError):  # it was called before
            installed.remove(subscription)

    return uninstall
