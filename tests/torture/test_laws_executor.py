"""The laws of `ConcurrentExecutor` under any sequence of additions, runs, ends, pauses, cancellations and time."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import paco
from paco.testing import VirtualLoop, check_leaks
from tests.torture.examples import examples

LIMIT = 2
#: Turns of the loop after which nothing happens any more without a timer.
SETTLED = 16
#: Which of those that are there.
CHOICES = st.integers(0, 10**6)
WHEN = [asyncio.ALL_COMPLETED, asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION]


class Failed(Exception):
    """The planned error of a work."""


class Work:
    """A coroutine function that runs until it is released, ends as planned, and takes a turn to clean up.

    A stubborn one returns a result when it is cancelled.
    """

    def __init__(self, number, stubborn):
        self.number = number
        self.stubborn = stubborn
        self.go = asyncio.Event()
        self.ends = "result"
        self.began = 0
        self.running = False
        self.error = None
        self.may_be_cancelled = False
        self.may_not_begin = False
        self.future = None

    async def __call__(self):
        self.began += 1
        self.running = True
        try:
            await self._wait()
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                self.running = False
        if self.ends == "error":
            self.error = Failed(self.number)
            raise self.error
        return self.number

    async def _wait(self):
        try:
            await self.go.wait()
        except asyncio.CancelledError:
            if not self.stubborn:
                raise
            self.ends = "result"


class Ran:
    """A call of ``run``."""

    def __init__(self, task, works, when, ends_at, catch):
        self.task = task
        self.works = works
        self.when = when
        self.ends_at = ends_at
        self.catch = catch
        self.cancelled = False
        self.must_end = False
        self.later = []  # works that have joined it after the call had returned

    @property
    def all(self):
        return [*self.works, *self.later]


class Executor(RuleBasedStateMachine):
    """A state machine. Each rule acts inside the event loop, and takes a turn of it."""

    def __init__(self):
        super().__init__()
        self.leaks = check_leaks()
        self.leaks.__enter__()
        self.loop = VirtualLoop()
        self.executor = paco.ConcurrentExecutor(limit=LIMIT)
        self.works = []
        self.order = []  # the numbers of the works that have begun, in order
        self.ended = []  # the numbers of the works with an end event
        self.ran = []
        self.cancels_at_start = False
        self.begun_at_pause = None  # the number of works that had begun when the pause began
        self.executor.on("start", self.hear_start)
        self.executor.on("task.start", lambda job: self.order.append(self.of(job).number))
        self.executor.on("task.finish", lambda job, result: self.ended.append(self.of(job).number))
        self.executor.on("task.error", lambda job, error: self.ended.append(self.of(job).number))

    async def hear_start(self, executor):
        if self.cancels_at_start:
            self.cancel_all()
        await asyncio.sleep(0)

    def cancel_all(self):
        for work in self.works:
            work.may_be_cancelled = work.may_be_cancelled or not work.future.done()
        for ran in self.ran:
            ran.must_end = True
        self.executor.cancel()

    def of(self, job):
        return next(work for work in self.works if work.future is job.future)

    def inside(self, fn, turns=0):
        async def call():
            answer = fn()
            for _ in range(turns):
                await asyncio.sleep(0)
            return answer

        return self.loop.run_until_complete(call())

    def pick(self, choice, condition):
        found = [work for work in self.works if condition(work)]
        return found[choice % len(found)] if found else None

    # ---- rules

    @rule()
    def pause_or_resume(self):
        def change():
            if self.begun_at_pause is None:
                self.executor.pause()
                self.begun_at_pause = len(self.order)
            else:
                self.executor.resume()
                self.begun_at_pause = None

        self.inside(change)

    @rule(number=st.integers(1, 4), stubborn=st.booleans())
    def add(self, number, stubborn):
        def add():
            for _ in range(number):
                work = Work(len(self.works), stubborn)
                work.future = self.executor.add(work)
                self.works.append(work)

        self.inside(add)

    @rule(
        when=st.sampled_from(WHEN),
        catch=st.booleans(),
        timeout=st.sampled_from([None, None, 0, 3]),
        cancels_at_start=st.sampled_from([False, False, False, True]),
    )
    def run(self, when, catch, timeout, cancels_at_start):
        def run():
            self.cancels_at_start = cancels_at_start
            if self.executor.is_running():
                with pytest.raises(RuntimeError, match="the executor is running"):
                    self.executor.run()
            elif not self.executor.pool:
                with pytest.raises(ValueError, match="nothing to run"):
                    self.executor.run()
            else:
                taken = {job.future for job in self.executor.pool}
                works = [work for work in self.works if work.future in taken]
                task = self.loop.create_task(self.executor.run(timeout, catch, when))
                ends_at = None if timeout is None else self.loop.time() + timeout
                self.ran.append(Ran(task, works, when, ends_at, catch))

        self.inside(run)

    @rule(choice=CHOICES, ends=st.sampled_from(["result", "error"]))
    def let_one_end(self, choice, ends):
        if work := self.pick(choice, lambda work: work.running and not work.go.is_set()):
            work.ends = ends
            self.inside(work.go.set)

    @rule(choice=CHOICES)
    def cancel_a_future(self, choice):
        def cancel():
            if work := self.pick(choice, lambda work: not work.future.done()):
                work.may_be_cancelled = True
                work.may_not_begin = work.number not in self.order
                work.future.cancel()

        self.inside(cancel)

    @precondition(lambda self: self.ran and not self.ran[-1].task.done())
    @rule()
    def cancel_the_run(self):
        self.ran[-1].cancelled = True
        self.inside(self.ran[-1].task.cancel)

    @rule()
    def cancel(self):
        self.inside(self.cancel_all)

    @rule(seconds=st.sampled_from([0.5, 3]))
    def time_passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule()
    def settle(self):
        self.inside(lambda: None, turns=SETTLED)
        self.check_what_runs()
        for ran in self.ran:
            self.check_run(ran)
        for work in self.works:
            self.check_future(work)
        if self.ran:
            latest = {work.number for work in self.ran[-1].all}
            told = [self.works[number].error for number in self.ended if number in latest]
            assert self.executor.errors == [error for error in told if error is not None]

    # ---- invariants

    @invariant()
    def no_more_than_the_limit_run(self):
        assert sum(work.running for work in self.works) <= LIMIT

    @invariant()
    def each_begins_once_and_in_the_order_of_the_additions(self):
        assert all(work.began <= 1 for work in self.works)
        assert not any(work.may_not_begin and work.number in self.order for work in self.works)
        assert self.order == sorted(set(self.order))

    @invariant()
    def nothing_begins_during_a_pause(self):
        assert self.begun_at_pause in {None, len(self.order)}

    @invariant()
    def each_is_in_the_pool_or_in_a_run(self):
        """A work that was added during a run is in that run, unless it was ending."""
        in_a_run = {work.future for ran in self.ran for work in ran.all}
        in_the_pool = {job.future for job in self.executor.pool}
        for work in self.works:
            if work.future not in in_a_run | in_the_pool and (work.began or not work.future.done()):
                latest = self.ran[-1]
                (latest.later if latest.task.done() else latest.works).append(work)

    @invariant()
    def nothing_is_told_twice(self):
        assert len(self.ended) == len(set(self.ended))

    def check_what_runs(self):
        running = [work for work in self.works if work.running]
        if not self.executor.is_running():
            assert not running
            return
        waiting = [work for work in self.ran[-1].all if not work.began and not work.future.done()]
        if self.begun_at_pause is None:
            assert len(running) == LIMIT or not waiting
            assert running
        else:
            assert running or self.executor._session.feed.waiting  # whose futures may all be cancelled

    def check_run(self, ran):
        futures = {work.future for work in ran.works}
        struck = ran.ends_at is not None and self.loop.time() >= ran.ends_at
        if not ran.task.done():
            assert not struck
            assert not ran.must_end
            assert self.executor.is_running()
            assert ran.when != asyncio.FIRST_COMPLETED or not any(future.done() for future in futures)
            assert ran.when != asyncio.FIRST_EXCEPTION or not any(self.has_failed(future) for future in futures)
            return
        assert not ran.must_end or all(future.done() for future in futures)
        if ran.task.cancelled():
            assert ran.cancelled
            assert all(future.done() for future in futures)
        elif error := ran.task.exception():
            assert isinstance(error, TimeoutError)
            assert struck
            assert all(future.done() for future in futures)
        else:
            done, pending = ran.task.result()
            told = {work.future for work in ran.later} | {future for future in done if future.cancelled()}
            assert futures <= done | pending <= futures | told
            assert not pending or ran.when != asyncio.ALL_COMPLETED
            assert done or ran.when == asyncio.FIRST_EXCEPTION
            if ran.when == asyncio.FIRST_EXCEPTION and pending and not ran.cancelled:
                assert any(self.has_failed(future) for future in done)

    def has_failed(self, future):
        return future.done() and not future.cancelled() and future.exception() is not None

    def check_future(self, work):
        ran = next((ran for ran in self.ran if work in ran.all), None)
        future = work.future
        if ran is None or not future.done():
            assert ran is None or not ran.task.done() or self.executor.is_running()
            return
        assert not work.running
        if future.cancelled():
            stopped = ran.cancelled or ran.ends_at is not None
            assert work.may_be_cancelled or stopped
            assert work.number not in self.ended
        elif ran.catch or future.exception() is None:
            assert future.result() == (work.error or work.number)
        else:
            assert future.exception() is work.error
        if work.number in self.ended:
            assert work.began == 1

    def teardown(self):
        def end():
            self.executor.cancel()
            for work in self.works:
                work.may_be_cancelled = True
                work.go.set()

        self.inside(end, turns=SETTLED)
        self.settle()
        assert not self.executor.is_running()
        assert all(work.future.done() and not work.running for work in self.works)
        for ran in self.ran:
            assert ran.task.done()
        for work in self.works:
            if not work.future.cancelled():
                work.future.exception()
        self.loop.close()
        self.leaks.__exit__(None, None, None)


@pytest.mark.timeout(300)
def test_an_executor_keeps_its_promises_under_any_sequence_of_operations():
    case = Executor.TestCase()
    case.settings = settings(examples(), stateful_step_count=40)
    case.runTest()
