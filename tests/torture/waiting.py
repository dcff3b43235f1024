"""Waiting to the end, whoever cancels meanwhile."""

from __future__ import annotations

import asyncio


async def ended(*tasks):
    """Wait for tasks through repeated cancellation, which is raised in the end; their errors are known."""
    cancelled = None
    while not all(task.done() for task in tasks):
        try:
            await asyncio.wait(tasks)
        except asyncio.CancelledError as error:
            cancelled = error
    for task in tasks:
        if not task.cancelled():
            task.exception()
    if cancelled is not None:
        raise cancelled
