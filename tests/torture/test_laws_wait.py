"""`wait`: both sets are right at the time of the return, and pending items continue under the limit."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torture.examples import examples
from tests.torture.laws import check, origins
from tests.torture.play import outcome, play
from tests.torture.workloads import RETURN_WHEN, Cancel, Scenario, moments, scenarios

if TYPE_CHECKING:
    from tests.torture.log import Log

pytestmark = pytest.mark.timeout(1800)

#: The ends that stay with their item. A BaseException would end every run.
OWN = ("result", "error", "odd error", "stop iteration", "stop async iteration")


def waits(*, errors: bool = False, trouble: bool = False) -> st.SearchStrategy[Scenario]:
    """Draw calls of `wait` with each ``return_when``, and without."""
    drawn = scenarios(("wait",), errors=errors, trouble=trouble)
    return drawn.filter(lambda one: all(item.ends in OWN and item.mark != "cancelling" for item in one.last.items))


def decided_at(log: Log, when: str) -> float:
    """Return the time at which the condition ``when`` first held, from the events of the items."""
    ends = [event.time for event in log.of("end")]
    if when == "FIRST_COMPLETED":
        return min(ends)
    errors = [event.time for event in log.of("error")]
    caught = log.scenario.last.catch
    return min(errors) if when == "FIRST_EXCEPTION" and errors and not caught else max(ends)


@examples()
@given(waits(errors=True, trouble=True), st.sampled_from(RETURN_WHEN))
def test_wait_returns_as_soon_as_its_condition_holds(scenario, when):
    log = play(with_options(scenario, return_when=when))
    assert log.returned_at == decided_at(log, when)
    check(log)


@examples()
@given(waits(errors=True, trouble=True), st.sampled_from(RETURN_WHEN), st.none() | moments)
def test_wait_returns_ended_items_as_done_and_the_others_as_pending_and_running(scenario, when, timeout):
    """An error stays in its future, or is its result with ``return_exceptions``; nothing is cancelled."""
    log = play(with_options(scenario, timeout, return_when=when))
    ended = {event.item for event in log.until("return") if event.what == "end"}
    errors = {event.item: event.error for event in log.of("error")}
    assert not log.of("cancel")
    assert len(log.of("start")) == len(log.result) + len(log.pending) == scenario.source.count
    assert all(future.done() for future in log.pending)
    early, late = log.result, [outcome(future) for future in log.pending]
    for results, numbers in (early, ended), (late, set(range(scenario.source.count)) - ended):
        assert {one for one in results if isinstance(one, int)} == numbers - errors.keys()
        made_of = [origins(one) for one in results if isinstance(one, BaseException)]
        assert all(any(errors[number] in chain for chain in made_of) for number in numbers & errors.keys())
    if timeout is not None:
        assert log.returned_at == min(timeout, decided_at(log, when))
    check(log)


def with_options(scenario: Scenario, timeout: float | None = None, **options: str) -> Scenario:
    return replace(scenario, stages=(replace(scenario.last, options=options, timeout=timeout),))


@examples()
@given(waits(errors=True, trouble=True))
def test_without_return_when_wait_fails_fast(scenario):
    log = play(with_options(scenario))
    first = log.first("error")
    if first is None or scenario.last.catch:
        assert log.error is None
        assert not log.pending
    else:
        assert first.error in origins(log.error)
    assert {event.item for event in log.of("start")} == {event.item for event in log.of("end")}
    check(log)


@examples()
@given(waits(trouble=True), st.sampled_from(RETURN_WHEN), st.integers(0, 8))
def test_a_cancelled_wait_ends_everything_it_started(scenario, when, at):
    log = play(replace(with_options(scenario, return_when=when), cancel=Cancel(at)))
    if log.cancels:
        cleans_up = any("clean up" in scenario.last.item(event.item).when_cancelled for event in log.of("cancel"))
        assert log.returned_at == at + 2 * cleans_up
    check(log)
