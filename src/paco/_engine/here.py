"""Which item runs here: `current`, for logs and for errors of code that is called from items."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from opcode import opmap
from typing import TYPE_CHECKING, Any, Final

from paco._base.item import place, places, worker_here
from paco._engine.admission import Admission
from paco._engine.run import Scheduler

if TYPE_CHECKING:
    from types import FrameType

    from paco.events import Run

_FOR_ITER: Final = opmap["FOR_ITER"]
#: What follows an operation that the interpreter has specialized.
_CACHE: Final = b"\0"


@dataclass(frozen=True, slots=True)
class Current:
    """The item that runs in the current task, as `current` returns it.

    Attributes:
        item: The item; for `gather` and its kin, what they call.
        index: The number of the item in the source, from 0; ``None`` on a worker of `Stream.on`.
        attempt: The number of the attempt, from 1: 2 while `retry` calls the function for the second time.
        title: The operation and the name of the function, such as ``map fetch``.
        run: The run, if it has listeners and runs in this process; otherwise ``None``.
    """

    item: Any
    index: int | None
    attempt: int
    title: str
    run: Run | None


def current() -> Current | None:
    """Return which item the current task runs, and in which attempt and run; ``None`` outside an item.

    For logs and errors of code that does not get the item as an argument. If runs are nested, it is the item of the
    innermost one; each call of a `hedge` is an item of a run of its own. In a task or thread that an item has started,
    and in a source, it is ``None``: pass what they need.

    Nothing is noted for it, so runs that do not call it pay nothing. A call takes about 3 µs, and more in deep
    recursion, because it looks for the item in the frames of its callers.

    Examples:
        >>> async def fetch(url):
        ...     here = paco.current()
        ...     return f"{here.title} #{here.index}, attempt {here.attempt}: {here.item}"
        >>> paco.run(paco.map(fetch, ["a.html"]))
        ['map fetch #0, attempt 1: a.html']
        >>> paco.current()
    """
    here, task = place(), worker_here()
    if here is None or task is None:
        return None
    (index, value), record, run = here, task.item, task.nursery
    attempt = record.attempts if record is not None and record.index == index else 1
    title = run.title.removeprefix("paco.")
    elsewhere = run.on_error == "collect"  # a chunk, which has its own numbers
    view = None if elsewhere or run.watch is None else run.watch.view
    return Current(value, None if elsewhere else index - run.offset, attempt, title, view)


def _of_hot_loop(frame: FrameType) -> tuple[int, Any] | None:
    operations = frame.f_code.co_code[: frame.f_lasti + 1 : 2].rstrip(_CACHE)
    if operations[-1] == _FOR_ITER:  # it reads the source
        return None
    variables: Any = frame.f_locals
    found = variables["index"], variables["item"]
    with suppress(AttributeError):  # before Python 3.13, a dict, which the frame would keep with all that is in it
        variables.clear()
    return found


def _of_record(_: FrameType) -> tuple[int, Any]:
    worker: Any = worker_here()
    return worker.item.index, worker.item.value


def _nowhere(_: FrameType) -> None:
    """Return ``None``: a worker takes an item from the source."""


# The innermost of these decides: each is on the stack while an item runs, or while a source does.
places[id(Scheduler.work.__code__)] = _of_hot_loop
for _name, _how in (("_run_items", _of_record), ("_renews", _nowhere), ("_take", _nowhere)):
    places[id(vars(Admission)[_name].__code__)] = _how
