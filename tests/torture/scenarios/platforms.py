"""Platforms: runs also work with eager tasks, on uvloop, in another thread, and on one loop after another."""

from __future__ import annotations

import asyncio
import importlib
import threading

from tests.torture.kit import FORMS, Area, NotThere
from tests.torture.kit import lane as lane_of
from tests.torture.tools import Work, at_every_step, caught, identity, is_it, same

AREA = Area("platforms")
scenario = AREA.scenario


def eager():
    return lane_of("asyncio", eager=True)


def uvloop():
    try:
        return lane_of("uvloop")
    except ImportError:
        raise NotThere("uvloop is not installed") from None


LANES = {"eager tasks": eager, "uvloop": uvloop}


@scenario(forms=FORMS, cases=LANES)
def a_run_gives_its_results_under(library, lane, run, made):
    work = Work()

    async def main():
        same(await run(work.run, list(range(40)), 4), range(40))
        assert work.peak <= 4

    made().run(main)
    work.settled()


@scenario(forms=FORMS, cases=LANES)
def an_error_before_and_after_the_first_wait_arrives_under(library, lane, run, made):
    async def main():
        for step in (0, 1):
            mine = ValueError("mine")
            work = Work(raises={2: mine}, at=step)
            is_it(await caught(run(work.run, list(range(9)), 3)), mine)
            work.settled()

    made().run(main)


@scenario(forms=FORMS, cases=LANES)
def a_run_is_cancelled_at_every_step_under(library, lane, run, made):
    def make():
        work = Work()
        return lambda: run(work.run, list(range(4)), 2), work.settled

    at_every_step(made(), make)


@scenario("collect")
def context_variables_do_not_leak_between_eager_tasks(library, lane):
    contexts = importlib.import_module("tests.torture.scenarios.contexts")

    async def mark(item):
        seen = contexts.VAR.get()
        contexts.VAR.set(item)
        await asyncio.sleep(0)
        return seen

    async def main():
        same(await library.collect(mark, list(range(9)), 2), ["unset"] * 9)

    eager().run(main)


@scenario("collect")
def a_run_works_in_another_thread(library, lane):
    results = []

    async def main():
        results.extend(await library.collect(identity, [1, 2, 3], 2))

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    thread.join()
    same(results, [1, 2, 3])


@scenario("collect")
def loops_in_several_threads_do_not_affect_each_other(library, lane):
    results = []

    async def main():
        work = Work()
        results.append(await library.collect(work.run, list(range(300)), 3))
        work.settled()

    threads = [threading.Thread(target=lambda: asyncio.run(main())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    for one in results:
        same(one, range(300))
