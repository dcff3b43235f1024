"""Items that run elsewhere: all of it on virtual time, with workers that are only pretended."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import pickle
import random
import re
import sys
import tempfile
import threading
import warnings
from concurrent.futures import Future

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import paco
import paco.testing
from paco import events
from paco._stream.plan import LEAD, Plan
from paco.events import ItemEnded
from paco.remote import RemoteError, WorkerLost, _pickles
from paco.remote._feedback import WorkerStats
from paco.remote._messages import Order, PackedError, Report
from tests.remote.jobs import RAISED, attempts, raises_kind
from tests.torture.remote import Died, Engine, on, process


@pytest.fixture
def engine():
    return Engine()


#: What the items do is counted here: they run in this process after all.
class Seen:
    running = most = 0
    started, ended = [], []


@pytest.fixture(autouse=True)
def fresh():
    Seen.running = Seen.most = 0
    Seen.started, Seen.ended = [], []


async def double(number):
    return 2 * number


async def nap(seconds):
    Seen.started.append(seconds)
    Seen.running += 1
    Seen.most = max(Seen.most, Seen.running)
    try:
        await asyncio.sleep(seconds)
    finally:
        Seen.running -= 1
        Seen.ended.append(seconds)
    return seconds


async def quick(number):
    await nap(0.01)
    return number


async def stepwise(number):
    Seen.running += 1
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        Seen.running -= 1


async def odd_fails(number):
    await asyncio.sleep(0.01)
    if number % 2:
        raise ValueError(number)
    return number


async def forever(number):
    await nap(10**6)


# ---- results


@pytest.mark.parametrize("count", [0, 1, 2, 7, 1000])
async def test_the_list_has_the_result_of_each_item_in_order(engine, count):
    assert await on(paco.map(double, range(count), limit=3), engine) == [2 * number for number in range(count)]
    assert engine.closed


async def test_items_come_from_any_source(engine):
    async def numbers():
        for number in range(200):
            yield number

    async def later():
        return [1, 2, 3]

    for source, expected in (
        (iter(range(200)), range(200)),
        (numbers(), range(200)),
        (later(), [1, 2, 3]),
        ((number for number in range(5)), range(5)),
    ):
        assert await on(paco.map(quick, source, limit=3), Engine()) == list(expected)


async def test_a_stream_gives_the_results_in_order(engine):
    found = [result async for result in on(paco.map(quick, range(500), limit=10), engine)]
    assert found == list(range(500))


async def test_as_completed_delivers_results_as_they_arrive(engine):
    times = [5, 0.1, 0.2]
    stream = on(paco.map(nap, times, limit=3), Engine(3)).as_completed()
    assert [result async for result in stream] == [0.1, 0.2, 5]


async def test_each_flat_map_filter_and_reduce_run_on_workers(engine):
    assert await on(paco.flat_map(double, [1, [2, 3]], initializer=[0]), Engine()) == [0, 2, 4, 6]
    assert await on(paco.filter(is_even, range(6)), Engine()) == [0, 2, 4]
    assert await on(paco.repeat(double, 3), Engine()) == [2, 4, 6]


async def is_even(number):
    return number % 2 == 0


async def test_every_stage_of_a_pipeline_has_its_own_engine():
    first, second = Engine(), Engine()
    halves = on(range(300) | paco.map(double, limit=10), first)
    assert await on(halves | paco.map(quick, limit=5), second) == list(range(0, 600, 2))
    assert first.closed
    assert second.closed


async def test_arguments_are_sent_with_the_function(engine):
    assert await on(paco.map(power, [1, 2, 3], 0, None, None, False, 3), engine) == [1, 8, 27]


async def power(number, exponent):
    return number**exponent


async def test_a_result_that_is_an_exception_is_a_result(engine):
    [result] = await on(paco.map(gives_error, [1]), engine)
    assert repr(result) == "ValueError(1)"


async def gives_error(number):
    return ValueError(number)


# ---- the limit


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("engine", [Engine(2), Engine(3, 64)], ids=["2 slots", "64 slots"])
async def test_all_workers_together_never_exceed_the_limit(engine, limit):
    engine.__init__(engine.processes, engine.slots)
    await on(paco.map(quick, range(300), limit=limit), engine)
    assert Seen.most == limit


async def test_slow_items_run_concurrently_as_without_workers(engine):
    engine = Engine(2, 64)
    start = asyncio.get_running_loop().time()
    times = [(1 + number % 7) / 2 for number in range(200)]
    await on(paco.map(nap, times, limit=20), engine)
    took = asyncio.get_running_loop().time() - start
    start = asyncio.get_running_loop().time()
    await paco.map(nap, times, limit=20)
    assert took <= 1.5 * (asyncio.get_running_loop().time() - start)


class Lies(list):
    """A list that says to have none."""

    def __len__(self):
        return 0


@pytest.mark.slow
async def test_fast_items_are_sent_in_large_chunks_and_slow_ones_alone():
    fast, slow = Engine(2, 64), Engine(2, 64)
    await on(paco.map(quick, range(20_000), limit=100), fast)
    assert max(count for _, count in fast.chunks) >= 300
    assert len(fast.chunks) < 250
    await on(paco.map(nap, [1] * 200, limit=20), slow)
    assert {count for _, count in slow.chunks} == {1}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("source", "took"), [(list, 11), (iter, 11), (Lies, 13), (lambda items: (one for one in items), 13)]
)
async def test_with_a_known_length_the_last_chunks_are_small_so_that_workers_end_together(source, took):
    start = asyncio.get_running_loop().time()
    assert len(await on(paco.map(nap, source([1] * 1000), limit=100), Engine(2, 64))) == 1000
    assert asyncio.get_running_loop().time() - start == pytest.approx(took)


async def test_without_a_limit_all_items_of_a_short_input_run_at_once(engine):
    await on(paco.map(nap, [1] * 500), engine)
    assert Seen.most == 500


async def test_a_chunk_ends_in_time_and_returns_the_items_it_has_not_started():
    engine = Engine(1)
    times = [0.001] * 100 + [0.2] * 100  # it becomes slower than the chunk was made for
    assert await on(paco.map(nap, times, limit=1), engine) == times
    assert Seen.started == times  # each once, in order


@pytest.fixture
def _no_time_for_the_processor(monkeypatch):
    """Have what the processor takes not count: a chunk is smaller where it takes much, and the machine may be busy."""
    monkeypatch.setattr("paco.remote._chunked_run.perf_counter", lambda: 0.0)
    monkeypatch.setattr("time.thread_time", lambda: 0.0)


@pytest.mark.slow
@pytest.mark.usefixtures("_no_time_for_the_processor")
@pytest.mark.parametrize("count", [5000, 10_000, 20_000])
async def test_at_the_end_no_item_waits_for_a_worker_while_another_is_idle(count):
    start = asyncio.get_running_loop().time()
    await on(paco.map(nap, [0.0001] * count, limit=2), Engine(2, 64))
    assert asyncio.get_running_loop().time() - start < 1.01 * count * 0.0001 / 2


@pytest.mark.parametrize("quick", range(5))
async def test_slow_items_in_some_chunks_leave_most_of_the_limit_to_the_others(quick):
    async def work(number):
        await nap(0 if number == quick else 100)

    running = asyncio.ensure_future(on(paco.map(work, range(100), limit=10), Engine(2, 64)))
    await asyncio.sleep(50)
    assert 8 <= Seen.running <= Seen.most <= 10  # less than half of what a process has may be left
    running.cancel()
    await asyncio.wait([running])


@pytest.mark.usefixtures("_no_time_for_the_processor")
async def test_no_two_items_of_a_slot_overlap():
    engine, ends = Engine(2, 64), []
    times = [0.001 * (5 + number % 11) for number in range(2000)]
    with paco.listening(ends.append, ItemEnded):
        await on(paco.map(nap, times, limit=20), engine)
    free_from = {}
    for event in sorted(ends, key=lambda event: event.start):
        row = event.worker, event.slot
        assert free_from.get(row, -math.inf) <= event.start + 1e-9
        free_from[row] = event.end
    assert len(ends) == 2000
    assert max(slot for _, slot in free_from) < 20
    assert len(free_from) < 30  # of each worker about half of the limit


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
async def test_however_often_a_worker_dies_each_item_has_one_result(seed):
    engine, dice = Engine(2, 64), random.Random(seed)  # noqa: S311 - nothing secret

    async def kill():
        while not engine.closed:
            await asyncio.sleep(dice.uniform(0.2, 0.6))
            dice.choice(engine.all).die()

    killing = asyncio.ensure_future(kill())
    assert await on(paco.map(quick, range(5000), limit=20), engine) == list(range(5000))
    await killing
    assert engine.deaths > 3
    assert Seen.most <= 20


# ---- backpressure


async def test_a_slow_consumer_holds_back_the_source(engine):
    taken = []

    def numbers():
        for number in range(100_000):
            taken.append(number)
            yield number

    async with on(paco.map(double, numbers(), limit=2), engine).buffer(8) as stream:
        async for number in stream:
            await asyncio.sleep(1)
            assert len(taken) <= number / 2 + 1 + 10
            if number >= 100:
                break


async def test_the_lead_over_a_slow_consumer_is_bounded(engine):
    taken = []

    def numbers():
        for number in range(10**6):
            taken.append(number)
            yield number

    async with on(paco.map(double, numbers(), limit=100), engine) as stream:
        async for number in stream:
            await asyncio.sleep(0.1)
            if number >= 1000:
                break
    assert len(taken) <= 500 + 10_000 + 200


async def test_a_slow_source_does_not_hold_back_available_items(engine):
    async def numbers():
        for number in range(3):
            yield number
            await asyncio.sleep(100)

    loop = asyncio.get_running_loop()
    times = [loop.time() async for _ in on(paco.map(quick, numbers(), limit=5), engine)]
    assert [int(when - times[0]) for when in times] == [0, 100, 200]


# ---- errors


async def test_the_first_error_of_an_item_is_raised_with_notes_of_its_worker_and_item(engine):
    with pytest.raises(ValueError, match=r"^1\n") as caught:
        await on(paco.map(odd_fails, range(100), limit=2), engine)
    where, which = caught.value.__notes__
    assert where.startswith("in process ")
    assert "in odd_fails" in where
    assert which == "paco.map: item 1: 1"
    assert engine.closed


async def test_an_error_of_one_item_ends_the_others_on_all_workers(engine):
    with pytest.raises(ValueError, match="7"):
        await on(paco.map(seven_fails, range(100), limit=50), engine)
    assert Seen.running == 0
    assert asyncio.get_running_loop().time() < 10


async def seven_fails(number):
    if number == 7:
        await asyncio.sleep(1)
        raise ValueError(number)
    await nap(1000)


async def test_with_return_exceptions_errors_on_workers_are_results(engine):
    found = await on(paco.map(odd_fails, range(10), limit=3, return_exceptions=True), engine)
    assert [repr(one) for one in found[:4]] == ["0", "ValueError(1)", "2", "ValueError(3)"]


async def test_settled_functions_return_their_outcomes(engine):
    found = await on(paco.map(paco.settle(paco.retry(odd_fails, attempts=2, wait=0)), range(4)), engine)
    done, failed = paco.partition(found)
    assert [one.value for one in done] == [0, 2]
    assert [(one.item, one.attempts) for one in failed] == [(1, 2), (3, 2)]


async def test_max_errors_ends_the_run(engine):
    stream = on(paco.map(paco.settle(odd_fails), range(10_000), limit=2), engine).max_errors(3)
    with pytest.raises(paco.TooManyErrors):
        await stream
    assert len(engine.cancelled) == 1


async def test_an_error_of_the_source_is_raised_after_earlier_results(engine):
    def numbers():
        yield from range(10)
        raise OSError("gone")

    found = []
    with pytest.raises(OSError, match="gone") as caught:
        async for number in on(paco.map(double, numbers(), limit=2), engine):
            found.append(number)
    assert caught.value.__notes__ == ["paco.map: its source, after 10 items"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_an_exception_that_ends_a_program_is_raised_here_and_not_in_the_worker(engine, error):
    with pytest.raises(type(error)):
        await on(paco.map(raises, [error]), engine)


async def raises(error):
    raise error


async def test_an_item_that_ends_cancelled_is_an_error_with_its_cause(engine):
    with pytest.raises(paco.ItemCancelled) as caught:
        await on(paco.map(raises, [asyncio.CancelledError("no")]), engine)
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_a_stop_iteration_is_an_error(engine):
    with pytest.raises(RuntimeError, match="coroutine raised StopIteration"):
        await on(paco.map(raises, [StopIteration()]), engine)


class Unpicklable(Exception):
    def __init__(self, one, two):
        super().__init__(f"{one} {two}")


async def raises_unpicklable(number):
    raise Unpicklable(number, "apples")


async def test_an_error_that_cannot_be_pickled_is_raised_as_text(engine):
    with pytest.raises(RemoteError, match=r"^Unpicklable: 5 apples \(it cannot be pickled\)\n") as caught:
        await on(paco.map(raises_unpicklable, [5]), engine)
    assert "in raises_unpicklable" in caught.value.__notes__[0]


def test_an_error_whose_class_is_missing_here_is_raised_as_text():
    failure = PackedError.of(ValueError(5))._replace(data=b"cos\nno_such_name\n.")
    assert str(failure.error("there")).startswith("ValueError: 5 (it cannot be unpickled here: ")


def test_an_error_that_unpickles_to_another_here_is_raised_as_text():
    failure = PackedError.of(ValueError(5))._replace(data=pickle.dumps(KeyError(6)))
    assert str(failure.error("there")).startswith("ValueError: 5 (it cannot be unpickled here: it unpickles to KeyErr")


def test_causes_are_sent_up_to_a_limit():
    first = error = ValueError(0)
    for number in range(1, 20):
        error.__cause__ = ValueError(number)
        error = error.__cause__
    error.__cause__ = first
    error, numbers = PackedError.of(first).error("there"), []
    while error is not None:
        numbers.append(error.args[0])
        error = error.__cause__
    assert numbers == [0, 1, 2, 3, 4, 5]


async def test_an_item_that_cannot_be_pickled_is_an_error_of_that_item(engine):
    found = await on(paco.map(double, [1, threading.Lock(), 3], return_exceptions=True), engine)
    assert found[::2] == [2, 6]
    assert str(found[1]).startswith("paco.map: the item <unlocked _thread.lock object at ")
    assert str(found[1]).endswith("cannot be sent to another process: cannot pickle '_thread.lock' object")


async def test_a_result_that_cannot_be_pickled_is_an_error_of_its_item(engine):
    found = await on(paco.map(gives_lock, [1, 2, 3], return_exceptions=True), engine)
    assert found[::2] == [1, 3]
    assert str(found[1]).startswith("paco.map: the result of gives_lock, <unlocked _thread.lock")


async def gives_lock(number):
    return threading.Lock() if number == 2 else number


async def test_a_sync_function_gets_the_same_error_as_without_workers(engine):
    with pytest.raises(TypeError, match=r"paco\.map: plain must be a coroutine function"):
        await on(paco.map(plain, [1]), engine)


def plain(number):
    return number


class Vanishing:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _raise, ()


def _raise():
    raise OSError("not here")


async def vanishes(number):
    return Vanishing() if number == 2 else number


async def test_an_object_that_cannot_be_unpickled_is_an_error_of_its_item(engine):
    found = await on(paco.map(identity, [1, Vanishing(), 3], return_exceptions=True), engine)
    assert found[::2] == [1, 3]
    assert str(found[1]) == "paco.map: the item cannot be sent to another process: not here"
    found = await on(paco.map(vanishes, [1, 2, 3], return_exceptions=True), Engine())
    assert found[::2] == [1, 3]
    assert re.fullmatch(r"paco\.map: the result from .* cannot be sent to another process: not here", str(found[1]))
    with pytest.raises(TypeError, match=r"the result from .* not here") as caught:
        await on(paco.map(vanishes, [1, 2, 3]), Engine())
    assert caught.value.__notes__ == ["paco.map: item 1: 2"]


async def identity(item):
    return item


class Keyword(Exception):
    """Can be pickled; to unpickle it fails, because a keyword is missing."""

    def __init__(self, text, *, response):
        super().__init__(text)
        self.response = response


class Locked(Exception):
    """Cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


class Other(Exception):
    """Unpickles to something that is no exception."""

    def __reduce__(self):
        return str, ("other",)


class Another(Exception):
    """Unpickles to another exception."""

    def __reduce__(self):
        return KeyError, ("other",)


class Panic(BaseException):
    """What an extension in Rust raises when it panics."""


class Panics:
    """Cannot be pickled."""

    def __reduce__(self):
        raise Panic("503")


class PanicsThere:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _panic, ()


def _panic():
    raise Panic("503")


class PanickingError(Panics, Exception):
    pass


async def fails_alone(number):
    if number == 1:
        raise ValueError(number)
    await asyncio.sleep(100)


async def test_an_error_has_no_note_of_the_items_that_it_has_cancelled(engine):
    with pytest.raises(ValueError, match="1") as caught:
        await on(paco.map(fails_alone, range(3), limit=3), engine)
    assert not [note for note in caught.value.__notes__ if "ancel" in note]


async def panics(number):
    if number == 3:
        raise PanickingError("503")
    return {1: Panics, 2: PanicsThere}.get(number, int)()


async def test_a_panic_of_pickle_is_an_error_of_its_item(engine):
    found = await on(paco.map(paco.settle(panics), range(5), limit=2), engine)
    assert [isinstance(outcome, paco.Ok) for outcome in found] == [True, False, False, False, True]
    found = await on(paco.map(identity, [1, Panics(), PanicsThere(), 4], return_exceptions=True), Engine())
    assert found[::3] == [1, 4]
    assert [str(error).endswith("cannot be sent to another process: Panic('503')") for error in found[1:3]] == [
        True,
        True,
    ]


class Stubborn(Exception):
    """Raises, when it is pickled, what would end the chunk."""

    def __reduce__(self):
        raise asyncio.CancelledError


class Leaving:
    """Raises, when it is pickled or unpickled, what would end the program."""

    def __init__(self, method):
        self.method = method

    def __reduce__(self):
        if self.method == "dumps":
            raise SystemExit(4)
        return sys.exit, (4,)


BAD = {
    "keyword": lambda: Keyword("503", response=None),
    "lock": lambda: Locked("503"),
    "other": lambda: Other("503"),
    "group": lambda: ExceptionGroup("503", [ValueError(1), Keyword("503", response=None)]),
    "group of others": lambda: ExceptionGroup("503", [ValueError(1), ExceptionGroup("504", [Another("503")])]),
    "stubborn": lambda: Stubborn("503"),
    "cause": lambda: caused(ValueError("503"), Locked("503")),
}


def caused(error, cause):
    error.__cause__ = cause
    return error


async def raises_bad(item):
    if item in BAD:
        error = BAD[item]()
        raise error
    if item == "cancels itself":
        asyncio.current_task().cancel()
        await asyncio.sleep(1)
    return BAD[item[9:]]() if item.startswith("returned ") else VALUES.get(item, item)


VALUES = {"vanishes": Vanishing(), "leaves": Leaving("loads"), "refuses": Leaving("dumps")}
HARMFUL = [*BAD, *(f"returned {name}" for name in BAD if name != "cause"), *VALUES, "cancels itself"]
USES = {
    "a number": lambda stream, path: stream,
    "as completed": lambda stream, path: stream.as_completed(),
    "a journal": lambda stream, path: stream.journal(path, encode=str),
}


@pytest.mark.parametrize("limit", [3, paco.Limit(3)], ids=["number", "object"])
@pytest.mark.parametrize("form", USES)
async def test_a_value_that_cannot_be_sent_is_the_error_of_its_item_in_a_settled_run(engine, form, limit, tmp_path):
    items = [piece for number, harmful in enumerate(HARMFUL) for piece in (f"{number}", harmful)]
    stream = USES[form](paco.map(paco.settle(raises_bad), items, limit=limit), tmp_path / "run.jsonl")
    outcomes = await on(stream, engine)
    found = {outcome.item: outcome for outcome in outcomes}
    assert len(outcomes) == len(found) == len(items)
    assert {item for item, outcome in found.items() if isinstance(outcome, paco.Err)} == set(HARMFUL)
    assert all(isinstance(found[item].error, RemoteError) for item in HARMFUL[:-4] if item != "cause")
    assert repr(found["cause"].error) == "ValueError('503')"
    assert str(found["cause"].error.__cause__) == "Locked: 503 (it cannot be pickled)"
    assert isinstance(found["cancels itself"].error, paco.ItemCancelled)


async def test_items_that_cannot_be_sent_are_outcomes_of_a_settled_run(engine):
    items = [1, threading.Lock(), Vanishing(), 4]
    found = await on(paco.map(paco.settle(identity), items, limit=2), engine)
    assert [type(outcome) for outcome in found] == [paco.Ok, paco.Err, paco.Err, paco.Ok]
    assert [outcome.item for outcome in found[1:3]] == items[1:3]


class Page:
    """An item that the function makes unfit for pickle."""

    def __init__(self, number):
        self.number = number


async def opens(page):
    page.lock = threading.Lock()
    return 1 / page.number


async def test_an_outcome_has_the_item_of_the_caller_whatever_the_function_does_to_it(engine):
    items = [Page(1), Page(0), Page(2)]
    found = await on(paco.map(paco.settle(opens), items), engine)
    assert [outcome.item for outcome in found] == items
    assert [outcome.value for outcome in found[::2]] == [1, 0.5]
    assert repr(found[1].error) == "ZeroDivisionError('division by zero')"


async def another(number):
    return await paco.settle(identity)(-number)


async def test_an_outcome_of_another_item_keeps_that_one(engine):
    found = await on(paco.map(another, [1000, 2000]), engine)
    assert [(outcome.item, outcome.value) for outcome in found] == [(-1000, -1000), (-2000, -2000)]


async def test_an_item_lost_with_its_workers_is_an_outcome_of_a_settled_run():
    found = await on(paco.map(paco.settle(two_dies), range(5), limit=3), Engine(2))
    assert [outcome.item for outcome in found] == list(range(5))
    assert [outcome.item for outcome in found if isinstance(outcome, paco.Err)] == [2]
    assert isinstance(found[2].error, WorkerLost)


async def two_dies(number):
    if number == 2:
        process.get().die()
    return number


async def test_a_worker_with_another_version_of_python_or_paco_is_reported(engine, monkeypatch):
    monkeypatch.setattr("paco.remote._messages._VERSIONS", ("cpython", 3, 99, "7.0"))
    data = Order("", "map", 1, 1, True, False, math.inf, "").dump()
    monkeypatch.undo()
    with pytest.raises(
        RuntimeError, match=r"runs cpython 3\.\d+ with paco .* sent it items runs cpython 3\.99 with paco 7"
    ):
        Order.load(data)


async def test_an_engine_whose_submit_fails_ends_the_run(engine):
    class Full(Engine):
        def submit(self, *chunk):
            raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        await on(paco.map(double, [1, 2]), Full())

    class Broken(Engine):
        def lost(self, error):
            return None

    with pytest.raises(Died):
        await on(paco.map(dies_always, [1, 2]), Broken())


# ---- ends


async def test_a_timeout_is_raised_after_the_items_on_workers_have_ended(engine):
    with pytest.raises(paco.RunTimeout):
        await on(paco.map(forever, range(1000), limit=10, timeout=3), engine)
    assert Seen.running == 0
    assert len(Seen.ended) == 10
    assert engine.closed


async def test_a_deadline_applies_to_calls_inside_items_on_workers(engine):
    with paco.deadline(5):
        await asyncio.sleep(1)
        assert await on(paco.map(attempts, [3.9, 4.1]), engine) == [2, 1]


async def test_break_ends_the_items_on_workers(engine):
    async with on(paco.map(first_is_quick, range(1000), limit=10), engine).as_completed() as stream:
        async for _ in stream:
            break
    assert Seen.running == 0
    assert engine.closed


async def first_is_quick(number):
    await nap(0.1 if number == 0 else 1000)


async def test_a_dropped_stream_ends_the_items_on_workers(engine):
    stream = on(paco.map(first_is_quick, range(1000), limit=10), engine).as_completed()
    async for _ in stream:
        break
    del stream
    for _ in range(20):
        await asyncio.sleep(0)
    assert Seen.running == 0
    assert engine.closed


@pytest.mark.parametrize("limit", [3, paco.Limit(3)], ids=["number", "object"])
async def test_cancelled_at_any_step_a_run_returns_when_nothing_runs_on_workers(limit):
    points = 0
    for steps in range(10_000):
        engine = Engine()
        task = asyncio.ensure_future(on(paco.map(stepwise, range(8), limit=limit), engine))
        for _ in range(steps):
            await asyncio.sleep(0)
        if task.done():
            break
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert Seen.running == 0
        assert engine.closed or not engine.chunks
        points += 1
    assert points > 20


async def test_the_death_of_workers_during_cancellation_ends_the_wait_for_them():
    class Fragile(Engine):
        def cancel(self, run, futures):
            for one in list(self.all):
                one.die()

    engine = Fragile()
    with pytest.raises(TimeoutError):
        await on(paco.map(forever, range(10), limit=4, timeout=1), engine)
    assert engine.deaths == 2


async def cancels(number):
    await asyncio.sleep(0)
    for task in asyncio.all_tasks():
        if task.get_coro().__qualname__ == "Scheduler.work" and task is not asyncio.current_task():
            task.cancel()
    await asyncio.sleep(1)


async def test_an_item_that_cancels_the_tasks_of_its_worker_ends_the_run(engine):
    with pytest.raises(paco.ItemCancelled):
        await on(paco.map(cancels, range(3)), engine)


async def test_cleanup_on_workers_is_waited_for(engine):
    task = asyncio.ensure_future(on(paco.map(cleans_up, range(2)), engine))
    await asyncio.sleep(1)
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(1)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert sorted(Seen.ended) == [0, 1]


async def cleans_up(number):
    try:
        await asyncio.sleep(1000)
    finally:
        await asyncio.sleep(10)
        Seen.ended.append(number)


# ---- workers that die


async def test_items_of_a_dead_worker_run_again_and_are_delivered_once():
    engine = Engine(2)
    task = asyncio.ensure_future(on(paco.map(quick, range(3000), limit=20), engine))
    for _ in range(5):
        await asyncio.sleep(0.2)
        engine.all[0].die()
    assert await task == list(range(3000))
    assert engine.deaths == 5
    assert 3000 < len(Seen.ended) < 6000


async def dies(number):
    await asyncio.sleep(0.01)
    if number == 777:
        process.get().die()
        await asyncio.sleep(1000)
    return number


@pytest.mark.parametrize(("processes", "slots", "limit"), [(1, 1, 1), (2, 2, 100), (2, 64, 10), (3, 3, 3)])
async def test_an_item_that_kills_its_worker_three_times_is_lost_and_no_other_item(processes, slots, limit):
    engine = Engine(processes, slots)
    found = await on(paco.map(dies, range(1000), limit=limit, return_exceptions=True), engine)
    error = found[777]
    assert isinstance(error, WorkerLost)
    assert str(error) == f"paco.map: the worker of this item has died {engine.deaths} times"
    assert isinstance(error.__cause__, Died)
    assert found == [*range(777), error, *range(778, 1000)]
    assert 3 <= engine.deaths <= 8


async def dies_always(number):
    process.get().die()


async def test_an_item_that_kills_its_workers_ends_the_run_like_any_error(engine):
    with pytest.raises(WorkerLost) as caught:
        await on(paco.map(dies_always, [5]), engine)
    assert caught.value.__notes__ == ["paco.map: item 0: 5"]
    assert engine.deaths == 3


async def test_chunks_that_never_begin_end_the_run():
    class Gone(Engine):
        def submit(self, *chunk):
            future = Future()
            future.set_exception(Died("there is nobody"))
            return future

        def lost(self, error):
            return 0

    with pytest.raises(Died, match="nobody"):
        await on(paco.map(double, range(3)), Gone())


async def test_a_chunk_that_had_not_begun_does_not_count_as_an_attempt():
    class Hesitant(Engine):
        def lost(self, error):
            return 0 if self.deaths < 10 else 1

    engine = Hesitant()
    [error] = await on(paco.map(dies_always, [1], return_exceptions=True), engine)
    assert str(error).endswith("has died 3 times")
    assert engine.deaths == 12


async def test_an_engine_that_cannot_be_opened_ends_the_run():
    class Closed(Engine):
        async def open(self):
            raise OSError("closed")

    for limit in (2, paco.Limit(2)):
        engine = Closed()
        with pytest.raises(OSError, match="closed") as caught:
            await on(paco.map(double, range(3), limit=limit), engine)
        assert caught.value.__notes__ == ["paco.map: its workers"]
        assert engine.closed


@pytest.mark.parametrize("limit", [2, paco.Limit(2)], ids=["number", "object"])
async def test_an_engine_that_raises_when_asked_for_its_slots_ends_the_run(limit):
    class Gone(Engine):
        @property
        def slots(self):
            raise OSError("gone")

        @slots.setter
        def slots(self, count):
            pass

    with pytest.raises(OSError, match="gone"):
        await on(paco.map(double, range(3), limit=limit), Gone())


# ---- limits that are objects


async def test_a_rate_holds_for_all_workers_together():
    engine = Engine(3, 64)
    await on(paco.map(notes_time, range(20), limit=paco.Rate(2, per=10)), engine)
    assert [round(one) for one in Seen.started] == [5 * number for number in range(20)]


async def notes_time(number):
    Seen.started.append(asyncio.get_running_loop().time())


async def test_a_count_holds_for_all_runs_that_share_it():
    limit = paco.Limit(3)
    runs = [on(paco.map(quick, range(50), limit=limit), Engine(2, 64)) for _ in range(2)]
    assert await paco.gather(*runs) == [list(range(50))] * 2
    assert Seen.most == 3
    assert limit.in_flight == 0


async def test_a_limit_gets_the_error_that_a_settled_item_returns():
    class Heard(paco.Limit):
        def release(self, permit, error=None):
            ended.append(repr(error))
            super().release(permit, error)

    ended = []
    await on(paco.map(paco.settle(odd_fails), range(3), limit=Heard(1)), Engine())
    assert ended == ["None", "ValueError(1)", "None"]


async def test_under_a_limit_object_items_are_sent_in_groups():
    engine = Engine(2, 64)
    await on(paco.map(quick, range(2000), limit=paco.Limit(100)), engine)
    assert len(engine.chunks) <= 500  # of 2,000 items, some hundred of which end in each hundredth of a second


async def test_under_a_limit_object_errors_and_early_ends_work_the_same():
    limit = paco.Limit(10)
    found = await on(paco.map(odd_fails, range(4), limit=limit, return_exceptions=True), Engine())
    assert [repr(one) for one in found] == ["0", "ValueError(1)", "2", "ValueError(3)"]
    with pytest.raises(ValueError, match="1"):
        await on(paco.map(odd_fails, range(100), limit=limit), Engine())
    engine = Engine()
    with pytest.raises(TimeoutError):
        await on(paco.map(forever, range(100), limit=limit, timeout=3), engine)
    assert Seen.running == 0
    assert engine.closed
    assert limit.in_flight == 0


async def test_under_a_limit_object_items_of_a_dead_worker_run_again():
    found = await on(paco.map(dies, range(770, 780), limit=paco.Limit(5), return_exceptions=True), Engine())
    assert [one for one in found if isinstance(one, int)] == [number for number in range(770, 780) if number != 777]
    assert isinstance(found[7], WorkerLost)


async def test_under_a_limit_object_an_item_that_cannot_be_sent_ends_the_run():
    lock = threading.Lock()

    async def locks(number):
        await asyncio.sleep(0)
        return lock

    with pytest.raises(TypeError, match=r"locks cannot be sent to other processes: its lock is <unlocked") as caught:
        await on(paco.map(locks, [1], limit=paco.Limit(1)), Engine())
    assert caught.value.__notes__ == ["paco.map: its workers"]

    class Full(Engine):
        def submit(self, *chunk):
            raise MemoryError("full")

    with pytest.raises(MemoryError, match="full"):
        await on(paco.map(double, [1, 2], limit=paco.Limit(1)), Full())


# ---- with a journal


async def test_with_a_journal_a_stream_on_workers_runs_ahead_of_a_slow_item(tmp_path):
    stream = on(paco.map(nap, [100] + [1] * 60, limit=2), Engine(2, 64)).journal(tmp_path / "run.jsonl")
    assert len([result async for result in stream]) == 61
    assert asyncio.get_running_loop().time() < 105


async def test_with_a_journal_recorded_items_do_not_run_again_on_workers(tmp_path):
    path = tmp_path / "run.jsonl"
    for count in (50, 100):
        Seen.ended.clear()
        assert await on(paco.map(quick, range(count), limit=7), Engine()).journal(path) == list(range(count))
        assert len(Seen.ended) == 50
        assert Seen.most == 7


async def test_with_a_journal_settled_outcomes_are_recorded(tmp_path):
    path = tmp_path / "run.jsonl"
    for _ in range(2):
        stream = on(paco.map(paco.settle(odd_fails), range(4)), Engine()).journal(path, retry_errors=False)
        found = await stream
        assert [one.item for one in found] == [0, 1, 2, 3]
        assert [type(one) for one in found] == [paco.Ok, paco.Err] * 2


# ---- listeners


async def test_listeners_receive_the_events_of_an_item_with_its_times_when_its_chunk_is_back():
    heard = []
    with paco.listening(heard.append):
        await on(paco.map(quick, range(100), limit=4), Engine())
    started, ended = heard[0], heard[-1]
    assert (started.run.title, started.run.limit, started.run.total) == ("map quick", 4, 100)
    assert (ended.outcome, ended.run.ok, ended.run.failed, ended.run.in_flight) == ("ok", 100, 0, 0)
    ends = [event for event in heard if isinstance(event, events.ItemEnded)]
    assert sorted(event.position for event in ends) == list(range(100))
    assert {event.outcome for event in ends} == {"ok"}
    assert all(event.item == event.position for event in ends)
    assert {round(event.elapsed, 6) for event in ends} == {0.01}
    by_slot = {}
    for event in sorted(ends, key=lambda event: event.start):
        slot = event.worker, event.slot
        assert by_slot.get(slot, -math.inf) <= event.start + 1e-9  # items of one slot never overlap
        by_slot[slot] = event.end
    assert {slot for _, slot in by_slot} <= {0, 1, 2, 3}
    starts = [event for event in heard if isinstance(event, events.ItemStarted)]
    assert sorted(event.position for event in starts) == list(range(100))


@pytest.mark.parametrize("limit", [4, paco.Limit(4)])
async def test_listeners_receive_the_worker_of_an_item_and_the_counts_of_each_worker(limit):
    ends = []
    with paco.listening(ends.append, events.ItemEnded):
        await on(paco.map(odd_fails, range(100), limit=limit, return_exceptions=True), Engine())
    workers = ends[0].run.workers
    assert sorted(workers) == ["process 1 on here", "process 2 on here"]
    for name, worker in workers.items():
        there = [event for event in ends if event.worker == name]
        failed = sum(event.outcome == "failed" for event in there)
        assert (worker.ok, worker.failed, worker.done) == (len(there) - failed, failed, len(there))
        assert (worker.in_flight, worker.lost) == (0, False)
        assert repr(worker) == f"<{name}: {len(there)} done>"
    assert sum(worker.done for worker in workers.values()) == 100


async def test_an_item_that_did_not_run_on_a_worker_has_none_in_its_event():
    ends = []
    with paco.listening(ends.append, events.ItemEnded):
        await on(paco.map(double, [1, threading.Lock()], return_exceptions=True), Engine())
        await paco.map(double, [2])
    assert [(event.outcome, event.worker is None) for event in ends] == [
        ("failed", True),
        ("ok", False),
        ("ok", True),
    ]
    assert ends[-1].run.workers == {}


@pytest.mark.parametrize("limit", [20, paco.Limit(20)])
async def test_during_a_run_the_items_in_flight_of_each_worker_are_known(limit):
    runs = []
    with paco.listening(runs.append, events.RunStarted):
        task = asyncio.ensure_future(on(paco.map(nap, [1] * 100, limit=limit), Engine(2, 64)))
        await asyncio.sleep(0.5)
        (run,) = [event.run for event in runs]
        flights = [worker.in_flight for worker in run.workers.values()]
        assert (len(flights), sum(flights)) == (2, 20)
        assert min(flights) >= 8
        assert (run.in_flight, run.limit) == (20, 20)
        await task
    assert [worker.in_flight for worker in run.workers.values()] == [0, 0]


@pytest.mark.parametrize("limit", [20, paco.Limit(20)])
async def test_a_dead_worker_is_marked_as_lost(limit):
    engine, runs = Engine(2), []
    with paco.listening(runs.append, events.RunStarted):
        task = asyncio.ensure_future(on(paco.map(quick, range(1000), limit=limit), engine))
        await asyncio.sleep(0.2)
        engine.all[0].die()
        await task
    workers = runs[0].run.workers
    assert [(name, worker.lost) for name, worker in workers.items()] == [
        ("process 1 on here", True),
        ("process 2 on here", False),
        ("process 3 on here", False),
    ]
    assert repr(workers["process 1 on here"]).endswith(" done, lost>")
    assert sum(worker.done for worker in workers.values()) == 1000


async def test_with_a_journal_times_are_those_of_the_worker_and_waiting_items_are_not_in_flight(tmp_path):
    starts, ends = [], []
    with paco.listening(starts.append, events.ItemStarted), paco.listening(ends.append, events.ItemEnded):
        stream = on(paco.map(nap, [1, 1, 1, 1], limit=2), Engine()).journal(tmp_path / "run.jsonl")
        task = asyncio.ensure_future(stream)
        await asyncio.sleep(0.5)
        run = starts[0].run
        assert (run.started, run.in_flight, run.limit) == (4, 2, 2)
        assert await task == [1, 1, 1, 1]
    assert sorted(round(event.start - run.start, 6) for event in ends) == [0, 0, 1, 1]
    assert {round(event.elapsed, 6) for event in ends} == {1}


@pytest.mark.parametrize(("limit", "here", "there"), [(0, 0, LEAD), (3, 3, 3)])
async def test_listeners_see_the_limit_in_effect(limit, here, there):
    started = []
    with paco.listening(started.append, events.RunStarted):
        await paco.map(nap, range(5), limit=limit)
        await on(paco.map(nap, range(5), limit=limit), Engine())
    assert [event.run.limit for event in started] == [here, there]


async def test_with_a_journal_records_name_the_worker(tmp_path):
    await on(paco.map(nap, [1, 2], limit=2), Engine()).journal(path := tmp_path / "run.jsonl")
    records = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert sorted(record["worker"] for record in records) == ["process 1 on here", "process 2 on here"]


async def test_attempts_on_workers_are_reported_under_a_limit_object_too():
    ends = []
    with paco.listening(ends.append, events.ItemEnded):
        fn = paco.settle(paco.retry(odd_fails, attempts=3, wait=0))
        await on(paco.map(fn, range(4), limit=paco.Limit(4)), Engine())
    assert sorted((event.item, event.outcome, event.attempts) for event in ends) == [
        (0, "ok", 1),
        (1, "failed", 3),
        (2, "ok", 1),
        (3, "failed", 3),
    ]
    assert ends[0].run.retried == 2


def test_processes_of_one_machine_share_a_clock():
    async def main():
        stats = WorkerStats({}, here=True)
        return stats.ran(Report("a", 1, spans=[(0, 2, 5.0, 6.0, 1, False)], now=-100.0), 1)

    assert asyncio.run(main()) == {0: ("a", 2, 5.0, 6.0, 1, False)}


async def test_the_clock_of_a_worker_is_corrected_by_its_fastest_report():
    workers = {}
    stats, start = WorkerStats(workers), asyncio.get_running_loop().time()

    def times(name, now, began, ended):
        ran = stats.ran(Report(name, 1, spans=[(0, 2, began, ended, 1, False)], now=now), 1)
        return ran[0].slot, ran[0].start - start, ran[0].end - start

    await asyncio.sleep(10)
    assert times("a", 1000.0, 995.0, 999.0) == (2, 5, 9)
    assert times("b", -7.0, -8.0, -7.0) == (2, 9, 10)
    await asyncio.sleep(3)  # the report of an item that ended a second ago was two seconds on its way
    assert times("a", 1001.0, 1000.0, 1001.0) == (2, 10, 11)
    await asyncio.sleep(3)
    assert times("a", 1008.0, 1007.0, 1008.0) == (2, 15, 16)  # a quicker one: what comes from now on is earlier
    assert {name: worker.ok for name, worker in workers.items()} == {"a": 3, "b": 1}


async def test_listeners_receive_failures_and_attempts():
    heard = []
    with paco.listening(heard.append, events.ItemEnded):
        await on(paco.map(paco.settle(paco.retry(odd_fails, attempts=3, wait=0)), range(4)), Engine())
        await on(paco.map(odd_fails, [4, 5], return_exceptions=True), Engine())
    told = sorted((event.item, event.outcome, event.attempts, repr(event.error)) for event in heard)
    assert told == [
        (0, "ok", 1, "None"),
        (1, "failed", 3, "ValueError(1)"),
        (2, "ok", 1, "None"),
        (3, "failed", 3, "ValueError(3)"),
        (4, "ok", 1, "None"),
        (5, "failed", 1, "ValueError(5)"),
    ]


async def test_listeners_receive_the_end_of_an_abandoned_and_of_a_failed_run():
    heard = []
    with paco.listening(heard.append):
        async with on(paco.map(first_is_quick, range(10)), Engine(5)).as_completed() as stream:
            async for _ in stream:
                break
        with pytest.raises(ValueError, match="1"):
            await on(paco.map(odd_fails, range(10), limit=1), Engine())
        with pytest.raises(TypeError):
            await on(paco.map(double, [threading.Lock()]), Engine())
    ended = [event for event in heard if isinstance(event, events.RunEnded)]
    assert [event.outcome for event in ended] == ["cancelled", "failed", "failed"]
    failed = [event for event in heard if isinstance(event, events.ItemEnded) and event.outcome == "failed"]
    assert [event.position for event in failed] == [1, 0]


async def test_listeners_of_one_kind_receive_only_that_kind():
    for kind in (events.RunEnded, events.ItemStarted):
        heard = []
        with paco.listening(heard.append, kind):
            await on(paco.map(double, range(3)), Engine())
        assert {type(event) for event in heard} == {kind}


async def test_errors_after_the_first_are_in_the_note_of_the_first():
    with pytest.raises(TypeError) as caught:
        await on(paco.map(double, [threading.Lock(), threading.Lock()]), Engine(1))
    assert caught.value.__notes__[-1].startswith("paco.map: 1 more failed while stopping: item 1: TypeError(")


async def stubborn(number):
    if number == 2:
        await asyncio.sleep(1)
        raise ValueError(number)
    try:
        await asyncio.sleep(100)
    finally:
        raise KeyError(number)


@pytest.mark.parametrize("limit", [3, paco.Limit(3)], ids=["number", "object"])
@pytest.mark.parametrize("processes", [1, 2])
async def test_errors_of_cancelled_items_are_in_the_note_of_the_first_error(limit, processes):
    with pytest.raises(ValueError, match="2") as caught:
        await on(paco.map(stubborn, range(3), limit=limit), Engine(processes, slots=8))
    note = caught.value.__notes__[-1]
    assert note.startswith("paco.map: 2 more failed while stopping: item ")
    assert "item 0: KeyError(0)" in note
    assert "item 1: KeyError(1)" in note
    assert paco.testing.now() == 1


async def test_simultaneous_errors_of_two_workers_are_both_reported():
    async def fails(number):
        await asyncio.sleep(1)
        raise ValueError(number)

    with pytest.raises(ValueError, match="0") as caught:
        await on(paco.map(fails, range(2), limit=2), Engine())
    assert caught.value.__notes__[-1].startswith("paco.map: 1 more failed while stopping: item 1: ValueError(1)")


class Frozen(Exception):
    def __setattr__(self, name, value):
        raise AttributeError(name)


async def freezes(number):
    raise Frozen(number)


async def test_a_frozen_exception_is_raised():
    with pytest.raises(Frozen, match="7"):
        await on(paco.map(freezes, [7]), Engine())


async def test_under_a_limit_object_a_slow_item_does_not_hold_back_items_sent_with_it():
    stream = on(paco.map(nap, [5, 1], limit=paco.Limit(2)), Engine(2, slots=16)).as_completed()
    assert [(result, paco.testing.now()) async for result in stream] == [(1, 1), (5, 5)]


async def run_long(limit):
    await on(paco.map(nap, [10**6] * 3, limit=limit), Engine())


def test_a_run_whose_loop_is_gone_leaves_no_report():
    for limit in (2, paco.Limit(2)):
        loop = asyncio.new_event_loop()
        loop.set_exception_handler(lambda *_: None)  # it would tell of tasks that are destroyed
        task = loop.create_task(run_long(limit))
        for _ in range(10):
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            del task
            gc.collect()


# ---- what travels


async def test_closures_and_lambdas_can_be_sent(engine):
    factor = 3

    async def multiply(number):
        return factor * number

    assert await on(paco.map(multiply, [1, 2]), engine) == [3, 6]
    assert await on(paco.map(lambda number: multiply(number + 1), [1, 2]), Engine()) == [6, 9]


async def arrives(error):
    """Return an error; raise one that comes from an item."""
    if isinstance(error, Item):
        raise error.error
    return error


class Item:
    def __init__(self, error):
        self.error = error


class OfMain(Exception):
    """Its module is set to ``__main__`` in a test."""


@pytest.mark.usefixtures("without_cloudpickle")
@pytest.mark.parametrize(
    "wrapped",
    [raises_kind, paco.retry(raises_kind, 2, wait=0), paco.settle(raises_kind)],
    ids=["plain", "retry", "settle"],
)
@pytest.mark.parametrize("limit", [5, paco.Limit(5)], ids=["number", "object"])
async def test_without_cloudpickle_errors_and_results_arrive_as_themselves(wrapped, limit):
    outcomes = await on(paco.map(wrapped, RAISED, limit=limit, return_exceptions=True), Engine())
    found = [getattr(one, "error", getattr(one, "value", one)) for one in outcomes]
    assert dict(zip(RAISED, map(repr, found), strict=True)) == RAISED
    assert all("in raises_kind" in "".join(error.__notes__) for error in found[:-1])
    assert repr(found[list(RAISED).index("cause")].__cause__) == "ValueError('there')"
    with pytest.raises(ValueError, match="async"):
        await on(paco.map(raises_kind, ["value"]), Engine())
    with pytest.raises(RemoteError, match=r"^ValueError: <function .* \(it cannot be pickled\)"):
        await on(paco.map(raises_kind, ["local"]), Engine())


@pytest.mark.usefixtures("without_cloudpickle")
async def test_without_cloudpickle_what_main_defines_is_sent_by_name(monkeypatch):
    monkeypatch.setattr(OfMain, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "OfMain", OfMain, raising=False)
    assert [type(one) for one in await on(paco.map(arrives, [OfMain(5)]), Engine())] == [OfMain]
    with pytest.raises(OfMain, match="5"):
        await on(paco.map(arrives, [Item(OfMain(5))]), Engine())
    with monkeypatch.context() as there:  # a worker does not import the program
        data = _pickles.dumps(OfMain(5))
        there.delattr(sys.modules["__main__"], "OfMain")
        there.setattr(_pickles, "dumps", lambda _: data)
        told = r"the item cannot be sent .*OfMain.*; move it to a module of its own and import it, or pip install 'paco"
        with pytest.raises(TypeError, match=told):
            await on(paco.map(arrives, [OfMain(5)]), Engine())


async def test_functions_of_paco_can_be_items_and_results(engine):
    [settled] = await on(paco.map(identity, [paco.settle(double)]), engine)
    assert (await settled(2)).value == 4


@pytest.mark.parametrize("limit", [1, paco.Limit(1)], ids=["number", "object"])
async def test_a_plain_function_at_any_depth_ends_the_run(limit):
    with pytest.raises(TypeError, match=r"^paco\.retry: abs must be a coroutine function"):
        await on(paco.map(paco.settle(paco.timeout(paco.retry(abs, 4), 5)), range(9), limit=limit), Engine())


async def test_the_note_does_not_repeat_a_message_that_has_no_traceback():
    with pytest.raises(TypeError, match="len must be a coroutine function") as caught:
        await on(paco.map(paco.settle(len), ["a"]), Engine())
    where, which = caught.value.__notes__
    assert re.fullmatch(r"in process \d+ on \S+", where)
    assert which == "paco.map: item 0: 'a'"


@pytest.mark.usefixtures("without_cloudpickle")
async def test_without_cloudpickle_importable_functions_work_and_others_say_what_to_do():
    wrapped = paco.settle(paco.retry(paco.timeout(double, 5), attempts=2))
    assert [one.value for one in await on(paco.map(wrapped, [1, 2]), Engine())] == [2, 4]
    assert await on(paco.map(power, [2], 0, None, None, False, 3), Engine()) == [8]

    async def closure(number):
        return number

    install = r"and import it, or pip install 'paco\[workers\]'(\n|$)"
    with pytest.raises(TypeError, match=f"closure cannot be imported by name; define it at the top level .* {install}"):
        await on(paco.map(closure, [1]), Engine())
    main = type("Main", (), {"__module__": "__main__", "__call__": closure})
    with pytest.raises(TypeError, match=f"Main is defined in __main__; move it to a module of its own {install}"):
        await on(paco.map(main(), [1]), Engine())
    with pytest.raises(TypeError, match=f"the item <function .*closure cannot be imported by name; .* {install}"):
        await on(paco.map(double, [closure]), Engine())


async def test_a_limit_inside_the_function_is_refused():
    rate = paco.Rate(5)

    async def polite(number):
        async with rate.slot():
            return number

    message = r"polite cannot be sent to other processes: its rate is <paco\.Rate 5 .* pass it to the call, as limit=\n"
    with pytest.raises(TypeError, match=message):
        await on(paco.map(polite, [1]), Engine())


async def test_a_callable_object_can_be_sent():
    class Multiply:
        def __init__(self, factor):
            self.factor = factor

        async def __call__(self, number):
            return self.factor * number

    assert await on(paco.map(Multiply(3), [1, 2]), Engine()) == [3, 6]
    with pytest.raises(TypeError, match=r"cannot be sent to other processes: cannot pickle '_thread\.lock' object"):
        await on(paco.map(Multiply(threading.Lock()), [1, 2]), Engine())


async def test_a_wrapped_function_that_refers_to_itself_can_be_sent():
    async def inner(number):
        return number

    settled = paco.settle(inner)
    settled.__dict__["itself"] = settled
    copy = _pickles.loads(_pickles.dump_function("map", settled))
    assert copy.itself is copy
    assert copy.__name__ == "inner"


async def test_items_that_pickle_refuses_are_sent_by_cloudpickle(engine):
    async def call(fn):
        return fn(1)

    assert await on(paco.map(call, [lambda number: number + 1]), engine) == [2]
    assert await on(paco.map(double, ["__main__"]), Engine()) == ["__main____main__"]


async def test_a_large_function_gives_a_warning():
    data = bytes(2_000_000)

    async def large(number):
        return len(data)

    with pytest.warns(UserWarning, match=r"paco\.map: large takes 2\.0 MB, which are sent with every chunk"):
        assert await on(paco.map(large, [1]), Engine()) == [2_000_000]


async def test_large_items_are_sent_in_small_chunks():
    engine = Engine(2)
    await on(paco.map(length, [bytes([number]) * 100_000 for number in range(200)], limit=50), engine)
    later = [count for _, count in engine.chunks[4:]]
    assert max(later) <= 10


async def length(data):
    return len(data)


# ---- laws


async def acts(item):
    """Do what is asked, and die for it once if that is asked."""
    number, naps, does = item
    Seen.running += 1
    Seen.most = max(Seen.most, Seen.running)
    try:
        for _ in range(naps):
            await asyncio.sleep(0.1)
        if does == "dies" and number not in Seen.ended:
            Seen.ended.append(number)
            process.get().die()
            await asyncio.sleep(1000)
        if does == "fails":
            raise ValueError(number)
    finally:
        Seen.running -= 1
    return number


FORMS = ["list", "stream", "as completed", "limit object", "journal"]


@settings(deadline=None, max_examples=60)
@given(
    plan=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["works"] * 5 + ["fails", "dies"])), max_size=60),
    limit=st.integers(1, 12),
    processes=st.integers(1, 3),
    slots=st.integers(1, 64),
    form=st.sampled_from(FORMS),
)
def test_under_random_faults_each_item_has_its_result_once_and_nothing_is_left(plan, limit, processes, slots, form):
    Seen.running = Seen.most = 0
    Seen.ended = []
    engine = Engine(processes, max(slots, processes))
    items = [(number, naps, does) for number, (naps, does) in enumerate(plan)]

    async def main():
        bound = paco.Limit(limit) if form == "limit object" else limit
        stream = on(paco.map(acts, items, limit=bound, return_exceptions=True), engine)
        if form == "list":
            return await stream
        if form == "journal":
            with tempfile.TemporaryDirectory() as folder:
                return await stream.journal(f"{folder}/run.jsonl")
        if form == "as completed":
            return sorted([one async for one in stream.as_completed()], key=position)
        return [one async for one in stream]

    found = paco.testing.run(main)
    assert [position(one) for one in found] == [number for number, _, _ in items]
    assert [isinstance(one, ValueError) for one in found] == [does == "fails" for _, _, does in items]
    assert engine.deaths == sum(does == "dies" for _, _, does in items)
    assert Seen.running == 0
    assert engine.closed
    if not engine.deaths:
        assert Seen.most <= limit


def position(result):
    return result.args[0] if isinstance(result, ValueError) else result


async def test_an_invalid_engine_is_refused_and_the_stream_is_unchanged():
    class Broken:
        def submit(self, fn, *args):
            raise ZeroDivisionError

    stream = paco.map(paco.identity, [1])
    with pytest.raises(TypeError, match=r"^paco\.map\.on: engine must be a number of processes such as "):
        stream.on(3.5)
    with pytest.raises(ZeroDivisionError):
        await stream.on(Broken())


@pytest.mark.parametrize(("buffer", "most"), [(None, LEAD), (0, 1), (1, 1), (5, 5)])
def test_without_a_limit_a_stream_runs_ahead_up_to_the_bound_of_the_workers(buffer, most):
    sink = Plan("map", paco.identity, [1], 0, buffer=buffer, engine=lambda: None).consumed()
    assert (sink.window, sink.most) == (2 * LEAD, most)


async def test_an_invalid_report_of_a_worker_ends_the_run():
    class Nonsense:
        def submit(self, fn, *args):
            future = Future()
            future.set_result(Report("elsewhere", 1, values=_pickles.dump_all({7: "of which item?"})[0]).dump())
            return future

    with pytest.raises(IndexError):
        await paco.map(paco.identity, [1]).on(Nonsense())
