"""The crawler visits every page of two local sites once, and two at a time on each."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import Counter
from contextlib import closing

import pytest

pytestmark = pytest.mark.realtime

PAGES = 30


class Site:
    """Page n links to pages 2n + 1, 2n + 2 and 0, to the same page of the other site, and to a host far away."""

    def __init__(self):
        self.lock = threading.Lock()
        self.asked = Counter()
        self.running = self.most = 0
        self.other = ""

    def __call__(self, request):
        with self.lock:
            self.asked[request.path] += 1
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.01)
        with self.lock:
            self.running -= 1
        number = int(request.path[1:])
        if number >= PAGES:
            return 404, {}, b""
        own = "".join(f'<a href="/{link}#part">' for link in (2 * number + 1, 2 * number + 2, 0))
        page = f'<title>Page {number}</title>{own}<a href="{self.other}/{number}"><a href="http://far.example/">'
        return 200, {"Content-Type": "text/html"}, page.encode()


def test_it_saves_every_page_once_and_asks_each_host_for_two_at_a_time(serve, finished, tmp_path):
    one, other = Site(), Site()
    other.other, one.other = serve(one), serve(other)
    database = tmp_path / "pages.db"

    out = finished("crawler.py", database, f"{other.other}/0", f"{one.other}/0", "--rate", 500)

    numbers = range(2 * PAGES + 1)  # the last link of the last page
    assert "122 pages" in out
    assert one.asked == other.asked == Counter({f"/{number}": 1 for number in numbers})
    assert (one.most, other.most) == (2, 2)
    with closing(sqlite3.connect(database)) as pages:
        rows = pages.execute("SELECT url, title, error FROM page").fetchall()
    assert len(rows) == 2 * len(numbers)
    for url, title, error in rows:
        number = int(url.rpartition("/")[2])
        assert title == (f"Page {number}" if number < PAGES else None)
        assert (error or "").startswith("404" if number >= PAGES else "")
