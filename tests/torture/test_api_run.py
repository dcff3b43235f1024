"""`paco.run` interrupted by Ctrl-C at every step or by errors, inside loops and in threads."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import signal
import threading

import pytest

import paco
from paco.testing import VirtualLoop, check_leaks

variable = contextvars.ContextVar("variable", default="unset")


class Work:
    def __init__(self):
        self.running = self.started = 0

    async def __call__(self, item):
        self.started += 1
        self.running += 1
        try:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return item
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                self.running -= 1


RUNS = {
    "map": lambda work: paco.map(work, range(3), limit=2),
    "each": lambda work: paco.each(work, range(3), limit=2),
    "race": lambda work: paco.race([work(1), work(2)]),
    "gather": lambda work: paco.gather(work(1), work(2), limit=1),
    "wait": lambda work: paco.wait(work(1), work(2)),
    "once": lambda work: paco.once(work)(1),
    "timeout": lambda work: paco.timeout(work, 9)(1),
}


def interrupted(call, step):
    """Run with the signal of Ctrl-C in a step of the loop, and return whether the run had not ended by then."""
    sent = over = False

    def count_down(loop, left):
        nonlocal sent
        if over:
            return
        if left:
            loop.call_soon(count_down, loop, left - 1)
        else:
            sent = True
            signal.raise_signal(signal.SIGINT)

    async def main():
        nonlocal over
        count_down(asyncio.get_running_loop(), step + 1)
        try:
            await call
        finally:
            over = True

    came = False
    with check_leaks():
        try:
            paco.run(main())
        except KeyboardInterrupt:
            came = True
    assert came == sent
    return sent


@pytest.mark.parametrize("name", RUNS)
def test_ctrl_c_at_any_step_is_raised_after_everything_has_finished(name):
    for step in itertools.count():
        work = Work()
        if not interrupted(RUNS[name](work), step):
            break
        assert work.running == 0, step
    assert step > 2


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit], ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("name", ["map", "each", "gather", "race", "wait"])
def test_run_raises_keyboard_interrupt_and_system_exit_of_any_item(name, error):
    for item in [1] if name == "race" else [1, 2]:  # the second runner of this race loses
        work = Work()

        async def ends(number, item=item, work=work):
            await work(number)
            if number == item:
                raise error("now")

        with check_leaks(), pytest.raises(error, match="now"):
            paco.run(RUNS[name](ends))
        assert work.running == 0


async def test_inside_an_item_or_a_callback_run_is_refused_and_its_argument_is_closed():
    async def item(number):
        with pytest.raises(RuntimeError, match="write `await"):
            paco.run(asyncio.sleep(number))
        for refused in (paco.map(item, [1]), paco.gather(asyncio.sleep(1)), paco.race([asyncio.sleep(1)])):
            with pytest.raises(RuntimeError, match="write `await"):
                paco.run(refused)
        return number

    assert await paco.map(item, range(3)) == [0, 1, 2]


def test_run_works_again_after_it_was_refused_failed_and_interrupted():
    async def refused():
        with pytest.raises(RuntimeError, match="already"):
            paco.run(asyncio.sleep(0))
        return "outer"

    with check_leaks():
        assert paco.run(refused()) == "outer"
        with pytest.raises(ZeroDivisionError):
            paco.run(paco.map(paco.wraps(lambda item: 1 // item), [0]))
        assert interrupted(asyncio.sleep(1), 2)
        assert paco.run(paco.map(paco.wraps(abs), [-1, -2])) == [1, 2]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.realtime
async def test_in_another_thread_run_works_beside_a_running_loop():
    def in_a_thread():
        assert threading.current_thread() is not threading.main_thread()
        return paco.run(paco.map(Work(), range(5), limit=2))

    results = await paco.map(lambda _: asyncio.to_thread(in_a_thread), range(3))
    assert results == [[0, 1, 2, 3, 4]] * 3


def test_one_loop_serves_run_after_run_however_each_ends():
    work = Work()
    with contextlib.closing(VirtualLoop()) as loop, check_leaks():
        for _ in range(3):
            assert paco.run(paco.map(work, range(3)), loop) == [0, 1, 2]
            with pytest.raises(TimeoutError):
                paco.run(paco.gather(asyncio.sleep(9), timeout=1), loop)
            with pytest.raises(ZeroDivisionError):
                paco.run(paco.each(lambda item: work(1 / item), [1, 0]), loop)
            assert work.running == 0
            assert not asyncio.all_tasks(loop)
        assert loop.time() == 3


def test_a_context_variable_set_inside_stays_inside_and_one_set_outside_is_seen_by_items():
    async def item(_):
        seen = variable.get()
        variable.set("item")
        return seen

    token = variable.set("outer")
    try:
        assert paco.run(paco.map(item, range(5), limit=2)) == ["outer"] * 5
        assert variable.get() == "outer"
    finally:
        variable.reset(token)
