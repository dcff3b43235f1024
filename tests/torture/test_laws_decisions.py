"""Decisions: `some`, `every` and `race` return what the model says, at the time at which the first item decides."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from tests.torture import model
from tests.torture.examples import examples
from tests.torture.laws import check, origins
from tests.torture.play import play
from tests.torture.workloads import Scenario, scenarios

pytestmark = pytest.mark.timeout(1800)

VERDICTS = ("some", "every")


def deciding(scenario: Scenario) -> tuple[list[float], float]:
    """Return when the items would start without a decision, and when the first of them decides."""
    line = model.Line(scenario.last, None)
    moments = []
    for number in range(scenario.source.count):
        ended = line.start(line.room() + model.delay(scenario, number), number)
        if scenario.last.item(number).verdict is (scenario.last.verb == "some"):
            moments.append(ended)
    return line.starts, min(moments, default=max(line.ends, default=0))


@examples()
@given(scenarios(VERDICTS, before=2, trouble=True))
def test_some_and_every_are_any_and_all(scenario):
    log = play(scenario)
    assert log.result is model.results(scenario)
    check(log)


@examples()
@given(scenarios(VERDICTS))
def test_the_first_verdict_ends_the_call_at_once(scenario):
    log = play(scenario)
    starts, moment = deciding(scenario)
    started = [event.time for event in log.of("start")]
    assert log.returned_at == moment or not starts
    assert started == starts[: len(started)]
    assert started.count(moment) + len([time for time in starts if time < moment]) == len(started)
    check(log)


@examples()
@given(scenarios(VERDICTS, delays=False))
def test_with_a_limit_of_one_no_item_starts_after_the_verdict(scenario):
    scenario = replace(scenario, stages=(replace(scenario.last, limit=1),))
    log = play(scenario)
    verdicts = [scenario.last.item(number).verdict for number in range(scenario.source.count)]
    decides = scenario.last.verb == "some"
    asked = verdicts.index(decides) + 1 if decides in verdicts else len(verdicts)
    assert len(log.of("start")) == asked
    if scenario.source.kind != "list" and not scenario.source.asynchronous:
        assert len(log.of("pull")) == asked
    check(log)


@examples()
@given(scenarios(("race",)))
def test_the_winner_of_a_race_is_the_first_to_complete(scenario):
    log = play(scenario)
    first = log.of("end")[0]
    items = [scenario.last.item(number) for number in range(scenario.source.count)]
    assert log.result == first.item
    assert log.returned_at == first.time == min(sum(item.naps) for item in items)
    check(log)


@examples()
@given(scenarios(("race",), errors=True, trouble=True))
def test_the_first_to_complete_decides_a_race_with_its_value_or_its_error(scenario):
    log = play(scenario)
    first, ended = log.first("error"), log.of("end")[0]
    if first is not None and log.events.index(first) < log.events.index(ended):
        assert first.error in origins(log.error)
    else:
        assert log.error is None
        assert log.result == ended.item
    check(log)
