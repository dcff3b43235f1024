"""The report in a real browser: headless Chromium, asked through its own protocol. Skipped where there is none."""

from __future__ import annotations

import asyncio
import heapq
import random
import shutil
import subprocess
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
import pytest

from paco._pictures.page import page
from tests.patience import PATIENCE, wait_until
from tests.pictures.test_trace import record_of

if TYPE_CHECKING:
    from pathlib import Path

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
]
#: Whether something is seen.
SEEN = "performance.getEntriesByName('first-contentful-paint').length > 0"
#: What sticks out to the side, drawings that have no height or nothing in them, words that lie one over the other.
FAULTS = """(() => {
    const faults = [];
    if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the window');
    for (const svg of document.querySelectorAll('svg')) {
        const box = svg.getBoundingClientRect();
        if (box.width < 200 || box.height < 40 || svg.querySelectorAll('path,rect').length < 2)
            faults.push(svg.getAttribute('aria-label'));
    }
    for (const axis of document.querySelectorAll('.xs')) {
        const boxes = [...axis.children].map(label => label.getBoundingClientRect());
        for (let at = 1; at < boxes.length; at++)
            if (boxes[at].left < boxes[at - 1].right) faults.push(axis.innerText);
    }
    for (const axis of document.querySelectorAll('.ys')) {
        const boxes = [...axis.children].map(label => label.getBoundingClientRect()).sort((a, b) => a.top - b.top);
        for (let at = 1; at < boxes.length; at++)
            if (boxes[at].top < boxes[at - 1].bottom - 4) faults.push(axis.innerText);
    }
    return faults;
})()"""
COLOURS = """[getComputedStyle(document.querySelector('.paco-report')).backgroundColor,
    getComputedStyle(document.querySelector('path.failed')).stroke]"""


class Browser:
    """A page of a browser: commands go out, answers and events come in."""

    def __init__(self, socket):
        self._socket = socket
        self._number = 0
        self.troubles = []

    async def call(self, method, **params):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        return await self._until(lambda told: told.get("id") == self._number)

    async def _until(self, wanted):
        async with asyncio.timeout(PATIENCE):
            while True:
                told = await self._socket.receive_json()
                if told.get("method") in {"Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"}:
                    self.troubles.append(told)
                if told.get("method", "").startswith("Network.requestWillBeSent"):
                    url = told["params"]["request"]["url"]
                    if not url.startswith("file:"):
                        self.troubles.append(url)
                assert "error" not in told, told
                if wanted(told):
                    return told.get("result")

    async def open(self, path):
        await self.call("Page.navigate", url=path.as_uri())
        await self._until(lambda told: told.get("method") == "Page.loadEventFired")
        while not await self.ask(SEEN):  # noqa: ASYNC110 - the browser's state
            await asyncio.sleep(0.01)

    async def ask(self, expression):
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        return answer["result"]["value"]

    async def worked(self):
        """Return the seconds of CPU that the process of the page has taken so far."""
        metrics = (await self.call("Performance.getMetrics"))["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "ProcessTime")

    async def window(self, width, scheme):
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 500
        )
        feature = {"name": "prefers-color-scheme", "value": scheme}
        await self.call("Emulation.setEmulatedMedia", features=[feature])


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Start one browser for all tests, and return where it listens."""
    folder = tmp_path_factory.mktemp("profile")
    silent = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={folder}", "about:blank"], **silent)
    try:
        port = folder / "DevToolsActivePort"
        wait_until(lambda: port.exists() and port.read_text("utf-8").count("\n"))
        yield f"http://127.0.0.1:{port.read_text('utf-8').splitlines()[0]}"
    finally:
        process.terminate()
        process.wait()


@asynccontextmanager
async def browsing(address):
    async with aiohttp.ClientSession(trust_env=False) as session:
        async with session.get(f"{address}/json") as response:
            (page,) = [one for one in await response.json() if one["type"] == "page"]
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            browser = Browser(socket)
            for domain in ("Page", "Runtime", "Log", "Network"):
                await browser.call(f"{domain}.enable")
            yield browser


def report(path: Path, count: int, limit: int, workers: int = 0) -> None:
    """Write the report of a run whose items take times of all sizes, and of which some fail."""
    dice = random.Random(1)  # noqa: S311 - dice, not secrets
    free, spans = [0.0] * limit, []
    for _ in range(count):
        start = heapq.heappop(free)
        spans.append((start, start + dice.lognormvariate(-2, 1)))
        heapq.heappush(free, spans[-1][1])
    states = ["failed" if dice.random() < 0.01 else "ok" for _ in spans]
    names = [f"process {number} on worker-{number}.cluster.example.org" for number in range(workers)] or [None]
    path.write_text(page([record_of(spans, limit=limit, states=states, workers=names)]), "utf-8")


@pytest.mark.parametrize("workers", [0, 2, 10, 70])
async def test_the_report_opens_without_console_messages_in_light_and_dark_and_on_a_phone(address, tmp_path, workers):
    report(tmp_path / "report.html", 2_000, 30, workers)
    seen = set()
    async with browsing(address) as browser:
        for width in (1280, 800, 390):
            for scheme in ("light", "dark"):
                await browser.window(width, scheme)
                await browser.open(tmp_path / "report.html")
                assert await browser.ask(FAULTS) == []
                seen.add((scheme, *await browser.ask(COLOURS)))
        assert browser.troubles == []
    assert seen == {
        ("light", "rgb(255, 255, 255)", "rgb(209, 36, 47)"),
        ("dark", "rgb(13, 17, 23)", "rgb(255, 106, 105)"),
    }


@pytest.mark.parametrize("limit", [50, 5_000])  # with some thousand slots there is most to be drawn
async def test_the_report_of_100_000_items_opens_in_less_than_a_second(address, tmp_path, limit):
    """By CPU time of the process that shows the page, which a busy machine does not stretch."""
    report(tmp_path / "report.html", 100_000, limit)
    async with browsing(address) as browser:
        await browser.call("Performance.enable")
        await browser.open(tmp_path / "report.html")  # to have the browser itself warm
        before = await browser.worked()
        await browser.open(tmp_path / "report.html")
        assert 0 < await browser.worked() - before < 1
        assert await browser.ask(FAULTS) == []
        assert browser.troubles == []
