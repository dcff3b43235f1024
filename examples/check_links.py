"""Check the links in a file, with a blocking client and a plain `for`: no line of this program is async.

    python examples/check_links.py links.txt

It prints the links that are broken as it finds them, and fails if there are any.
"""

from __future__ import annotations

import argparse
import sys
import urllib.request
from pathlib import Path

import paco


@paco.settle
@paco.threaded
def check(url: str) -> None:
    urllib.request.urlopen(url, timeout=10).close()


def main(args: argparse.Namespace) -> int:
    links = args.links.read_text("utf-8").split()
    broken = 0
    with paco.progress(), paco.iterate(paco.map(check, links, limit=args.limit).as_completed()) as outcomes:
        for outcome in outcomes:
            if isinstance(outcome, paco.Err):
                broken += 1
                print(f"{outcome.item}: {outcome.error}")
    print(f"{broken} of {len(links)} links are broken")
    return min(broken, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("links", type=Path, help="a file with links, separated by white space")
    parser.add_argument("--limit", type=int, default=50, help="how many to check at once")
    sys.exit(main(parser.parse_args()))
