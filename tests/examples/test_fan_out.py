"""The service on a real uvicorn: its requests share a limit, end in time, and are cancelled when their client goes."""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import pytest

from tests.patience import PATIENCE, wait_until

httpx = pytest.importorskip("httpx", reason="needs httpx")
pytest.importorskip("fastapi", reason="needs FastAPI")
pytest.importorskip("uvicorn", reason="needs uvicorn")

pytestmark = pytest.mark.realtime


class Shop:
    """Sells lamps soon and boats never, and knows how many ask and how many have gone without an answer."""

    def __init__(self):
        self.lock = threading.Lock()
        self.running = self.most = self.gone = 0

    def __call__(self, request):
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        shop, _, product = request.path[1:].partition("/")
        seconds = {"lamp": 0.2, "car": 0.0 if shop < "5" else 2 * PATIENCE, "boat": 2 * PATIENCE}[product]
        gone = self.waits(request.connection, seconds)
        with self.lock:
            self.running -= 1
            self.gone += gone
        return (404, {}, b"") if shop == "3" else (200, {}, f"{shop}.5".encode())

    def waits(self, connection, seconds):
        """Wait, and return whether the client closed its connection meanwhile."""
        readable, _, _ = select.select([connection], [], [], seconds)
        return bool(readable and not connection.recv(1, socket.MSG_PEEK))


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def service(serve, program, shop):
    """Return a function that starts the service with so many seconds for each request, and returns its address."""

    def service(seconds):
        address = serve(shop)
        shops = " ".join(f"{address}/{number}" for number in range(8))
        process = program("fan_out.py", "--port", 0, environ={"SHOPS": shops, "SECONDS": str(seconds)})
        return next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))

    return service


def prices(address, product):
    answer = httpx.get(f"{address}/prices/{product}", timeout=PATIENCE)
    return {urlsplit(url).path: price for url, price in answer.raise_for_status().json().items()}


def test_all_requests_share_one_limit(service, shop):
    address = service(PATIENCE)
    with ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda _: prices(address, "lamp"), range(10)))
    assert answers == [{f"/{number}": number + 0.5 for number in range(8) if number != 3}] * 10
    assert 10 < shop.most <= 20


def test_it_answers_in_time_with_what_has_come(service, shop):
    address, began = service(2), time.monotonic()
    assert prices(address, "car") == {"/0": 0.5, "/1": 1.5, "/2": 2.5, "/4": 4.5}
    assert time.monotonic() - began > 1.9
    wait_until(lambda: shop.gone == 3)


def test_what_a_client_asked_for_is_cancelled_when_it_goes(service, shop):
    address = urlsplit(service(PATIENCE))
    with socket.create_connection((address.hostname, address.port)) as client:
        client.sendall(b"GET /prices/boat HTTP/1.1\r\nHost: here\r\n\r\n")
        wait_until(lambda: shop.running == 8)
        assert shop.gone == 0
    wait_until(lambda: shop.gone == 8)
