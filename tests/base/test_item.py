"""The record of the item that a task runs."""

from __future__ import annotations

import asyncio

import paco
from paco._base.item import item_here


async def test_only_the_task_of_an_item_has_its_record():
    async def look(number):
        return item_here().index, await asyncio.create_task(elsewhere())

    async def elsewhere():
        return item_here()

    assert item_here() is None
    assert await paco.map(look, [5, 6], limit=paco.Limit(1)) == [(0, None), (1, None)]
