"""Functions that the workers of several tests run."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path


async def where(number):
    await asyncio.sleep(0.001)
    return os.getpid()


async def quick(number):
    await asyncio.sleep(0.001)
    return number


async def kills(number):
    if number == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    await asyncio.sleep(0.001)
    return number


async def counted(path):
    note(path, "+")
    try:
        await asyncio.Event().wait()  # it ends when it is cancelled, and only then
    finally:
        note(path, "-")


def note(path, text):
    with Path(path).open("a") as file:
        file.write(text)
