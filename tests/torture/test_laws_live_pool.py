"""The laws of the block of `ConcurrentExecutor` under any sequence of additions, ends, limits, pauses and errors."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

import paco
from paco.testing import VirtualLoop, check_leaks
from tests.torture.examples import examples
from tests.torture.test_laws_executor import CHOICES, SETTLED, Work


class Boom(Exception):
    """The error with which the block ends."""


class LivePool(RuleBasedStateMachine):
    """A state machine. Each rule acts inside the event loop, and takes a turn of it."""

    def __init__(self):
        super().__init__()
        self.leaks = check_leaks()
        self.leaks.__enter__()
        self.loop = VirtualLoop()
        self.pool = paco.ConcurrentExecutor(2)
        self.works = []
        self.order = []  # the numbers of the works that have begun, in order
        self.puts = []  # the tasks that put a work
        self.begun_at_pause = None
        self.most = 2  # the largest limit since as many ran
        self.go = asyncio.Event()
        self.error = None
        self.pool.on("task.start", lambda job: self.order.append(job.call.number))
        self.block = self.loop.create_task(self.live())
        self.inside(lambda: None)

    async def live(self):
        async with self.pool:
            await self.go.wait()
            if self.error is not None:
                raise self.error

    def inside(self, fn, turns=0):
        async def call():
            answer = fn()
            for _ in range(turns):
                await asyncio.sleep(0)
            return answer

        return self.loop.run_until_complete(call())

    def work(self, stubborn):
        work = Work(len(self.works), stubborn)
        self.works.append(work)
        if self.go.is_set():
            work.go.set()
        return work

    def pick(self, choice, condition):
        found = [work for work in self.works if condition(work)]
        return found[choice % len(found)] if found else None

    @rule(count=st.integers(1, 4), stubborn=st.booleans())
    def add(self, count, stubborn):
        def add():
            for _ in range(count):
                work = self.work(stubborn)
                work.future = self.pool.add(work)

        self.inside(add)

    @rule()
    def put(self):
        async def put():
            if len(self.pool) >= self.pool.limit:
                return  # it would wait: see the tests of `put`
            work = self.work(stubborn=False)
            work.future = await self.pool.put(work)

        self.inside(lambda: self.puts.append(self.loop.create_task(put())), turns=1)
        assert self.puts[-1].done()

    @rule(choice=CHOICES, ends=st.sampled_from(["result", "error"]))
    def let_one_end(self, choice, ends):
        if work := self.pick(choice, lambda work: work.running and not work.go.is_set()):
            work.ends = ends
            self.inside(work.go.set)

    @rule(choice=CHOICES, stubborn=st.booleans())
    def add_when_one_ends(self, choice, stubborn):
        """At whichever moment between the end of a work and the end of its worker."""

        def add(*_):
            work = self.work(stubborn)
            work.future = self.pool.add(work)

        if work := self.pick(choice, lambda work: work.running and not work.go.is_set()):
            self.inside(lambda: (work.future.add_done_callback(add), work.go.set()))

    @rule(choice=CHOICES)
    def cancel_a_future(self, choice):
        if work := self.pick(choice, lambda work: work.future is not None and not work.future.done()):
            self.inside(work.future.cancel)

    @rule()
    def cancel(self):
        self.inside(self.pool.cancel)

    @rule()
    def pause_or_resume(self):
        def change():
            if self.begun_at_pause is None:
                self.pool.pause()
                self.begun_at_pause = len(self.order)
            else:
                self.pool.resume()
                self.begun_at_pause = None

        self.inside(change)

    @rule(limit=st.integers(1, 4))
    def set_limit(self, limit):
        self.inside(lambda: setattr(self.pool, "limit", limit))
        self.most = max(self.most, limit)

    @rule()
    def settle(self):
        self.inside(lambda: None, turns=SETTLED)
        running = sum(work.running for work in self.works)
        if self.begun_at_pause is None:
            assert running >= self.pool.limit or len(self.pool) == 0
        if running <= self.pool.limit:
            self.most = self.pool.limit

    @invariant()
    def no_more_than_the_limit_run(self):
        assert sum(work.running for work in self.works) <= self.most

    @invariant()
    def each_begins_once_and_in_the_order_of_the_additions(self):
        assert all(work.began <= 1 for work in self.works)
        assert self.order == sorted(set(self.order))

    @invariant()
    def nothing_begins_during_a_pause(self):
        assert self.begun_at_pause in {None, len(self.order)}

    @invariant()
    def the_block_goes_on(self):
        assert not self.block.done()

    def teardown(self):
        def end():
            self.pool.resume()
            self.error = Boom() if len(self.works) % 2 else None
            self.go.set()
            for work in self.works:
                work.go.set()

        self.inside(end, turns=10 * SETTLED + 10 * len(self.works))
        assert self.block.done()
        assert self.block.exception() is self.error
        assert not self.pool.is_running()
        for work in self.works:
            assert work.future.done()
            assert not work.running
            if not work.future.cancelled():
                work.future.exception()
                assert work.began
        self.loop.close()
        self.leaks.__exit__(None, None, None)


@pytest.mark.timeout(300)
def test_a_live_pool_keeps_its_promises_under_any_sequence_of_operations():
    case = LivePool.TestCase()
    case.settings = settings(examples(), stateful_step_count=40)
    case.runTest()
