"""Figures as a person reads them."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paco._view.meter import Meter, Reading, Sketch, clock, duration, latency, per_second, share


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (2e-9, "0.002us"),
        (85e-6, "85us"),
        (999.4e-6, "999us"),
        (999.7e-6, "1ms"),
        (0.00123, "1.23ms"),
        (0.1814, "181ms"),
        (0.9997, "1s"),
        (1.2, "1.2s"),
        (99.4, "99.4s"),
        (99.6, "1m 40s"),
        (3725, "1h 02m"),
    ],
)
def test_a_latency_has_three_digits_and_its_unit(seconds, text):
    assert latency(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [
        (0, 0, "0%"),
        (0, 9, "0%"),
        (4, 10_000, "<0.1%"),
        (5, 10_000, "0.1%"),
        (4, 1000, "0.4%"),
        (94, 10_000, "0.9%"),
        (96, 10_000, "1%"),
        (61, 100, "61%"),
    ],
)
def test_a_share_is_in_whole_percent_unless_it_is_below_one(part, whole, text):
    assert share(part, whole) == text


@pytest.mark.parametrize(("rate", "text"), [(0, "0/s"), (2.345, "2.35/s"), (99.9, "99.9/s"), (12_345.6, "12,346/s")])
def test_a_rate_has_three_digits_or_is_a_whole_number(rate, text):
    assert per_second(rate) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (78.4, "1:18"), (7400, "2:03:20")])
def test_an_eta_is_shown_like_a_clock(seconds, text):
    assert clock(seconds) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.04, "0.0s"), (9.44, "9.4s"), (202, "3m 22s"), (3900, "1h 05m")])
def test_a_duration_has_at_most_two_units(seconds, text):
    assert duration(seconds) == text


# ---- quantiles


@given(st.lists(st.floats(1e-8, 1e6), min_size=1), st.floats(0, 1))
def test_a_quantile_is_at_most_one_percent_too_high(times, share):
    sketch = Sketch()
    for time in times:
        sketch.add(time)
    exact = sorted(times)[max(math.ceil(share * len(times)) - 1, 0)]
    assert exact * (1 - 1e-9) <= sketch.quantile(share) <= exact * 1.01 * (1 + 1e-9)


def test_quantiles_take_constant_memory():
    sketch, dice = Sketch(), random.Random(1)  # noqa: S311 - dice, not secrets
    for _ in range(20_000):
        sketch.add(dice.lognormvariate(0, 2))
    assert len(sketch._counts) < 2000


def test_no_quantile_exceeds_the_maximum():
    sketch = Sketch()
    assert sketch.longest() == 0
    for number in range(1, 10_001):
        sketch.add(number / 1000)
    assert [sketch.quantile(percent / 100) for percent in (50, 90, 99)] == pytest.approx([5, 9, 9.9], rel=0.011)
    assert sketch.quantile(1) == sketch.longest() == 10


def test_a_latency_of_zero_is_shown():
    sketch = Sketch()
    assert sketch.quantile(0.5) == 0
    sketch.add(0)
    assert sketch.quantile(0.5) == 0


def metered(counts):
    """Yield the meter of a run after each second, in which these many items have ended by then."""
    clock = iter(range(len(counts) + 1))
    done = iter([0, *counts])
    meter = Meter("", lambda: Reading(next(clock), next(done), 0, 0, 0, 1, 1, 100, {}, {}), Sketch())
    for _ in counts:
        meter.look()
        yield meter


def test_slow_items_have_a_rate_and_an_eta_from_the_first_one_on():
    """Items of 26 s, one at a time: fewer than one ends in ten seconds."""
    for second, meter in enumerate(metered([second // 26 for second in range(1, 1000)]), 1):
        assert (meter.rate() > 0) == (second >= 26)
        assert (meter.eta() is not None) == (second >= 26)
        if second > 150:
            assert 26 / 1.3 < 1 / meter.rate() < 26 * 1.3
        assert len(meter._readings) < 40


def test_the_rate_of_fast_items_is_that_of_the_last_ten_seconds():
    *_, meter = metered([100 * second for second in range(1, 50)] + [5000 + second for second in range(1, 21)])
    assert meter.rate() == 1
