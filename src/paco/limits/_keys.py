"""A limit for each key: so many for each host, each user, each table."""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar, Final

from paco._base import check
from paco._base.errors import add_note
from paco.limits._base import Limiter
from paco.limits._combine import AnyLimit, checked
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

#: Keys out of use that are looked at whenever a key comes into use. More than one, or they would only become more.
_SWEEP: Final = 2


class _Entry:
    """A key that is remembered, its limit, and how many wait for it or hold it."""

    __slots__ = ("key", "limit", "users")

    def __init__(self, key: Hashable, limit: Limiter) -> None:
        self.key = key
        self.limit = limit
        self.users = 0


class PerKey(Limiter):
    """A limit of its own for each key, such as each host of many URLs.

    Items of a busy key do not keep those of other keys back, as long as there are not too many of them: a run takes
    items from the source until `lookahead` of them wait for their keys. Then it takes the next one when one of these
    has started. So with keys that come in long blocks the look-ahead has to be longer than a block. Items of one key
    start in their order.

    A key that is not in use is forgotten as soon as that makes no difference. So memory is that of the keys in use and
    of those whose limit would still hold somebody back, as a `Rate` does for a while: `Limiter.idle` tells. A limit
    that somebody else made cannot tell, and is kept as long as this object.

    In ``a & b`` it is asked first, so that nothing that waits for its key holds a permit of another limit.

    What its two functions raise is an error of the item.

    Args:
        key: A plain function that tells the key of an item, which can be anything hashable.
        make_limit: A plain function without arguments that makes the limit for a key that is new: anything that
            ``limit=`` takes.
        lookahead: How many items may wait for their keys at once in a run, at least 1.

    Examples:
        >>> from urllib.parse import urlsplit
        >>> def host(url):
        ...     return urlsplit(url).hostname
        >>> polite = paco.PerKey(host, lambda: paco.Rate(100) & paco.Limit(2))
        >>> async def fetch(url):
        ...     return len(url)
        >>> paco.run(paco.map(fetch, ["https://a.org/", "https://b.org/1"], limit=polite & paco.Limit(50)))
        [14, 15]
    """

    __slots__ = ("_entries", "_key", "_lookahead", "_make_limit", "_unused")

    _rank: ClassVar[int] = 0

    def __init__(
        self, key: Callable[[Any], Hashable], make_limit: Callable[[], AnyLimit], lookahead: int = 100
    ) -> None:
        check.plain_function("PerKey", key, "key")
        check.plain_function("PerKey", make_limit, "make_limit")
        self._key = key
        self._make_limit = make_limit
        self._lookahead = check.integer("PerKey", "lookahead", lookahead, 1)
        self._entries: dict[Hashable, _Entry] = {}
        self._unused: OrderedDict[Hashable, None] = OrderedDict()  # that are not idle yet; the last one is the newest

    def __repr__(self) -> str:
        return f"<paco.PerKey by {check.called(self._key)}, {len(self._entries)} keys>"

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys that are remembered."""
        return tuple(self._entries)

    def limit_of(self, key: Hashable) -> Any:
        """Return the limit of a key, to ask it, change it or pause it; it is remembered while that makes a difference.

        Examples:
            >>> polite = paco.PerKey(len, lambda: paco.Rate(100))
            >>> async def main():
            ...     polite.limit_of(3).pause(0.01)
            ...     return polite.keys
            >>> paco.run(main())
            (3,)
        """
        entry = self._entry(key)
        if not entry.users:
            self._unused[key] = None
        return entry.limit

    @property
    def lookahead(self) -> int:
        return self._lookahead

    @property
    def free(self) -> int:
        return self._lookahead

    def idle(self) -> bool:
        return all(not entry.users and entry.limit.idle() for entry in self._entries.values())

    async def acquire(self, item: Any = None) -> tuple[_Entry, Any]:
        permit = await self.reserve(item)
        self.begin(permit)
        return permit

    async def reserve(self, item: Any = None) -> tuple[_Entry, Any]:
        entry = self._enter(item)
        try:
            return entry, await entry.limit.reserve(item)
        except BaseException:
            self._leave(entry)
            raise

    def paused(self, permit: tuple[_Entry, Any]) -> float:
        entry, inner = permit
        return entry.limit.paused(inner)

    def begin(self, permit: tuple[_Entry, Any]) -> None:
        entry, inner = permit
        entry.limit.begin(inner)

    def release(self, permit: tuple[_Entry, Any], error: BaseException | None = None) -> Awaitable[None] | None:
        entry, inner = permit
        try:
            return entry.limit.release(inner, error)
        finally:
            self._leave(entry)

    # ---- coming into use, and out of it

    def _enter(self, item: Any) -> _Entry:
        entry = self._entry(self._ask(self._key, "key", item))
        entry.users += 1
        self._unused.pop(entry.key, None)
        self._sweep()
        return entry

    def _entry(self, key: Hashable) -> _Entry:
        try:
            entry = self._entries.get(key)
        except TypeError:
            raise TypeError(self._wrong("something hashable", key)) from None
        if entry is None:
            entry = self._entries[key] = self._make(key)
        return entry

    def _leave(self, entry: _Entry) -> None:
        entry.users -= 1
        if not entry.users and not self._forget(entry):
            self._unused[entry.key] = None

    def _sweep(self) -> None:
        """Look at those that have been out of use for the longest time, a few at a time: the others cost nothing."""
        for _ in range(min(_SWEEP, len(self._unused))):
            key, _none = self._unused.popitem(last=False)
            if not self._forget(self._entries[key]):
                self._unused[key] = None

    def _forget(self, entry: _Entry) -> bool:
        idle = entry.limit.idle()
        if idle:
            del self._entries[entry.key]
        return idle

    # ---- asking the functions

    def _make(self, key: Hashable) -> _Entry:
        if inspect.isawaitable(key):  # each is another one: that would be no limit at all
            check.discard(key)
            raise TypeError(self._wrong("a key, not an awaitable; make it a plain function", key))
        made = self._ask(self._make_limit, "make_limit")
        found = checked("PerKey", made, f"what {check.called(self._make_limit)}() returns")
        return _Entry(key, found if isinstance(found, Limiter) else Limit(found or sys.maxsize))

    def _wrong(self, expected: str, key: object) -> str:
        called = f"{check.called(self._key)}(item)"
        return f"paco.PerKey: what {called} returns must be {expected}, got {check.shorten(key)}"

    def _ask(self, fn: Callable[..., Any], name: str, *args: Any) -> Any:
        try:
            return fn(*args)
        except Exception as error:
            add_note(error, f"paco.PerKey: raised by its {name}, {check.called(fn)}")
            raise
