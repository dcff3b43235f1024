"""Tests of concurrent code that are exact and take no time: a virtual clock, leak checks, fakes, a pytest plugin.

On a `VirtualLoop` nothing waits: when no callback is ready, the clock jumps to the next timer. Six naps of ten seconds
at a limit of two end at exactly ``now() == 30``, in a millisecond, and a program that waits for nothing is a `Deadlock`
at once. `run` does this for one async function and fails if it leaves something behind. The pytest plugin does it for
every ``async def`` test::

    pytest_plugins = ["paco.testing"]  # in conftest.py; or: pytest -p paco.testing

Tests marked ``@pytest.mark.realtime`` (sockets, threads, processes, signals) run on a real loop under the same leak
check. Two environment variables serve the lanes of a CI: with ``PACO_TEST_EAGER=1`` all of this runs with eager tasks
(Python 3.12+); ``PACO_TEST_LOOP=uvloop`` names the module whose ``new_event_loop`` makes the loop of the ``realtime``
tests. Tests marked ``asyncio``, ``anyio`` or ``trio`` are left to those plugins. Async fixtures are not supported: a
fixture would live on another loop than its test.

(PYTEST_DONT_REWRITE: without that word, importing this before pytest registers it as a plugin is a warning.)
"""

# The modules, each using those above it:
#   _loop     VirtualLoop, now, Deadlock
#   _leaks    check_leaks, Leak
#   _runs     run, cancel_at_every_step
#   _fakes    Source, AsyncSource, Probe
#   _plugin   the hooks of pytest

from __future__ import annotations

from paco.testing._fakes import AsyncSource, Probe, Source
from paco.testing._leaks import Leak, check_leaks
from paco.testing._loop import Deadlock, VirtualLoop, now
from paco.testing._plugin import pytest_configure as pytest_configure
from paco.testing._plugin import pytest_pyfunc_call as pytest_pyfunc_call
from paco.testing._runs import cancel_at_every_step, run

__all__ = [
    "AsyncSource",
    "Deadlock",
    "Leak",
    "Probe",
    "Source",
    "VirtualLoop",
    "cancel_at_every_step",
    "check_leaks",
    "now",
    "run",
]
