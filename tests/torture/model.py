"""A model that computes the results of a run, and the time of every start, without running anything."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.torture.workloads import Scenario, Stage


def keeps(stage: Stage, number: int) -> bool:
    """Return whether a stage passes an item on to the next."""
    verdict = stage.item(number).verdict
    return {"filter": verdict, "filterfalse": not verdict}.get(stage.verb, True)


def results(scenario: Scenario) -> Any:
    """Return the result of an undisturbed call: that of the builtin of the same name."""
    numbers = list(range(scenario.source.count))
    for stage in scenario.stages[:-1]:
        numbers = [number for number in numbers if keeps(stage, number)]
    last = scenario.last
    if last.verb == "some":
        return any(last.item(number).verdict for number in numbers)
    if last.verb == "every":
        return all(last.item(number).verdict for number in numbers)
    if last.verb == "reduce":
        if last.options["right"]:
            numbers.reverse()
        return functools.reduce("({} {})".format, numbers, last.options["initializer"])
    if last.verb == "each" and not last.options["collect"]:
        return None
    head = last.options["initializer"] if last.verb == "flat_map" else ()
    return [*head, *(number for number in numbers if keeps(last, number))]


def delay(scenario: Scenario, number: int) -> float:
    """Return the seconds from a request for an item until the source delivers it."""
    source = scenario.source
    once = source.kind == "async awaitable"  # it delays only its first item: then it is a plain generator
    return 0 if once and number else source.delays[number % len(source.delays)] or 0


class Line:
    """The times at which a stage starts, ends and delivers its items."""

    def __init__(self, stage: Stage, window: int | None) -> None:
        self.stage = stage
        self.window = window
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.takes: list[float] = []

    def room(self) -> float:
        """Return when the next item can start: the one before has started, a slot is free, the window has room."""
        number, most = len(self.starts), self.stage.most
        after = self.starts[-1:]
        if most and number >= most:
            after.append(sorted(self.ends)[number - most])
        if self.window is not None and number >= self.window:
            after.append(self.takes[number - self.window])
        return max(after, default=0)

    def start(self, time: float, number: int) -> float:
        self.starts.append(time)
        self.ends.append(time + sum(self.stage.item(number).naps))
        return self.ends[-1]


class Consumer:
    """The times at which the results of the last stage are taken: at once, if they are awaited as a list."""

    def __init__(self, scenario: Scenario) -> None:
        self.pauses = scenario.consumer.pauses if scenario.consumer.iterates else (None,)
        self.taken = 0
        self.asks = 0.0

    def room(self) -> float:
        return self.asks

    def take(self, time: float) -> None:
        pause = self.pauses[self.taken % len(self.pauses)]
        self.taken += 1
        self.asks = time + (pause or 0)


def schedule(scenario: Scenario) -> tuple[list[list[float]], float]:
    """Return the start of each item in each stage of an ordered pipeline, and the time of the return.

    An item starts as soon as it has arrived, a slot is free, the item before it has started, and fewer items than the
    window are started but not taken. A stage takes an item from the stage before it when it could start one.
    """
    *earlier, last = scenario.stages
    lines = [Line(stage, 2 * stage.limit or None) for stage in earlier]
    lines.append(Line(last, scenario.window))
    consumer = Consumer(scenario)
    takers = [*lines[1:], consumer]
    for number in range(scenario.source.count):
        time = lines[0].room() + delay(scenario, number)
        for line, taker in zip(lines, takers, strict=True):
            time = max(line.start(time, number), taker.room(), *line.takes[-1:])  # not before the item ahead of it
            line.takes.append(time)
            if not keeps(line.stage, number):
                break
        else:
            consumer.take(time)
    return [line.starts for line in lines], max([consumer.asks, *(end for line in lines for end in line.ends)])


def schedule_as_completed(scenario: Scenario) -> tuple[list[float], list[float], float]:
    """Return the starts, the times at which results are taken, and the time of the return, of one unordered stage."""
    line, consumer = Line(scenario.last, scenario.window), Consumer(scenario)

    def take() -> None:
        time = max(sorted(line.ends)[len(line.takes)], consumer.room())
        line.takes.append(time)
        consumer.take(time)

    for number in range(scenario.source.count):
        while line.window is not None and len(line.takes) <= number - line.window:
            take()
        line.start(line.room() + delay(scenario, number), number)
    while len(line.takes) < scenario.source.count:
        take()
    return line.starts, line.takes, max([consumer.asks, *line.ends])
