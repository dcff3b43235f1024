"""Every scenario of the torture suite, on paco under limit objects: and no permit is lost, or given twice.

Each scenario meets one kind of limit, the kinds taking turns; with ``PACO_TEST_LIMITS=all`` in the environment, all.
One round of turns in four is not `slow`.
"""

from __future__ import annotations

import os

import pytest

from tests.torture.kit import NotThere, lane, scenarios
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
    for number, scenario in enumerate(scenarios())
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
