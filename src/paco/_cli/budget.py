"""The budget of a run: what an item costs, by a field of it or of its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from paco._base.check import finite, shorten
from paco._cli.inputs import InputItem

if TYPE_CHECKING:
    from paco._base.check import ItemFunction

#: The beginning of a field of the result. Other fields are those of the item.
_RESULT: Final = "result."


class CostError(ValueError):
    """Raised for an item or a result that does not say what it costs."""


class Cost:
    """What an item costs: 1 without a field, otherwise the number in it. Dots lead into objects."""

    def __init__(self, field: str | None) -> None:
        #: Whether the cost is known only from the result.
        self.of_result = field is not None and field.startswith(_RESULT)
        #: Whether it is a field of the item.
        self.of_item = field is not None and not self.of_result
        self._path = (field or "").removeprefix(_RESULT).split(".")

    @property
    def field(self) -> str:
        """The field of the item that the cost is in, or in an object in it; empty if there is none."""
        return self._path[0] if self.of_item else ""

    def at_start(self, item: InputItem) -> float:
        """Return what an item pays when it starts; nothing if it does not say that, since then it does not run."""
        if not self.of_item:
            return 0 if self.of_result else 1
        try:
            return self.read(item.value)
        except CostError:
            return 0

    def read(self, value: Any) -> float:
        """Return the cost in an item or a result; raise `CostError` if there is none."""
        what = f"the field {'.'.join(self._path)} of the {'result' if self.of_result else 'item'}"
        found = value
        for name in self._path:
            if not isinstance(found, dict) or name not in found:
                names = ", ".join(map(str, cast("dict[str, Any]", found))) if isinstance(found, dict) else ""
                there = f" ({name!r} is missing beside {names:.80})" if names else ""
                raise CostError(f"--cost: expected a number in {what}, got none{there}")
            found = cast("dict[str, Any]", found)[name]
        try:  # the fields of a table are text
            return finite("map", "--cost", float(found) if isinstance(found, str) else found, least=0)
        except (TypeError, ValueError):
            raise CostError(f"--cost: expected a number of 0 or more in {what}, got {shorten(found)}") from None

    async def checked(self, function: ItemFunction, item: Any) -> Any:
        """Call a function with an item that says what it costs."""
        self.read(item.value if isinstance(item, InputItem) else item)
        return await function(item)
