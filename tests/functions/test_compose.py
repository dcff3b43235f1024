"""The functions that make coroutine functions out of others, on virtual time."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import itertools
import math
import sys
import weakref

import pytest

from paco import (
    ItemCancelled,
    apply,
    compose,
    constant,
    curry,
    deadline,
    identity,
    once,
    partial,
    run,
    testing,
    thunk,
    timeout,
    times,
    wraps,
)
from paco._base.deadline import remaining
from paco.testing import now


async def show(*args, **kw):
    """Show."""
    return args, kw


async def add(a, b=1):
    """Add."""
    await asyncio.sleep(0)
    return a + b


def plain(a, b=1):
    """Plain."""
    return a + b


class Add:
    """A callable object."""

    def __init__(self):
        self.state = 1

    async def __call__(self, a, b=1):
        return await add(a, b)


class Work:
    """Takes 10 seconds for each call, and remembers what happened to it."""

    def __init__(self, cleanup=0, outcome=None, on_cancel=None):
        self.started, self.finished, self.cancelled = [], [], []
        self.cleanup, self.outcome, self.on_cancel = cleanup, outcome, on_cancel

    async def __call__(self, value=None):
        self.started.append(value)
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            try:
                await asyncio.sleep(self.cleanup)
            finally:
                self.cancelled.append(value)
            if isinstance(self.on_cancel, Exception):
                raise self.on_cancel from None
            if self.on_cancel:
                return self.on_cancel
            raise
        self.finished.append(value)
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return value

    @property
    def running(self):
        return len(self.started) - len(self.finished) - len(self.cancelled)


async def start(*calls):
    """Make tasks of these calls, and let each begin."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    await asyncio.sleep(1)
    return tasks


async def outcomes(tasks):
    return await asyncio.gather(*tasks, return_exceptions=True)


# ---- apply and partial


async def test_apply_calls_with_its_arguments_and_ignores_later_ones():
    applied = apply(show, 1, 2, foo="bar")
    assert await applied() == ((1, 2), {"foo": "bar"})
    assert await applied(3, bar="baz") == ((1, 2), {"foo": "bar"})


async def test_partial_appends_arguments_and_replaces_keywords_for_one_call_only():
    bound = partial(show, 1, foo="bar", bar="baz")
    assert await bound(2, bar="foo", fee=1) == ((1, 2), {"foo": "bar", "bar": "foo", "fee": 1})
    assert await bound() == ((1,), {"foo": "bar", "bar": "baz"})


def test_the_signature_is_that_of_the_resulting_function():
    assert str(inspect.signature(partial(add, 1))) == "(b=1)"
    assert str(inspect.signature(apply(add, 1))) == "(*args, **kw)"
    assert str(inspect.signature(thunk(add))) == "()"
    assert partial(add, 1).__wrapped__.func is add
    assert apply(add, 1).__wrapped__ is thunk(add).__wrapped__ is add


# ---- curry


async def test_curry_accepts_the_arguments_in_any_number_of_calls():
    async def area(x, y, z=0):
        return x * y + z

    curried = curry(area)
    assert await curried(2)(3)(4) == 10
    assert await curried(2, 3)(4) == 10
    assert await curried(2)(3, 4) == 10
    assert await curried(2, 3, 4) == 10
    assert await curried()(2)()(3)(z=4) == 10
    assert await curried(z=4)(y=3)(x=2) == 10


async def test_a_curried_call_does_not_change_the_partial_function_it_is_called_on():
    curried = curry(show, False, None)
    assert await curried() == ((), {})  # variadic parameters are not waited for
    first = curry(3)(show)(1, a=0)
    assert await first(2) == ((1, 2), {"a": 0})
    assert await first(3) == ((1, 3), {"a": 0})
    assert await first(a=5, b=6) == ((1,), {"a": 5, "b": 6})
    assert await first(4) == ((1, 4), {"a": 0})


async def test_a_keyword_given_again_replaces_the_first_and_counts_once():
    curried = curry(add)(b=1)(b=2)
    assert await curried(1) == 3


async def test_curry_makes_a_coroutine_function_of_a_plain_one():
    assert await curry(plain)(1)(2) == 3
    assert await curry(lambda: True)() is True


async def test_with_an_arity_of_0_the_coroutine_function_itself_is_returned():
    assert curry(0)(add) is add
    assert await curry(0)(plain)(1) == 2
    assert inspect.iscoroutinefunction(curry(lambda: True))
    assert await curry(show, False, None, 1, a=2) == ((1,), {"a": 2})


async def test_the_arity_can_be_given():
    assert await curry(4)(show)(1)(2)(a=3)(b=4) == ((1, 2), {"a": 3, "b": 4})
    assert await curry(1)(add)(1) == 2


async def test_ignore_kwargs_leaves_keywords_and_defaults_uncounted():
    async def area(x, y, z=0, *, w=0, v=None, **kw):
        return x * y + z + w, kw

    curried = curry(ignore_kwargs=True)(area)
    assert await curried(2)(3) == (6, {})
    assert await curried(2, z=1)(w=1)(3, u=1) == (8, {"u": 1})


async def test_with_ignore_kwargs_a_required_keyword_is_not_waited_for():
    async def named(x, *, y):
        return x + y

    assert await curry(named, True)(y=1)(2) == 3


async def test_the_evaluator_gets_the_arguments_so_far_and_triggers_the_call_by_returning_false():
    seen = []

    def evaluator(come, fn):
        seen.append((come, fn))
        return len(come[0]) < 2

    curried = curry(5, evaluator=evaluator)(show)
    assert await curried(1)(2, a=3) == ((1, 2), {"a": 3})
    assert seen == [(((1,), {}), show), (((1, 2), {"a": 3}), show)]
    assert await curry(2, evaluator=lambda *_: True)(show)(1, 2) == ((1, 2), {})
    assert await curry(add, False, evaluator)(1, 2) == 3
    assert await curry(2, evaluator=lambda *_: None)(show)(1)(2) == ((1, 2), {})


async def test_what_the_evaluator_does_to_the_arguments_has_no_effect():
    def evaluator(come, _):
        come[1].clear()
        return len(come[0]) < 2

    assert await curry(5, False, evaluator)(show)(1, a=2)(3) == ((1, 3), {"a": 2})


async def test_curry_accepts_initial_arguments():
    assert await curry(add, False, None, 1)(2) == 3
    assert await curry(3, False, None, 1, a=2)(show)(3) == ((1, 3), {"a": 2})


async def test_curry_is_a_decorator_of_methods_too_and_keeps_the_metadata():
    class Shape:
        @curry
        async def area(self, x, y):
            """Area."""
            return x * y

    assert await Shape().area(2)(3) == 6
    assert (Shape.area.__name__, Shape.area.__doc__) == ("area", "Area.")
    curried = curry(add)
    assert curried.__wrapped__ is add
    assert inspect.signature(curried) == inspect.signature(add)
    assert str(inspect.signature(curried(1))) == "(b=1)"
    assert curried(1).__name__ == "add"


async def test_curry_counts_the_missing_arguments_of_a_functools_partial():
    curried = curry(functools.partial(add, 1))
    assert await curried(2) == 3
    assert await curry(functools.partial(show, 1))() == ((1,), {})


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated when the function is defined")
def test_curry_counts_parameters_whose_annotations_only_type_checkers_know():
    space = {}
    source = "async def add(a: Missing, b: Missing): return a + b"
    exec(compile(source, "jobs.py", "exec", dont_inherit=True), space)  # noqa: S102 - without our __future__ import
    assert curry(space["add"])(1) is not None


def test_curry_refuses_a_function_without_a_countable_signature():
    with pytest.raises(
        TypeError, match=r"^paco\.curry: the number of parameters of max is unknown; .*paco\.curry\(2\)\(max"
    ):
        curry(max)
    for wrong in ("text", 1.5):
        with pytest.raises(TypeError, match=r"^paco\.curry: arity_or_fn must be "):
            curry(wrong)
    with pytest.raises(TypeError, match="an int of 0 or more, got True"):
        curry(True)
    with pytest.raises(ValueError, match="an int of 0 or more, got -1"):
        curry(-1)
    with pytest.raises(TypeError, match="evaluator must be"):
        curry(add, False, 5)
    with pytest.raises(TypeError, match="ignore_kwargs must be True or False, got 1"):
        curry(add, 1)
    with pytest.raises(TypeError, match=r"pass the function, not the call: add"):
        curry(add(1))
    with pytest.raises(TypeError, match="arity_or_fn must be a coroutine function, got None"):
        curry()(None)


# ---- compose, constant, thunk, wraps


async def test_compose_calls_from_right_to_left():
    assert await compose(partial(show, "f"), partial(show, "g"))("x") == (("f", (("g", "x"), {})), {})
    assert await compose(add)(1, b=2) == 3
    assert await compose(wraps("{}f".format), wraps("{}g".format), wraps("{}{}h".format))("x", "y") == "xyhgf"


async def test_an_exception_ends_the_composition():
    called = []

    async def fail(value):
        called.append(value)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await compose(fail, fail, add)(1)
    assert called == [2]


def test_compose_requires_functions():
    with pytest.raises(TypeError, match=r"^paco\.compose: coros must be one or more coroutine functions, got none$"):
        compose()
    with pytest.raises(TypeError, match=r"^paco\.compose: coros must be a coroutine function, got None"):
        compose(add, None)
    with pytest.raises(TypeError, match="pass the function, not the call"):
        compose(add(1), add(2))  # and both are closed: neither warns


async def test_constant_returns_the_same_object_after_the_delay_for_any_arguments():
    value = object()
    assert await constant(value)() is value
    assert now() == 0
    assert await constant(value, delay=10)(1, a=2) is value
    assert now() == 10
    assert await constant(None, 0)() is None
    assert identity is constant


@pytest.mark.parametrize("delay", [-1, float("nan"), True, "1"])
def test_a_wrong_delay_is_an_error_at_the_call(delay):
    with pytest.raises((TypeError, ValueError), match=r"^paco\.constant: delay must be seconds"):
        constant(1, delay)


async def test_a_thunk_calls_its_function_each_time_and_takes_no_arguments():
    calls = []

    async def call():
        calls.append(True)
        return len(calls)

    delayed = thunk(call)
    assert calls == []
    assert [await delayed(), await delayed()] == [1, 2]
    with pytest.raises(TypeError, match="argument"):
        delayed(1)


async def test_wraps_makes_a_coroutine_function_of_a_plain_function():
    wrapped = wraps(plain)
    assert inspect.iscoroutinefunction(wrapped)
    assert [await wrapped(1), await wrapped(1, b=2)] == [2, 3]
    assert (wrapped.__name__, wrapped.__doc__, wrapped.__wrapped__) == ("plain", "Plain.", plain)
    assert inspect.signature(wrapped) == inspect.signature(plain)
    assert await wraps(max)(1, 2) == 2
    assert await wraps(dict)(a=1) == {"a": 1}


def test_wraps_returns_an_async_function_as_it_is():
    for fn in (add, Add(), Add().__call__, functools.partial(add, 1), functools.partial(Add(), 1), once(add)):
        assert wraps(fn) is fn


async def test_wraps_awaits_an_awaitable_that_the_function_returns():
    assert await wraps(lambda a: add(a, 1))(1) == 2


# ---- once and times: the counting


async def test_once_runs_once_and_later_calls_return_its_result():
    calls = once(show)
    assert await calls(1, 2, foo="bar") == ((1, 2), {"foo": "bar"})
    assert await calls(3) == ((1, 2), {"foo": "bar"})


async def test_times_runs_n_times_and_later_calls_return_the_last_result():
    calls = times(show, 3)
    assert [(await calls(number))[0][0] for number in range(6)] == [0, 1, 2, 2, 2, 2]


@pytest.mark.parametrize("result", [None, 0, "", False])
async def test_a_falsy_result_is_a_result(result):
    work = Work()
    calls = once(work)
    await calls(result)
    assert await calls("other") is result
    assert len(work.started) == 1


async def test_later_calls_return_return_value():
    calls = once(show, return_value="over")
    assert [await calls(1), await calls(2), await calls(3)] == [((1,), {}), "over", "over"]
    calls = times(show, 2, return_value=0)
    assert [await calls(1), await calls(2), await calls(3)] == [((1,), {}), ((2,), {}), 0]


async def test_raise_exception_makes_later_calls_errors():
    calls = once(add, raise_exception=True)
    await calls(1)
    with pytest.raises(RuntimeError, match=r"^paco\.once: add may be called only 1 time$"):
        await calls(1)
    calls = times(add, 2, raise_exception=True)
    await calls(1)
    await calls(1)
    with pytest.raises(RuntimeError, match=r"^paco\.times: add may be called only 2 times$"):
        await calls(1)


@pytest.mark.parametrize("options", [{"raise_exception": True}, {"return_value": "over"}])
async def test_with_return_value_concurrent_calls_count_as_later_calls(options):
    work = Work()
    calls = once(work, **options)
    tasks = await start(calls(1), calls(2))
    assert tasks[1].done()
    result, later = await outcomes(tasks)
    assert result == 1
    assert later == "over" or isinstance(later, RuntimeError)
    assert work.started == [1]


async def test_a_stored_exception_is_raised_again():
    error = ValueError("no")
    work = Work(outcome=error)
    calls = once(work)
    depths = []
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^no$") as caught:
            await calls()
        assert caught.value is error
        depths.append(len(caught.traceback))
    assert len(work.started) == 1
    assert len(set(depths)) == 1  # the traceback does not grow from one to the next


async def test_a_call_that_fails_counts():
    for options in ({}, {"return_value": "over"}):
        work = Work(outcome=ValueError("no"))
        calls = times(work, 2, **options)
        with pytest.raises(ValueError, match="no"):
            await calls(1)
        work.outcome = None
        assert [await calls(2), await calls(3)] == [2, options.get("return_value", 2)]


@pytest.mark.parametrize("limit", [1, 2])
async def test_wrong_arguments_are_an_error_of_that_call_alone(limit):
    calls = times(add, limit)
    with pytest.raises(TypeError, match="required positional argument"):
        await calls()
    assert [await calls(number) for number in range(limit)] == [number + 1 for number in range(limit)]


async def test_a_function_that_returns_no_awaitable_is_an_error_that_names_it():
    for options in ({}, {"limit": 2}, {"raise_exception": True}):
        for _ in range(3):
            with pytest.raises(TypeError, match=r"^paco\.times: plain must be a coroutine function, but it returned 2"):
                await times(plain, **options)(1)


# ---- once and times: the sharing


async def test_concurrent_callers_wait_for_the_running_call_and_share_its_result():
    work = Work()
    calls = once(work)
    tasks = await start(calls(1), calls(2), calls(3))
    assert await outcomes(tasks) == [1, 1, 1]
    assert (work.started, now()) == ([1], 10)


async def test_concurrent_callers_share_its_exception():
    error = ValueError("no")
    calls = once(Work(outcome=error))
    assert await outcomes(await start(calls(1), calls(2))) == [error, error]


async def test_callers_beyond_the_limit_share_the_outcome_of_the_last_started_call():
    work = Work()
    calls = times(work, 2)
    tasks = await start(calls(1), calls(2), calls(3))
    assert await outcomes(tasks) == [1, 2, 2]
    assert work.started == [1, 2]


@pytest.mark.parametrize("cancelled", [0, 1, 2])
async def test_a_caller_that_is_cancelled_leaves_the_call_running_for_the_others(cancelled):
    work = Work()
    calls = once(work)
    tasks = await start(calls(1), calls(2), calls(3))
    tasks[cancelled].cancel()
    with pytest.raises(asyncio.CancelledError):
        await tasks[cancelled]
    assert (now(), work.running) == (1, 1)
    del tasks[cancelled]
    assert await outcomes(tasks) == [1, 1]
    assert (await calls(4), now()) == (1, 10)


@pytest.mark.parametrize("together", [True, False])
async def test_when_all_callers_are_cancelled_the_last_one_waits_until_the_call_has_ended(together):
    work = Work(cleanup=5)
    calls = once(work)
    tasks = await start(calls(1), calls(2), calls(3))
    for task in tasks:
        assert work.cancelled == []
        task.cancel()
        await asyncio.sleep(0 if together else 1)
    ends = []
    for task in tasks:
        task.add_done_callback(lambda _: ends.append((now(), work.running)))
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [True, True, True]
    assert max(ends) == (6 if together else 8, 0)
    assert work.cancelled == [1]


async def test_the_last_caller_waits_for_the_cleanup_through_repeated_cancellation():
    work = Work(cleanup=5)
    calls = once(work)
    (task,) = await start(calls(1))
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(1)
        assert work.running == 1
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), work.cancelled, task.cancelling()) == (6, [1], 3)


@pytest.mark.parametrize("options", [{}, {"raise_exception": True}, {"return_value": "over"}])
@pytest.mark.parametrize("limit", [1, 2])
async def test_a_call_that_ends_cancelled_does_not_count(options, limit):
    work = Work()
    calls = times(work, limit, **options)
    for _ in range(5):
        (task,) = await start(calls("cancelled"))
        task.cancel()
        await asyncio.wait([task])
    assert [await calls(number) for number in range(limit)] == list(range(limit))
    assert work.finished == list(range(limit))


async def test_a_caller_during_the_cleanup_of_an_abandoned_call_starts_a_new_call():
    work = Work(cleanup=5)
    calls = once(work)
    (first,) = await start(calls(1))
    first.cancel()
    await asyncio.sleep(0)  # it hears of that before the next comes, with eager tasks too
    second, third = await start(calls(2), calls(3))
    assert await outcomes([second, third]) == [2, 2]
    assert first.cancelled()
    assert (work.cancelled, work.finished) == ([1], [2])
    assert now() == 16  # 1, cleaned up at 6, and 10 seconds for the second


async def test_a_later_cancelled_caller_does_not_wait_for_the_cleanup_of_an_earlier_call():
    work = Work(cleanup=5)
    calls = once(work)
    (first,) = await start(calls(1))
    first.cancel()
    await asyncio.sleep(0)  # it hears of that before the next comes, with eager tasks too
    (second,) = await start(calls(2))
    second.cancel()
    await asyncio.wait([second])
    assert (now(), work.running) == (2, 1)
    await asyncio.wait([first])
    assert (now(), work.running) == (6, 0)
    assert await calls(3) == 3


async def test_a_call_that_suppresses_its_cancellation_has_a_result_that_counts():
    work = Work(on_cancel="saved", cleanup=5)
    calls = once(work)
    (first,) = await start(calls(1))
    first.cancel()
    await asyncio.sleep(0)  # it hears of that before the next comes, with eager tasks too
    tasks = await start(calls(2), calls(3))
    assert await outcomes(tasks) == ["saved", "saved"]
    assert first.cancelled()
    assert (work.started, await calls(4)) == ([1], "saved")


async def test_an_error_in_the_cleanup_of_an_abandoned_call_is_a_note_of_the_cancellation():
    calls = once(Work(on_cancel=ValueError("cleanup")))
    (first,) = await start(calls(1))
    first.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await first
    assert caught.value.__notes__ == ["paco.once: the call failed during cleanup: ValueError('cleanup')"]
    assert await calls(2) == 2  # and not an outcome to be remembered


@pytest.mark.parametrize("first", ["cancellation", "end"])
async def test_a_cancellation_in_the_step_in_which_the_call_ends_is_raised_and_the_result_is_kept(first):
    work, loop = Work(), asyncio.get_running_loop()
    calls = once(work)
    task = asyncio.ensure_future(calls(1))
    cancel_at_10 = functools.partial(loop.call_at, 10, task.cancel)  # timers of one time run as they were set
    if first == "cancellation":
        cancel_at_10()
    await asyncio.sleep(1)
    if first == "end":
        cancel_at_10()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now(), work.running) == (10, 0)
    assert await calls(2) in work.finished
    assert len(work.finished) == 1


def test_cancelled_at_any_step_nothing_is_left_running(cancel_at_every_step):
    async def main():
        work = Work(cleanup=1)
        calls = times(work, 2)
        try:
            await calls(1)
            await calls(2)
            await calls(3)
        finally:
            assert work.running == 0

    assert cancel_at_every_step(main) > 8
    assert cancel_at_every_step(main, again=1) > 8

    async def two():
        work = Work(cleanup=1)
        calls = once(work)
        other = asyncio.ensure_future(calls(1))
        try:
            await calls(2)
        finally:
            other.cancel()
            await asyncio.wait([other])
            assert work.running == 0

    assert cancel_at_every_step(two) > 4


async def test_a_call_that_ends_cancelled_by_itself_is_an_error_of_its_own_and_does_not_count():
    future = asyncio.get_running_loop().create_future()
    results = iter([future, constant(1)()])

    async def call():
        return await next(results)

    calls = once(call)
    tasks = await start(calls(), calls())
    future.cancel()
    errors = await outcomes(tasks)
    assert [type(error) for error in errors] == [ItemCancelled, ItemCancelled]
    assert await calls() == 1


async def test_a_function_that_calls_itself_is_an_error_instead_of_a_deadlock():
    @once
    async def recursive():
        return await recursive()

    with pytest.raises(RuntimeError, match=r"^paco\.once: the function calls itself"):
        await recursive()


async def test_the_call_sees_the_context_variables_of_the_first_caller():
    variable = contextvars.ContextVar("variable")

    async def get():
        await asyncio.sleep(1)
        return variable.get()

    async def caller(value):
        variable.set(value)
        return await calls()

    calls = once(get)
    assert await asyncio.gather(caller(1), caller(2)) == [1, 1]


async def test_a_timeout_of_one_caller_does_not_end_the_call_for_another():
    work = Work()
    calls = once(work)
    tasks = await start(timeout(calls, 3)(1), calls(2))
    errors = await outcomes(tasks)
    assert isinstance(errors[0], TimeoutError)
    assert errors[1] == 1


# ---- once and times: from loop to loop


@pytest.mark.parametrize("wrap", [once, times(2)])
async def test_a_deadline_of_one_caller_ends_its_wait_and_not_the_call(wrap):
    calls = []

    async def connect(number):
        calls.append(number)
        await timeout(asyncio.sleep, 10)(3)
        return remaining()

    async def hurried():
        with deadline(1):
            return await shared(1)

    async def patient():
        await asyncio.sleep(0.5)
        return await shared(2)

    shared = wrap(connect)
    if wrap is not once:
        await shared(0)
    first, second = await asyncio.gather(hurried(), patient(), return_exceptions=True)
    assert type(first) is TimeoutError
    name = "once" if wrap is once else "times"
    assert str(first) == f"paco.{name}: the wait for connect did not finish within the deadline of 1 s"
    assert second == await shared(3) == math.inf
    assert calls[-1] == 1


async def test_a_deadline_of_the_only_caller_cancels_the_call_which_does_not_count():
    probe = testing.Probe(lambda _: "connection", takes=3, cleanup=1)
    connect = once(probe)
    with pytest.raises(TimeoutError), deadline(1):
        await connect(1)
    assert (testing.now(), probe.running) == (2, 0)
    with pytest.raises(TimeoutError), deadline(0):
        await connect(1)
    assert await connect(1) == "connection"
    with deadline(0):
        assert await connect(1) == "connection"


@pytest.mark.parametrize(
    "wrap", [once(raise_exception=True), times(1, return_value="known"), times(2)], ids=["raise", "value", "not last"]
)
async def test_a_call_that_is_not_shared_has_no_deadline_inside_either(wrap):
    left, cleaned = [], []

    async def connect():
        left.append(remaining())
        try:
            await timeout(asyncio.sleep, 10)(3)
        finally:
            await asyncio.sleep(1)
            cleaned.append(testing.now())
        return "connection"

    calls = wrap(connect)
    message = r"^paco\.(once|times): connect did not finish within the deadline of 1 s$"
    with pytest.raises(TimeoutError, match=message), deadline(1):
        await calls()
    assert (testing.now(), left, cleaned) == (2, [math.inf], [2])
    with deadline(9):
        assert await calls() == "connection"  # the first one did not count
        assert remaining() == 5
    assert left == [math.inf] * 2


def test_the_result_stays_from_one_event_loop_to_the_next():
    calls = times(add, 2)
    assert [run(calls(number)) for number in range(4)] == [1, 2, 2, 2]


def test_the_exception_stays_from_one_event_loop_to_the_next():
    work = Work(outcome=ValueError("no"))
    calls = once(work)
    for _ in range(3):
        with pytest.raises(ValueError, match="no"):
            testing.run(calls(1))
    assert len(work.started) == 1


def test_a_call_whose_loop_stopped_in_the_middle_is_made_again():
    work = Work()
    calls = once(work)
    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(calls(1))
        loop.run_until_complete(asyncio.sleep(0))
        assert testing.run(calls(2)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()
    assert testing.run(calls(3)) == 2


@pytest.mark.realtime
async def test_a_call_that_runs_in_the_loop_of_another_thread_is_an_error():
    event = asyncio.Event()
    calls = once(event.wait)
    task = asyncio.ensure_future(calls())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match=r"^paco\.once: a call is running in the event loop of another thread;"):
        await asyncio.to_thread(asyncio.run, calls())
    event.set()
    assert await task is True


def test_keyboard_interrupt_is_raised_and_not_stored():
    work = Work(outcome=KeyboardInterrupt())
    for calls in (once(work), once(work, raise_exception=True)):
        work.outcome = KeyboardInterrupt()
        loop = testing.VirtualLoop()
        try:
            task = loop.create_task(calls(1))
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(task)
            if not task.done():  # the caller, when the call was a task of its own
                with pytest.raises(KeyboardInterrupt):
                    loop.run_until_complete(task)
            assert isinstance(task.exception(), KeyboardInterrupt)
        finally:
            loop.close()
        work.outcome = None
        assert testing.run(calls(2)) == 2


def test_neither_the_loop_nor_the_context_of_the_call_is_kept_alive():
    class Thing:
        pass

    variable = contextvars.ContextVar("variable")
    seen = []

    async def main():
        thing = Thing()
        seen.extend([weakref.ref(thing), weakref.ref(asyncio.get_running_loop())])
        variable.set(thing)
        return await calls(1)

    calls = once(add)
    assert contextvars.Context().run(asyncio.run, main()) == 2
    gc.collect()
    assert [ref() for ref in seen] == [None, None]


# ---- all of them

BARE = [once, times]
WITH_OPTIONS = [once(raise_exception=True), once(False), times(limit=9), times(9), times(return_value=1)]
BINDERS = [apply, partial, thunk, *BARE]


@pytest.mark.parametrize("wrap", [*BARE, *WITH_OPTIONS, partial, compose], ids=itertools.count())
async def test_once_and_times_accept_any_callable_that_returns_an_awaitable(wrap):
    for fn in (add, Add(), Add().__call__, functools.partial(add, b=1), lambda a: add(a, 1)):
        wrapped = wrap(fn)
        assert inspect.iscoroutinefunction(wrapped)
        assert await wrapped(1) == 2


@pytest.mark.parametrize("wrap", [*BARE, *WITH_OPTIONS], ids=itertools.count())
def test_once_and_times_keep_the_metadata(wrap):
    wrapped = wrap(add)
    assert (wrapped.__name__, wrapped.__qualname__, wrapped.__doc__) == ("add", "add", "Add.")
    assert wrapped.__wrapped__ is add
    assert inspect.signature(wrapped) == inspect.signature(add)
    fn = Add()
    assert vars(wrap(fn)) == {"__wrapped__": fn}


async def test_once_and_times_are_decorators_bare_and_with_options_and_of_methods():
    class Shared:
        @once
        async def first(self, value):
            return value

        @times(limit=2)
        async def second(self, value):
            return value

    assert [await Shared().first(1), await Shared().first(2)] == [1, 1]
    assert [await Shared().second(value) for value in (1, 2, 3)] == [1, 2, 2]


@pytest.mark.parametrize("wrap", BINDERS)
@pytest.mark.parametrize("wrong", [None, "text", [1]])
def test_an_argument_that_is_no_function_is_an_error_at_once(wrap, wrong):
    for call in (lambda: wrap(wrong), lambda: wrap(coro=wrong)):
        with pytest.raises(TypeError, match=rf"^paco\.{wrap.__name__}: coro must be a coroutine function, got "):
            call()


@pytest.mark.parametrize("wrap", BINDERS)
def test_a_coroutine_object_instead_of_a_function_is_an_error_that_names_the_mistake(wrap):
    with pytest.raises(TypeError, match=r"pass the function, not the call: add instead of add\(\.\.\.\)$"):
        wrap(add(1))


@pytest.mark.parametrize("wrap", [once, times])
def test_none_instead_of_a_function_is_an_error_at_once(wrap):
    with pytest.raises(TypeError, match="coro must be a coroutine function, got None"):
        wrap()(None)


@pytest.mark.parametrize("wrap", [thunk, compose])
async def test_the_function_must_return_an_awaitable(wrap):
    with pytest.raises(
        TypeError, match=r"<lambda> must be a coroutine function, but it returned 1, which cannot be awaited"
    ):
        await wrap(lambda: 1)()


@pytest.mark.parametrize("wrap", [apply, partial])
async def test_the_functions_of_these_wrappers_must_return_an_awaitable_too(wrap):
    with pytest.raises(TypeError, match=r"plain must be a coroutine function, .*paco\.wraps\(plain\)"):
        await wrap(plain, 1)()


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"limit": 0}, ValueError),
        ({"limit": -1}, ValueError),
        ({"limit": 1.5}, TypeError),
        ({"limit": True}, TypeError),
        ({"raise_exception": 3}, TypeError),
    ],
)
def test_wrong_options_are_errors_in_both_forms(options, error):
    for make in (lambda: times(add, **options), lambda: times(**options)):
        with pytest.raises(error, match=rf"^paco\.times: {next(iter(options))} must be "):
            make()
    with pytest.raises(TypeError, match=r"^paco\.once: raise_exception must be True or False, got 3$"):
        once(3)
