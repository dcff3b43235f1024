"""Examples are tests: those of the README, of the docs, and of the docstrings."""

from __future__ import annotations

import asyncio
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
