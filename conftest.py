"""Run the examples of the README, the docs and the docstrings as tests."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import Any

import coverage
import pytest
from hypothesis import HealthCheck, settings
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.integration.pytest import SybilItem
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser
from sybil.parsers.rest import DocTestParser

import paco


def imported(namespace: dict[str, Any]) -> None:
    """Provide the imports that examples in docstrings omit."""
    namespace.update(asyncio=asyncio, paco=paco)


# No deadline: on a shared machine a slow example is not a failure.
settings.register_profile("paco", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paco")

# The leak check freezes the objects from before a run and collects those of the run. CPython then counts only the few
# survivors as long-lived objects (CPython issue 4074, `long_lived_total`), so a full collection over the 500,000
# objects of this process would run for every 70,000 new objects, for 0.15 s each time. This threshold makes full
# collections a hundred times rarer.
gc.set_threshold(*gc.get_threshold()[:2], 1_000)

PAGES = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"])
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
    """Undo pytest-randomly for examples: an example may use what an earlier example of its page has defined."""
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
    every line once more, and would not pause for tests marked ``no_cover``. In the controlling process of pytest-xdist
    no code of paco runs, so it needs no measurement.
    """
    if hasattr(session.config, "workerinput") or session.config.getoption("dist", "no") != "no":
        while measuring := coverage.Coverage.current():
            measuring.stop()
            measuring.save()
