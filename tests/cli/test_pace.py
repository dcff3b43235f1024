"""`--limit auto`: which errors mean "too many", and what is shown of the limit that is found."""

from __future__ import annotations

import json
import re
from types import SimpleNamespace

import pytest

from paco._cli import main
from paco._cli.ending import Tally
from paco._cli.job import limit_of, retry_on, too_many
from paco._cli.options import rate
from paco._cli.progress import summary
from paco._view.meter import Sketch

pytestmark = pytest.mark.usefixtures("folder")

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
def test_without_retry_on_errors_of_overload_mean_too_many(error, means):
    assert too_many(retry_on([]))(error) is means


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
def test_with_retry_on_only_the_named_errors_mean_too_many(names, error, means):
    assert too_many(retry_on(names))(error) is means


@pytest.mark.parametrize(
    ("said", "shown"), [(None, "<paco.Adaptive 10,"), ("50/s", "<paco.Adaptive 10, 0 in flight> & <")]
)
def test_auto_selects_an_adaptive_limit(said, shown):
    limit = limit_of(SimpleNamespace(limit="auto", rate=None if said is None else rate(said)), Exception)
    assert repr(limit).startswith(shown)


def run(*words):
    return main(["map", *words, "--limit", "auto"])


def items(folder, count):
    (folder / "items.txt").write_text("".join(f"{number}\n" for number in range(count)))


@pytest.mark.realtime
@pytest.mark.usefixtures("virtual_time")
def test_an_adaptive_limit_stays_near_what_the_server_accepts(folder, capfd):
    items(folder, 1000)
    assert run("jobs:crowded", "items.txt", "-o", "out.jsonl", "--retries", "20", "--progress", "json") == 0
    last = json.loads(capfd.readouterr().err.splitlines()[-1])
    assert last["ok"] == 1000
    assert last["retried"] > 0
    assert 1 <= last["limit"] <= 16


@pytest.mark.realtime
def test_errors_of_other_kinds_do_not_lower_an_adaptive_limit(folder, capfd):
    items(folder, 50)
    assert run("jobs:wrong", "items.txt", "--halt", "never") == 1
    assert "\n  limit     10   (auto)\n  failures  50 ValueError\n" in capfd.readouterr().err


def test_the_summary_shows_only_a_limit_that_was_found():
    assert not re.search("limit", "\n".join(summary(Tally(), Sketch(), 0, 1, width=80)))
