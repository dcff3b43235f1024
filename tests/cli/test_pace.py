"""`--limit auto`: which errors mean "too many", and what is shown of the limit that is found."""

from __future__ import annotations

import json
import re
import sys
from bisect import bisect_left
from types import SimpleNamespace

import pytest

from paco._cli.pace import rate_of
from paco._cli.values import rate
from paco.limits._bucket import Booking

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

async def echo(item):
    return item

arrived = asyncio.Barrier(2)

async def together(item):
    await arrived.wait()

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


# ---- rates


RATES = [
    "1/s",
    "7/s",
    "20/s",
    "30/s",
    "50/s",
    "100/s",
    "999/s",
    "1000/s",
    "20000/s",
    "3/m",
    "100/m",
    "6000/m",
    "5/h",
    "0.5/s",
]


@pytest.mark.parametrize("text", RATES)
def test_a_rate_reaches_95_percent_with_late_timers_and_no_window_exceeds_it(text):
    """Each start that waits is a millisecond late, as with real timers."""
    wanted = rate(text)
    bucket = rate_of(wanted)._bucket
    starts, now = [], 0.0
    while len(starts) < max(3 * wanted.starts, 30):
        booking = Booking(1)
        now = max(now, earliest + 0.001) if (earliest := bucket.earliest(1)) > now else now
        bucket.book(booking)
        bucket.start(booking, now)
        starts.append(now)
    most = max(bisect_left(starts, start + wanted.seconds) - at for at, start in enumerate(starts))
    assert most <= max(wanted.starts, 1)
    assert (len(starts) - 1) / starts[-1] >= 0.95 * wanted.starts / wanted.seconds


def test_a_burst_is_that_of_the_library():
    limit = rate_of(rate("60/m"), 10)
    assert (limit.n, limit.per, limit.burst) == (60, 60, 10)


@pytest.mark.usefixtures("virtual_time")
def test_items_start_at_once_up_to_the_burst(run, folder):
    items(folder, 12)
    _, _, err = run("jobs:none", "items.txt", "--rate", "1/s", "--burst", 10, "--progress", "json")
    assert json.loads(err.splitlines()[-1])["seconds"] == 2


@pytest.mark.usefixtures("virtual_time")
@pytest.mark.parametrize("rates", [("2/s", "9000/m"), ("9000/m", "2/s")])
def test_several_rates_all_hold(run, folder, rates):
    items(folder, 5)
    words = [word for rate in rates for word in ("--rate", rate)]
    _, _, err = run("jobs:none", "items.txt", *words, "--burst", 3, "--progress", "json")
    assert json.loads(err.splitlines()[-1])["seconds"] == 1


# ---- budgets


def costs(folder, *values):
    (folder / "costs.jsonl").write_text("".join(f"{json.dumps(value)}\n" for value in values))
    return "costs.jsonl", "--limit", 1, "--progress", "plain"


def test_without_a_cost_a_budget_is_a_number_of_items(run, folder):
    code, out, err = run("jobs:none", *costs(folder, *range(9)), "--budget", 3)
    assert (code, len(out.splitlines())) == (1, 3)
    assert "stopped in" in err
    assert "paco: the budget was spent (3 of 3) before all items had started\n" in err


def test_a_budget_that_suffices_is_not_told(run, folder):
    words = [*costs(folder, *range(3)), "--budget", 3, "-o", "out.jsonl"]
    assert run("jobs:none", *words, "--progress", "off") == (0, "", "")
    (folder / "out.jsonl").unlink()
    code, _, err = run("jobs:none", *words)
    assert (code, "budget" in err, "again" in err, err[:8]) == (0, False, False, "done in ")
    (folder / "out.jsonl").write_text((folder / "out.jsonl").read_text().partition("\n")[0] + "\n")
    code, _, err = run("jobs:none", *words, "--resume", "--budget", 2)
    assert (code, "budget" in err, "again" in err, "1 skipped" in err) == (0, False, False, True)


@pytest.mark.parametrize("retries", [0, 1])
def test_the_cost_may_be_a_field_of_the_item(run, folder, retries):
    rows = costs(
        folder, {"a": {"b": 2}}, {"a": {"b": "3.5"}}, {"a": 1}, {"a": {"b": 0.5}}, {"a": {"b": 9}}, {"a": {"b": 9}}
    )
    code, out, err = run("jobs:echo", *rows, "--budget", "6.00", "--cost", "a.b", "--retries", retries)
    assert (code, len(out.splitlines())) == (1, 4)
    assert "CostError: --cost: expected a number in the field a.b of the item, got none" in err
    assert "the budget was spent (6 of 6)" in err


def test_a_cost_that_is_no_number_is_an_error_of_its_item(run, folder):
    for cost in (-1, "x", None, True, [1]):
        code, out, _ = run("jobs:echo", *costs(folder, {"a": cost}), "--budget", 6, "--cost", "a")
        assert code == 1
        said = json.loads(out)["error"]["message"]
        assert said.startswith("--cost: expected a number of 0 or more in the field a of the item, got ")


def test_the_cost_may_be_a_field_of_the_result(run, folder):
    rows = costs(folder, *({"usage": {"tokens": 40}} for _ in range(9)))
    code, out, err = run("jobs:echo", *rows, "--budget", 100, "--cost", "result.usage.tokens")
    assert code == 1
    assert 3 <= len(out.splitlines()) <= 4  # one more was taken when the third ended
    assert "of 100) before all items had started" in err


def test_a_result_without_its_cost_ends_the_run_and_is_kept(run, folder):
    rows = costs(folder, *({"usage": {"token": 40}, "text": "a"} for _ in range(30)))
    code, out, err = run("jobs:echo", *rows, "--budget", 100, "--cost", "result.usage.tokens", "-o", "out.jsonl")
    assert (code, out) == (1, "")
    found = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert 1 <= len(found) <= 2
    assert all(one["ok"] for one in found)
    why = (
        "--cost: expected a number in the field usage.tokens of the result, got none ('tokens' is missing beside token)"
    )
    assert f"\npaco: {why}; without it the budget cannot hold, so the run was ended\n" in err
    assert "--resume" in err
    _, out, err = run("jobs:echo", *costs(folder, 7), "--budget", 100, "--cost", "result.x")
    assert json.loads(out)["result"] == 7
    assert "expected a number in the field x of the result, got none;" in err


def test_results_without_their_cost_end_the_run_once(run, folder):
    rows = costs(folder, 1, 2, 3)[0]
    code, out, err = run("jobs:together", rows, "--limit", 2, "--budget", 100, "--cost", "result.x")
    assert (code, len(out.splitlines())) == (1, 2)
    assert err.count("without it the budget cannot hold") == 1


def test_the_cost_of_an_item_is_checked_for_a_program_too(run, folder):
    _, out, _ = run("--exec", "echo {a}", *costs(folder, {"a": 2}, {"a": 3}), "--budget", 9, "--cost", "a")
    assert [json.loads(line)["result"] for line in out.splitlines()] == [2, 3]


def test_options_of_the_pace_that_make_no_sense_are_refused(run, folder):
    items(folder, 1)
    for words, said in [
        (["--burst", "2"], "--burst is a number of starts beyond a rate; give the rate with --rate"),
        (["--cost", "a"], "--cost is what an item takes from a budget; give the budget with --budget"),
        (["--budget", "0"], "argument --budget: must be a number above 0, such as 100 or 2.50, got '0'"),
        (["--budget", "5$"], "must be a number above 0, such as 100 or 2.50, got '5$'"),
        (["--burst", "0", "--rate", "1/s"], "must be a whole number of 1 or more"),
    ]:
        assert said in run("jobs:none", "items.txt", *words)[2]
