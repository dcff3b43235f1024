"""What the scenarios are written against: a library's forms, the lane that they run on, and the list of them all."""

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

#: Takes a function, a source and a limit; gives the results.
Collect = Callable[[Any, Any, Any], Awaitable[list[Any]]]
#: The same, for results one by one. Leaving the block ends the run.
Stream = Callable[[Any, Any, Any], AbstractAsyncContextManager[Any]]


#: Turns of the loop until nothing may be left of a scenario. What has to be over at once, a scenario demands itself.
GRACE = 5


class NotThere(Exception):
    """The library has no such form, or the lane cannot show it."""


@dataclass(frozen=True)
class Library:
    """A way to run an async function over items, as its documentation shows; ``None`` for a form that it has not.

    Args:
        name: As on the scorecard.
        collect: Gives the list of results.
        ordered: A stream of results in the order of the items.
        completed: A stream of results as they are completed.
        plain: A stream to be iterated without an ``async with``.
        outcomes: Gives the list of results with exceptions as values.
        within: As ``collect``, with a number of seconds for the whole run; default: ``asyncio.timeout`` around it.
        reads_async: Whether the source may be an async iterable.
        lazy: Whether the source is read as the work goes on; the others make a list of it before they start.
        packages: What it is made of.
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
        """Return whether the library has a form; ``stream`` is any of the two, ``within`` needs a list."""
        if need == "stream":
            return self.ordered is not None or self.completed is not None
        return bool(getattr(self, "collect" if need == "within" else need))

    def stream(self, fn: Any, source: Any, limit: Any) -> AbstractAsyncContextManager[Any]:
        """Return a stream, an ordered one where there is the choice."""
        return (self.ordered or self.completed)(fn, source, limit)

    async def timed(self, fn: Any, source: Any, limit: Any, seconds: float) -> list[Any]:
        """Run with a timeout for the whole run."""
        if self.within is not None:
            return await self.within(fn, source, limit, seconds)
        async with asyncio.timeout(seconds):
            return await self.collect(fn, source, limit)

    def form(self, name: str) -> Collect:
        """Return the form of this name as a function that collects all results; a stream takes a turn for each."""
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
    """Where scenarios run: on which loop, with which task factory."""

    name: str = "asyncio"
    new_loop: Callable[[], asyncio.AbstractEventLoop] = VirtualLoop
    eager: bool = False

    def run(self, main: Callable[[], Awaitable[Any]], *, debug: bool = False) -> Any:
        """Run on a fresh loop, and fail if anything is left behind."""
        return self.run_on(self.new_loop, main, debug=debug)

    def run_live(self, main: Callable[[], Awaitable[Any]]) -> Any:
        """Run likewise, in real time."""
        return self.run_on(asyncio.new_event_loop if self.new_loop is VirtualLoop else self.new_loop, main, debug=False)

    def run_on(self, new_loop: Callable[[], Any], main: Callable[[], Awaitable[Any]], *, debug: bool) -> Any:
        def factory() -> asyncio.AbstractEventLoop:
            loop = new_loop()
            if self.eager:
                loop.set_task_factory(eager_task)
            return loop

        return run_on(factory, main, eager=False, debug=debug)


def eager_task(loop: Any, coro: Any, *, eager_start: bool = True, **options: Any) -> Any:
    """Make an eager task; uvloop passes an argument that the factory of asyncio knows from Python 3.14 on only."""
    return asyncio.eager_task_factory(loop, coro, **options)


#: The forms that most scenarios are run in, and how the scorecard names them.
FORMS = {"collect": "list", "ordered": "ordered stream", "completed": "stream as completed"}


@dataclass(frozen=True)
class Scenario:
    """Something that must go well: one function, one case of its parameters."""

    area: str
    name: str
    run: Callable[[Library, Lane], None]
    needs: tuple[str, ...] = ()

    def lacks(self, library: Library) -> str:
        """Return what the library would have to have and has not, if anything."""
        return next((need for need in self.needs if not library.has(need)), "")


ALL: list[Scenario] = []


@dataclass
class Area:
    """Registers the scenarios of a file."""

    name: str

    def scenario(
        self, *needs: str, forms: Iterable[str] = (), raw: bool = False, cases: Any = ()
    ) -> Callable[[Any], Any]:
        """Register a function as scenarios.

        An ``async`` function gets the library, and runs on a fresh loop under a leak check; any other gets the lane
        too, and runs what it will there. Then follow the form, with ``forms``, as a function that collects or, if
        ``raw``, as the stream that it is; then the case, with ``cases``, a mapping by name or names.
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
    """Return what a scenario gets beside the library and the lane."""
    if not form:
        return case
    return [getattr(library, form) if raw else library.form(form), *case]


def perform(fn: Any, take: Callable[[Library], list[Any]], library: Library, lane: Lane) -> None:
    """Run the function of a scenario."""
    if not inspect.iscoroutinefunction(fn):
        fn(library, lane, *take(library))
        return

    async def main() -> None:
        await fn(library, *take(library))
        for _ in range(GRACE):
            await asyncio.sleep(0)

    lane.run(main)


def scenarios() -> list[Scenario]:
    """Import the files of scenarios, and return all."""
    package = importlib.import_module("tests.torture.scenarios")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"tests.torture.scenarios.{module.name}")
    return ALL


def lane(name: str, *, eager: bool = False) -> Lane:
    """Return the lane of a loop: ``asyncio``, on virtual time, or ``uvloop``, on real time."""
    label = f"{name}, eager tasks" if eager else name
    if eager and sys.version_info < (3, 12):
        raise NotThere("eager tasks came with Python 3.12")
    if name == "asyncio":
        return Lane(label, VirtualLoop, eager)
    return Lane(label, importlib.import_module(name).new_event_loop, eager)
