"""Waits for other processes and threads, for as long as a busy machine takes.

The bound only ends a failing test; no passing test depends on it. Blocking calls (on a pipe, a process, a thread) have
no bound except pytest's timeout.
"""

from __future__ import annotations

import asyncio
import inspect
import time

#: Seconds after which a condition counts as never true: less than pytest's timeout, so that the test says why it fails.
PATIENCE = 120


def wait_until(condition):
    """Wait until ``condition()`` is true, and return its value."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, never(condition)
        time.sleep(0.005)
    return found


async def until(condition):
    """Wait on a real event loop until ``condition()`` is true, and return its value."""
    end = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < end, never(condition)
        await asyncio.sleep(0.005)
    return found


def never(condition):
    return f"not within {PATIENCE} s: {inspect.getsource(condition).strip()}"
