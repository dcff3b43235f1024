"""Items that wait for permits under a limit that depends on the item, such as one for each key.

Items with the same part of the limit form a queue. Only the item in front has a task, which waits for the permit. The
others wait behind it without one. An item that succeeds passes its permit on to the item in front of its queue, in one
step; the item behind that one then waits in front.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from paco._base.item import Item
    from paco.limits import Limiter


class Queues:
    """The queues of a run, one for each part of its limit that has items waiting."""

    def __init__(self, limit: Limiter) -> None:
        self._limit = limit
        self._fronts: dict[Limiter, Item] = {}
        self._behind: dict[Limiter | None, deque[Item]] = {}
        #: Items that must wait in front of their queues, each in a worker.
        self.chosen: deque[Item] = deque()

    def joins(self, item: Item) -> bool:
        """Let an item wait behind others if there are any; return whether it does.

        An item to which the context of its worker belongs cannot: only that worker may run it.
        """
        if item.is_recorded():  # it needs no permit
            return False
        try:
            item.limit = part = self._limit.part_of(item.value)
        except Exception:  # it is raised again, as an error of the item
            return False
        queue = self._behind.get(part)
        if queue is None or item.bound:
            return False
        queue.append(item)
        return True

    async def wait(self, item: Item) -> Any:
        """Wait for the permit of an item, in front of its queue."""
        part: Limiter = item.limit
        if item.bound or part in self._fronts:
            return await part.reserve(item.value)
        self._fronts[part] = item
        self._behind.setdefault(part, deque())
        try:
            return await part.reserve(item.value)
        finally:
            del self._fronts[part]

    def leave_front(self, part: Limiter | None) -> bool:
        """Choose the next item to wait in front, if none does; return whether there is one."""
        queue = self._behind.get(part)
        if queue is None or part in self._fronts:
            return False
        if not queue:
            del self._behind[part]
            return False
        self.chosen.append(queue.popleft())
        return True

    def wait_only_for(self, tasks: set[Any], count: int) -> bool:
        """Return whether ``count`` items wait here, and none can start before one of these tasks returns its permit."""
        waiting = len(self._fronts) + sum(map(len, self._behind.values()))
        return waiting == count and all(part.waits_only_for(tasks) for part in self._fronts)

    def renew(self, item: Item) -> bool:
        """Make an item that has succeeded the one in front of its queue, with the same permit; return whether it is.

        This needs another item behind, which then waits in front. And no other caller may wait for the permit.
        """
        part: Limiter = item.limit
        front, queue = self._fronts.get(part), self._behind.get(part)
        if front is None or not queue or not part.renews(item.permit, front):
            return False
        renewed = part.renew(item.permit)
        if renewed is None:
            return False
        item.becomes(front.value, front.index, front.known)
        item.permit = renewed
        behind = queue.popleft()
        front.value, front.index, front.known = behind.value, behind.index, behind.known
        return True
