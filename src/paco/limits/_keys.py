"""A limit for each key: for each host, each tenant, each account."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Any, ClassVar

from paco import _check
from paco.limits._base import Limiter
from paco.limits._both import AnyLimit, checked
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

#: Keys at rest that are looked at, whether they can be forgotten, for each key that comes to be used.
_LOOKED_AT = 2


class _Key:
    """A key in use, and its limit."""

    __slots__ = ("key", "limit", "users")

    def __init__(self, key: Hashable, limit: Limiter) -> None:
        self.key: Hashable = key
        self.limit: Limiter = limit
        self.users: int = 0  # items that have a permit of it, or wait for one


class _Permit:
    """A permit of the limit of a key."""

    __slots__ = ("of", "permit")

    def __init__(self, of: _Key, permit: Any) -> None:
        self.of: _Key = of
        self.permit: Any = permit


class PerKey(Limiter):
    """A limit for each key, such as the host of a URL; what waits for a busy key does not hold up the others.

    A run takes items ahead while some wait for their keys, ``lookahead`` at most: when so many wait, the next item is
    not taken before one of them has started. So with as many or more in a row of one busy key the others wait, too.
    Items start in the order of the source as far as their keys let them; results keep that order.

    A key is forgotten when nothing of it runs or waits and its limit holds nobody up: a count at once, a `Rate` when
    all that it has let start is out of its window. The limits of others (semaphores, limiters of aiolimiter) cannot
    tell, so those are kept.

    Args:
        key: A plain function of the item, which gives its key, something hashable. What it raises is an error of the
            item.
        make_limit: A plain function without arguments, which makes what ``limit=`` takes, for a new key.
        lookahead: Items that may wait for their keys, at least 1.

    Examples:
        >>> from urllib.parse import urlsplit
        >>> hosts = paco.PerKey(lambda url: urlsplit(url).hostname, lambda: paco.Limit(2) & paco.Rate(1000))
        >>> async def fetch(url):
        ...     return len(url)
        >>> urls = ["https://a.example/1", "https://a.example/2", "https://b.example/3"]
        >>> paco.run(paco.map(fetch, urls, limit=hosts & paco.Limit(50)))
        [19, 19, 19]
    """

    __slots__ = ("_busy", "_key", "_lookahead", "_make_limit", "_resting")

    _rank: ClassVar[int] = 0

    def __init__(
        self, key: Callable[[Any], Hashable], make_limit: Callable[[], AnyLimit], lookahead: int = 100
    ) -> None:
        _check.function("PerKey", key, "key")
        _check.function("PerKey", make_limit, "make_limit")
        self._key = key
        self._make_limit = make_limit
        self._lookahead = _check.integer("PerKey", "lookahead", lookahead, 1)
        self._busy: dict[Hashable, _Key] = {}
        self._resting: OrderedDict[Hashable, _Key] = OrderedDict()  # unused, but they would still hold somebody up

    def __repr__(self) -> str:
        return f"<paco.PerKey {_check.called(self._key)}, {len(self)} keys>"

    def __len__(self) -> int:
        """Return how many keys are known."""
        return len(self._busy) + len(self._resting)

    @property
    def lookahead(self) -> int:
        return self._lookahead

    @property
    def free(self) -> int:
        return self._lookahead

    @property
    def idle(self) -> bool:
        return not self._busy and all(one.limit.idle for one in self._resting.values())

    async def acquire(self, item: Any = None) -> _Permit:
        permit = await self.reserve(item)
        self.begin(permit)
        return permit

    async def reserve(self, item: Any = None) -> _Permit:
        one = self._of(item)
        one.users += 1
        try:
            return _Permit(one, await one.limit.reserve(item))
        except BaseException:
            self._leave(one)
            raise

    def begin(self, permit: _Permit) -> None:
        permit.of.limit.begin(permit.permit)

    def release(self, permit: _Permit, error: BaseException | None = None) -> Awaitable[None] | None:
        try:
            return permit.of.limit.release(permit.permit, error)
        finally:
            self._leave(permit.of)

    def _of(self, item: Any) -> _Key:
        key = self._key(item)
        try:
            one = self._busy.get(key) or self._resting.pop(key, None)
        except TypeError as error:
            made = f"{_check.called(self._key)} returned {_check.shorten(key)}"
            raise TypeError(f"paco.PerKey: key must return something hashable, but {made}") from error
        if one is None:
            self._forget()
            limit = checked("PerKey", self._make_limit(), "what make_limit() returns")
            if not limit:
                raise ValueError("paco.PerKey: what make_limit() returns must be a limit, got 0; it means no limit")
            one = _Key(key, limit if isinstance(limit, Limiter) else Limit(limit))
        self._busy[key] = one
        return one

    def _leave(self, one: _Key) -> None:
        one.users -= 1
        if not one.users:
            del self._busy[one.key]
            if not one.limit.idle:
                self._resting[one.key] = one

    def _forget(self) -> None:
        """Forget some of the keys at rest that hold nobody up any more: more than come, so that none stays for long."""
        for _ in range(min(_LOOKED_AT, len(self._resting))):
            key, one = self._resting.popitem(last=False)
            if not one.limit.idle:
                self._resting[key] = one
