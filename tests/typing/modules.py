"""The modules of paco are its attributes after ``import paco``. Checked by mypy and pyright, never run."""

from __future__ import annotations

from typing import assert_type

import paco


async def twice(number: int) -> int:
    return 2 * number


def modules() -> None:
    assert_type(paco.events.ItemRetried(None, 1, 1, None, 0.0).attempt, int)
    assert_type(paco.limits.Rate(5), paco.Rate)
    assert_type(paco.testing.run(paco.apply(twice, 5)()), int)
    errors: list[type[Exception]] = [paco.journal.JournalError, paco.remote.WorkerLost, paco.testing.Deadlock]
    assert len(errors) == 3


def mistyped() -> None:
    paco.mapp()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    paco.journal.Eror()  # type: ignore[attr-defined] # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
