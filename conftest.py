"""Examples are tests: those of the README, of the docs, and of the docstrings."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
from typing import Any

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

# The leak check freezes what there was before a run, and collects all that the run has made. Python takes the little that
# it finds there for all that is old, and by itself would look through 500,000 objects of this process at every 70,000
# new ones, for 0.15 s each time (CPython 25672, `long_lived_total`). So it does that a hundred times less often.
gc.set_threshold(700, 10, 1_000)

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
