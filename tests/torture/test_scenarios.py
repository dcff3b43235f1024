"""Every torture scenario on paco, in virtual time, with normal tasks and, if Python has them, eager tasks."""

from __future__ import annotations

import sys

import pytest

from tests.torture.kit import NotThere, lane, scenarios
from tests.torture.ours import PACO

LANES = {"normal tasks": lane("asyncio")}
if sys.version_info >= (3, 12):
    LANES["eager tasks"] = lane("asyncio", eager=True)


@pytest.mark.parametrize("where", LANES)
@pytest.mark.parametrize("scenario", scenarios(), ids=lambda scenario: f"{scenario.area}: {scenario.name}")
def test_paco_survives(scenario, where):
    try:
        scenario.run(PACO, LANES[where])
    except NotThere as reason:
        pytest.skip(str(reason))
