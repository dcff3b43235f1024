"""The listeners that come with it. What they draw with is imported on use."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from paco._base import check
from paco.events import ItemEnded, Run, RunEnded, RunStarted, listening

if TYPE_CHECKING:
    from collections.abc import Sequence


class Bar(Protocol):
    """What `progress` can tell of items that are done, such as a bar of tqdm."""

    def update(self, n: int, /) -> object:
        """Hear that so many more are."""
        ...


class Tasks(Protocol):
    """What `progress` can tell of runs as well, such as ``rich.progress.Progress``."""

    def add_task(self, description: str, *, total: float | None) -> Any:
        """Hear of a run, and return what to call it."""
        ...

    def advance(self, task_id: Any, advance: float) -> object:
        """Hear that so many more of its items are done."""
        ...


class progress:  # noqa: N801 - used as a function, like `listening`
    """Show how the runs go that start inside the block: how far, how fast, with how many failures, and until when.

    On a terminal, lines on stderr are repainted ten times a second (by rich, which ``pip install paco[cli]`` brings),
    and a line stays when a run has ended. Elsewhere, in CI, and without rich, there is a line each 10 s. Runs inside
    the items of others are not shown. What is shown depends on the width; p50 and p95 are at most 1 % too high.

    It costs about 3 us an item, most of it for listening at all; ``./dev bench --only listeners`` measures it.

    Args:
        bar: Feed this instead: anything with ``update(n)``, such as a bar of tqdm, which is told ten times a second how
            many items more are done (of a pipeline, those of the first stage); or a ``rich.progress.Progress``, which
            gets a task for each run.
        total: The number of items, for sources that cannot tell it, such as generators.

    Raises:
        TypeError: Not a bar, or a total that is no ``int``; at the call.

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
            raise TypeError(f"paco.progress: bar must be {expected}, got {check.shorten(bar)}")
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
    """Record the runs that start inside the block, to see afterwards where the time went.

    `save` writes a trace for https://ui.perfetto.dev, `report` a page with pictures, and a notebook shows that page:
    after the block, or in the middle of it.

    It keeps 29 bytes an item, of each run the first 1,000 failures and the 20 slowest items as text, and about 2 kB a
    run. Results are not kept. It costs about 2.5 us an item, most of it for listening at all; ``./dev bench
    --only listeners`` measures it.

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
        from paco._pictures.record import Record

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

        Each run is a process, and each of its slots a row, on which no two items overlap; so is each worker whose items
        ran elsewhere. An item takes about 110 bytes.

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
        from paco._pictures.chrome import chrome

        with _path("save", path).open("w", encoding="utf-8") as file:
            file.writelines(chrome(list(self._records.values())))

    def report(self, path: str | os.PathLike[str]) -> None:
        """Write a page that shows where the time went: one file of HTML that loads nothing and has no script.

        For each run: a timeline with a row for each slot, grouped by worker where items ran elsewhere, and what each
        worker has done; the items in flight, the distribution of latencies with p50, p95 and p99, the failures by kind,
        the slowest items. Short items that touch are drawn as one bar, so that the page of 100,000 items opens in less
        than a second; a failure is always to be seen. Of more than twelve runs, those that took longest are shown, and
        rather not those that were started by an item of another.

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
        from paco._pictures.page import page

        _path("report", path).write_text(page(list(self._records.values())), "utf-8")

    def _repr_html_(self) -> str:
        from paco._pictures.page import fragment

        return fragment(list(self._records.values()))


def _path(method: str, path: str | os.PathLike[str]) -> Path:
    try:
        return Path(os.fspath(path))
    except TypeError:
        raise TypeError(f"paco.trace().{method}: path must be a path, got {check.shorten(path)}") from None
