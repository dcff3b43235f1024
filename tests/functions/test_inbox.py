"""`Inbox`: items are added while a run reads them. Each runs once, and the inbox ends once, when no more can come."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

import paco
from paco import testing
from paco.testing import Probe, now

LIMITS = {"1": lambda: 1, "3": lambda: 3, "none": lambda: 0, "Limit": lambda: paco.Limit(3)}
TREE = list(range(31))
limits = pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)


def below(number):
    return [child for child in (2 * number + 1, 2 * number + 2) if child in TREE]


def nap(takes=1):
    return Probe(lambda item: item, takes=takes)


def crawler(inbox, takes=1):
    probe = nap(takes)

    async def crawl(number):
        await probe(number)
        inbox.add(*below(number))
        return number

    return crawl


@limits
async def test_an_inbox_does_not_end_while_an_item_is_in_back_off(limit):
    inbox, fails = paco.Inbox([0]), [False, True]

    async def crawl(number):
        if number == 0:
            if fails.pop():
                raise OSError
            inbox.add(1)
        return number

    assert await paco.map(paco.retry(crawl, on=lambda _: 10), inbox, limit=limit()) == [0, 1]
    assert now() == 10


@limits
async def test_items_that_items_add_run_once(limit):
    inbox = paco.Inbox([0])
    assert sorted(await paco.map(crawler(inbox), inbox, limit=limit())) == TREE
    assert repr(inbox) == "<paco.Inbox with 0 items, ended>"


@limits
async def test_what_was_added_before_is_dropped(limit):
    inbox = paco.Inbox([0, 0], unique=lambda number: number % 7)
    assert sorted(await paco.map(crawler(inbox), inbox, limit=limit())) == [0, 1, 2, 3, 4, 5, 6]
    inbox = paco.Inbox(unique=True)
    assert [inbox.add(1, 2, 1), inbox.add(2), inbox.add(3, 3)] == [2, 0, 1]


@limits
@pytest.mark.parametrize("pause", [0, 5])
@pytest.mark.parametrize("count", [1, 3, 9])
async def test_a_run_ends_after_items_were_retried(limit, pause, count):
    failed = set()

    async def fetch(page):
        await asyncio.sleep(page % 2)
        if page % 3 == 0 and page not in failed:
            failed.add(page)
            raise OSError
        return page

    fetch = paco.retry(fetch, on=lambda _: pause)
    assert await paco.map(fetch, paco.Inbox(range(count)), limit=limit()) == list(range(count))
    failed.clear()
    both = paco.Inbox(range(count)) | paco.map(fetch, limit=limit()) | paco.map(nap(), limit=limit())
    assert await both == list(range(count))


TIMEOUTS = {
    "asyncio": lambda put, item: _within(asyncio.timeout(2), put(item)),
    "TimeoutLimit": lambda put, item: _within(paco.TimeoutLimit(2), put(item)),
    "timeout": lambda put, item: paco.timeout(put, 2)(item),
    "wait_for": lambda put, item: asyncio.wait_for(put(item), 2),
}


async def _within(block, coro):
    async with block:
        await coro


@pytest.mark.parametrize("limit", [lambda: 1, lambda: paco.Limit(1)], ids=["1", "Limit"])
@pytest.mark.parametrize("timed", TIMEOUTS.values(), ids=TIMEOUTS)
async def test_an_item_that_puts_for_a_time_waits_for_room_and_may_drop_what_it_puts(limit, timed):
    inbox, dropped = paco.Inbox([0], maxsize=1), []

    async def work(item):
        for more in (1, 2, 3) if item == 0 else ():
            try:
                await timed(inbox.put, more)
            except TimeoutError:
                dropped.append(more)
        return item

    done = await paco.map(work, inbox, limit=limit())
    assert sorted(done + dropped) == [0, 1, 2, 3]


async def test_a_later_stage_may_wait_again_after_the_inbox_was_closed():
    inbox = paco.Inbox([1])
    async with inbox | paco.map(nap(10)) | paco.map(nap()) as results:
        for _ in range(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(results), 1)
            inbox.close()
        assert await anext(results) == 1


@limits
@pytest.mark.parametrize("completed", [False, True])
async def test_a_slow_consumer_may_add_what_it_finds(limit, completed):
    inbox, found = paco.Inbox([0]), []
    stream = paco.map(nap(), inbox, limit=limit())
    async for number in stream.as_completed() if completed else stream:
        await asyncio.sleep(0.7)
        inbox.add(*below(number))
        found.append(number)
    assert sorted(found) == TREE


@limits
async def test_a_later_stage_may_add_what_it_finds(limit):
    inbox = paco.Inbox([0])
    crawl = crawler(inbox)
    assert sorted(await (inbox | paco.map(nap(), limit=limit()) | paco.map(crawl, limit=limit()))) == TREE
    inbox = paco.Inbox([0])
    await (inbox | paco.filter(paco.constant(True)) | paco.flat_map(nap()) | paco.each(crawler(inbox), limit=limit()))
    assert not inbox.has_result()


@limits
async def test_a_batch_that_nothing_else_can_fill_is_delivered(limit):
    inbox, found = paco.Inbox([0]), []

    async def add(batch):
        await asyncio.sleep(1)
        found.extend(batch)
        for number in batch:
            inbox.add(*below(number))

    await (inbox | paco.map(nap(), limit=limit()) | paco.batch(5) | paco.each(add, limit=limit()))
    assert sorted(found) == TREE


async def test_items_that_are_dropped_end_too():
    inbox = paco.Inbox(range(10))
    assert await (inbox | paco.filter(paco.constant(False), limit=2) | paco.map(nap())) == []
    inbox = paco.Inbox([[0, [1]], [], [2]])
    assert await paco.flat_map(nap(), inbox, limit=2) == [0, 1, 2]


async def test_a_plain_async_for_ends_an_item_when_it_asks_for_the_next():
    inbox, found = paco.Inbox([0]), []
    async for number in inbox:
        inbox.add(*below(number))
        found.append(number)
    assert found == TREE


async def test_an_empty_inbox_ends_at_once():
    assert await paco.map(nap(), paco.Inbox()) == []
    assert await paco.map(nap(), paco.Inbox()).drain() == 0
    assert [item async for item in paco.Inbox()] == []
    assert now() == 0


async def test_failures_retries_and_outcomes_do_not_keep_it_open():
    inbox, tries = paco.Inbox([0]), []

    async def fail(number):
        tries.append(number)
        await asyncio.sleep(1)
        if len(tries) % 3:
            raise OSError
        inbox.add(*below(number))

    again = paco.retry(fail, attempts=2, wait=1)
    outcomes = await paco.map(paco.settle(again), inbox, limit=2)
    assert len(outcomes) >= 1
    inbox = paco.Inbox([1, 0, 2])

    async def invert(number):
        return 1 / number

    assert [type(one) for one in await paco.map(invert, inbox, return_exceptions=True)] == [
        float,
        ZeroDivisionError,
        float,
    ]


async def test_an_error_closes_the_inbox():
    inbox = paco.Inbox([0, 1, 2, 3])

    async def fail(number):
        try:
            await asyncio.sleep(number)
            raise ValueError(number)
        finally:
            assert inbox.add(9) == (number == 0)

    with pytest.raises(ValueError, match="0"):
        await paco.map(fail, inbox, limit=2)
    assert repr(inbox) == "<paco.Inbox with 0 items, closed>"


async def test_skipped_items_of_a_journal_end_too(tmp_path):
    probe = nap()
    for _ in range(2):
        inbox = paco.Inbox([0])

        async def crawl(number, inbox=inbox):
            return await probe(number)

        results = []
        async with paco.map(crawl, inbox, limit=2).journal(tmp_path / "run.jsonl") as stream:
            async for number in stream:
                inbox.add(*below(number))
                results.append(number)
        assert results == TREE
    assert probe.started == TREE


async def absolute(number):
    return abs(number)


@pytest.mark.realtime
async def test_items_that_run_elsewhere_end_too():
    with ThreadPoolExecutor(2) as pool:
        inbox = paco.Inbox([0])

        def crawl(number):
            assert inbox.add(*below(number)) == len(below(number))
            return number

        assert sorted(await paco.map(crawl, inbox, limit=2).on(pool)) == TREE
    inbox = paco.Inbox([0])
    async with paco.map(absolute, inbox, limit=2).on(1) as results:
        assert [number async for number in results if inbox.add(*below(number)) >= 0] == TREE
    assert await paco.map(absolute, paco.Inbox([1]), limit=2).on(1) == [1]


@given(
    links=st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 20), max_size=4)),
    first=st.lists(st.integers(0, 20), max_size=4),
    limit=st.integers(0, 4),
    maxsize=st.none() | st.just(1000),
    takes=st.lists(st.floats(0, 3), min_size=1),
    after=st.booleans(),
)
def test_every_added_item_runs_exactly_once(links, first, limit, maxsize, takes, after):
    async def main():
        inbox, ran = paco.Inbox(first, unique=True, maxsize=maxsize), []

        async def crawl(number):
            ran.append(number)
            await asyncio.sleep(takes[number % len(takes)])
            for link in links.get(number, []) if not after else []:
                await inbox.put(link)
            return number

        results = []
        async for number in paco.map(crawl, inbox, limit=limit):
            results.append(number)
            inbox.add(*links.get(number, []) if after else [])
        reached, todo = set(first), list(first)
        while todo:
            new = set(links.get(todo.pop(), [])) - reached
            reached |= new
            todo.extend(new)
        assert results == ran
        assert sorted(results) == sorted(reached)
        with pytest.raises(RuntimeError, match="has ended"):
            inbox.add(99)

    testing.run(main)


# ---- close, put


async def test_a_closed_inbox_gives_out_what_it_has_and_takes_no_more():
    inbox = paco.Inbox([0, 1])
    inbox.close()
    inbox.close()
    assert [inbox.add(2), await inbox.put(2)] == [0, False]
    assert await paco.map(crawler(inbox), inbox) == [0, 1]
    inbox = paco.Inbox([0])

    async def crawl(number):
        inbox.add(*below(number))
        await asyncio.sleep(1)
        if number == 5:
            inbox.close()
        return number

    assert await paco.map(crawl, inbox, limit=1) == list(range(13))


async def test_close_ends_a_run_that_waits():
    inbox = paco.Inbox([0])
    task = asyncio.ensure_future(paco.map(nap(5), inbox, limit=2))
    await asyncio.sleep(1)
    inbox.close()
    assert await task == [0]


async def test_put_waits_for_room():
    inbox = paco.Inbox([0], maxsize=2)
    run = asyncio.ensure_future(paco.map(nap(), inbox, limit=1))
    times = []
    for number in range(1, 6):
        assert await inbox.put(number)
        times.append(now())
    assert times in ([0, 0, 0, 1, 2], [0, 0, 1, 2, 3])
    assert await run == list(range(6))


async def test_an_inbox_does_not_end_while_a_call_waits_for_room():
    inbox = paco.Inbox([0, 1], maxsize=2)
    puts = [asyncio.ensure_future(inbox.put(number)) for number in (2, 3, 4)]
    await asyncio.sleep(1)
    puts[1].cancel()
    assert await paco.map(nap(), inbox, limit=1) == [0, 1, 2, 4]
    assert [await puts[0], await puts[2]] == [True, True]


async def test_put_does_not_wait_for_what_is_known_and_not_after_the_run():
    inbox = paco.Inbox([0], maxsize=1, unique=True)
    assert await inbox.put(0) is False
    waits = asyncio.ensure_future(inbox.put(1))
    await asyncio.sleep(1)
    with pytest.raises(TimeoutError):
        await paco.map(nap(10), inbox, limit=1, timeout=0)
    assert await waits is False


async def test_a_put_that_is_cancelled_when_it_has_room_gives_it_to_the_next():
    inbox = paco.Inbox([0], maxsize=1)
    puts = [asyncio.ensure_future(inbox.put(number)) for number in (1, 2)]
    await asyncio.sleep(1)
    assert inbox.take() == 0
    puts[0].cancel()
    await asyncio.wait(puts, timeout=1)
    assert puts[0].cancelled()
    assert await puts[1]
    assert inbox.take() == 2


COUNTS = {
    "2": lambda: 2,
    "Limit": lambda: paco.Limit(2),
    "Adaptive": lambda: paco.Adaptive(start=2, max=2),
    "and": lambda: 2 & paco.Gate() & paco.Rate(1000, burst=10),
    "Budget": lambda: paco.Limit(2) & paco.Budget(1e9, cost=1),
    "PerKey": lambda: paco.PerKey(lambda _: "host", lambda: 2, lookahead=3),
    "PerKey and": lambda: paco.PerKey(lambda item: item % 5, lambda: 2, lookahead=3) & paco.Limit(2),
}


@pytest.mark.parametrize("make_limit", COUNTS.values(), ids=COUNTS)
async def test_items_that_all_wait_for_room_are_an_error(make_limit):
    inbox = paco.Inbox([0, 1, 2, 3], maxsize=2)

    async def crawl(number):
        await asyncio.sleep(1)
        for link in range(10):
            await inbox.put(10 + link)

    with pytest.raises(RuntimeError, match=r"put\(\) would wait forever: all 2 items in flight wait for room"):
        await paco.map(crawl, inbox, limit=make_limit())
    assert now() < 5


async def test_items_with_a_journal_that_all_wait_for_room_are_an_error(tmp_path):
    inbox = paco.Inbox([0, 1, 2, 3], maxsize=2)

    async def crawl(number):
        for link in range(10):
            await inbox.put(10 * number + link)

    with pytest.raises(RuntimeError, match="would wait forever: all 2 items"):
        await paco.map(crawl, inbox, limit=paco.Limit(2)).journal(tmp_path / "run.jsonl")


async def test_items_that_wait_for_others_that_wait_for_room_are_an_error():
    """They are in a run of their own, and a second run has the other permits."""
    limit, inbox, other = paco.Limit(3), paco.Inbox(range(4), maxsize=2), paco.Inbox([1, 2], maxsize=1)

    async def inner(number):
        await inbox.put(number)

    async def crawl(_):
        await asyncio.sleep(1)
        await paco.map(inner, range(10))

    async def stuck_too(number):
        await asyncio.sleep(3)
        await inbox.put(number)

    with pytest.raises(RuntimeError, match=r"would wait forever: all [23] items in flight"):
        await paco.gather(paco.map(crawl, inbox, limit=limit), paco.map(stuck_too, other, limit=limit))


@pytest.mark.parametrize(
    ("make_limit", "ahead"),
    [
        (lambda: paco.Limit(1), 0),
        (lambda: 1 & paco.Rate(1, burst=1), 0),
        (lambda: paco.Rate(10, burst=1), 0),
        (lambda: paco.PerKey(lambda item: item % 2, lambda: 1, lookahead=3), 0),
        (lambda: asyncio.Semaphore(50), 0),
        (lambda: 1, 5),
        (lambda: paco.Limit(1), 5),
    ],
    ids=["Limit", "Limit and Rate", "Rate", "PerKey", "Semaphore", "1, ahead", "Limit, ahead"],
)
async def test_an_item_that_waits_for_room_which_comes_is_no_error(make_limit, ahead):
    inbox = paco.Inbox([0], maxsize=1)

    async def crawl(number):
        if number < 4:
            await inbox.put(10 + number)
            if number < 1 or ahead:
                await inbox.put(20 + number)
            inbox.add(number + 1)
        return number

    async with paco.map(crawl, inbox, limit=make_limit()).ahead(ahead) as results:
        found = [number async for number in results]
    assert len(found) == len(set(found)) > 9


async def test_an_item_that_waits_for_room_while_another_key_will_be_free_is_no_error():
    inbox, limit = paco.Inbox([0, 2, 1], maxsize=1), paco.PerKey(lambda item: item % 2, lambda: 1, lookahead=2)

    async def crawl(number):
        if number == 0:
            await inbox.put(4)
            await inbox.put(6)  # the others wait: 2 for this item, and 1 for the block below
        return number

    async with limit.slot(1):
        run = asyncio.ensure_future(paco.map(crawl, inbox, limit=limit))
        await asyncio.sleep(1)
    assert await run == [0, 2, 1, 4, 6]


async def test_an_item_that_waits_for_room_while_results_wait_for_their_consumer_is_no_error():
    inbox, limit = paco.Inbox([0, 1, 2, 3], maxsize=1), paco.PerKey(lambda _: "host", lambda: 1, lookahead=3)

    async def crawl(number):
        if number == 0:
            await asyncio.sleep(1)  # meanwhile, the next three are taken
        if number == 2:
            await inbox.put(4)
            await inbox.put(5)  # item 3 waits for this one, and no other is taken while results wait
        return number

    found = []
    async with paco.map(crawl, inbox, limit=limit).buffer(1) as results:
        async for number in results:
            found.append(number)
            await asyncio.sleep(1)
    assert found == [0, 1, 2, 3, 4, 5]


async def test_a_put_under_a_limit_that_is_lent_elsewhere_waits():
    limit, inbox = paco.Limit(2), paco.Inbox([0, 1], maxsize=1)

    async def crawl(number):
        if number == 0:
            await inbox.put(2)
            await inbox.put(3)
        return number

    async with limit.slot():
        run = asyncio.ensure_future(paco.map(crawl, inbox, limit=limit))
        await asyncio.sleep(10)
    assert await run == [0, 1, 2, 3]


# ---- threads, misuse


@pytest.mark.realtime
async def test_threads_add_items():
    inbox = paco.Inbox(range(5))

    def add(number):
        return inbox.add(number + 100)

    async def crawl(number):
        if number < 5:
            await asyncio.to_thread(add, number)
        return number

    assert sorted(await paco.map(crawl, inbox, limit=3)) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]


async def test_one_run_reads_an_inbox():
    inbox = paco.Inbox([0])
    assert await paco.map(nap(), inbox) == [0]
    with pytest.raises(RuntimeError, match="it has ended, because it was empty and no item was in flight"):
        inbox.add(1)
    with pytest.raises(RuntimeError, match="one run can read an inbox, once"):
        await paco.map(nap(), inbox)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: paco.Inbox(5), TypeError, "items must be an iterable, got 5"),
        (lambda: paco.Inbox("text"), TypeError, "items must be an iterable, got 'text'"),
        (lambda: paco.Inbox(unique=5), TypeError, "unique must be a plain function"),
        (lambda: paco.Inbox(unique=nap().__call__), TypeError, "unique must be a plain function"),
        (lambda: paco.Inbox(maxsize=0), ValueError, "maxsize must be an int of 1 or more, got 0"),
        (lambda: paco.Inbox([[]], unique=True), TypeError, r"keys of unique must be hashable, got \[\]"),
    ],
    ids=["int", "text", "unique", "async", "maxsize", "unhashable"],
)
def test_wrong_arguments_are_refused(call, error, message):
    with pytest.raises(error, match=f"paco.Inbox: .*{message}"):
        call()


async def test_a_wait_for_an_item_can_be_cancelled_and_repeated():
    inbox = paco.Inbox([0])

    async def slow(number):
        await asyncio.sleep(5)
        inbox.add(*below(number))
        return number

    found = []
    async with paco.map(slow, inbox) as results:
        while len(found) < len(TREE):
            try:
                found.append(await asyncio.wait_for(anext(results), 0.7))
            except TimeoutError:
                pass
    assert sorted(found) == TREE


def test_a_crawler_can_be_cancelled_at_every_step(cancel_at_every_step):
    async def crawl():
        inbox = paco.Inbox([20, 3], maxsize=3)
        async with inbox | paco.map(crawler(inbox), limit=2) | paco.batch(2) | paco.map(nap(), limit=2) as results:
            async for _ in results:
                await asyncio.sleep(0.2)

    async def put():
        inbox = paco.Inbox([0], maxsize=1)
        await paco.gather(paco.map(nap(), inbox, limit=1), inbox.put(1), inbox.put(2))

    async def deadlock():
        inbox = paco.Inbox([0, 1, 2, 3], maxsize=2)

        async def crawl(number):
            for link in range(10):
                await inbox.put(number + link)

        with pytest.raises(RuntimeError, match="would wait forever"):
            await paco.map(crawl, inbox, limit=paco.Limit(2))

    for main in (crawl, put, deadlock):
        cancel_at_every_step(main)
