"""Fast, exact tests of concurrent code: a virtual clock, leak checks, fakes and a pytest plugin.

A `VirtualLoop` never waits: when no callback is ready, its clock jumps to the next timer. Six naps of ten seconds at a
limit of two end at exactly ``now() == 30``, in a millisecond. A program in which no task can continue raises `Deadlock`
at once. `run` runs one async function on such a loop and fails if the function leaves anything behind. The pytest
plugin does the same for every ``async def`` test::

    pytest_plugins = ["paco.testing"]  # in conftest.py; or: pytest -p paco.testing

Tests marked ``@pytest.mark.realtime`` (sockets, threads, processes, signals) run on a real loop with the same leak
check. Two environment variables select variants: ``PACO_TEST_EAGER=1`` uses eager tasks everywhere (Python 3.12+);
``PACO_TEST_LOOP=uvloop`` names the module whose ``new_event_loop`` makes the loop of the ``realtime`` tests. The plugin
leaves tests marked ``asyncio``, ``anyio`` or ``trio`` to those plugins. Async fixtures are not supported, because a
fixture would run on another loop than its test.

The modules, each importing only from those above it::

    _loop  _leaks                   VirtualLoop, now, Deadlock; check_leaks, Leak
    _runs  _fakes                   run, cancel_at_every_step; Source, AsyncSource, Probe
    _plugin                         the hooks of pytest

(PYTEST_DONT_REWRITE: this word prevents a warning if this module is imported before pytest registers the plugin.)
"""

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
