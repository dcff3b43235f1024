"""Interrupt runs at each line of paco in turn; print the lines after which a run hung or lost the interrupt.

This is a program of its own: it sets a trace function, which coverage needs too.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from pathlib import Path

import paco

SOURCE = str(Path(paco.__file__).parent)
SECONDS = 10  # after which a run counts as hung; others take milliseconds


async def quick(item):
    await asyncio.sleep(0)
    return item


async def some():
    for item in range(3):
        await asyncio.sleep(0)
        yield item


async def lists():
    await paco.map(quick, range(3), limit=2)


async def streams():
    async with some() | paco.map(quick, limit=2) as results:
        async for _ in results:
            break


async def races():
    await paco.race([lambda: quick(1), lambda: asyncio.sleep(3600)])


class Interrupt:
    """Raises KeyboardInterrupt at the line with this number, counted from the start."""

    def __init__(self, number):
        self.left = number
        self.place = None

    def trace(self, frame, event, argument):
        return self.line if frame.f_code.co_filename.startswith(SOURCE) else None

    def line(self, frame, event, argument):
        if event == "line":
            self.left -= 1
            if not self.left:
                place, around = f"{frame.f_code.co_name}:{frame.f_lineno}", frame
                while around is not None:
                    if around.f_code.co_name == "__del__":  # Python drops what is raised there
                        self.left = 1
                        return self.line
                    around = around.f_back
                self.place = place
                raise KeyboardInterrupt
        return self.line


def interrupted(main, number):
    """Run ``main``, interrupted at a line, then cancel all tasks as `asyncio.run` does; return the place and faults."""
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda *_: None)
    interrupt, heard, faults = Interrupt(number), False, []

    def give_up():
        faults.append("hung")
        loop.stop()

    for step in (main, *(lambda: asyncio.sleep(0),) * 3):
        running = loop.create_task(step())
        timer = loop.call_later(SECONDS, give_up)
        sys.settrace(None if interrupt.place else interrupt.trace)
        try:
            loop.run_until_complete(running)
        except (RuntimeError, asyncio.CancelledError):
            pass  # stopped
        except KeyboardInterrupt:
            heard = True
        finally:
            sys.settrace(None)
        timer.cancel()
        for task in asyncio.all_tasks(loop):
            task.cancel()
    if interrupt.place and not heard:
        faults.append("lost")
    if asyncio.all_tasks(loop):
        faults.append("left tasks behind")
    loop.close()
    return interrupt.place, faults


if __name__ == "__main__":
    gc.disable()
    for main in (lists, streams, races):
        number, place = 0, ""
        while place is not None:
            number += 1
            place, faults = interrupted(main, number)
            if faults:
                sys.stdout.write(f"{main.__name__} {place} {faults}\n")
        sys.stdout.write(f"{main.__name__}: done\n")
