"""`--limit auto`: which errors mean "too many", and what is shown of the limit that is found."""

from __future__ import annotations

import json
import re
import sys
from types import SimpleNamespace

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio

in_flight = 0

async def crowded(item):
    global in_flight
    in_flight += 1
    try:
        if in_flight > 8:
            raise ConnectionRefusedError
        await asyncio.sleep(0.001)
    finally:
        in_flight -= 1

async def none(item): ...

async def wrong(item):
    raise ValueError(item)

def again(error):
    return 0.0 if isinstance(error, KeyError) else None

def broken(error):
    raise RuntimeError
"""
FILES = {"jobs.py": JOBS}


class Status(Exception):
    def __init__(self, **members):
        vars(self).update(members)


class Hostile(Exception):
    @property
    def status(self):
        raise RuntimeError


@pytest.fixture
def lowers_the_limit(run, folder, monkeypatch):
    """Return a function that says whether items that raise this error lower an adaptive limit."""

    def lowers(error, *names):
        async def fail(item):
            raise error

        monkeypatch.setitem(sys.modules, "given", SimpleNamespace(fail=fail))
        items(folder, 20)
        words = [word for name in names for word in ("--retry-on", name)]
        _, _, err = run("given:fail", "items.txt", "--limit", "auto", "--halt", "never", *words)
        return int(re.search(r"\n  limit     (\d+)   \(auto\)\n", err)[1]) < 10

    return lowers


@pytest.mark.parametrize(
    ("error", "means"),
    [
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (Status(status=429), True),
        (Status(response=SimpleNamespace(status_code=503)), True),
        (Status(status_code=429), True),
        (Status(status=404), False),
        (Status(status=[429]), False),
        (Status(response=None), False),
        (Hostile(), False),
        (ValueError(), False),
        (OSError(), False),
    ],
)
def test_without_retry_on_errors_of_overload_mean_too_many(lowers_the_limit, error, means):
    assert lowers_the_limit(error) is means


@pytest.mark.parametrize(
    ("names", "error", "means"),
    [
        (["ValueError"], ValueError(), True),
        (["ValueError"], TimeoutError(), False),
        (["ValueError", "jobs:again"], KeyError(), True),
        (["jobs:again"], ValueError(), False),
        (["jobs:broken"], ValueError(), False),
    ],
)
def test_with_retry_on_only_the_named_errors_mean_too_many(lowers_the_limit, names, error, means):
    assert lowers_the_limit(error, *names) is means


def items(folder, count):
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(count)))


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("rate", [[], ["--rate", "1000/s"]])
def test_an_adaptive_limit_stays_near_what_the_server_accepts(run, folder, rate):
    items(folder, 100 if rate else 1000)
    code, _, err = run("jobs:crowded", "items.txt", "-l", "auto", "--retries", 20, "--progress", "json", *rate)
    assert code == 0
    last = json.loads(err.splitlines()[-1])
    assert last["ok"] == (100 if rate else 1000)
    assert (last["retried"] > 0) == (not rate)  # at this rate, only one item is in flight
    assert 1 <= last["limit"] <= 16
    assert not rate or last["seconds"] > 0.09


def test_errors_of_other_kinds_do_not_lower_an_adaptive_limit(run, folder):
    items(folder, 50)
    code, _, err = run("jobs:wrong", "items.txt", "--limit", "auto", "--halt", "never")
    assert code == 1
    assert "\n  limit     10   (auto)\n  failures  50 ValueError\n" in err


def test_the_summary_shows_only_a_limit_that_was_found(run, folder):
    items(folder, 1)
    assert "limit" not in run("jobs:none", "items.txt", "--limit", 5)[2]
