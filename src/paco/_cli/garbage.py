"""How garbage is collected during a run: what was there before is left alone, what is new is looked at less often."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Generator

#: New objects from one collection to the next, at least. Python's own number is 700 to 2,000, depending on its version.
_NEW: Final = 10_000


@contextmanager
def collected_seldom() -> Generator[None]:
    """Spare a run some of the time that Python spends on garbage, amid HTTP requests a tenth of all.

    Clients of HTTP make many cycles, so that all the modules that have been imported are searched again and again.
    They are exempt within the block (`gc.freeze`), unless somebody has exempted something already. Who has turned the
    collection off, or made it rarer still, has reasons: that stays.
    """
    thresholds = gc.get_threshold()
    exempts = gc.get_freeze_count() == 0
    if thresholds[0]:
        gc.set_threshold(max(thresholds[0], _NEW), *thresholds[1:])
    if exempts:
        gc.freeze()
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        if exempts:
            gc.unfreeze()
