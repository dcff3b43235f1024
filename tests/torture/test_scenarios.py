"""Every torture scenario on paco, in virtual time, with normal tasks and, if Python has them, eager tasks.

One in four of these cases is not `slow`.
"""

from __future__ import annotations

import sys

import pytest

from tests.torture.kit import NotThere, lane, scenarios
from tests.torture.ours import PACO

LANES = {"normal tasks": lane("asyncio")}
if sys.version_info >= (3, 12):
    LANES["eager tasks"] = lane("asyncio", eager=True)
CASES = [
    pytest.param(
        scenario,
        where,
        id=f"{scenario.area}: {scenario.name}: {where}",
        marks=[pytest.mark.slow] if (number + turn) % 4 else [],
    )
    for number, scenario in enumerate(scenarios())
    for turn, where in enumerate(LANES)
]


@pytest.mark.parametrize(("scenario", "where"), CASES)
def test_paco_survives(scenario, where):
    try:
        scenario.run(PACO, LANES[where])
    except NotThere as reason:
        pytest.skip(str(reason))
