"""The source of paco, of which each file is parsed once."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import paco

SOURCE = Path(paco.__file__).parent
MODULES = sorted(SOURCE.rglob("*.py"))


@functools.cache
def nodes(path: Path) -> list[ast.AST]:
    """Return all nodes of the syntax tree of a file."""
    return list(ast.walk(ast.parse(path.read_text("utf-8"))))
