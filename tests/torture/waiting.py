"""A wait that cancellation does not interrupt."""

from __future__ import annotations

import asyncio


async def ended(*tasks):
    """Wait until all tasks have ended, even if cancelled meanwhile; then raise the cancellation.

    The errors of the tasks are retrieved, so that asyncio does not report them.
    """
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
