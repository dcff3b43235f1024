"""Async tests run on virtual time, under a leak check; points at which something was cancelled are counted."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import zlib
from pathlib import Path

import pytest
from hypothesis import is_hypothesis_test

from paco import testing

pytest_plugins = ["paco.testing"]

POINTS = "cancellation points"
TORTURE = Path(__file__).parent / "torture"
#: By this, processes that a measured one starts are measured too.
MEASURES = "COVERAGE_PROCESS_CONFIG"


def pytest_configure():
    """Have Ctrl-C arrive, which tests send, also where a shell runs them in the background and has it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def cancel_at_every_step(record_property):
    """Return `paco.testing.cancel_at_every_step`, whose points are counted for the summary."""

    def cancel(fn, **options):
        points = testing.cancel_at_every_step(fn, **options)
        record_property(POINTS, points)
        return points

    return cancel


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """Return a folder to run the command in, with the `FILES` of the module; what is imported from it is forgotten."""
    for name, text in request.module.FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delenv("CI", raising=False)
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", [])]
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]


def pytest_terminal_summary(terminalreporter):
    """Tell the points of the tests that passed; in the reports, so that they arrive from other processes too."""
    reports = terminalreporter.stats.get("passed", [])
    points = [value for report in reports for name, value in report.user_properties if name == POINTS]
    if points:
        terminalreporter.write_line(f"{POINTS}: {sum(points):,}, passed without a leak, and none was swallowed")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    """Have no coverage measured of what runs the same code many times, nor of laws, whose examples are drawn anew.

    It would take most of the time of the suite, and tell nothing: what they run, the other tests run too. So do pages.
    """
    for item in items:
        law, once = is_hypothesis_test(getattr(item, "obj", None)), item.get_closest_marker("once")
        many = law or item.path.is_relative_to(TORTURE)
        if many or (once and not item.get_closest_marker("cover")) or item.path.suffix == ".md":
            item.add_marker(pytest.mark.no_cover)
    elsewhere = {item for item in items if is_divided(item) and runs_elsewhere(item.nodeid)}
    config.hook.pytest_deselected(items=elsewhere)
    items[:] = [item for item in items if item not in elsewhere]


def cancels_at_every_step(item):
    """Say whether a test calls `cancel_at_every_step`, be it the fixture or the function of `paco.testing`."""
    code = getattr(getattr(item, "function", None), "__code__", None)
    return code is not None and "cancel_at_every_step" in (*code.co_names, *code.co_varnames)


def is_divided(item):
    """Say whether a test takes long for what a Python could have to do with it."""
    steps = cancels_at_every_step(item) and not item.path.is_relative_to(TORTURE)
    return steps or item.get_closest_marker("realtime") is not None


def runs_elsewhere(name):
    """Say whether another Python has this test: the main one has all, the others divide them (see `./dev test`)."""
    share, shares = map(int, os.environ.get("PACO_TEST_SHARE", "0/1").split("/"))
    return share > 0 and zlib.crc32(name.encode()) % (shares - 1) != share - 1


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Have the processes that such a test starts not measured either."""
    measures = os.environ.pop(MEASURES, None) if item.get_closest_marker("no_cover") else None
    try:
        return (yield)
    finally:
        if measures is not None:
            os.environ[MEASURES] = measures
