"""The torture scenarios on paco with its items on workers.

On virtual time with simulated workers, each scenario runs in one of its forms and sends its items in one of two ways,
in rotation; with the environment variable ``PACO_TEST_REMOTE=all``, it runs in all forms and in both ways. In real
processes, only the scenarios run whose items share no objects with the test; `tests/remote/test_dask.py` runs the same
ones in a Dask cluster. One scenario in four is not `slow`.
"""

from __future__ import annotations

import asyncio
import os

import pytest

from paco.remote import Workers
from tests.torture.kit import Lane, NotThere, lane, one_of_each, scenarios
from tests.torture.remote import APART, IN_CHUNKS, ONE_BY_ONE, copy_nothing, remote

LANE = lane("asyncio")
REAL = Lane("real time", asyncio.new_event_loop)
ALL = os.environ.get("PACO_TEST_REMOTE") == "all"
WAYS = (IN_CHUNKS, ONE_BY_ONE)

#: Scenarios that cannot pass, by the start of their names: in which ways, and the reason.
CANNOT = {
    "a stopped consumer holds back": (
        (IN_CHUNKS,),
        "up to 10,000 items are sent to the workers, unless `buffer` bounds them",
    ),
    "of ten thousand items only a few are": ((IN_CHUNKS,), "the same"),
    "there are not many more tasks": (WAYS, "the simulated workers have their tasks in the same loop"),
}


def ways(number, scenario):
    cannot = next((ways for start, (ways, _) in CANNOT.items() if scenario.name.startswith(start)), ())
    can = [way for way in WAYS if way not in cannot]
    if ALL or not can:
        return can
    if scenario.area == "resources":  # many items
        return [way for way in can if way is IN_CHUNKS]
    return can[number % len(can) :][:1]


CASES = [
    pytest.param(
        scenario,
        way,
        id=f"{scenario.area}: {scenario.name}: {way.name}",
        marks=[pytest.mark.slow] if number // 2 % 4 else [],
    )
    for number, scenario in enumerate(scenarios() if ALL else one_of_each(1))
    for way in ways(number, scenario)
]
IN_PROCESSES = [
    pytest.param(scenario, id=f"{scenario.area}: {scenario.name}", marks=[pytest.mark.slow] if number % 4 else [])
    for number, scenario in enumerate(scenarios() if ALL else one_of_each(2))
    if scenario.title in APART
]


@pytest.fixture
def _nothing_copied(monkeypatch):
    copy_nothing(monkeypatch)


@pytest.fixture(scope="module")
def processes():
    with Workers(2) as workers:
        yield remote("processes", lambda stream: stream.on(workers))


def survive(scenario, library, where):
    try:
        scenario.run(library, where)
    except NotThere as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("_nothing_copied")
@pytest.mark.parametrize(("scenario", "library"), CASES)
def test_paco_survives_with_its_items_on_workers(scenario, library):
    survive(scenario, library, LANE)


def test_all_scenarios_selected_for_processes_exist():
    assert {scenario.title for scenario in scenarios()} >= APART


@pytest.mark.realtime
@pytest.mark.parametrize("scenario", IN_PROCESSES)
def test_paco_survives_in_processes(scenario, processes):
    survive(scenario, processes, REAL)
