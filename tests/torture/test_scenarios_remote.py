"""The scenarios of the torture suite, on paco with its items elsewhere.

All but a few on virtual time, in workers that are only pretended. Each meets one of the two ways in which items travel, in
turns; with ``PACO_TEST_REMOTE=all`` in the environment, both.
"""

from __future__ import annotations

import os

import pytest

from tests.torture.kit import NotThere, lane, scenarios
from tests.torture.remote import IN_CHUNKS, ONE_BY_ONE, copy_nothing

LANE = lane("asyncio")
ALL = os.environ.get("PACO_TEST_REMOTE") == "all"
WAYS = (IN_CHUNKS, ONE_BY_ONE)

#: What cannot hold, by the start of the name: in which ways, and why.
CANNOT = {
    "a consumer that stands still": (
        (IN_CHUNKS,),
        "up to 10,000 items are with the workers, unless `buffer` bounds it",
    ),
    "of ten thousand a few are": ((IN_CHUNKS,), "likewise"),
    "there are not many more tasks": (WAYS, "the pretended workers have their tasks in the same loop"),
}


def cases():
    for number, scenario in enumerate(scenarios()):
        cannot = next((ways for start, (ways, _) in CANNOT.items() if scenario.name.startswith(start)), ())
        ways = [way for way in WAYS if way not in cannot]
        for way in ways if ALL else ways[number % 2 :][:1] or ways[:1]:
            yield pytest.param(scenario, way, id=f"{scenario.area}: {scenario.name}: {way.name}")


@pytest.fixture
def _nothing_copied(monkeypatch):
    copy_nothing(monkeypatch)


@pytest.mark.usefixtures("_nothing_copied")
@pytest.mark.parametrize(("scenario", "library"), list(cases()))
def test_paco_survives_with_its_items_elsewhere(scenario, library):
    try:
        scenario.run(library, LANE)
    except NotThere as reason:
        pytest.skip(str(reason))
