"""The listeners that come with it. What they draw with is imported on use."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from paco import _check
from paco.events import ItemEnded, Run, RunEnded, RunStarted, listening

if TYPE_CHECKING:
    from collections.abc import Sequence


class trace:  # noqa: N801 - used as a function, like `listening`
    """Record the runs that start inside the block, to see afterwards where the time went.

    `save` writes a trace for https://ui.perfetto.dev, `report` a page with pictures, and a notebook shows that page:
    after the block, or in the middle of it.

    It keeps 25 bytes an item, of each run the first 1,000 failures and the 20 slowest items as text, and about 2 kB a
    run. Results are not kept. It costs about 2 us an item, most of it for listening at all; ``./dev bench --only
    listener`` measures it.

    Examples:
        >>> async def double(number):
        ...     return 2 * number
        >>> with paco.trace() as trace:
        ...     numbers = paco.run(paco.map(double, [1, 2, 3], limit=2))
        >>> trace
        <paco trace: runs 1, items 3>
        >>> trace.runs[0].title, trace.runs[0].done
        ('map double', 3)
    """

    def __init__(self) -> None:
        self._records: dict[Run, Any] = {}
        self._listening = ExitStack()

    def __repr__(self) -> str:
        return f"<paco trace: runs {len(self._records):,}, items {sum(map(len, self._records.values())):,}>"

    def __enter__(self) -> Self:
        self._listening.enter_context(listening(self._started, RunStarted))
        self._listening.enter_context(listening(self._item, ItemEnded))
        self._listening.enter_context(listening(self._ended, RunEnded))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listening.close()

    def _started(self, event: RunStarted) -> None:
        from paco._pictures._record import Record

        self._records[event.run] = Record(event.run)

    def _item(self, event: ItemEnded) -> None:
        self._records[event.run].hear(event)

    def _ended(self, event: RunEnded) -> None:
        self._records[event.run].ended = event

    @property
    def runs(self) -> Sequence[Run]:
        """The runs, in the order in which they started."""
        return list(self._records)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a trace in the Trace Event Format, as JSON: Perfetto and ``chrome://tracing`` open it.

        Each run is a process, and each of its slots a row, on which no two items overlap. An item takes about 130
        bytes.

        Args:
            path: The file; it is overwritten.

        Examples:
            >>> import json, tempfile
            >>> async def double(number):
            ...     return 2 * number
            >>> with paco.trace() as trace:
            ...     numbers = paco.run(paco.map(double, [1, 2, 3]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     trace.save(f"{folder}/trace.json")
            ...     with open(f"{folder}/trace.json") as file:
            ...         events = json.load(file)["traceEvents"]
            >>> [event["name"] for event in events if event["ph"] == "X"]
            ['ok #0', 'ok #1', 'ok #2']
        """
        from paco._pictures._chrome import chrome

        with _path("save", path).open("w", encoding="utf-8") as file:
            file.writelines(chrome(list(self._records.values())))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a page that shows where the time went: one file of HTML that loads nothing and has no script.

        For each run: a timeline with a row for each slot, the items in flight, the distribution of latencies with p50,
        p95 and p99, the failures by kind, the slowest items. Short items that touch are drawn as one bar, so that the
        page of 100,000 items opens in less than a second; a failure is always to be seen. Of more than twelve runs,
        those that took longest are shown, and rather not those that were started by an item of another.

        Args:
            path: The file; it is overwritten.

        Examples:
            >>> import tempfile
            >>> async def double(number):
            ...     return 2 * number
            >>> with paco.trace() as trace:
            ...     numbers = paco.run(paco.map(double, [1, 2, 3]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     trace.report(f"{folder}/report.html")
        """
        from paco._pictures._page import page

        _path("report", path).write_text(page(list(self._records.values())), "utf-8")

    def _repr_html_(self) -> str:
        from paco._pictures._page import fragment

        return fragment(list(self._records.values()))


def _path(method: str, path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.fspath(path))
    except TypeError:
        raise TypeError(f"paco.trace().{method}: path must be a path, got {_check.shorten(path)}") from None
