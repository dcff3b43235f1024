"""A budget of money, tokens or anything else that items spend."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from paco._base import check
from paco.limits._base import Limiter, weighed
from paco.limits._gate import Gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from paco._base.item import Item

#: What a sum of floats may be off by, as a fraction of the budget: 50 times 0.1 is less than 5.
_ROUNDING: Final = 1e-9

_Permit: TypeAlias = "tuple[Item, float]"


class Budget(Limiter):
    """Start items until an amount of money, tokens or anything else is spent, over all calls that share the budget.

    When it is spent, it closes its `gate`: every run that uses it takes nothing more, finishes what it has taken, and
    ends as if its source had ended. `retry` makes no further attempt at an item then: the item fails with its last
    error, and a note says why. So the amount is exceeded at most by one attempt at each item that was taken by then:
    those in flight, one more for each run, those that wait for a `PerKey`, and those read ahead. A call of a `limited`
    function raises `GateClosed` when the budget is spent.

    An item pays its ``cost`` when it starts, and so does each further attempt of `retry`. If the price is known only
    afterwards, call `charge` with it, or with its difference from the estimate. A budget begins anew in each process:
    to continue one, `charge` what earlier processes have spent.

    Args:
        amount: What may be spent, a number above 0.
        cost: What an item pays when it starts: a number, or a plain function of the item that returns one, of 0 or
            more. By default, nothing: call `charge`. An exception raised by the function is an error of the item.

    Attributes:
        gate: The gate that closes when the budget is spent. You can also close or pause it yourself.

    Examples:
        >>> budget = paco.Budget(5.00)
        >>> async def ask(prompt):
        ...     budget.charge(2.00)  # the price that comes with the answer
        ...     return prompt.upper()
        >>> paco.run(paco.map(ask, ["one", "two", "three", "four"], limit=1 & budget))
        ['ONE', 'TWO', 'THREE']
        >>> budget.spent, budget.left, budget.gate.closed
        (6.0, -1.0, True)
    """

    __slots__ = ("_amount", "_cost", "_lock", "_of_item", "_over", "_spent", "gate")

    _order = (0, 1)

    def __init__(self, amount: float, cost: float | Callable[[Any], float] = 0) -> None:
        self._amount = check.positive("Budget", "amount", amount)
        self._spent: float = 0
        self._over = False
        self._lock = threading.Lock()  # two threads that add at once would lose an amount
        self._cost: float = 0
        self._of_item: Callable[[Any], float] | None = None
        if callable(cost):
            check.plain_function("Budget", cost, "cost")
            self._of_item = cost
        else:
            self._cost = check.finite("Budget", "cost", cost, least=0)
        self.gate: Gate = Gate()

    def __repr__(self) -> str:
        return f"<paco.Budget {self._spent:g} of {self._amount:g} spent>"

    @property
    def spent(self) -> float:
        """What has been spent so far."""
        return self._spent

    @property
    def left(self) -> float:
        """What is left; below 0 if the budget was exceeded."""
        return self._amount - self._spent

    def charge(self, amount: float) -> None:
        """Add to what is spent, as when the actual price becomes known. Any thread may call it.

        Args:
            amount: A finite number. A negative one gives back, but a budget that has been spent does not open again.
        """
        amount = check.finite("Budget.charge", "amount", amount)
        with self._lock:
            self._spent += amount
        if self.left <= self._amount * _ROUNDING:
            self._over = True
            self.gate.close()

    # ---- permits: that of the gate, and the cost

    @property
    def _is_spent(self) -> bool:
        return self._over

    @property
    def gates(self) -> tuple[Gate, ...]:
        return self.gate.gates

    @property
    def free(self) -> int:
        return self.gate.free

    @property
    def lookahead(self) -> int:
        return 0 if self._of_item is None else 1

    def idle(self) -> bool:
        return not self._spent and self.gate.idle()

    def try_reserve(self, item: Any = None) -> _Permit | None:
        # `reserve` calls the function, which must be called once per item.
        passed = None if self._of_item is not None else self.gate.try_reserve(item)
        return None if passed is None else (passed, self._cost)

    async def reserve(self, item: Any = None) -> _Permit:
        cost, weigh = self._cost, self._of_item
        if weigh is not None:
            cost = weighed("Budget", weigh, item)
        return await self.gate.reserve(item), cost

    def begin(self, permit: _Permit) -> None:
        self.charge(permit[1])

    def paused(self, permit: _Permit) -> float:
        return self.gate.paused(permit[0])

    def release(self, permit: _Permit, error: BaseException | None = None) -> None:
        self.gate.release(permit[0], error)
