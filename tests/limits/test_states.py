"""`paco.Limit` and `paco.Rate` in whatever order things happen: comings, goings, cancellations, changes, time."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

import paco
from paco.testing import VirtualLoop, check_leaks
from tests.torture.examples import examples

#: So many turns of the loop, and nothing happens any more without a timer.
SETTLED = 8
#: Which of those that are there.
CHOICES = st.integers(0, 10**6)


class Client:
    """A task that comes, holds the limit until it is let go, and goes."""

    def __init__(self, number, loop, limit, entered):
        self.number = number
        self.inside = False
        self.go = asyncio.Event()
        self.task = loop.create_task(self._run(loop, limit, entered))

    async def _run(self, loop, limit, entered):
        async with limit.slot():
            entered.append((self.number, loop.time()))
            self.inside = True
            try:
                await self.go.wait()
            finally:
                self.inside = False


class Clients(RuleBasedStateMachine):
    """What all machines have in common. A rule is a moment: turns of the loop come only where a rule says so."""

    def __init__(self):
        super().__init__()
        self.leaks = check_leaks()
        self.leaks.__enter__()
        self.loop = VirtualLoop()
        self.count = paco.Limit(2)
        self.clients = []
        self.entered = []  # (number, time)
        self.in_flight = 0
        self.limit = self.make()

    def make(self):
        return self.count

    def turns(self, number):
        async def turn():
            for _ in range(number):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turn())

    def alive(self):
        return [client for client in self.clients if not client.task.done()]

    @rule(number=st.integers(1, 3))
    def come(self, number):
        for _ in range(number):
            self.clients.append(Client(len(self.clients), self.loop, self.limit, self.entered))

    @precondition(lambda self: any(client.inside for client in self.clients))
    @rule(choice=CHOICES)
    def go(self, choice):
        inside = [client for client in self.clients if client.inside]
        inside[choice % len(inside)].go.set()

    @precondition(lambda self: self.alive())
    @rule(choice=CHOICES)
    def cancel(self, choice):
        alive = self.alive()
        alive[choice % len(alive)].task.cancel()

    @rule(limit=st.integers(1, 4))
    def change(self, limit):
        self.count.limit = limit

    @rule()
    def turn(self):
        self.turns(1)

    @rule()
    def settle(self):
        self.turns(SETTLED)
        inside = sum(client.inside for client in self.clients)
        assert self.count.in_flight == inside + self.between()
        assert len(self.alive()) == self.count.in_flight + self.count.waiting
        assert self.count.waiting == 0 or self.count.in_flight >= self.count.limit

    def between(self):
        """Return how many hold the count and wait for something else."""
        return 0

    @invariant()
    def the_count_never_grows_above_the_limit(self):
        assert self.count.in_flight <= max(self.count.limit, self.in_flight)
        self.in_flight = self.count.in_flight

    @invariant()
    def first_come_first_served(self):
        numbers = [number for number, _ in self.entered]
        assert numbers == sorted(numbers)

    def let_all_end(self):
        while alive := self.alive():
            for client in alive:
                client.go.set()
            self.turns(1)

    def teardown(self):
        self.let_all_end()
        assert (self.count.in_flight, self.count.waiting) == (0, 0)
        for client in self.clients:
            if not client.task.cancelled():
                assert client.task.exception() is None
        self.loop.close()
        self.leaks.__exit__(None, None, None)


class PacedClients(Clients):
    """The same with a rate beside the count, and time, which passes only where a rule says so."""

    N, PER, BURST = 3, 2, 2

    def make(self):
        self.rate = paco.Rate(self.N, self.PER, self.BURST)
        self.held_until = 0.0
        return self.rate & self.count

    @rule(seconds=st.sampled_from([0.5, 2 / 3, 1, 5]))
    def time_passes(self, seconds):
        self.loop.run_until_complete(asyncio.sleep(seconds))

    @rule(seconds=st.sampled_from([0, 0.5, 3]))
    def pause(self, seconds):
        async def pause():
            self.rate.pause(seconds)

        self.loop.run_until_complete(pause())
        self.held_until = max(self.held_until, self.loop.time() + seconds)

    def between(self):
        return self.rate.waiting

    @invariant()
    def no_window_sees_more(self):
        times = [Fraction(time) for _, time in self.entered]
        most = self.N + self.BURST - 1
        assert all(later - earlier >= self.PER for earlier, later in zip(times, times[most:], strict=False))

    @invariant()
    def nothing_is_left_booked(self):
        assert not self.rate._bucket.booked

    @rule()
    def who_can_start_has_started(self):
        self.turns(SETTLED)
        if self.rate.waiting:
            now = self.loop.time()
            due = self.rate._bucket.earliest(1)
            assert max(due, self.held_until) > now
            assert [handle.when() for handle in self.loop._scheduled if not handle.cancelled()] == [
                max(due, self.held_until)
            ]

    def let_all_end(self):
        since = max(self.loop.time(), self.held_until)
        left = len(self.alive())
        while alive := self.alive():
            for client in alive:
                client.go.set()
            self.loop.run_until_complete(asyncio.sleep(0.125))
        # Each start takes 2/3 s at most; those inside need none.
        assert self.loop.time() <= since + (left + 1) * self.PER / self.N + 1


class RateClients(PacedClients):
    """A rate alone, which is changed as well; the count is as good as none."""

    def make(self):
        self.highest = self.N
        limit = super().make()
        self.count.limit = 1000
        return limit

    @rule(limit=st.just(1000))
    def change(self, limit):
        """Leave the count alone."""

    @rule(n=st.sampled_from([0.5, 1, 2, 3]))
    def change_rate(self, n):
        self.rate.n = n

    def let_all_end(self):
        self.rate.n = self.N
        super().let_all_end()


MACHINES = [Clients, PacedClients, RateClients]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("machine", MACHINES)
def test_limits_stay_consistent_under_any_sequence_of_operations(machine):
    case = machine.TestCase()
    case.settings = settings(examples(30), stateful_step_count=40)
    case.runTest()
