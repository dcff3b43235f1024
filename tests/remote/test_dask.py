"""Items that run in a Dask cluster: a real one, of two processes on 127.0.0.1."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import sys
import time
import warnings
from concurrent.futures import CancelledError
from importlib.util import find_spec

import pytest

import paco
from paco.events import ItemEnded
from paco.remote import WorkerLost
from paco.remote._dask import Cluster
from tests.patience import PATIENCE, until
from tests.remote.jobs import counted, kills, quick, where
from tests.torture.kit import Lane, one_of_each
from tests.torture.remote import APART, remote

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(find_spec("distributed") is None, reason="distributed is not installed"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

#: The setting of the seconds that Dask tries to connect.
TO_CONNECT = "distributed.comm.timeouts.connect"


@pytest.fixture(scope="module")
def cluster():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import dask
        from distributed import LocalCluster

        # A chunk whose worker died is ours to send again; and dask is to give no worker up that takes long to start.
        settings = {
            "distributed.scheduler.allowed-failures": 0,
            "distributed.scheduler.no-workers-timeout": f"{PATIENCE}s",
            "distributed.deploy.lost-worker-timeout": f"{PATIENCE}s",
            TO_CONNECT: f"{PATIENCE}s",
            "distributed.worker.multiprocessing-method": "forkserver",  # so that only one process imports dask
        }
        with (
            dask.config.set(settings),
            LocalCluster(2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, silence_logs=50) as cluster,
        ):
            yield cluster


@pytest.fixture
def address(cluster):
    return cluster.scheduler_address.replace("tcp://", "dask://")


@pytest.fixture(scope="module")
def connected(cluster):
    from distributed import Client

    with Client(cluster, set_as_default=False) as client:
        yield client


@pytest.fixture
def client(connected):
    end = time.monotonic() + PATIENCE
    while not is_whole(connected):  # one that a test has killed is replaced
        assert time.monotonic() < end
    return connected


def is_whole(client):
    """Return whether both workers answer: the scheduler notices only after a while that one has died."""
    client.wait_for_workers(2, timeout=PATIENCE)
    answers = client.run(os.getpid, on_error="return")
    return len(answers) == 2 and all(isinstance(one, int) for one in answers.values())


async def late(argument):
    number, path = argument
    if number >= 100:
        await counted(path)
    return number


def test_items_run_in_the_workers_of_a_client(client):
    found = paco.run(paco.map(where, range(300), limit=10).on(client))
    assert len(set(found)) == 2
    assert os.getpid() not in found


def test_listeners_receive_the_worker_of_an_item_but_not_the_items_in_flight_of_each(client):
    ends = []
    with paco.listening(ends.append, ItemEnded):
        found = paco.run(paco.map(where, range(300), limit=10).on(client))
    workers = [event.worker for event in sorted(ends, key=lambda event: event.position)]
    assert workers == [f"process {pid} on {platform.node()}" for pid in found]
    workers = ends[0].run.workers.values()
    assert (sum(worker.ok for worker in workers), {worker.in_flight for worker in workers}) == (300, {None})


def test_items_run_in_the_cluster_at_an_address(address):
    assert paco.run(paco.map(quick, range(3000), limit=100).on(address)) == list(range(3000))


async def test_a_client_in_the_loop_of_the_run_works_too(cluster, tmp_path):
    from distributed import Client

    async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as client:
        assert await paco.map(quick, range(300), limit=10).on(client) == list(range(300))
        await cancelled(client, tmp_path / "log")


async def cancelled(client, log):
    """Cancel a run, and check that no item in a worker outlives it."""
    task = asyncio.ensure_future(paco.map(counted, [str(log)] * 100, limit=10).on(client))
    await until(lambda: log.exists() and log.read_text().count("+") == 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert log.read_text() == 10 * "+" + 10 * "-"


def test_a_cancellation_ends_the_items_in_the_workers(client, tmp_path):
    asyncio.run(cancelled(client, tmp_path / "log"))


def test_break_ends_the_items_in_the_workers(client, tmp_path):
    log = tmp_path / "log"

    async def main():
        async with paco.map(late, [(number, log) for number in range(1000)], limit=10).on(client) as results:
            async for _ in results:
                await until(lambda: log.exists() and len(log.read_text()) >= 5)
                break

    asyncio.run(main())
    text = log.read_text()
    assert text.count("-") == text.count("+") >= 5


async def test_an_item_that_kills_its_workers_is_lost_and_no_other_item(client, cluster):
    from distributed import Client

    # The client is in the loop of this test, so that coverage measures how the error arrives.
    async with Client(cluster.scheduler_address, asynchronous=True, set_as_default=False) as ours:
        found = await paco.map(kills, [49, 50, 51], limit=2, return_exceptions=True).on(ours)
    assert isinstance(found[1], WorkerLost)
    assert found[::2] == [49, 51]


def test_more_slots_than_workers_are_allowed(client):
    assert paco.run(paco.map(quick, range(100), limit=10).on(client, slots=8)) == list(range(100))


def test_an_invalid_address_or_client_is_refused(client, monkeypatch):
    stream = paco.map(quick, [1])
    with pytest.raises(
        ValueError, match=r"paco\.map\.on: engine must be an address such as 'dask://host:8786', got 'tcp"
    ):
        stream.on("tcp://127.0.0.1:1")
    with pytest.raises(TypeError, match=r"paco\.map\.on: engine must be a Dask client, got <Future"):
        stream.on(client.submit(len, ()))
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ImportError, match=r"pip install 'paco\[dask\]'"):
        stream.on("dask://127.0.0.1:1")
    stream.close()


def test_without_a_scheduler_the_run_fails():
    import dask
    import distributed  # noqa: F401 - it loads its settings: one that was set before would take them all along when it goes

    with dask.config.set({TO_CONNECT: "200ms"}), pytest.raises(OSError, match="Timed out"):
        paco.run(paco.map(quick, [1]).on("dask://127.0.0.1:9"))


def test_a_scheduler_that_gives_no_answer_ends_the_run(client, monkeypatch, tmp_path):
    answered, count, never = [], Cluster._count, asyncio.Event()

    async def counted(self):
        if answered:
            await never.wait()
        answered.append(True)
        return await count(self)

    monkeypatch.setattr("paco.remote._dask._LOOK", 0.01)
    monkeypatch.setattr("paco.remote._dask._PATIENCE", 0.2)
    monkeypatch.setattr(Cluster, "_count", counted)
    over = tmp_path / "over"
    with pytest.raises(ConnectionError, match="the scheduler of the Dask cluster is gone"):
        paco.run(paco.map(until_exists, [over] * 10).on(client))
    over.touch()  # so that the workers, of which the program knows nothing any more, are free for the next test


def test_a_scheduler_that_is_stopped_before_the_run_ends_it(client, monkeypatch):
    async def never(self):
        await asyncio.Event().wait()

    monkeypatch.setattr("paco.remote._dask._PATIENCE", 0.2)
    monkeypatch.setattr(Cluster, "_count", never)
    with pytest.raises(ConnectionError, match="the scheduler of the Dask cluster is gone"):
        paco.run(paco.map(quick, [1]).on(client))


def test_a_scheduler_that_is_stopped_before_the_program_connects_ends_the_run(monkeypatch):
    import dask
    import distributed  # noqa: F401 - see above

    monkeypatch.setattr("paco.remote._dask._PATIENCE", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent, dask.config.set({TO_CONNECT: "200ms"}):
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(ConnectionError, match=rf"the scheduler .* at tcp://{address} gives no answer"):
            paco.run(paco.map(quick, [1]).on(f"dask://{address}"))


async def until_exists(path):
    await until(path.exists)


#: None of many runs: a cluster takes longer.
SCENARIOS = [one for one in one_of_each() if one.title in APART and one.area != "schedules"]


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.area}: {scenario.name}")
def test_paco_survives_in_a_cluster(scenario, client):
    scenario.run(remote("Dask", lambda stream: stream.on(client)), Lane("real time", asyncio.new_event_loop))


def test_a_chunk_that_was_cancelled_by_the_cluster_had_not_begun():
    from distributed.scheduler import KilledWorker

    cluster = Cluster("dask://127.0.0.1:9", None)
    assert cluster.lost(CancelledError()) == 0
    assert cluster.lost(KilledWorker("work", None, 1)) == 1
    assert cluster.lost(OSError()) is None


async def test_the_workers_are_counted_again_during_a_run(client, monkeypatch):
    counts, count = [], Cluster._count

    async def counted(self):
        counts.append(await count(self))
        return counts[-1]

    monkeypatch.setattr("paco.remote._dask._LOOK", 0.001)
    monkeypatch.setattr(Cluster, "_count", counted)
    async with paco.map(quick, range(100), limit=2).on(client).buffer(2) as results:
        async for _ in results:
            await until(lambda: len(counts) >= 3)
    assert all(sum(threads.values()) <= 2 for threads in counts)
