"""Time: on the virtual clock every item starts exactly when the model says, neither later nor earlier."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given

from tests.torture import model
from tests.torture.examples import examples
from tests.torture.laws import check
from tests.torture.play import play
from tests.torture.workloads import Consumer, Item, Scenario, Source, Stage, moments, scenarios

pytestmark = pytest.mark.timeout(1800)

PLAIN = ("map", "filter", "filterfalse")


#: Items that end at once fill the window and leave the only worker idle. The items after them need a second worker.
INSTANT_THEN_SLOW = Scenario(
    Source("list", 4), (Stage("map", (Item(()), Item(()), Item(), Item()), limit=2),), Consumer("for", buffer=0)
)
SLOW_AT_THE_END = Scenario(
    Source("list", 12),
    (Stage("map", (Item(), Item(())), limit=2), Stage("map", (Item(),), limit=3), Stage("map", (Item(),), limit=1)),
    Consumer("await"),
)
#: At 5, workers of the second stage take two results, for which there is room, and its reader waits for one of them.
WORKERS_BEFORE_THE_READER = Scenario(
    Source("list", 20),
    (
        Stage("map", (Item((1, 1)), Item((3,)), Item()), limit=5),
        Stage("map", (Item(), Item((5,)), Item(), Item(), Item(), Item()), limit=4),
        Stage("map", (Item(),), limit=1),
    ),
    Consumer("await"),
)
#: At 4, the consumer makes room. Two workers are busy, the third has not been started, and the reader has paused.
ROOM_WITHOUT_A_WORKER = Scenario(
    Source("list", 12),
    (
        Stage("filterfalse", tuple(Item(verdict=verdict) for verdict in (True, False, False, True, False)), limit=3),
        Stage("map", (Item(), Item(), Item((2,)), Item(), Item()), limit=3),
    ),
    Consumer("for", buffer=0),
)


def is_exact(scenario: Scenario) -> bool:
    """Return whether the window is exact. Without a limit, `buffer` is only approximate."""
    return bool(scenario.last.limit) or scenario.consumer.buffer is None


@examples()
@given(scenarios(PLAIN, before=2, completed=False).filter(is_exact))
@example(INSTANT_THEN_SLOW)
@example(SLOW_AT_THE_END)
@example(WORKERS_BEFORE_THE_READER)
@example(ROOM_WITHOUT_A_WORKER)
def test_every_item_of_a_pipeline_starts_as_soon_as_there_is_room(scenario):
    log = play(scenario)
    starts, end = model.schedule(scenario)
    for stage, expected in enumerate(starts):
        assert [event.time for event in log.of("start", stage=stage)] == expected
    assert log.returned_at == end
    check(log)


@examples()
@given(scenarios(("map",)).filter(lambda one: is_exact(one) and one.consumer.completed))
def test_as_completed_delivers_each_result_when_it_is_ready_and_requested(scenario):
    log = play(scenario)
    starts, takes, end = model.schedule_as_completed(scenario)
    assert [event.time for event in log.of("start")] == starts
    if scenario.consumer.iterates:
        assert [event.time for event in log.of("take")] == takes
    assert log.returned_at == end
    check(log)


@examples()
@given(scenarios(("map", "each", "flat_map", "gather", "series", "reduce", "wait"), delays=False))
def test_a_list_takes_as_long_as_the_greedy_schedule_of_its_items(scenario):
    """Each item gets the slot that is free first (list scheduling), so no slot idles while items are left."""
    scenario = replace(scenario, consumer=Consumer())
    reverse = scenario.last.reads_to_the_end_first
    slots = [0.0] * (scenario.last.most or max(scenario.source.count, 1))
    expected = []
    for number in sorted(range(scenario.source.count), reverse=reverse):
        slots.sort()
        expected.append(slots[0])
        slots[0] += sum(scenario.last.item(number).naps)
    log = play(scenario)
    assert [event.time for event in log.of("start")] == expected
    if scenario.last.options.get("return_when", "ALL_COMPLETED") == "ALL_COMPLETED":
        assert log.returned_at == max(slots)
    check(log)


@examples()
@given(scenarios(PLAIN, before=2).filter(lambda one: one.source.kind != "list" and is_exact(one)))
def test_every_pulled_item_has_a_slot_at_once(scenario):
    """Whenever nothing happens, each pulled item has been started."""
    log = play(scenario)
    pulled = started = time = 0
    for event in log.until("return"):
        if event.time > time:
            assert pulled == started, f"{pulled} were pulled, {started} started at {time}"
            time = event.time
        pulled += event.what == "pull"
        started += event.what == "start" and event.stage == 0
    check(log)


@examples()
@given(scenarios(("map", "each", "flat_map", "some", "gather", "series", "race")), moments)
def test_a_timeout_fires_exactly_at_its_time(scenario, timeout):
    """A longer run ends at the timeout; a shorter one has the same result as without; a tie may do either."""
    scenario = replace(scenario, consumer=Consumer())
    free = play(scenario)
    *earlier, last = scenario.stages
    log = play(replace(scenario, stages=(*earlier, replace(last, timeout=timeout))))
    if free.returned_at > timeout or timeout == 0:
        assert isinstance(log.error, TimeoutError)
        assert log.returned_at == timeout
    elif free.returned_at < timeout:
        assert log.error is None
        assert log.returned_at == free.returned_at
        # Timers of the same time have no order, so one more timer may change the winner of a race.
        assert log.result == free.result or scenario.last.verb == "race"
    check(log)
