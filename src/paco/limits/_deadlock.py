"""Deadlocks: whether tasks can continue before another task does, which asyncio knows, and context variables do not.

A context variable says which item has started a task, but not whether the item waits for it: it may have left the task
behind. So a deadlock is proven from what each task of the loop waits for. What is unknown counts as able to continue.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from paco._base.item import WorkerTask

if TYPE_CHECKING:
    from collections.abc import Iterator

Task: TypeAlias = "asyncio.Task[Any]"
Future: TypeAlias = "asyncio.Future[Any]"

#: Variables in callbacks of asyncio: the future of `gather` and `shield`, that of `wait`, and the timer of its timeout.
_NAMES: Final = {"outer", "waiter", "timeout_handle"}


def stuck(waiting: set[Task | None]) -> set[Task | None]:
    """Return the tasks that cannot continue before one that is waiting does.

    A task is stuck if it is waiting, or if every task that could wake it is stuck, unless a timeout will cancel it.
    """
    timed = _timed(asyncio.get_running_loop())
    running = asyncio.all_tasks() - timed
    feeding: defaultdict[Future, set[Task]] = defaultdict(set)  # the tasks that could resolve each future
    for task in running:
        for future in _fed(task):
            feeding[future].add(task)
    found, more = waiting - timed, set[Task]()
    while True:
        more = {task for task in running - found if _wakes(task, feeding) <= found}
        if not more:
            return found
        found |= more


def _timed(loop: Any) -> set[Any]:
    """Return the tasks for which a timeout of asyncio or paco has a timer. Loops of other libraries do not tell."""
    timers: Any = [handle for handle in getattr(loop, "_scheduled", ()) if not handle.cancelled()]
    owners: Any = [getattr(timer._callback, "__self__", None) for timer in timers]  # noqa: SLF001 - no other way
    calls = {call.task for owner in owners for call in getattr(owner, "_calls", ())}
    return calls | {getattr(owner, "_task", None) for owner in owners}


def _wakes(task: Task, feeding: dict[Future, set[Task]]) -> set[Any]:
    """Return the tasks that could wake a task; something else if that is unknown."""
    future: Any = getattr(task, "_fut_waiter", None)
    return {future} if isinstance(future, asyncio.Task) else feeding.get(future) or {None}


def _fed(task: Task) -> Iterator[Future]:
    """Yield the futures whose resolution depends on a task: those of `gather`, `wait`, groups, and runs of paco."""
    run: Any = task.nursery if isinstance(task, WorkerTask) else None
    if run is not None and not run.is_idle(task):
        yield from run.awaited()
    for callback, _ in getattr(task, "_callbacks", None) or ():
        group = getattr(callback, "__self__", None)
        if isinstance(group, asyncio.TaskGroup):
            yield from filter(None, [getattr(group, "_on_completed_fut", None)])
        code: Any = getattr(callback, "__code__", None)
        cells: Any = getattr(callback, "__closure__", None) or ()
        names: Any = zip(code.co_freevars if code is not None else (), cells, strict=False)
        found: dict[str, Any] = {name: cell.cell_contents for name, cell in names if name in _NAMES}
        if found.pop("timeout_handle", None) is None:  # else `wait` ends by itself
            yield from filter(asyncio.isfuture, found.values())
