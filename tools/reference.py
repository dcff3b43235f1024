"""Write the reference: ``docs/api.md``, with all names by theme, and a page in ``docs/reference`` for each theme.

``./dev docs`` runs this, and a test compares. mkdocstrings replaces each line that begins with ``:::`` by a signature
and a docstring.
"""

from __future__ import annotations

import ast
import inspect
import itertools
import tomllib
from pathlib import Path
from typing import Final

import paco

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ROOT / "docs"
#: Each theme: its page, its title, a sentence about it, and its names; a name with a dot is outside `paco.__all__`.
THEMES: Final[list[dict[str, str]]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text("utf-8"))["theme"]
HEAD: Final = """# All names

Every name is importable from `paco`, unless it is written with its module. After `import paco`, the modules are there
too: `paco.journal.JournalError` needs no other import. Each name links to its signature, description and an example.
[Stability](stability.md) says what these pages promise. Parameters that most functions share:

| parameter | meaning |
|---|---|
| `coro`, `fn` | any callable whose result is awaitable: an `async def`, a method, a `functools.partial`, a lambda |
| `iterable` | any iterable, async iterable, or awaitable of one; it is read as items are needed |
| `limit` | how many items run at once, or a [limit](reference/limits.md); **by default, there is none** (0 or `None`) |
| `timeout` | seconds for the whole call; for each item, wrap the function: `paco.timeout(fn, 10)` |
| `return_exceptions` | `True`: the exception of an item takes the place of its result |
| `loop` | the running event loop, or `None`; it has no effect, and is there for code written for the old library |
"""


def found(name: str) -> object:
    """Return what a name stands for."""
    thing: object = paco
    for part in name.split("."):
        thing = getattr(thing, part)
    return thing


def described_alias(name: str) -> str:
    """Return the string below the definition of a type alias, which has no docstring at runtime."""
    room, _, alias = name.partition(".")
    for path in sorted((ROOT / "src" / "paco" / room).glob("*.py")):
        for line, after in itertools.pairwise(ast.parse(path.read_text("utf-8")).body):
            if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == alias:
                return str(ast.literal_eval(after.value)) if isinstance(after, ast.Expr) else ""
    return ""


def summary(name: str) -> str:
    """Return the first line of a docstring."""
    thing = found(name)
    text = inspect.getdoc(thing) or "" if callable(thing) else described_alias(name)
    return text.partition("\n")[0].replace("``", "`")


def index() -> str:
    """Return the page of all names."""
    parts = [HEAD]
    for theme in THEMES:
        link = f"reference/{theme['page']}.md#paco."
        rows = [f"| [`{name}`]({link}{name}) | {summary(name)} |" for name in theme["names"].split()]
        parts.append("\n".join([f"## {theme['title']}", "", "| name | what it does |", "|---|---|", *rows, ""]))
    parts.append(
        "[The command](command.md) and [the record](reference/record.md) that it writes have pages of their own.\n"
    )
    return "\n".join(parts)


def directive(name: str, hidden: list[str]) -> str:
    """Return the line that mkdocstrings replaces by a description, without the methods of the class that are hidden."""
    methods = "|".join(one.removeprefix(f"{name}.") for one in hidden if one.rpartition(".")[0] == name)
    options = f"\n    options:\n      filters: ['!^_', '!^({methods})$']" if methods else ""
    return f"::: paco.{name}{options}"


def described(theme: dict[str, str]) -> str:
    """Return the page of a theme."""
    names = [directive(name, theme.get("hidden", "").split()) for name in theme["names"].split()]
    return "\n\n".join([f"# {theme['title']}", theme["about"], *names]) + "\n"


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    rest = {PAGES / "reference" / f"{theme['page']}.md": described(theme) for theme in THEMES}
    return {PAGES / "api.md": index()} | rest


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
