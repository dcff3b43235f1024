"""The words of a program, with placeholders that are filled with an item."""

from __future__ import annotations

import difflib
import posixpath
import re
import shlex
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

from paco._base.check import shorten
from paco._records.lines import encode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    #: Returns the text of a placeholder for an item and its number.
    Filler: TypeAlias = Callable[[Any, int], str]

#: Literal braces, a placeholder, a brace that belongs to none, or plain text.
_PARTS: Final = re.compile(r"(?P<literal>\{\{|\}\})|\{(?P<name>[^{}]*)\}|(?P<stray>[{}])|(?P<text>[^{}]+)")
#: The most fields that a message names.
_SHOWN: Final = 12
_CHANGED: Final = re.compile(r"(?P<field>.*?)(?P<change>//|/\.|/|\.|)", re.DOTALL)


class TemplateError(ValueError):
    """Raised for a template that cannot be read, and for an item that does not fill it."""


def _folder(text: str) -> str:
    return posixpath.dirname(text) or "."


def _stem(text: str) -> str:
    return posixpath.splitext(posixpath.basename(text))[0]


#: What a placeholder does to a text, by its ending; the names are those of GNU parallel.
_CHANGES: Final[dict[str, Callable[[str], str]]] = {
    "": str,
    ".": lambda text: posixpath.splitext(text)[0],
    "/": posixpath.basename,
    "//": _folder,
    "/.": _stem,
}


class Template:
    """A program and its arguments, with placeholders.

    The text is split into words once, as a shell does, so an item never becomes more than one argument, or part of one,
    whatever it contains. No shell is run.

    ``{}`` is the item: its text, or JSON if it is none. ``{.}`` is a path without its extension, ``{/}`` its last part,
    ``{/.}`` its last part without the extension, and ``{//}`` its folder. ``{#}`` is the item's position in the input,
    from 1. ``{name}`` is a field of the item, and may end like these: ``{name.}``. ``{{`` and ``}}`` are braces.

    Args:
        text: The words.
        append: Whether the item is the last argument if there is no placeholder.

    Raises:
        TemplateError: There are no words, a quote is not closed, or a brace belongs to no placeholder.
    """

    def __init__(self, text: str, *, append: bool = True) -> None:
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise TemplateError(f"{text!r} cannot be split into words: {str(error).lower()}") from None
        if not words:
            raise TemplateError("expected a program and its arguments, got an empty text")
        self.text = text
        #: The words as they were given.
        self.words = words
        #: The fields of an item that are used, in order.
        self.fields: list[str] = []
        self._filled = [self._parsed(word) for word in words]
        if append and all(isinstance(word, str) for word in self._filled):
            self._filled.append(partial(_item, _CHANGES[""], "{}"))
        #: The program, if that is the same for all items; otherwise an empty text.
        self.program = first if isinstance(first := self._filled[0], str) else ""

    def fill(self, item: Any, number: int) -> list[str]:
        """Return the program and its arguments for an item; ``number`` is for ``{#}``.

        Raises:
            TemplateError: The item lacks a field, or is no text where a path is needed.
        """
        return [word if isinstance(word, str) else word(item, number) for word in self._filled]

    def _parsed(self, word: str) -> str | Filler:
        """Return a word: its text, or what fills it."""
        parts: list[str | Filler] = []
        for part in _PARTS.finditer(word):
            if part["stray"]:
                raise TemplateError(
                    f"{word!r} has a {part['stray']} that belongs to no placeholder; for a literal one, double it: "
                    f"{part['stray'] * 2}{_unquoted(self.text)}"
                )
            if part["name"] is not None:
                parts.append(self._placeholder(part["name"]))
            else:
                parts.append(part["text"] or part["literal"][0])
        if all(isinstance(part, str) for part in parts):
            return "".join(cast("list[str]", parts))
        return cast("Filler", parts[0]) if len(parts) == 1 else partial(_joined, parts)

    def _placeholder(self, name: str) -> Filler:
        if name == "#":
            return _number
        found = cast("re.Match[str]", _CHANGED.fullmatch(name))
        field, change = found["field"], _CHANGES[found["change"]]
        if not field:
            return partial(_item, change, f"{{{name}}}")
        self.fields.append(field)
        return partial(_field, field, change)


def _unquoted(text: str) -> str:
    """Return how to write the first placeholder with a space, if there is one: a shell would split it."""
    found = re.search(r"\{[^{}]*\s[^{}]*\}", text)
    return "" if found is None else f'; for a field with a space in its name, quote it: "{found[0]}"'


def text_of(value: Any) -> str:
    """Return a text as it is, and another value as JSON."""
    return value if isinstance(value, str) else encode(value).decode()


def _joined(parts: list[str | Filler], item: Any, number: int) -> str:
    return "".join([part if isinstance(part, str) else part(item, number) for part in parts])


def _number(_item: Any, number: int) -> str:
    return str(number)


def _item(change: Callable[[str], str], placeholder: str, item: Any, _number: int) -> str:
    if not isinstance(item, str) and change is not str:
        raise TemplateError(f"{placeholder} needs an item that is a path, got {shorten(item)}")
    return change(text_of(item))


def _field(field: str, change: Callable[[str], str], item: Any, _number: int) -> str:
    if not isinstance(item, dict):
        needs = f"{{{field}}} needs an item that is an object, got {shorten(item)}"
        raise TemplateError(f"{needs}; for literal braces: {{{{{field}}}}}")
    values = cast("dict[str, Any]", item)
    if field not in values:
        raise TemplateError(f"the item {lacks(field, values)}")
    return change(text_of(values[field]))


def lacks(field: str, fields: Iterable[str]) -> str:
    """Return a text that says which fields there are instead of one that is not there, and which one may be meant."""
    known = list(fields)
    shown = ", ".join(map(shorten, known[:_SHOWN]))
    more = f" and {len(known) - _SHOWN:,} more" if len(known) > _SHOWN else ""
    close = difflib.get_close_matches(field, known, n=1)
    meant = f"; did you mean {shorten(close[0])}?" if close else ""
    return f"has no field {shorten(field)}, but {shown or 'none'}{more}{meant}"
