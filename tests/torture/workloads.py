"""Random scenarios: source, stages, consumer, errors and cancellation. They are data; `play` runs them.

All naps are whole seconds. So nothing happens at half seconds, and many events happen at the same time: most faults of
a scheduler are in such ties. Hypothesis shrinks a failure towards the first element of each list of choices.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from hypothesis import strategies as st

#: The ways in which an item can end; all but the first are errors.
ENDS = (
    "result",
    "error",
    "odd error",  # its __repr__ and __str__ raise
    "abort",  # a BaseException
    "stop iteration",
    "stop async iteration",
    "generator exit",
    "cancelled error",  # raised without any cancellation
    "cancels itself",
)

#: The ways in which an item reacts to its cancellation.
WHEN_CANCELLED = ("stop", "clean up", "fail", "return", "clean up and fail", "clean up and return")

#: The traces that an item can leave on its task, which no other item must see.
MARKS = ("", "variable", "name", "cancelling")

#: Functions that return a stream of results, and functions over items that return one value.
STREAMS = ("map", "filter", "filterfalse", "flat_map")
VALUES = ("each", "some", "every", "reduce")
#: Functions that take calls instead of a function and items.
CALLS = ("gather", "series", "race", "wait")

TAKE_TIMEOUT = ("map", "each", "flat_map", "some", *CALLS)
TAKE_CATCH = ("map", "each", "flat_map", "gather", "series", "wait")


@dataclass(frozen=True)
class Item:
    """What one item does: it leaves a mark, naps, and ends."""

    naps: tuple[int, ...] = (1,)  # seconds; 0 is one turn of the loop; without naps the item never suspends
    verdict: bool = True
    ends: str = "result"
    when_cancelled: str = "stop"
    mark: str = ""


@dataclass(frozen=True)
class Stage:
    """One function over items. Its items repeat until the source ends."""

    verb: str
    items: tuple[Item, ...]
    limit: int = 0
    timeout: float | None = None
    catch: bool = False
    options: dict[str, Any] = field(default_factory=dict)

    def item(self, number: int) -> Item:
        return self.items[number % len(self.items)]

    @property
    def most(self) -> int:
        """Return how many items may run at once; 0 for no limit."""
        return {"reduce": 1, "series": 1, "race": 0}.get(self.verb, self.limit)

    @property
    def reads_to_the_end_first(self) -> bool:
        return self.verb == "reduce" and self.options["right"]


@dataclass(frozen=True)
class Source:
    """The source of the items 0, 1, 2 …"""

    kind: str = "list"
    count: int = 3
    delays: tuple[int | None, ...] = (None,)  # seconds before each item; async kinds only
    fails_at: int | None = None
    closing: str = ""  # what a generator does in its finally block: "", "slow", "fail", "slow and fail"
    stubborn: bool = False  # swallows a cancellation, and yields the item that it waited for

    @property
    def asynchronous(self) -> bool:
        return self.kind.startswith("async")


@dataclass(frozen=True)
class Consumer:
    """The consumer of a stream."""

    form: str = "await"  # "for": without async with, so that a stream may be dropped; "with": inside async with
    completed: bool = False
    buffer: int | None = None
    pauses: tuple[int | None, ...] = (None,)
    leaves_after: int | None = None
    leaves_by: str = "break"

    @property
    def iterates(self) -> bool:
        return self.form != "await"


@dataclass(frozen=True)
class Cancel:
    """A cancellation of the caller some turns of the loop after a time, and perhaps again some turns later."""

    at: float
    steps: int = 0
    again: int | None = None


@dataclass(frozen=True)
class Scenario:
    source: Source
    stages: tuple[Stage, ...]
    consumer: Consumer = Consumer()
    cancel: Cancel | None = None

    @property
    def last(self) -> Stage:
        return self.stages[-1]

    @property
    def window(self) -> int | None:
        """Return how many items of the last stage may be started but not taken; ``None`` for any number."""
        if not self.consumer.iterates or not self.last.most:
            return None
        return self.last.most + (self.last.most if self.consumer.buffer is None else self.consumer.buffer)


# ---- strategies

counts = st.sampled_from([3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 12, 20, 70, 140])
limits = st.sampled_from([1, 2, 3, 0, 4, 5, 8, 100])
NAPS = [(1,), (), (0,), (2,), (3,), (1, 1), (0, 2), (5,), (10,)]
plain_items = st.sampled_from([Item(naps, verdict) for naps in NAPS for verdict in (True, False)])
resistances = st.sampled_from([(how, mark) for mark in ("",) * 4 + MARKS[1:] for how in WHEN_CANCELLED])
moments = st.sampled_from([1, 0, 2, 3, 0.5, 1.5, 4, 5, 7.5, 11])
pauses = st.sampled_from([(None,), (0,), (1,), (None, 1), (3,), (None, None, 4)])
cancels = st.builds(Cancel, moments, st.integers(0, 8), st.sampled_from([None, 0, 1, 2, 3]))


@cache  # like all strategies here: making one costs more than drawing from it
def rarely(usual: Any, *others: Any, share: int = 4) -> st.SearchStrategy[Any]:
    """Draw ``usual``, but one of ``others`` about once in ``share`` times."""
    return st.sampled_from([usual] * max(1, (share - 1) * len(others)) + list(others))


@cache
def items(*, errors: bool = False, trouble: bool = False) -> st.SearchStrategy[tuple[Item, ...]]:
    """Draw the items of a stage: with ``errors`` some fail, with ``trouble`` some defy cancellation or leave marks."""
    kinds = [plain_items]
    if errors:
        kinds.append(rarely(*ENDS, share=6))
    if trouble:
        kinds.append(resistances)
    one = plain_items if len(kinds) == 1 else st.tuples(*kinds).map(_combined)
    return st.lists(one, min_size=1, max_size=6).map(tuple)


def _combined(parts: tuple[Any, ...]) -> Item:
    item, *others = parts
    for other in others:
        changes = {"ends": other} if isinstance(other, str) else {"when_cancelled": other[0], "mark": other[1]}
        item = replace(item, **changes)
    return item


@cache
@st.composite
def stages(draw: st.DrawFn, verb: str, *, errors: bool = False, trouble: bool = False, timeout: bool = False) -> Stage:
    """Draw a stage that calls the function ``verb``."""
    options: dict[str, Any] = {}
    if verb == "flat_map":
        options["initializer"] = draw(st.sampled_from([(), ("head",), ("one", "two")]))
    elif verb == "reduce":
        options |= {"right": draw(st.booleans()), "initializer": "first"}
    elif verb == "each":
        options["collect"] = draw(st.booleans())
    elif verb == "wait":
        options |= draw(st.sampled_from([{}, *({"return_when": when} for when in RETURN_WHEN)]))
    return Stage(
        verb,
        draw(items(errors=errors, trouble=trouble)),
        draw(limits),
        draw(rarely(None, 0, 1, 2.5, 4, share=3)) if timeout and verb in TAKE_TIMEOUT else None,
        errors and verb in TAKE_CATCH and draw(rarely(False, True)),
        options,
    )


RETURN_WHEN = ("ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION")


@cache
@st.composite
def sources(
    draw: st.DrawFn, *, errors: bool = False, trouble: bool = False, delays: bool = True, calls: bool = False
) -> Source:
    """Draw a source of any kind; with ``calls``, a list."""
    count = draw(counts)
    if calls:
        return Source("list", max(count, 1))
    kind = draw(st.sampled_from(KINDS))
    fails_at = draw(rarely(None, 0, count // 2, count)) if errors and kind != "list" else None
    closing = draw(rarely("", "slow", "fail", "slow and fail")) if trouble and "generator" in kind else ""
    if not (delays and kind.startswith("async")):
        return Source(kind, count, fails_at=fails_at, closing=closing)
    waits = draw(st.sampled_from([(None,), (0,), (1,), (None, 3), (2, None, None, 0), (None,) * 9 + (7,)]))
    return Source(kind, count, waits, fails_at, closing, stubborn=trouble and draw(rarely(False, True)))


KINDS = (
    "list",
    "generator",
    "iterator",
    "async generator",
    "async iterator",
    "async awaitable",
    "iterable of a generator",
    "async iterable of a generator",
)


@cache
@st.composite
def consumers(draw: st.DrawFn, *, leaves: bool = False, completed: bool = True) -> Consumer:
    """Draw a slow or fast consumer of a stream; with ``leaves``, one that may leave early."""
    form = draw(st.sampled_from(["await", "for", "with"]))
    unordered = completed and draw(rarely(False, True, share=3))
    if form == "await":
        return Consumer(form, unordered)
    buffer = draw(st.sampled_from([None, 0, 1, 2, 5]))
    if not leaves:
        return Consumer(form, unordered, buffer, draw(pauses))
    after = draw(st.sampled_from([None, 1, 2, 3, 8]))
    how = draw(st.sampled_from(["break", "raise"])) if form == "with" else "break"
    return Consumer(form, unordered, buffer, draw(pauses), after, how)


@cache
@st.composite
def scenarios(
    draw: st.DrawFn,
    verbs: tuple[str, ...] = STREAMS,
    *,
    before: int = 0,
    errors: bool = False,
    trouble: bool = False,
    timeout: bool = False,
    cancel: bool = False,
    delays: bool = True,
    leaves: bool = False,
    completed: bool = True,
) -> Scenario:
    """Draw a scenario: a last stage of one of ``verbs``, after up to ``before`` stages of streams."""
    verb = draw(st.sampled_from(verbs))
    calls = verb in CALLS
    earlier = [] if calls or not before else draw(st.lists(st.sampled_from(STREAMS), max_size=before))
    chain = [draw(stages(one, errors=errors, trouble=trouble)) for one in earlier]
    chain.append(draw(stages(verb, errors=errors, trouble=trouble, timeout=timeout)))
    for number, stage in enumerate(chain[:-1]):
        chain[number] = Stage(stage.verb, stage.items, stage.limit)  # only the last stage has options
    is_stream = verb in {*STREAMS, "gather", "series"}
    return Scenario(
        draw(sources(errors=errors, trouble=trouble, delays=delays, calls=calls)),
        tuple(chain),
        draw(consumers(leaves=leaves, completed=completed)) if is_stream else Consumer(),
        draw(cancels) if cancel and draw(st.booleans()) else None,
    )
