"""The scenarios of the torture suite, on paco with its items elsewhere.

On virtual time, in workers that are only pretended: each meets one of the two ways in which items travel, in turns, and
of those that take long one in three is run; with ``PACO_TEST_REMOTE=all`` in the environment, all in both ways. One in
four is not `slow`. In real processes and in a Dask cluster: those whose items share
nothing with what watches them.
"""

from __future__ import annotations

import asyncio
import os
import warnings

import pytest

from paco.remote import Workers
from tests.patience import PATIENCE
from tests.torture.kit import Lane, NotThere, lane, scenarios
from tests.torture.remote import APART, IN_CHUNKS, ONE_BY_ONE, copy_nothing, remote

LANE = lane("asyncio")
REAL = Lane("real time", asyncio.new_event_loop)
ALL = os.environ.get("PACO_TEST_REMOTE") == "all"
WAYS = (IN_CHUNKS, ONE_BY_ONE)

#: What cannot hold, by the start of the name: in which ways, and why.
CANNOT = {
    "a consumer that stands still": (
        (IN_CHUNKS,),
        "up to 10,000 items are with the workers, unless `buffer` bounds it",
    ),
    "of ten thousand a few are": ((IN_CHUNKS,), "likewise"),
    "there are not many more tasks": (WAYS, "the simulated workers have their tasks in the same loop"),
}


def title(scenario):
    return scenario.name.partition(" (")[0]


def ways(number, scenario):
    cannot = next((ways for start, (ways, _) in CANNOT.items() if scenario.name.startswith(start)), ())
    can = [way for way in WAYS if way not in cannot]
    if ALL or not can:
        return can
    if scenario.area in {"cancelling", "schedules"} and number % 3:  # many runs
        return []
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
    for number, scenario in enumerate(scenarios())
    for way in ways(number, scenario)
]
IN_PROCESSES = [scenario for scenario in scenarios() if title(scenario) in APART]
#: One form and case of each, and none of many runs: a cluster takes longer.
IN_A_CLUSTER = [one for one in {title(one): one for one in IN_PROCESSES}.values() if one.area != "schedules"]


def name(scenario):
    return f"{scenario.area}: {scenario.name}"


@pytest.fixture
def _nothing_copied(monkeypatch):
    copy_nothing(monkeypatch)


@pytest.fixture(scope="module")
def processes():
    with Workers(2) as workers:
        yield remote("processes", lambda stream: stream.on(workers))


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dask
        from distributed import Client, LocalCluster

        quiet = {"dashboard_address": None, "silence_logs": 50}
        with (
            dask.config.set({"distributed.comm.timeouts.connect": f"{PATIENCE}s"}),
            LocalCluster(2, threads_per_worker=1, host="127.0.0.1", **quiet) as cluster,
            Client(cluster, set_as_default=False) as client,
        ):
            yield remote("Dask", lambda stream: stream.on(client))


def survive(scenario, library, where):
    try:
        scenario.run(library, where)
    except NotThere as reason:
        pytest.skip(str(reason))


@pytest.mark.usefixtures("_nothing_copied")
@pytest.mark.parametrize(("scenario", "library"), CASES)
def test_paco_survives_with_its_items_elsewhere(scenario, library):
    survive(scenario, library, LANE)


def test_those_that_run_in_processes_are_there():
    assert {title(scenario) for scenario in scenarios()} >= APART


@pytest.mark.realtime
@pytest.mark.parametrize("scenario", IN_PROCESSES, ids=name)
def test_paco_survives_in_processes(scenario, processes):
    survive(scenario, processes, REAL)


@pytest.mark.realtime
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("scenario", IN_A_CLUSTER, ids=name)
def test_paco_survives_in_a_cluster(scenario, cluster):
    survive(scenario, cluster, REAL)
