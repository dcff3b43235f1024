"""The kit of the scenarios: the forms of a library, the lanes, and the registry of all scenarios."""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import itertools
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from paco.testing import VirtualLoop
from paco.testing._runs import run_on

#: Takes a function, a source and a limit, and returns the list of results.
Collect = Callable[[Any, Any, Any], Awaitable[list[Any]]]
#: Takes the same, and returns an async context manager of a stream of results. Leaving the block ends the run.
Stream = Callable[[Any, Any, Any], AbstractAsyncContextManager[Any]]


#: Turns of the loop after a scenario before the leak check. A scenario that allows no delay checks that itself.
GRACE = 5


class NotThere(Exception):
    """The library does not have the form, or the lane does not support the scenario."""


@dataclass(frozen=True)
class Library:
    """The forms in which a library runs an async function over items, each used as its documentation shows.

    A form that the library does not have is ``None``.

    Args:
        name: The name on the scorecard.
        collect: Returns the list of results.
        ordered: Returns a stream of results in the order of the items.
        completed: Returns a stream of results in the order of completion.
        plain: Returns a stream that is iterated without ``async with``.
        outcomes: Returns the list of results, with exceptions as values.
        within: Like ``collect``, with a timeout in seconds for the whole run. Without it, ``asyncio.timeout`` is used.
        reads_async: Whether the source may be an async iterable.
        lazy: Whether the source is read during the run; other libraries read all of it before they start.
        packages: The installed packages that it uses.
    """

    name: str
    collect: Collect | None = None
    ordered: Stream | None = None
    completed: Stream | None = None
    plain: Callable[[Any, Any, Any], Any] | None = None
    outcomes: Collect | None = None
    within: Callable[[Any, Any, Any, float], Awaitable[list[Any]]] | None = None
    reads_async: bool = False
    lazy: bool = False
    packages: tuple[str, ...] = ()

    def has(self, need: str) -> bool:
        """Return whether the library has a form. ``stream`` is any kind of stream; ``within`` requires ``collect``."""
        if need == "stream":
            return self.ordered is not None or self.completed is not None
        return bool(getattr(self, "collect" if need == "within" else need))

    def stream(self, fn: Any, source: Any, limit: Any) -> AbstractAsyncContextManager[Any]:
        """Return a stream, ordered if the library has one."""
        return (self.ordered or self.completed)(fn, source, limit)

    async def timed(self, fn: Any, source: Any, limit: Any, seconds: float) -> list[Any]:
        """Return the list of results, with a timeout in seconds for the whole run."""
        if self.within is not None:
            return await self.within(fn, source, limit, seconds)
        async with asyncio.timeout(seconds):
            return await self.collect(fn, source, limit)

    def form(self, name: str) -> Collect:
        """Return a form as a function that collects all results, with a turn of the loop per result of a stream."""
        if name == "collect":
            return self.collect
        return functools.partial(drain, getattr(self, name))


async def drain(stream: Stream, fn: Any, source: Any, limit: Any) -> list[Any]:
    results = []
    async with stream(fn, source, limit) as items:
        async for item in items:
            results.append(item)
            await asyncio.sleep(0)
    return results


@dataclass(frozen=True)
class Lane:
    """An event loop and a task factory to run scenarios on."""

    name: str = "asyncio"
    new_loop: Callable[[], asyncio.AbstractEventLoop] = VirtualLoop
    eager: bool = False

    def run(self, main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> Any:
        """Run on a new event loop, and fail if anything is left behind."""
        return self.run_on(self.new_loop, main, debug=debug)

    def run_live(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run on a new event loop in real time, and fail if anything is left behind."""
        return self.run_on(asyncio.new_event_loop if self.new_loop is VirtualLoop else self.new_loop, main, debug=False)

    def run_on(self, new_loop: Callable[[], Any], main: Callable[[], Awaitable[Any]], *, debug: bool) -> Any:
        def factory() -> asyncio.AbstractEventLoop:
            loop = new_loop()
            if self.eager:
                loop.set_task_factory(eager_task)
            return loop

        return run_on(factory, main, eager=False, debug=debug)


def eager_task(loop: Any, coro: Any, *, eager_start: bool = True, **options: Any) -> Any:
    """Make an eager task. uvloop passes an argument that asyncio's factory accepts only from Python 3.14 on."""
    return asyncio.eager_task_factory(loop, coro, **options)


#: The forms in which most scenarios run, with their names on the scorecard.
FORMS = {"collect": "list", "ordered": "ordered stream", "completed": "stream as completed"}


@dataclass(frozen=True)
class Scenario:
    """One test case for a library: a function with one set of parameters."""

    area: str
    name: str
    run: Callable[[Library, Lane], None]
    needs: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The name without form and case."""
        return self.name.partition(" (")[0]

    def lacks(self, library: Library) -> str:
        """Return a form that the scenario needs and the library does not have, or ``""``."""
        return next((need for need in self.needs if not library.has(need)), "")


ALL: list[Scenario] = []


@dataclass
class Area:
    """A register for the scenarios of one file."""

    name: str

    def scenario(
        self, *needs: str, forms: Iterable[str] = (), raw: bool = False, cases: Any = ()
    ) -> Callable[[Any], Any]:
        """Return a decorator that registers a function as one or more scenarios.

        An ``async`` function receives the library, and runs on a new loop with a leak check. A plain function receives
        the library and the lane, and uses the lane itself.

        Args:
            needs: The forms that the library must have.
            forms: Forms to run the function with, one scenario for each. The next argument of the function is the form.
            raw: Whether to pass a form as it is; otherwise it is passed as a function that collects all results.
            cases: Names, or a mapping of names to values, one scenario for each. The last argument is the value.
        """

        def register(fn: Any) -> Any:
            cased = cases if isinstance(cases, dict) else {case: case for case in cases}
            for form, label in itertools.product(forms or [""], cased or [""]):
                details = [detail for detail in (FORMS.get(form), label) if detail]
                title = fn.__name__.replace("_", " ") + (f" ({', '.join(details)})" if details else "")
                take = functools.partial(arguments, form, raw=raw, case=[cased[label]] if cased else [])
                wanted = (*needs, form) if form else needs
                ALL.append(Scenario(self.name, title, functools.partial(perform, fn, take), wanted))
            return fn

        return register


def arguments(form: str, library: Library, *, raw: bool, case: list[Any]) -> list[Any]:
    """Return the arguments of a scenario after the library and the lane."""
    if not form:
        return case
    return [getattr(library, form) if raw else library.form(form), *case]


def perform(fn: Any, take: Callable[[Library], list[Any]], library: Library, lane: Lane) -> None:
    """Run the function of a scenario on a lane."""
    if not inspect.iscoroutinefunction(fn):
        fn(library, lane, *take(library))
        return

    async def main() -> None:
        await fn(library, *take(library))
        for _ in range(GRACE):
            await asyncio.sleep(0)

    lane.run(main)


def scenarios() -> list[Scenario]:
    """Import all files of scenarios, and return all scenarios."""
    package = importlib.import_module("tests.torture.scenarios")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"tests.torture.scenarios.{module.name}")
    return ALL


def one_of_each(turn: int = 0) -> list[Scenario]:
    """Return each scenario in one of its forms and cases, in rotation, which begins at ``turn``."""
    forms: dict[tuple[str, str], list[Scenario]] = {}
    for scenario in scenarios():
        forms.setdefault((scenario.area, scenario.title), []).append(scenario)
    return [each[(number + turn) % len(each)] for number, each in enumerate(forms.values())]


def lane(name: str, *, eager: bool = False) -> Lane:
    """Return the lane of an event loop: ``asyncio`` on virtual time, or ``uvloop`` on real time."""
    label = f"{name}, eager tasks" if eager else name
    if eager and sys.version_info < (3, 12):
        raise NotThere("eager tasks need Python 3.12 or later")
    if name == "asyncio":
        return Lane(label, VirtualLoop, eager)
    return Lane(label, importlib.import_module(name).new_event_loop, eager)
