"""Errors: the first one is raised, as the same object, with a note that names its item."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given

from tests.torture import model
from tests.torture.examples import examples
from tests.torture.laws import check, ends_it, notes, origins
from tests.torture.play import play
from tests.torture.workloads import STREAMS, VALUES, Item, Scenario, Source, Stage, scenarios

if TYPE_CHECKING:
    from tests.torture.log import Event, Log

pytestmark = pytest.mark.timeout(1800)

#: The results of an initializer are no items, and do not count in notes.
BEHIND_A_HEAD = Scenario(
    Source(), (Stage("flat_map", (Item(), Item(ends="error")), limit=1, options={"initializer": ("head",)}),)
)
FAIL_FAST = (*STREAMS, "each", "reduce", "gather", "series")


def failures(log: Log) -> list[Event]:
    """Return the errors that may end the run: the first, and any of an async source or another stage at that time.

    The error of an async source is raised in the order of the items, and an error of another stage in the same turn.
    """
    source = log.scenario.source
    errors = [event for event in log.of("error") if event.stage == -1 or ends_it(log, event)]
    if not errors or (len(log.scenario.stages) == 1 and not source.asynchronous):
        return errors[:1]
    first = next((event for event in errors if event.stage != -1 or not source.asynchronous), errors[0])
    return [event for event in errors if event.time <= first.time]


@examples()
@given(scenarios(FAIL_FAST, before=1, errors=True, trouble=True))
def test_the_first_error_is_raised(scenario):
    log = play(scenario)
    expected = failures(log)
    if expected:
        assert any(event.error in origins(log.error) for event in expected), f"{log.error!r}, not {expected}"
        raised = origins(log.error)[0]
        assert not isinstance(raised, asyncio.CancelledError | StopAsyncIteration | GeneratorExit)
    else:
        assert log.error is None
    check(log)


@examples()
@given(scenarios(("flat_map", "map", "reduce", "gather"), errors=True))
@example(BEHIND_A_HEAD)
def test_a_note_names_the_item_that_failed_or_the_source(scenario):
    log = play(scenario)
    expected = failures(log)
    if len(expected) == 1:
        event = expected[0]
        pulled = len([one for one in log.events[: log.events.index(event)] if one.what == "pull"])
        place = position(scenario, event.item) if event.stage == 0 else pulled
        wanted = f"item {place}: " if event.stage == 0 else f"its source, after {place} items"
        if event.stage == 0 or not scenario.source.asynchronous:
            assert notes(log)[0].startswith(f"paco.{scenario.last.verb}: {wanted}"), notes(log)
    check(log)


def position(scenario: Scenario, number: int) -> int:
    return scenario.source.count - 1 - number if scenario.last.reads_to_the_end_first else number


@examples()
@given(scenarios(("map", "filter", "filterfalse"), errors=True, trouble=True).filter(lambda one: one.consumer.iterates))
def test_results_finished_before_an_error_are_delivered_first(scenario):
    log = play(scenario)
    first = next((event for event in log.events if ends_it(log, event)), None)
    if first is not None and log.error is not None and not log.of("error", stage=-1):
        ended = [event.item for event in log.events[: log.events.index(first)] if event.what == "end"]
        if not scenario.consumer.completed:
            in_order = sorted(ended)
            ended = [number for place, number in enumerate(in_order) if number == place]
        assert log.taken == [number for number in ended if model.keeps(scenario.last, number)] or scenario.last.catch
    check(log)


@examples()
@given(scenarios(VALUES, before=1, errors=True, trouble=True))
def test_a_verdict_before_the_first_error_counts_and_an_error_before_it_is_raised(scenario):
    log = play(scenario)
    ending = [event for event in log.events if ends_it(log, event)]
    if scenario.last.verb in {"some", "every"} and ending and not log.of("error", stage=-1):
        if ending[0].what == "end":
            assert log.result is (scenario.last.verb == "some")
        elif len(scenario.stages) == 1:
            assert ending[0].error in origins(log.error)
    check(log)
