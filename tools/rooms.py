"""Write the list of rooms and modules in ``docs/design.md`` from the packages.

A comment in `paco` lists the rooms, and the docstring of each room lists its modules, in rows: names, then what they
are for, with two or more spaces between. ``./dev docs`` runs this, and a test compares.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
SOURCE: Final = ROOT / "src" / "paco"
PAGE: Final = ROOT / "docs" / "design.md"
#: The list in the page.
_LIST: Final = re.compile(r"(?<=\n```text\n)_base .*?(?=\n```\n)", re.DOTALL)


def rows(package: Path) -> list[tuple[list[str], str]]:
    """Return the rows that a package lists: the names of each, and the row itself."""
    text = (package / "__init__.py").read_text("utf-8")
    if package == SOURCE:  # whose docstring is for users
        text = re.sub(r"^(?:[^#].*)?\n|^# ", "", text, flags=re.MULTILINE)
    else:
        text = ast.get_docstring(ast.parse(text)) or ""
    lines = [line[4:] for line in text.splitlines() if line[:4] == "    "]
    parts = [(re.split(r" {2,}", line)[:-1], line) for line in lines]
    return [(names, line) for names, line in parts if names and all(name.isidentifier() for name in names)]


def rooms() -> str:
    """Return the list: each room, and below it its modules."""
    lines: list[str] = []
    for names, line in rows(SOURCE):
        lines.append(line)
        packages = [SOURCE / name for name in names if (SOURCE / name).is_dir()]
        lines += [f"    {inner}" for package in packages for _, inner in rows(package)]
    return "\n".join(lines)


def updated(page: str) -> str:
    """Return the page with the list as it is to be."""
    return _LIST.sub(lambda _: rooms(), page)


if __name__ == "__main__":
    PAGE.write_text(updated(PAGE.read_text("utf-8")), "utf-8")
