"""A crawl with an `Inbox` and a journal that is killed and resumed: every page, and none again that was delivered."""

from __future__ import annotations

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.posix]

CRAWL = """
import asyncio, os, sys, paco

SITE = {page: [2 * page + 1, 2 * page + 2] for page in range(30)}

async def links_of(page):
    await asyncio.sleep(0.001)
    os.write(fetched, f"{page}\\n".encode())
    return page, SITE.get(page, [])

async def crawl(kill_after):
    inbox, count = paco.Inbox([0], unique=True), 0
    async with paco.map(links_of, inbox, limit=5).as_completed().journal("crawl.jsonl") as results:
        async for page, links in results:
            inbox.add(*links)
            count += 1
            os.write(delivered, f"{page}\\n".encode())
            if count == kill_after:
                os.kill(os.getpid(), 9)

fetched, delivered = (os.open(name, os.O_WRONLY | os.O_CREAT | os.O_APPEND) for name in ("fetched", "delivered"))
asyncio.run(crawl(int(sys.argv[1])))
"""


def numbers(path):
    return [int(line) for line in path.read_text("utf-8").split()]


def test_a_crawl_that_adds_in_the_loop_over_results_visits_every_page_after_kills(start, tmp_path):
    lengths = [0]
    for kill_after, code in [(5, -9), (15, -9), (0, 0)]:
        process = start("-c", CRAWL, str(kill_after), cwd=tmp_path)
        process.communicate()
        assert process.returncode == code
        lengths.append(len(numbers(tmp_path / "delivered")))
    fetched, delivered = numbers(tmp_path / "fetched"), numbers(tmp_path / "delivered")
    assert set(fetched) == set(range(61))
    assert sorted(delivered[lengths[2] :]) == list(range(61))  # the last run delivered every page once
    assert [page for page in delivered[: lengths[2]] if fetched.count(page) > 1] == []
