"""Crawl some sites into an SQLite database: every page once, and each host gently.

    python examples/crawler.py pages.db https://example.org/ https://docs.example.org/

It stays on the hosts of the pages that it begins with.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sqlite3
from urllib.parse import urldefrag, urljoin, urlsplit

import aiohttp

import paco


def host(url: str) -> str:
    return urlsplit(url).netloc


def row(page: paco.Ok[str, str] | paco.Err[str]) -> tuple[str, str | None, str | None]:
    match page:
        case paco.Ok(url, title):
            return url, title, None
        case paco.Err(url, error):
            return url, None, str(error)


async def main(args: argparse.Namespace) -> None:
    hosts = {host(url) for url in args.urls}
    frontier = paco.Inbox(args.urls, unique=True)
    gently = paco.PerKey(host, lambda _: paco.Rate(args.rate, burst=2) & 2)
    database = sqlite3.connect(args.database, check_same_thread=False)
    database.execute("CREATE TABLE IF NOT EXISTS page (url PRIMARY KEY, title, error)")

    @paco.threaded(threads=1)
    def save(pages: list[paco.Ok[str, str] | paco.Err[str]]) -> None:
        with database:  # one transaction
            database.executemany("INSERT OR REPLACE INTO page VALUES (?, ?, ?)", map(row, pages))

    async with aiohttp.ClientSession(raise_for_status=True) as session:

        @paco.settle
        @paco.retry(attempts=3, timeout=10, on=(aiohttp.ClientConnectionError, TimeoutError))
        async def fetch(url: str) -> str:
            async with session.get(url) as response:
                text = await response.text()
            links = [urldefrag(urljoin(url, link)).url for link in re.findall(r'href="([^"]+)"', text)]
            frontier.add(*[link for link in links if host(link) in hosts])
            return "".join(re.findall(r"<title>(.*?)</title>", text, re.DOTALL))

        with paco.progress():
            pages = frontier | paco.map(fetch, limit=100 & gently)
            await (pages | paco.batch(500, within=2.0) | paco.map(save, limit=1)).drain()
    ((count,),) = database.execute("SELECT count(*) FROM page")
    database.close()
    print(f"{count} pages in {args.database}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("database", help="the file of the database")
    parser.add_argument("urls", nargs="+", help="the first pages")
    parser.add_argument("--rate", type=float, default=2, help="requests per second, for each host")
    asyncio.run(main(parser.parse_args()))
