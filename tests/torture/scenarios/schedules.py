"""Schedules: nothing goes wrong in random schedules. A seed decides durations, errors, cancellations and exits."""

from __future__ import annotations

import asyncio
import random

from tests.torture.kit import FORMS, Area
from tests.torture.tools import Points, Work, caught, leaves, same, turns

AREA = Area("schedules")
scenario = AREA.scenario

SEEDS = 60


class Chance:
    """The decisions of a seed."""

    def __init__(self, seed):
        self.random = random.Random(seed)  # noqa: S311 - repeatable, not secret
        self.count = self.random.randrange(1, 25)
        self.limit = self.random.randrange(1, 8)
        self.steps = [self.random.choice([0, 0, 1, 2, 5, 9]) for _ in range(self.count)]
        self.source = self.random.choice([list, self.generator])

    def generator(self, items):
        yield from items

    def work(self, failing=0, cleanup=0):
        errors = {item: ValueError(item) for item in self.random.sample(range(self.count), min(failing, self.count))}
        work = Work(raises=errors, cleanup=cleanup and self.random.randrange(4))
        work.body = self.body(work)
        return work, errors

    def body(self, work):
        async def body(item):
            await turns(self.steps[item])
            if item in work.raises:
                raise work.raises[item]

        return body


def with_seeds(lane, once):
    """Run a function with each of the seeds."""
    points = Points()
    for seed in range(SEEDS):
        points.attempt(lambda seed=seed: lane.run(lambda: once(Chance(seed))), f"seed {seed}")
    points.judge()


@scenario(forms=FORMS)
def every_result_arrives_and_the_limit_holds(library, lane, run):
    async def once(chance):
        work, _ = chance.work()
        same(await run(work.run, chance.source(range(chance.count)), chance.limit), range(chance.count))
        assert work.peak <= chance.limit
        work.settled()

    with_seeds(lane, once)


@scenario(forms=FORMS)
def of_random_errors_one_arrives_after_all_has_ended(library, lane, run):
    async def once(chance):
        work, errors = chance.work(failing=3)
        try:
            await run(work.run, chance.source(range(chance.count)), chance.limit)
        except (ValueError, ExceptionGroup) as error:
            found = leaves(error)
        else:
            raise AssertionError("the run must raise an error, but returned")
        work.settled()
        assert all(one is errors[one.args[0]] for one in found)

    with_seeds(lane, once)


@scenario("collect")
def cleanup_of_random_length_completes(library, lane):
    async def once(chance):
        work, _ = chance.work(failing=2, cleanup=9)
        await caught(library.collect(work.run, chance.source(range(chance.count)), chance.limit))
        work.settled()

    with_seeds(lane, once)


@scenario(forms=FORMS)
def a_random_cancellation_among_random_errors_leaves_nothing(library, lane, run):
    async def once(chance):
        work, _ = chance.work(failing=chance.random.randrange(2))
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)

        async def main():
            return await run(work.run, chance.source(range(chance.count)), chance.limit)

        task = asyncio.ensure_future(main())
        await turns(chance.random.randrange(30))
        task.cancel()
        await asyncio.wait([task])
        work.settled()
        if not task.cancelled() and task.exception() is None:
            same(task.result(), range(chance.count))

    with_seeds(lane, once)


@scenario(forms=["ordered", "completed"], raw=True)
def a_consumer_that_leaves_at_random_leaves_nothing(library, lane, stream):
    async def once(chance):
        work, _ = chance.work()
        seen, enough = [], chance.random.randrange(1, chance.count + 1)
        async with stream(work.run, chance.source(range(chance.count)), chance.limit) as items:
            async for item in items:
                seen.append(item)
                await turns(chance.random.randrange(3))
                if len(seen) == enough:
                    break
        work.settled()
        assert len(set(seen)) == enough

    with_seeds(lane, once)


@scenario("reads_async", forms=FORMS)
def an_async_source_of_random_pace_loses_nothing(library, lane, run):
    async def once(chance):
        work, _ = chance.work()

        async def source():
            for item in range(chance.count):
                await turns(chance.random.randrange(4))
                yield item

        same(await run(work.run, source(), chance.limit), range(chance.count))
        work.settled()

    with_seeds(lane, once)
