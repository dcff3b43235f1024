"""The consumer of a real Redis queue drains on SIGTERM, and loses nothing even when it is killed."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest

from tests.patience import wait_until

redis = pytest.importorskip("redis", reason="needs redis")

SERVER = shutil.which("redis-server")

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.posix,
    pytest.mark.skipif(SERVER is None, reason="needs Redis: apt-get install redis-server"),
]

JOBS = [f"job {number}" for number in range(200)]


@pytest.fixture
def url(tmp_path_factory):
    """Start a server of its own on a socket in a new folder."""
    folder = tmp_path_factory.mktemp("redis")
    command = [SERVER, "--port", "0", "--unixsocket", "redis.sock", "--save", ""]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as server:
        place = f"unix://{folder}/redis.sock"
        wait_until(lambda: answers(place))
        yield place
        server.terminate()


def answers(place):
    """Return whether a server accepts connections: the socket exists a moment earlier."""
    try:
        with redis.Redis.from_url(place) as client:
            return client.ping()
    except redis.ConnectionError:
        return False


@pytest.fixture
def queue(url):
    with redis.Redis.from_url(url, decode_responses=True) as queue:
        queue.rpush("jobs", *JOBS)
        yield queue


def on(queue, name):
    return queue.lrange(name, 0, -1)


def test_sigterm_finishes_what_is_taken_and_takes_no_more(url, queue, program):
    process = program("consumer.py", url)
    wait_until(lambda: queue.llen("done") >= 20)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate()

    assert (process.returncode, out, err) == (0, "drained\n", "")
    done, left = on(queue, "done"), on(queue, "taken") + on(queue, "jobs")
    assert queue.llen("taken") <= 1  # one that Redis gave to a connection that was being closed
    assert sorted([*done, *(job.upper() for job in left)]) == sorted(job.upper() for job in JOBS)
    assert len(left) > 20


def test_a_killed_consumer_loses_nothing_and_the_next_one_goes_on(url, queue, program):
    process = program("consumer.py", url)
    wait_until(lambda: queue.llen("done") >= 20)
    process.kill()
    process.communicate()
    assert queue.llen("taken") > 0

    process = program("consumer.py", url)
    wait_until(lambda: queue.llen("done") >= len(JOBS))
    wait_until(lambda: not queue.llen("taken"))
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == "drained\n"
    assert sorted(on(queue, "done")) == sorted(job.upper() for job in JOBS)
