"""How many turns of the event loop something takes."""

from __future__ import annotations

import asyncio


class Turns:
    """An ``async with`` block that counts the turns of the loop."""

    def __init__(self):
        self.count = 0

    async def __aenter__(self):
        self._task = asyncio.ensure_future(self._go_round())
        return self

    async def _go_round(self):
        while True:
            self.count += 1
            await asyncio.sleep(0)

    async def __aexit__(self, *exc_info):
        self._task.cancel()
        await asyncio.wait([self._task])
