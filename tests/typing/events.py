"""What listeners may be. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import Any, assert_type

import paco
from paco.events import Event, ItemEnded, ItemStarted, Outcome, Run, RunEnded, RunStarted


def hear_all(event: Event) -> None:
    assert_type(event, RunStarted | ItemStarted | ItemEnded | RunEnded)
    assert_type(event.run, Run)
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
    with paco.listening(hear_ended, ItemEnded), paco.listening(hear_ended, kind=ItemEnded):
        pass
    with paco.listening(lambda event: event.elapsed, ItemEnded):
        pass


def refused() -> None:
    paco.listening(hear_ended)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.listening(hear_ended, RunEnded)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    paco.listening(print, str)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
