"""The number of random examples for each law.

Each law runs its default number of examples, or the number in the environment variable ``PACO_TEST_EXAMPLES``. Every
run uses new examples. A failure prints the smallest failing scenario, and a line ``@reproduce_failure(...)``. Put that
line above the test to replay the scenario, on any machine with the same version of Hypothesis. ``--hypothesis-seed=N``
repeats a whole run; ``--randomly-seed`` sets only the order of the tests. Hypothesis keeps failed examples in
``.hypothesis`` and tries them first the next time.
"""

from __future__ import annotations

import os

from hypothesis import settings


def examples(default: int = 30) -> settings:
    """Return a decorator that sets the number of examples of a law."""
    return settings(max_examples=int(os.environ.get("PACO_TEST_EXAMPLES") or default))
