"""How many examples a law is tried on, and how a failure is replayed.

Each law runs its default number of examples, or as many as the environment variable ``PACO_TEST_EXAMPLES`` says. They
are drawn anew in every run. A failure prints the smallest example found, which is the scenario itself, and a line
``@reproduce_failure(...)`` which, put above the test, replays just that one, on any machine with the same Hypothesis.
``--hypothesis-seed=N`` repeats a whole run; ``--randomly-seed`` only sets the order of the tests. What failed once is
kept in ``.hypothesis`` and tried first the next time.
"""

from __future__ import annotations

import os

from hypothesis import settings


def examples(default: int = 50) -> settings:
    """Return the decorator of a law: how often it is tried."""
    return settings(max_examples=int(os.environ.get("PACO_TEST_EXAMPLES") or default))
