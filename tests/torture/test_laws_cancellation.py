"""Cancellation of the caller: it is never swallowed, doubled or delayed, and wins over every error."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torture.examples import examples
from tests.torture.laws import check, notes
from tests.torture.play import play
from tests.torture.workloads import CALLS, STREAMS, VALUES, Cancel, cancels, scenarios

pytestmark = pytest.mark.timeout(1800)

ANY = (*STREAMS, *VALUES, *CALLS)


@examples()
@given(scenarios(ANY, before=2, errors=True, trouble=True), cancels)
def test_a_cancelled_call_ends_cancelled_after_its_items_have_ended(scenario, cancel):
    log = play(replace(scenario, cancel=cancel))
    assert isinstance(log.error, asyncio.CancelledError) is (log.cancels > 0)
    check(log)


@examples()
@given(scenarios(ANY, before=2), st.integers(0, 12), st.integers(0, 6), st.integers(0, 3))
def test_a_cancellation_at_any_step_stops_everything_at_that_moment(scenario, at, steps, again):
    log = play(replace(scenario, cancel=Cancel(at, steps, again)))
    if log.cancels:
        assert log.returned_at == at
        assert all(event.time <= at for event in log.events if event.what != "settled")
    check(log)


@examples()
@given(scenarios(("map", "each", "flat_map", "reduce", "gather", "series"), errors=True), st.integers(0, 3))
def test_a_cancellation_that_meets_an_error_wins_and_mentions_it_in_a_note(scenario, steps):
    """The caller is cancelled in the same steps in which the run fails."""
    failed = play(scenario).first("error")
    if failed is None:
        return
    log = play(replace(scenario, cancel=Cancel(failed.time, steps)))
    if log.cancels and not scenario.consumer.iterates and not scenario.last.catch:
        assert isinstance(log.error, asyncio.CancelledError)
        first = log.first("error")
        news = first is not None and not isinstance(first.error, asyncio.CancelledError | GeneratorExit)
        assert not news or any("failing with" in note or "more failed" in note for note in notes(log))
    check(log)
