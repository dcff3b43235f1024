"""A worker that runs one item after another under a limit object, as long as no item leaves a trace on its task."""

from __future__ import annotations

from typing import TYPE_CHECKING

from paco._base.item import Item, inside

if TYPE_CHECKING:
    import asyncio
    import contextvars

    from paco._base.item import WorkerTask


class RecycledWorker:
    """A worker that is recycled as long as no item leaves a trace on its task."""

    __slots__ = ("_around", "_base", "_cancelling", "_get_name", "_name", "context", "taken", "task", "turn", "waiter")

    def __init__(self, context: contextvars.Context, task: WorkerTask) -> None:
        self.task = task
        self.turn = 0  # of the loop, when it took its last item
        self.taken: Item | None = None  # an item that it has taken, but that could not start at once after all
        self.waiter: asyncio.Future[None] | None = None  # it waits for the gate
        self.context, self._around = context, inside.get()
        self._base = context.copy()
        self._cancelling, self._get_name, self._name = task.cancelling, task.get_name, task.get_name()

    def begins(self, item: Item) -> None:
        """Make the task and its context those of this item."""
        has_set = self.has_set()
        self.task.item, item.parent = item, self._around
        inside.set(item)
        if not has_set:  # otherwise the item stays marked, since no other one may see what its source has set
            self._base = self.context.copy()

    def has_set(self) -> bool:
        """Return whether a context variable was set since the last item began."""
        try:
            return self.context != self._base  # by pointer if nothing was set
        except Exception:  # a value cannot be compared
            return True

    def is_marked(self) -> bool:
        """Return whether the item has left a context variable, a cancellation or a name on the task."""
        try:
            if self.context != self._base:
                return True
        except Exception:
            return True
        return self._cancelling() != 0 or self._get_name() is not self._name
