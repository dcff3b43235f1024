"""A separate limit for each key: for each host, each user, each table."""

from __future__ import annotations

import inspect
import sys
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from weakref import WeakValueDictionary

from paco._base import check
from paco._base.errors import add_note
from paco.limits._base import AnyLimit, Limiter, checked
from paco.limits._count import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable


K = TypeVar("K", bound="Hashable")

#: How many unused keys to check each time a key comes into use. With one, unused keys would accumulate.
_SWEEP: Final = 2


class _Part(Limiter):
    """The limit of one key, and how many items wait for it or hold a permit."""

    __slots__ = ("begin", "key", "limit", "owner", "paused", "renew", "renews", "users", "waits_only_for")

    _order = (0, 0)
    begin: Any
    paused: Any
    renew: Any
    renews: Any
    waits_only_for: Any

    def __init__(self, owner: PerKey, key: Hashable, limit: Limiter) -> None:
        self.owner: PerKey = owner
        self.key: Hashable = key
        self.limit: Limiter = limit
        self.users: int = 0
        # Its own methods for these would only call those of the limit, for each item.
        self.begin, self.paused, self.waits_only_for = limit.begin, limit.paused, limit.waits_only_for
        self.renews, self.renew = limit.renews, limit.renew

    @property
    def _renews_in_place(self) -> bool:
        return self.limit._renews_in_place  # noqa: SLF001 - of its own base class

    @property
    def _is_spent(self) -> bool:
        return self.limit._is_spent  # noqa: SLF001 - of its own base class

    def try_reserve(self, item: Any = None) -> Any:
        permit = self.limit.try_reserve(item)
        if permit is not None:
            self.owner.enter(self)
        return permit

    async def reserve(self, item: Any = None) -> Any:
        self.owner.enter(self)
        try:
            return await self.limit.reserve(item)
        except BaseException:
            self.owner.leave(self)
            raise

    def release(self, permit: Any, error: BaseException | None = None) -> Awaitable[None] | None:
        try:
            return self.limit.release(permit, error)
        finally:
            self.owner.leave(self)


class PerKey(Limiter):
    """Apply a separate limit to each key, such as each host of many URLs.

    Items of a busy key do not delay items of other keys: a run takes items from its source until `lookahead` of them
    wait for the limits of their keys, and then takes the next item when one of them starts. If your source has long
    blocks of items with the same key, make the look-ahead longer than a block. Items with the same key start in source
    order.

    An unused key is forgotten as soon as a new limit would behave the same (`Limiter.idle`). A `Rate`, for example, is
    kept until its past starts no longer delay new ones. So memory is bounded by the keys in use and those that still
    delay items. Limits of other libraries do not report this state, so they are kept as long as this object.

    ``a & b`` asks this limit first, so that an item that waits for its key holds no permit of another limit.

    An exception raised by `key` or `make_limit` is an error of the item.

    Args:
        key: A plain function that returns the key of an item, any hashable value.
        make_limit: A plain function that returns the limit of a new key: anything that ``limit=`` accepts. It is called
            with the key if it has a parameter without a default. Or a mapping of keys to limits, copied at the call.
            Other keys have the limit of the key ``None``: a number is a limit for each of them, a limit object is one
            for all of them together. Without it, an item with another key fails with ``KeyError``.
        lookahead: How many items of a run may wait for their keys, at least 1.

    Examples:
        >>> from urllib.parse import urlsplit
        >>> def host(url):
        ...     return urlsplit(url).hostname
        >>> polite = paco.PerKey(host, lambda: paco.Rate(100) & paco.Limit(2))
        >>> async def fetch(url):
        ...     return len(url)
        >>> paco.run(paco.map(fetch, ["https://a.org/", "https://b.org/1"], limit=polite & paco.Limit(50)))
        [14, 15]
        >>> known = paco.PerKey(host, {"a.org": paco.Rate(100, burst=5), None: 2})
        >>> paco.run(paco.map(fetch, ["https://a.org/", "https://b.org/1"], limit=known))
        [14, 15]
    """

    __slots__ = ("_alive", "_entries", "_key", "_known", "_lookahead", "_make_limit", "_takes_key", "_unused")

    _order = (0, 0)

    def __init__(
        self,
        key: Callable[[Any], K],
        make_limit: Callable[[], AnyLimit] | Callable[[K], AnyLimit] | Mapping[Any, AnyLimit],
        lookahead: int = 100,
    ) -> None:
        check.plain_function("PerKey", key, "key")
        self._key = key
        self._make_limit: Any = None
        self._known: dict[Hashable, int | Limiter] | None = None
        if isinstance(make_limit, Mapping):
            limits = cast("Mapping[Hashable, AnyLimit]", make_limit)
            self._known = {
                one: checked("PerKey", limit, f"the limit of {check.shorten(one)}") for one, limit in limits.items()
            }
        else:
            check.plain_function("PerKey", make_limit, "make_limit")
            self._make_limit = make_limit
            self._takes_key = _takes_key(make_limit)
        self._lookahead = check.integer("PerKey", "lookahead", lookahead, 1)
        self._entries: dict[Hashable, _Part] = {}
        self._alive: WeakValueDictionary[Hashable, _Part] = WeakValueDictionary()  # forgotten, but held by somebody
        self._unused: OrderedDict[Hashable, _Part] = OrderedDict()  # keys whose limits are not idle yet, oldest first

    def __repr__(self) -> str:
        return f"<paco.PerKey by {check.called(self._key)}, {len(self._entries)} keys>"

    @property
    def keys(self) -> tuple[Hashable, ...]:
        """The keys that currently have a limit."""
        return tuple(self._entries)

    def limit_of(self, key: Hashable) -> Any:
        """Return the limit of a key, to inspect, change or pause it; make it if the key is new. Any thread may ask.

        A key without items is forgotten once its limit is idle.

        Examples:
            >>> polite = paco.PerKey(len, lambda: paco.Rate(100))
            >>> async def main():
            ...     polite.limit_of(3).pause(0.01)
            ...     return polite.keys
            >>> paco.run(main())
            (3,)
        """
        return self._entry(key).limit

    @property
    def lookahead(self) -> int:
        return self._lookahead

    @property
    def free(self) -> int:
        return self._lookahead

    def idle(self) -> bool:
        return all(not entry.users and entry.limit.idle() for entry in self._entries.values())

    def part_of(self, item: Any) -> _Part:
        try:
            key = self._key(item)
        except Exception as error:
            self._blame(error, "key", self._key)
            raise
        return self._entry(key)

    async def reserve(self, item: Any = None) -> tuple[_Part, Any]:
        part = self.part_of(item)
        return part, await part.reserve(item)

    def paused(self, permit: tuple[_Part, Any]) -> float:
        part, inner = permit
        seconds: float = part.paused(inner)
        return seconds

    def begin(self, permit: tuple[_Part, Any]) -> None:
        part, inner = permit
        part.begin(inner)

    def release(self, permit: tuple[_Part, Any], error: BaseException | None = None) -> Awaitable[None] | None:
        part, inner = permit
        return part.release(inner, error)

    # ---- keys in use, and unused ones

    def _entry(self, key: Hashable) -> _Part:
        try:
            entry = self._entries.get(key)
        except TypeError:
            raise TypeError(self._wrong("hashable", key)) from None
        if entry is None:
            entry = self._entries.setdefault(key, self._alive.get(key) or self._make(key))  # unless another thread did
            self._alive[key] = entry
            self._unused[key] = entry
        return entry

    def enter(self, part: _Part) -> None:
        """Count one more item that waits for the limit of a key or holds a permit."""
        part.users += 1
        if part.users == 1:
            self._entries[part.key] = part
            self._unused.pop(part.key, None)
            self._sweep()

    def leave(self, part: _Part) -> None:
        """Count one item less."""
        part.users -= 1
        if not part.users:
            self._forget(part)

    def _sweep(self) -> None:
        """Forget unused keys whose limits are idle. Check only a few, oldest first: the cost per item is constant."""
        for _ in range(min(_SWEEP, len(self._unused))):
            self._forget(self._unused.popitem(last=False)[1])

    def _forget(self, entry: _Part) -> None:
        """Forget an unused key if its limit is idle; otherwise keep it among the unused ones, to check it again."""
        if entry.limit.idle():
            self._entries.pop(entry.key, None)
        else:
            self._unused[entry.key] = entry

    # ---- calling the user's functions

    def _make(self, key: Hashable) -> _Part:
        if inspect.isawaitable(key):  # each awaitable would be a new key: no limit at all
            check.discard(key)
            raise TypeError(f"{self._wrong('a key, not an awaitable', key)}; make it a plain function")
        found = self._of_mapping(key) if self._known is not None else self._made(key)
        return _Part(self, key, found if isinstance(found, Limiter) else Limit(found or sys.maxsize))

    def _made(self, key: Hashable) -> int | Limiter:
        try:
            made = self._make_limit(key) if self._takes_key else self._make_limit()
        except Exception as error:
            self._blame(error, "make_limit", self._make_limit)
            raise
        return checked("PerKey", made, f"the result of {check.called(self._make_limit)}()")

    def _of_mapping(self, key: Hashable) -> int | Limiter:
        known: Any = self._known
        if key not in known and None not in known:
            raise KeyError(f"paco.PerKey: no limit for the key {check.shorten(key)}; add one for it, or for None")
        found: int | Limiter = known[key if key in known else None]
        return found

    def _wrong(self, expected: str, key: object) -> str:
        called = f"{check.called(self._key)}(item)"
        return f"paco.PerKey: the result of {called} must be {expected}, got {check.shorten(key)}"

    def _blame(self, error: Exception, name: str, fn: Callable[..., Any]) -> None:
        add_note(error, f"paco.PerKey: raised by its {name} function, {check.called(fn)}")


def _takes_key(fn: Callable[..., AnyLimit]) -> bool:
    """Return whether a function has a positional parameter without a default."""
    try:
        parameters = check.signature_of(fn).parameters.values()
    except (TypeError, ValueError):  # it does not tell
        return False
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return any(one.kind in positional and one.default is one.empty for one in parameters)
