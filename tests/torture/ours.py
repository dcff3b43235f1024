"""paco as a library for the scenarios, used as its documentation shows."""

from __future__ import annotations

import paco
from tests.torture.kit import Library


async def collect(fn, source, limit):
    return await paco.map(fn, source, limit)


async def outcomes(fn, source, limit):
    return await paco.map(fn, source, limit, return_exceptions=True)


async def within(fn, source, limit, seconds):
    return await paco.map(fn, source, limit, timeout=seconds)


PACO = Library(
    "paco",
    collect=collect,
    ordered=paco.map,
    completed=lambda fn, source, limit: paco.map(fn, source, limit).as_completed(),
    plain=paco.map,
    outcomes=outcomes,
    within=within,
    reads_async=True,
    lazy=True,
    packages=("paco",),
)
