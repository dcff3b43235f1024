"""Functions that the workers of several tests run."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import paco


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


async def attempts(wait):
    """Return how often a call is attempted if the next attempt comes after this many seconds."""
    calls = []

    async def fails():
        calls.append(wait)
        raise ValueError

    with suppress(ValueError):
        await paco.retry(fails, 2, on=lambda error: wait)()
    return len(calls)


class Refused(Exception):
    """An error of a module."""

    def __init__(self, code):
        super().__init__(code)
        self.code = code


async def raises_kind(kind):
    """Raise an error of a kind, or return it."""
    match kind:
        case "group":
            raise ExceptionGroup("two", [KeyError("a"), OSError(2, "b")])
        case "cause":
            raise Refused(503) from ValueError("there")
        case "returned":
            return Refused(404)
        case "hidden":
            return find_spec("cloudpickle") is None or "hides" in find_spec("cloudpickle").origin
        case "local":
            raise ValueError(lambda: kind)
    raise {"value": ValueError("async"), "key": KeyError("k"), "refused": Refused(503)}[kind]


#: The kinds, and the errors as they come back.
RAISED = {
    "value": "ValueError('async')",
    "key": "KeyError('k')",
    "refused": "Refused(503)",
    "group": "ExceptionGroup('two', [KeyError('a'), FileNotFoundError(2, 'b')])",
    "cause": "Refused(503)",
    "returned": "Refused(404)",
}


async def holds(item):
    """Hold the process in the way that the item names; return other items."""
    await asyncio.sleep(0.001)
    match item:
        case "blocks":
            time.sleep(3600)  # noqa: ASYNC251 - that is the point
        case "spins":
            while True:
                pass
        case "holds the GIL":
            return re.match("(a+)+b", "a" * 100)
        case "in a task":
            await asyncio.create_task(holds("blocks"))
    return item


def holds_at_once(item):
    """Block before there is anything to await."""
    if item == "blocks":
        time.sleep(3600)
    return quick(item)
