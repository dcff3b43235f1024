"""What a run must do, computed without running anything: the results, and the moment of every start."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.torture.workloads import Scenario, Stage


def keeps(stage: Stage, number: int) -> bool:
    """Return whether a stage passes an item on."""
    verdict = stage.item(number).verdict
    return {"filter": verdict, "filterfalse": not verdict}.get(stage.verb, True)


def results(scenario: Scenario) -> Any:
    """Return what a call gives that nothing disturbs: what the builtin of the same name would give."""
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
    """Return how long the source takes for an item, once it is asked."""
    source = scenario.source
    once = source.kind == "async awaitable"  # it delays its first item, then it is a plain generator
    return 0 if once and number else source.delays[number % len(source.delays)] or 0


class Line:
    """When a stage starts, ends and hands on its items, in their order."""

    def __init__(self, stage: Stage, window: int | None) -> None:
        self.stage = stage
        self.window = window
        self.starts: list[float] = []
        self.ends: list[float] = []
        self.takes: list[float] = []

    def room(self) -> float:
        """Return when the next item can start: a slot is free and the window has room, in the order of the items."""
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
    """When the results of the last stage are taken: at once, if they are awaited as a list."""

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
    """Return the start of each item of each stage, and the time of the return: a pipeline of streams in order.

    An item starts as soon as it is there, a slot is free, the one before it has started, and fewer than the window have
    been started and not been taken. A stage takes from the one before it when it could start an item itself.
    """
    *earlier, last = scenario.stages
    lines = [Line(stage, 2 * stage.limit or None) for stage in earlier]
    lines.append(Line(last, scenario.window))
    consumer = Consumer(scenario)
    takers = [*lines[1:], consumer]
    for number in range(scenario.source.count):
        time = lines[0].room() + delay(scenario, number)
        for line, taker in zip(lines, takers, strict=True):
            time = max(line.start(time, number), taker.room(), *line.takes[-1:])  # the one before it was taken first
            line.takes.append(time)
            if not keeps(line.stage, number):
                break
        else:
            consumer.take(time)
    return [line.starts for line in lines], max([consumer.asks, *(end for line in lines for end in line.ends)])


def schedule_as_completed(scenario: Scenario) -> tuple[list[float], list[float], float]:
    """Return the starts, the times at which results are taken, and that of the return, of one stage as completed."""
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
