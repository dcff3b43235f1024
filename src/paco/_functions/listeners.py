"""Listeners that come with paco: `progress` and `trace`. They import what draws their output when it is needed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol, Self

from paco._base import check
from paco.events import ItemEnded, Run, RunEnded, RunStarted, listening

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike


class Bar(Protocol):
    """A bar that `progress` can update with finished items, such as one of tqdm."""

    def update(self, n: int, /) -> object:
        """Add ``n`` finished items."""
        ...


class Tasks(Protocol):
    """A display with a task for each run, such as ``rich.progress.Progress``."""

    def add_task(self, description: str, *, total: float | None) -> Any:
        """Add a task for a run, and return its id."""
        ...

    def advance(self, task_id: Any, advance: float) -> object:
        """Add ``advance`` finished items to a task."""
        ...


class progress:  # noqa: N801 - used as a function, like `listening`
    """Show the progress, rate, failures and remaining time of each run that starts inside the block.

    On a terminal, three lines for each run are redrawn on stderr ten times a second, and one line stays when a run has
    ended. This needs rich, which ``pip install 'paco[cli]'`` installs. In a notebook (Jupyter), the same lines are one
    output of the cell, which is updated in place five times a second. Without rich, in CI, or if stderr is not a
    terminal, one line is written every 10 s. Runs that start inside an item of another run are not shown, those inside
    a source are. Narrow terminals show less. The quantiles are at most 1% too high.

    It costs about 3 µs per item, most of it for having a listener at all; ``./dev bench --only listeners`` measures it.

    Args:
        bar: Update this bar instead of writing lines. Either any object with ``update(n)``, such as a tqdm bar: it gets
            the number of newly finished items ten times a second, in a pipeline those of the first stage. Or a
            ``rich.progress.Progress``: it gets a task for each run.
        total: The number of items, for sources that do not know it, such as generators. It is not that of a run that
            reads the results of another one.

    Raises:
        TypeError: At the call, if ``bar`` has no ``update``, or ``total`` is not an ``int``.
        ValueError: At the call, if ``total`` is below 0.

    Examples:
        >>> class Bar:
        ...     def update(self, n):
        ...         print(n, "done")
        >>> async def double(number):
        ...     return 2 * number
        >>> with paco.progress(Bar()):
        ...     paco.run(paco.map(double, [1, 2, 3]))
        3 done
        [2, 4, 6]
    """

    def __init__(self, bar: Bar | Tasks | None = None, *, total: int | None = None) -> None:
        if bar is not None and not callable(getattr(bar, "update", None)):
            expected = "an object with update(n), such as a bar of tqdm, or be left out"
            raise TypeError(check.refusal("progress", "bar", expected, bar))
        self._bar = bar
        self._total = None if total is None else check.integer("progress", "total", total, 0)
        self._entered = ExitStack()

    def __enter__(self) -> None:
        from paco._view.progress import Board, display_for

        board = Board(display_for(self._bar), self._total)
        self._entered.callback(board.close)
        self._entered.enter_context(listening(board.started, RunStarted))
        self._entered.enter_context(listening(board.item, ItemEnded))
        self._entered.enter_context(listening(board.ended, RunEnded))

    def __exit__(self, *exc_info: object) -> None:
        self._entered.close()


class trace:  # noqa: N801 - used as a function, like `listening`
    """Record each run that starts inside the block, to see where its time went.

    `save` writes a trace for https://ui.perfetto.dev, and `report` writes a page with charts, which a notebook shows
    for this object. Both work after the block and inside it.

    A trace takes 29 bytes per item and about 2 kB per run. In addition, it keeps the first 1,000 failures and the 20
    slowest items of each run as text. It keeps no results, and only counts the items that a journal skips. It costs
    about 2.5 µs per item, most of it for having a listener at all; ``./dev bench --only listeners`` measures it.

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
        from paco._pictures.record import ItemTable

        self._records[event.run] = ItemTable(event.run)

    def _item(self, event: ItemEnded) -> None:
        if not event.skipped:
            self._records[event.run].add(event)

    def _ended(self, event: RunEnded) -> None:
        self._records[event.run].ended = event

    @property
    def runs(self) -> Sequence[Run]:
        """The recorded runs, in the order in which they started."""
        return list(self._records)

    def save(self, path: str | PathLike[str]) -> None:
        """Write a JSON file in the Trace Event Format, which Perfetto and ``chrome://tracing`` open.

        The trace shows each run as a process, and each slot of the run as a row, on which items never overlap. A worker
        that ran items elsewhere is also shown as a process. The file has about 110 bytes per item.

        Args:
            path: The file to write, which only its owner may read if it is new. An earlier trace of paco is replaced.

        Raises:
            FileExistsError: The path is another file, or a link; neither is overwritten.

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
        from paco._pictures import chrome, file

        file.write(check.path("trace().save", "path", path), file.TRACE, chrome.chrome(list(self._records.values())))

    def report(self, path: str | PathLike[str]) -> None:
        """Write an HTML page that shows where the time went: a single file without scripts or external resources.

        For each run, the page has a timeline with a row for each slot, the items in flight over time, the distribution
        of latencies with p50, p95 and p99, the failures by type, and the slowest items. If items ran elsewhere, the
        rows are grouped by worker, and a table shows the counts of each worker. Short items next to each other are
        drawn as one bar, so a page of 100,000 items opens in less than a second; failures always remain visible. At
        most twelve runs are shown: the longest ones, and runs inside an item of another run only if there is room.

        Args:
            path: The file to write, which only its owner may read if it is new. An earlier report of paco is replaced.

        Raises:
            FileExistsError: The path is another file, or a link; neither is overwritten.

        Examples:
            >>> import tempfile
            >>> async def double(number):
            ...     return 2 * number
            >>> with paco.trace() as trace:
            ...     numbers = paco.run(paco.map(double, [1, 2, 3]))
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     trace.report(f"{folder}/report.html")
        """
        from paco._pictures import file, page

        file.write(check.path("trace().report", "path", path), file.REPORT, [page.page(list(self._records.values()))])

    def _repr_html_(self) -> str:
        from paco._pictures.page import fragment

        return fragment(list(self._records.values()))
