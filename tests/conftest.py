"""Async tests run on virtual time, under a leak check; points at which something was cancelled are counted."""

from __future__ import annotations

import pytest

from paco import testing

pytest_plugins = ["paco.testing"]

POINTS = "cancellation points"


@pytest.fixture
def cancel_at_every_step(record_property):
    """Return `paco.testing.cancel_at_every_step`, whose points are counted for the summary."""

    def cancel(fn, **options):
        points = testing.cancel_at_every_step(fn, **options)
        record_property(POINTS, points)
        return points

    return cancel


def pytest_terminal_summary(terminalreporter):
    """Tell the points of the tests that passed; in the reports, so that they arrive from other processes too."""
    reports = terminalreporter.stats.get("passed", [])
    points = [value for report in reports for name, value in report.user_properties if name == POINTS]
    if points:
        terminalreporter.write_line(f"{POINTS}: {sum(points):,}, passed without a leak, and none was swallowed")
