"""`paco.hedge`: a further attempt beside one that is slow, on virtual time."""

from __future__ import annotations

import asyncio
import gc
import inspect
import weakref

import pytest

import paco
from paco.testing import now


class Attempts:
    """An async function whose calls take so many seconds and then return or raise, each as it is told.

    Args:
        plan: For each call the seconds, and its result or its error.
        cleanup: Seconds that a cancelled call takes to end.
    """

    def __init__(self, *plan, cleanup=0):
        self.plan, self.cleanup = plan, cleanup
        self.times, self.cancelled_at, self.running, self.seen = [], [], 0, []

    async def __call__(self, *args, **kw):
        seconds, outcome = self.plan[len(self.times)]
        self.times.append(now())
        self.seen.append((args, kw))
        self.running += 1
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            await asyncio.sleep(self.cleanup)
            self.cancelled_at.append(now())
            raise
        finally:
            self.running -= 1
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome


async def test_a_fast_call_is_made_once():
    fetch = Attempts((4, "page"))
    assert await paco.hedge(fetch, 5)("url", key=1) == "page"
    assert (fetch.times, now()) == ([0], 4)


async def test_a_slow_call_is_made_a_second_time_and_the_first_success_wins():
    fetch = Attempts((60, "slow"), (2, "quick"))
    assert await paco.hedge(fetch, 5)("url", key=1) == "quick"
    assert (fetch.times, now()) == ([0, 5], 7)
    assert fetch.seen == [(("url",), {"key": 1})] * 2


async def test_the_first_attempt_may_still_win():
    fetch = Attempts((6, "slow"), (60, "slower"))
    assert await paco.hedge(fetch, 5)() == "slow"
    assert now() == 6


async def test_losers_are_cancelled_and_have_finished_when_it_returns():
    fetch = Attempts((60, "slow"), (2, "quick"), cleanup=3)
    assert await paco.hedge(fetch, 5)() == "quick"
    assert (fetch.cancelled_at, fetch.running, now()) == ([10], 0, 10)


async def test_up_to_extra_more_attempts_are_made_one_delay_apart():
    fetch = Attempts((60, 1), (60, 2), (60, 3), (60, 4))
    assert await paco.hedge(fetch, 5, extra=3)() == 1
    assert (fetch.times, now()) == ([0, 5, 10, 15], 60)


async def test_with_a_delay_of_zero_all_are_made_at_once():
    fetch = Attempts((3, 1), (2, 2), (1, 3))
    assert await paco.hedge(fetch, 0, extra=2)() == 3
    assert (fetch.times, now()) == ([0, 0, 0], 1)


async def test_a_result_may_be_none_or_an_exception():
    error = OSError()

    async def returns():
        return error

    assert await paco.hedge(Attempts((0, None)), 5)() is None
    assert await paco.hedge(returns, 5)() is error


# ---- errors


async def test_an_error_before_the_delay_is_over_is_raised_at_once():
    error = OSError()
    fetch = Attempts((1, error))
    with pytest.raises(OSError) as caught:  # noqa: PT011 - it is the very one
        await paco.hedge(fetch, 5)()
    assert caught.value is error
    assert (fetch.times, now()) == ([0], 1)


async def test_an_error_while_another_attempt_runs_waits_for_it():
    fetch = Attempts((6, OSError()), (10, "page"))
    assert await paco.hedge(fetch, 5)() == "page"
    assert now() == 15


async def test_if_all_attempts_fail_the_first_error_is_raised_with_notes_of_the_others():
    first, second = OSError("first"), LookupError("second")
    fetch = Attempts((9, second), (2, first))
    with pytest.raises(OSError, match="first") as caught:
        await paco.hedge(fetch, 5)()
    assert caught.value is first
    assert caught.value.__notes__ == ["paco.hedge: another attempt also failed: LookupError('second')"]
    assert now() == 9


async def test_if_all_running_attempts_fail_no_further_one_is_made():
    fetch = Attempts((6, OSError("first")), (3, OSError("second")), (0, "page"))
    with pytest.raises(OSError, match="first"):
        await paco.hedge(fetch, 5, extra=2)()
    assert now() == 8


async def test_an_attempt_that_ends_cancelled_by_itself_has_failed():
    fetch = Attempts((6, asyncio.CancelledError()), (3, "page"))
    assert await paco.hedge(fetch, 5)() == "page"
    with pytest.raises(paco.ItemCancelled):
        await paco.hedge(Attempts((1, asyncio.CancelledError())), 5)()


class Exit(BaseException):
    """What is no Exception."""


async def test_a_base_exception_ends_a_hedge_at_once():
    fetch = Attempts((6, Exit()), (10, "page"))
    with pytest.raises(Exit):
        await paco.hedge(fetch, 5)()
    assert (now(), fetch.running) == (6, 0)


async def test_a_handled_error_is_part_of_no_reference_cycle():
    class Local:
        pass

    locals_ = []

    async def fetch():
        local = Local()
        locals_.append(weakref.ref(local))
        await asyncio.sleep(6)
        raise OSError

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(OSError):  # noqa: PT011 - it has no text
            await paco.hedge(fetch, 5)()
        assert [local() for local in locals_] == [None, None]
    finally:
        gc.enable()


# ---- with the others


async def test_in_a_run_all_attempts_at_an_item_share_its_slot():
    times = []

    async def fetch(item):
        times.append((item, now()))
        await asyncio.sleep(60 if len(times) % 2 else 1)
        return item

    assert await paco.map(paco.hedge(fetch, 5), [1, 2], limit=1) == [1, 2]
    assert times == [(1, 0), (1, 5), (2, 6), (2, 11)]


async def test_a_limit_on_the_function_counts_each_attempt():
    fetch = Attempts((60, "slow"), (2, "quick"))
    limit = paco.Limit(1)
    with pytest.raises(paco.RunTimeout), paco.deadline(20):
        await paco.hedge(paco.limited(fetch, limit), 5)()
    assert (fetch.times, limit.in_flight, limit.waiting) == ([0], 0, 0)


async def test_retry_repeats_a_failed_hedged_call():
    fetch = Attempts((1, OSError()), (60, "slow"), (2, "quick"))
    assert await paco.retry(paco.hedge(fetch, 5), on=lambda _: 10)() == "quick"
    assert fetch.times == [0, 11, 16]


async def test_each_attempt_can_have_a_timeout():
    fetch = Attempts((60, 1), (60, 2))
    with pytest.raises(TimeoutError) as caught:
        await paco.hedge(paco.timeout(fetch, 8), 5)()
    assert (now(), len(caught.value.__notes__)) == (13, 1)


async def test_an_attempt_sees_the_context_of_the_caller():
    with paco.deadline(3):
        with pytest.raises(TimeoutError, match="the deadline of 3 s"):
            await paco.hedge(paco.timeout(Attempts((60, 1), (60, 2))), 1)()
        assert now() == 3


# ---- as a decorator, and bad input


async def test_hedge_is_a_decorator_with_options():
    plan = Attempts((60, "slow"), (2, "quick"), (1, "page"))

    @paco.hedge(5, extra=1)
    async def fetch(url, *, key=0):
        """Fetch."""
        return await plan(url)

    assert await fetch("url", key=1) == "quick"
    assert await paco.hedge(delay=5)(plan)() == "page"
    assert (fetch.__name__, fetch.__doc__, str(inspect.signature(fetch))) == ("fetch", "Fetch.", "(url, *, key=0)")
    assert inspect.iscoroutinefunction(fetch)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((-1,), ValueError, "delay must be seconds (a number of 0 or more), got -1"),
        ((float("nan"),), ValueError, "delay must be seconds (a number of 0 or more), got nan"),
        ((1, 0), ValueError, "extra must be an int of 1 or more, got 0"),
        ((1, 1.0), TypeError, "extra must be an int of 1 or more, got 1.0"),
    ],
)
def test_bad_options_are_refused_at_the_call(arguments, error, message):
    for call in (lambda: paco.hedge(Attempts(), *arguments), lambda: paco.hedge(*arguments)):
        with pytest.raises(error) as caught:
            call()
        assert str(caught.value) == f"paco.hedge: {message}"


def test_an_argument_that_is_no_function_is_refused_at_the_call():
    with pytest.raises(TypeError, match=r"^paco\.hedge: fn must be a coroutine function, got None$"):
        paco.hedge(None, 1)
    with pytest.raises(TypeError, match=r"^paco\.hedge: delay must be seconds .*, got None$"):
        paco.hedge(Attempts(), None)


async def test_a_function_that_returns_no_awaitable_is_reported():
    with pytest.raises(TypeError, match=r"^paco\.hedge: abs must be a coroutine function, but it returned 1"):
        await paco.hedge(abs, 1)(1)


# ---- cancellation


@pytest.mark.parametrize("again", [None, 0, 1, 3])
@pytest.mark.parametrize("ends", ["first", "second", "both fail"])
def test_cancelled_at_every_step_nothing_is_left_running(ends, again, cancel_at_every_step):
    plans = {
        "first": [(6, 1), (60, 2)],
        "second": [(60, 1), (2, 2)],
        "both fail": [(6, OSError()), (3, OSError())],
    }

    async def main():
        fetch = Attempts(*plans[ends], cleanup=1)
        try:
            await paco.hedge(fetch, 5)()
        except OSError:
            pass
        finally:
            assert fetch.running == 0

    assert cancel_at_every_step(main, again=again) > 5
