"""The laws of every run of each function, under errors, cancellations, timeouts and consumers that leave.

`laws` has the laws themselves. `examples` describes how to replay a failure.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.torture.examples import examples
from tests.torture.laws import check
from tests.torture.play import play
from tests.torture.workloads import CALLS, STREAMS, VALUES, Scenario, scenarios

pytestmark = pytest.mark.timeout(1800)


def anything(*verbs: str, before: int = 0) -> st.SearchStrategy[Scenario]:
    """Draw scenarios that end early in every way, with errors and without."""
    early = {"before": before, "trouble": True, "timeout": True, "leaves": True, "cancel": True}
    return scenarios(verbs, **early) | scenarios(verbs, errors=True, **early)


@pytest.mark.parametrize("verb", [*STREAMS, *VALUES, *CALLS])
@examples()
@given(st.data())
def test_a_run_keeps_the_laws_whatever_goes_wrong(verb, data):
    check(play(data.draw(anything(verb), "scenario")))


@examples()
@given(anything(*STREAMS, *VALUES, before=2))
def test_a_pipeline_keeps_the_laws_whatever_goes_wrong(scenario):
    check(play(scenario))
