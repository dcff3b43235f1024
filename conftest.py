"""Run the examples of the README, the docs and the docstrings as tests."""

from __future__ import annotations

import asyncio
import functools
import gc
import importlib
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import coverage
import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

import paco

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from sybil import Document, Example, Region

TORTURE = Path(__file__).parent / "tests" / "torture"
#: What measures coverage in this process, if anything does.
COVERAGE = pytest.StashKey["coverage.Coverage | None"]()
#: With this environment variable, which it sets at each start, coverage also measures the processes of this one.
OF_PROCESSES = "COVERAGE_PROCESS_CONFIG"


def imported(namespace: dict[str, Any]) -> None:
    """Provide the imports that examples in docstrings omit."""
    namespace.update(asyncio=asyncio, paco=paco)


# No deadline: on a shared machine a slow example is not a failure.
settings.register_profile("paco", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("few", settings.get_profile("paco"), max_examples=25)
settings.load_profile("paco")

# The leak check freezes the objects from before a run and collects those of the run. CPython then counts only the few
# survivors as long-lived objects (CPython issue 4074, `long_lived_total`), so a full collection over the 500,000
# objects of this process would run for every 70,000 new objects, for 0.15 s each time. This threshold makes full
# collections a hundred times rarer.
gc.set_threshold(*gc.get_threshold()[:2], 1_000)


def alone(document: Document) -> Iterator[Region]:
    """Find the Python blocks of a page. Each runs without the names of earlier ones, as for a reader who copies it."""
    for region in PythonCodeBlockParser()(document):
        region.evaluator = functools.partial(evaluate, region.evaluator)
        yield region


def evaluate(evaluator: Callable[[Example], str | None], example: Example) -> str | None:
    """Run a block in a namespace of its own."""
    example.namespace = {}
    return evaluator(example)


PAGES = Sybil(parsers=[alone, SkipParser()], patterns=["*.md"])
DOCSTRINGS = Sybil(
    parsers=[DocTestParser()],
    path="src",
    patterns=["**/*.py"],
    document_types={".py": PythonDocStringDocument},
    setup=imported,
)

pytest_collect_file = (PAGES + DOCSTRINGS).pytest()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Undo pytest-randomly for examples: those of a docstring build on each other, and a page reads from its top."""
    examples = [item for item in items if isinstance(item, SybilItem)]
    examples.sort(key=lambda item: (item.path, item.example.line))
    items[:] = [*(item for item in items if not isinstance(item, SybilItem)), *examples]


def pytest_collection_finish() -> None:
    """Stop writing bytecode: Python checks its age in whole seconds, and tests rewrite modules within a second."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Stop earlier coverage measurements, so that only the one that pytest-cov starts next measures an xdist process.

    At this point, coverage's patch for subprocesses and pytest-cov itself already measure the process. Each would trace
    every line once more. In the controlling process of pytest-xdist no code of paco runs, so it needs no measurement.
    """
    if hasattr(session.config, "workerinput") or session.config.getoption("dist", "no") != "no":
        while measuring := coverage.Coverage.current():
            measuring.stop()


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure coverage only in calls of tests: otherwise pytest itself takes twice as long."""
    measuring = session.config.stash[COVERAGE] = coverage.Coverage.current()
    if measuring is None:
        return (yield)
    for module in pkgutil.walk_packages(paco.__path__, "paco."):  # otherwise a test that is not measured may import it
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    measuring.stop()
    os.environ.pop(OF_PROCESSES, None)
    # Otherwise a process in another folder writes its data there, where nothing finds it.
    measuring.set_option("run:data_file", os.path.abspath(str(measuring.get_option("run:data_file"))))  # noqa: PTH100
    try:
        return (yield)
    finally:
        measuring.start()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Measure coverage, but neither of examples nor of tests that run the same lines in random ways or in all ways.

    What they reach by chance needs a test of its own. Processes are measured if the test is marked so.
    """
    measuring = item.config.stash[COVERAGE]
    if measuring is None or not is_measured(item):
        return (yield)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "_exit", os._exit)  # coverage wraps it whenever it starts; this undoes that
        with measuring.collect():
            of_processes = os.environ.pop(OF_PROCESSES, None)
            if of_processes and item.get_closest_marker("measured_processes"):
                patch.setenv(OF_PROCESSES, of_processes)
            return (yield)


def is_measured(item: pytest.Item) -> bool:
    """Return whether coverage measures a test. A slow one is measured only together with its processes."""
    if item.get_closest_marker("measured_processes"):
        return True
    marked = any(item.get_closest_marker(name) for name in ("slow", "hypothesis"))
    in_all_ways = item.path.is_relative_to(TORTURE) or "cancel_at_every_step" in getattr(item, "fixturenames", ())
    return not (marked or in_all_ways or isinstance(item, SybilItem))
