"""Examples are tests: those of the README, of the docs, and of the docstrings."""

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
    """Give the docstrings what each reader takes for granted."""
    namespace.update(asyncio=asyncio, paco=paco)


# Machines are shared: that an example takes long says nothing.
settings.register_profile("paco", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("paco")

# The leak check freezes what there was before a run, and collects what the run has made. Python takes the little that
# is left then for all that is old (CPython issue 4074, `long_lived_total`), and would look through the 500,000 objects
# of this process at every 70,000 new ones, for 0.15 s each time. So it does that a hundred times less often.
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
    """Put the examples of a page back in order after pytest-randomly: one may use what an earlier one has made."""
    examples = [item for item in items if isinstance(item, SybilItem)]
    examples.sort(key=lambda item: (item.path, item.example.line))
    items[:] = [*(item for item in items if not isinstance(item, SybilItem)), *examples]


def pytest_collection_finish() -> None:
    """Have nothing more compiled into files: what tests write, they may write again within the second that it tells."""
    sys.dont_write_bytecode = True
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    """Have each process of pytest-xdist measured once from here on, by what pytest-cov starts in the next moment.

    By now coverage's own patch for subprocesses measures it, and pytest-cov, as it would a process without others. Each
    of them would trace every line too, and not pause for the tests without coverage. What hands out the tests to those
    processes runs nothing of paco.
    """
    if hasattr(session.config, "workerinput") or session.config.getoption("dist", "no") != "no":
        while measuring := coverage.Coverage.current():
            measuring.stop()
            measuring.save()
