"""Functions that group items without running anything on them: batch."""

from __future__ import annotations

from typing import Any, cast, overload

from paco._base import check
from paco._base.types import MISSING, Missing, Source, T
from paco._stream.plan import BatchStage, Plan, identical
from paco._stream.stream import Stream


@overload
def batch(size: int, iterable: Source[T], *, within: float | None = None) -> Stream[list[T]]: ...
@overload
def batch(size: int, iterable: Missing = MISSING, *, within: float | None = None) -> BatchStage: ...
def batch(size: int, iterable: Any = MISSING, *, within: float | None = None) -> Any:
    """Group items into lists of ``size``, in order; the last list may be shorter.

    As a stage, it groups the results of the stage before it, like `Stream.batch`: the two are one run. If the source
    fails or the run ends early, what there is of the next list is delivered first. While the consumer is busy, items
    are read for one further list.

    Args:
        size: The number of items in a list, 1 or more.
        iterable: The items, as for `map`. If omitted, a `Stage` for ``|`` is returned.
        within: Seconds after which the first item of a list does not wait for others: the list is delivered as it is,
            or gets further items until the consumer asks for it. ``None`` for no such limit.

    Raises:
        TypeError: At the call, if an argument has the wrong type.
        ValueError: At the call, if ``size`` or ``within`` is out of range.

    Examples:
        >>> async def save(rows):
        ...     return len(rows)
        >>> paco.run(range(5) | paco.batch(2) | paco.map(save, limit=3))
        [2, 2, 1]
    """
    with check.discarding(iterable):
        check.integer("batch", "size", size, 1)
        check.timeout("batch", within, "within")
        if isinstance(iterable, int | float):
            remedy = f"; to deliver a list after some seconds, write within={iterable}"
            raise TypeError(check.refusal("batch", "iterable", check.SOURCE, iterable) + remedy)
        if iterable is not MISSING:
            check.iterable("batch", iterable)

    def apply(source: Any) -> Stream[Any]:
        if not isinstance(source, Stream):
            source = Stream[Any](Plan("batch", identical, source, 1))
        return cast("Stream[Any]", source).batch(size, within=within)

    return BatchStage("batch", apply) if iterable is MISSING else apply(iterable)
