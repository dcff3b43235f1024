"""Every torture scenario on paco with limit objects: no permit is lost or granted twice.

Each scenario runs in one of its forms with one kind of limit, in rotation; with the environment variable
``PACO_TEST_LIMITS=all``, in all forms with all kinds. One scenario in four is not `slow`.
"""

from __future__ import annotations

import os

import pytest

from tests.torture.kit import NotThere, lane, one_of_each, scenarios
from tests.torture.paced import KINDS, paced, permits_out

LANE = lane("asyncio")
ALL = os.environ.get("PACO_TEST_LIMITS") == "all"
CASES = [
    pytest.param(
        scenario,
        kind,
        id=f"{scenario.area}: {scenario.name}: {kind}",
        marks=[pytest.mark.slow] if number // len(KINDS) % 4 else [],
    )
    for number, scenario in enumerate(scenarios() if ALL else one_of_each())
    for turn, kind in enumerate(KINDS)
    if ALL or number % len(KINDS) == turn
]


@pytest.mark.parametrize(("scenario", "kind"), CASES)
def test_paco_survives_under_limit_objects(scenario, kind):
    made = []
    try:
        scenario.run(paced(kind, made), LANE)
    except NotThere as reason:
        pytest.skip(str(reason))
    assert [permits_out(limit) for limit in made] == [0] * len(made)
