"""Results: complete, in order, equal to those of the builtins, and delivered as the consumer requests them."""

from __future__ import annotations

import pytest
from hypothesis import given

from tests.torture import model
from tests.torture.examples import examples
from tests.torture.laws import check, origins
from tests.torture.play import play
from tests.torture.workloads import STREAMS, VALUES, scenarios

pytestmark = pytest.mark.timeout(1800)


@examples()
@given(scenarios((*STREAMS, *VALUES), before=2, trouble=True, completed=False))
def test_results_are_complete_and_in_order(scenario):
    log = play(scenario)
    assert log.error is None
    assert log.result == model.results(scenario)
    check(log)


@examples()
@given(scenarios(("map", "filter", "filterfalse"), trouble=True).filter(lambda one: one.consumer.completed))
def test_as_completed_delivers_results_in_the_order_of_completion(scenario):
    log = play(scenario)
    ended = [event.item for event in log.of("end") if model.keeps(scenario.last, event.item)]
    assert log.result == ended
    assert sorted(log.result) == model.results(scenario)
    check(log)


@examples()
@given(scenarios(STREAMS, before=1, leaves=True, trouble=True, completed=False))
def test_a_consumer_that_leaves_early_has_received_the_first_results(scenario):
    log = play(scenario)
    if scenario.consumer.iterates:
        expected = model.results(scenario)
        assert log.taken == expected[: scenario.consumer.leaves_after]
    check(log)


@examples()
@given(scenarios(("map", "flat_map", "gather", "series"), errors=True, trouble=True, completed=False))
def test_with_return_exceptions_the_error_of_an_item_is_its_result(scenario):
    """It is the same object, or the replacement of an exception that has a special meaning, such as StopIteration."""
    log = play(scenario)
    errors = {event.item: event.error for event in log.of("error")}
    if scenario.last.catch and log.error is None:
        results = log.result[len(scenario.last.options.get("initializer", ())) :]
        assert len(results) == scenario.source.count
        for number, result in enumerate(results):
            if number in errors:
                assert isinstance(result, Exception)
                assert errors[number] in origins(result)
            else:
                assert result == number
    check(log)


@examples()
@given(scenarios(("gather", "series"), trouble=True, completed=False))
def test_gather_and_series_return_all_results_in_order(scenario):
    log = play(scenario)
    assert log.result == list(range(scenario.source.count))
    check(log)
