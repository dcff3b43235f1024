"""The log of a run: its events in order, and how the call ended."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from paco.testing import now

if TYPE_CHECKING:
    from tests.torture.workloads import Scenario


class Event(NamedTuple):
    """An event of a run. A stage of -1 is the source."""

    time: float
    what: str
    stage: int
    item: int
    error: BaseException | None = None


class Log:
    """The events of a scenario in order, and how the call ended."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.events: list[Event] = []
        self.taken: list[Any] = []
        self.result: Any = None
        self.error: BaseException | None = None
        self.pending: list[asyncio.Future[Any]] = []  # returned by `wait` as pending
        self.reports: list[tuple[str, BaseException | None]] = []  # to the exception handler of the loop
        self.cancels = 0
        self.cancelling = 0
        self.alive: list[str] = []  # tasks of paco that were alive when the call returned

    def note(self, what: str, stage: int = -1, item: int = -1, error: BaseException | None = None) -> None:
        self.events.append(Event(now(), what, stage, item, error))

    def failed(self, error: BaseException, stage: int, item: int) -> BaseException:
        self.note("error", stage, item, error)
        return error

    def of(self, *what: str, stage: int | None = None) -> list[Event]:
        """Return the events of these kinds, of one stage or of all stages."""
        return [event for event in self.events if event.what in what and stage in {None, event.stage}]

    def first(self, *what: str) -> Event | None:
        return next(iter(self.of(*what)), None)

    def until(self, what: str) -> list[Event]:
        """Return the events before the first event of this kind."""
        for place, event in enumerate(self.events):
            if event.what == what:
                return self.events[:place]
        return self.events

    @property
    def returned_at(self) -> float:
        return next(event.time for event in self.events if event.what == "return")

    @property
    def left_running(self) -> bool:
        """Whether the consumer has left a stream without ``async with``: its items end soon, not at once."""
        plain = self.scenario.consumer.form == "for"
        return plain and (self.first("leave") is not None or isinstance(self.error, asyncio.CancelledError))
