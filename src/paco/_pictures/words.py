"""Where the time went, in a sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._view.units import WAITED_FOR, latency, share

if TYPE_CHECKING:
    from paco._pictures.record import Record
    from paco.events import Waiting


def where_the_time_went(record: Record) -> str:
    """Return what kept items from starting for the largest part of the time, and what can be done about it."""
    reason, percent = _most(record)
    if reason is None:
        return "It was not recorded what the items waited for." if len(record) else "There was nothing that took time."
    return _SENTENCES[reason].format(share=percent, limit=f"{record.run.limit:,}", slowest=_slowest(record))


def pace(record: Record) -> str:
    """Return what it was in two words, and for how much of the time: ``a slot, 68%``."""
    reason, percent = _most(record)
    return "-" if reason is None else f"{WAITED_FOR[reason]}, {percent}"


def _most(record: Record) -> tuple[Waiting | None, str]:
    waited = record.run.waited
    total = sum(waited.values())
    if not len(record) or not total:
        return None, ""
    reason = max(waited, key=lambda one: waited[one])
    return reason, share(waited[reason], total)


def _slowest(record: Record) -> str:
    slowest = record.slowest()
    return f"; the slowest, #{slowest[0].position:,}, took {latency(slowest[0].elapsed)}" if slowest else ""


_SENTENCES: dict[Waiting, str] = {
    "limit": "For {share} of the time all {limit} slots were busy: the function sets the pace, and a higher limit is "
    "faster if what it calls can take it.",
    "rate": "For {share} of the time the limit let no more items start, though not all slots were busy: its rate sets "
    "the pace.",
    "input": "For {share} of the time there were free slots and no items: the source sets the pace.",
    "output": "For {share} of the time there were free slots, and finished results waited for the consumer: it sets "
    "the pace.",
    "order": "For {share} of the time there were free slots, and finished results waited for an earlier item to be "
    "handed on in order: buffer(n) lets more of them wait, as_completed() does without the order.",
    "loop": "For {share} of the time items could have started, and the event loop was busy: the function, the source "
    "or something beside them uses the processor, or blocks.",
    "tail": "For {share} of the time no items were left to start, and the last ones ran to their end{slowest}.",
}
