"""Points at which runs were cancelled: counted, and told at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from paco import testing

HERE = Path(__file__).parent
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


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Run these without coverage, which would take most of the time: what they run, the others run as well."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.no_cover)
