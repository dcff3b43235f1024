"""Waiting for what other processes and threads do, for as long as a busy machine takes.

A bound ends a test that fails; no test that passes depends on it. What blocks (a pipe, a process, a thread) has no
bound of its own: pytest's is the last one.
"""

from __future__ import annotations

import asyncio
import inspect
import time

#: Seconds until a condition counts as one that never comes true: less than pytest's timeout, so that the test says why.
PATIENCE = 120


def wait_until(condition):
    """Wait until ``condition()`` is true, and return what it is."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, never(condition)
        time.sleep(0.005)
    return found


async def until(condition):
    """Wait likewise on a real event loop, which goes on meanwhile."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, never(condition)
        await asyncio.sleep(0.005)
    return found


def never(condition):
    return f"not within {PATIENCE} s: {inspect.getsource(condition).strip()}"
