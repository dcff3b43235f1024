"""Fixtures and hooks of all tests: virtual time, leak checks, cancellation points."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
from functools import partial
from pathlib import Path

import pytest

from paco import testing
from tests.programs import popen

pytest_plugins = ["paco.testing"]

POINTS = "cancellation points"


def pytest_configure():
    """Restore signals that tests send: a shell that runs pytest in the background ignores them, and so does nohup."""
    for name, default in ("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, default)


@pytest.fixture
def cancel_at_every_step(record_property):
    """Return `paco.testing.cancel_at_every_step`, and count its cancellation points for the summary."""

    def cancel(fn, **options):
        points = testing.cancel_at_every_step(fn, **options)
        record_property(POINTS, points)
        return points

    return cancel


@pytest.fixture
def folder(request, tmp_path, monkeypatch):
    """Return a working directory with the `FILES` of the test module; afterwards, unload modules imported from it."""
    for name, text in request.module.FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr("paco._base.system.files", {})
    monkeypatch.delenv("CI", raising=False)
    importlib.invalidate_caches()
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        places = [getattr(sys.modules[name], "__file__", None), *getattr(sys.modules[name], "__path__", [])]
        if any(place and Path(place).is_relative_to(tmp_path) for place in places):
            del sys.modules[name]


@pytest.fixture
def without_cloudpickle(tmp_path, monkeypatch):
    """Hide cloudpickle from this process, and from those that search the path of this one."""
    monkeypatch.setattr(sys, "path", [str(tmp_path / "hides"), *sys.path])
    (tmp_path / "hides").mkdir()
    (tmp_path / "hides" / "cloudpickle.py").write_text("raise ImportError('hidden')")
    monkeypatch.setitem(sys.modules, "cloudpickle", None)


@pytest.fixture
def main():
    """Return the function that is the command `paco`."""
    from paco._cli import main

    return main


@pytest.fixture
def run(main, capfd):
    """Return a function that runs `paco map` in this process, and returns its exit code, stdout and stderr."""
    return partial(command, main, capfd, "map")


@pytest.fixture
def report(main, capfd):
    """Return a function that does the same with `paco report`."""
    return partial(command, main, capfd, "report")


def command(main, capfd, *words):
    code = main(list(map(str, words)))
    return code, *capfd.readouterr()


@pytest.fixture
def start():
    """Return `popen`; whatever it has started and still runs at the end of the test is killed."""
    with contextlib.ExitStack() as stack:

        def start(*words, **more):
            process = stack.enter_context(popen(*words, **more))
            stack.callback(process.kill)
            return process

        yield start


@pytest.fixture
def virtual_time(monkeypatch):
    """Run the command on virtual time, which stands still while this process waits for a CPU."""
    monkeypatch.setattr("paco._cli.run.loop_factory", lambda _: testing.VirtualLoop)


def pytest_terminal_summary(terminalreporter):
    """Print the cancellation points of passed tests. Reports carry the counts between processes of pytest-xdist."""
    reports = terminalreporter.stats.get("passed", [])
    points = [value for report in reports for name, value in report.user_properties if name == POINTS]
    if points:
        terminalreporter.write_line(f"{POINTS}: {sum(points):,}, without a leak or a swallowed cancellation")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("posix") and not hasattr(os, "fork"):
            item.add_marker(pytest.mark.skip(reason="needs what this system lacks"))
