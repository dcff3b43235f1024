"""Look at each page of ``site/`` in Chromium, as phone and desktop, light and dark: ``./dev docs --look``.

It takes pictures into ``site-look/``. It fails for what axe-core finds, for pages wider than the screen, for errors of
scripts, and for requests to other servers. It needs Chromium (``CHROMIUM=path``, or on the path).
"""

from __future__ import annotations

import functools
import http.server
import os
import shutil
import sys
import threading
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parent.parent
SITE: Final = ROOT / "site"
PICTURES: Final = ROOT / "site-look"
SCREENS: Final = {"phone": (390, 844), "desktop": (1280, 900)}
#: Named here, with a reason, is what a page may break.
ALLOWED: Final = {
    "empty-table-header",  # tables of measurements: the first column names the rows
}
WIDER: Final = "document.documentElement.scrollWidth > document.documentElement.clientWidth"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serve files, and do not log requests."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def pages() -> list[str]:
    """Return the address of each page below that of the site."""
    return sorted(path.parent.relative_to(SITE).as_posix() for path in SITE.rglob("index.html"))


def problems(tab: Any, page: str, base: str, axe: Any) -> Iterator[str]:
    """Yield what is wrong with a page."""
    heard: list[str] = []

    def request(one: Any) -> None:
        if not one.url.startswith((base, "data:", "blob:")):
            heard.append(f"loads {one.url}")

    def failed(error: Any) -> None:
        heard.append(f"script: {error}")

    tab.on("request", request)
    tab.on("pageerror", failed)
    tab.goto(base + page)
    tab.wait_for_timeout(200)
    if tab.evaluate(WIDER):
        heard.append("is wider than the screen")
    found = [one for one in axe.run(tab).response["violations"] if one["id"] not in ALLOWED]
    heard += [f"{one['id']}: {one['nodes'][0]['html'][:120]}" for one in found]
    tab.remove_listener("request", request)
    tab.remove_listener("pageerror", failed)
    yield from heard


def look(base: str, chromium: str, wanted: list[str]) -> int:
    """Look at the pages, print what is wrong, and return how much that is."""
    count, axe = 0, import_module("axe_playwright_python.sync_playwright").Axe()
    with import_module("playwright.sync_api").sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for scheme in ("light", "dark"):
            for screen, (width, height) in SCREENS.items():
                size: Any = {"width": width, "height": height}
                tab = browser.new_context(viewport=size, color_scheme=scheme).new_page()
                print(f"looking at {len(wanted)} pages ({screen}, {scheme}), which takes about a minute", flush=True)
                for page in wanted:
                    for problem in problems(tab, page, base, axe):
                        print(f"{page} ({screen}, {scheme}): {problem}", flush=True)
                        count += 1
                    name = page.replace("/", "-").replace(".", "home")
                    tab.screenshot(path=PICTURES / f"{name}-{screen}-{scheme}.png")
        browser.close()
    return count


def main(*wanted: str) -> int:
    """Serve the site, and look at the pages that are named, or at all."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("tools.look: Chromium is not on the path; install it, or name it: CHROMIUM=path")
    PICTURES.mkdir(exist_ok=True)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=SITE)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        count = look(f"http://127.0.0.1:{server.server_port}/", chromium, list(wanted) or pages())
        server.shutdown()
    print(f"{count} problems; the pictures are in {PICTURES.relative_to(ROOT)}/")
    return min(count, 1)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
