"""What listeners may be. Checked by mypy and pyright, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import paco
from paco import events
from paco.events import Event, ItemEnded, ItemRetried, ItemStarted, Outcome, Run, RunEnded, RunStarted, Waiting

if TYPE_CHECKING:
    from rich.progress import Progress


def hear_all(event: Event) -> None:
    assert_type(event, RunStarted | ItemStarted | ItemRetried | ItemEnded | RunEnded)
    assert_type(event.run, Run | None)
    match event:
        case ItemEnded(item=item, outcome=outcome):
            assert_type(item, Any)
            assert_type(outcome, Outcome)
            assert_type(event.elapsed, float)
        case _:
            pass


def hear_ended(event: ItemEnded) -> int:
    return event.attempts


def listeners() -> None:
    with paco.listening(hear_all), paco.listening(hear_all, ItemEnded), paco.listening(print):
        pass
    with paco.listening(hear_ended, ItemEnded), paco.listening(hear_all, ItemEnded, RunEnded):
        pass
    with paco.listening(lambda event: event.elapsed, ItemEnded):
        pass


def installed() -> None:
    uninstall = events.install(hear_all)
    assert_type(uninstall(), None)
    events.install(hear_ended, ItemEnded)
    events.install(print, RunStarted, RunEnded)
    events.install(hear_ended)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    events.install(hear_ended, RunEnded)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def here() -> None:
    current = paco.current()
    assert_type(current, paco.Current | None)
    if current is not None:
        assert_type(current.item, Any)
        assert_type(current.index, int | None)
        assert_type(current.attempt, int)
        assert_type(current.title, str)
        assert_type(current.run, Run | None)


def refused() -> None:
    paco.listening(hear_ended)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.listening(hear_ended, ItemEnded, RunEnded)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.listening(hear_ended, RunEnded)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.listening(print, str)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


class Bar:
    """As that of tqdm."""

    def update(self, n: float | None = 1) -> bool | None: ...


def watchers(bar: Bar, tasks: Progress) -> None:
    with paco.progress() as nothing:
        assert_type(nothing, None)
    with paco.progress(bar), paco.progress(bar, total=5), paco.progress(tasks):
        pass
    with paco.trace() as trace:
        assert_type(trace, paco.trace)
    assert_type([run.title for run in trace.runs], list[str])
    assert_type(trace.runs[0].waited, dict[Waiting, float])
    trace.save(Path("trace.json"))
    trace.report("report.html")


def refused_watchers() -> None:
    paco.progress(print)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.trace().save(b"trace.json")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
