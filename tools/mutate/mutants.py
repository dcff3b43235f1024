"""Make mutants of a module: remove a statement, fix a condition to true or false, change an operator or a constant."""

from __future__ import annotations

import ast
import copy
import difflib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

_Compares = dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]]
_COMPARES: Final[_Compares] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.GtE),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.LtE),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
_OPERATORS: Final[dict[type[ast.operator], type[ast.operator]]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
}
_SWAPPED: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}
_LEFT_OUT: Final = (
    ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete, ast.Raise, ast.Return, ast.Break, ast.Continue,
)  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module with one fault, identified by its function and text, not by a line number."""

    module: str
    scope: str  # the function or class with the fault
    line: int
    text: str  # the whole module, with the fault

    #: The lines that differ, without indentation.
    before: str
    after: str

    @property
    def key(self) -> tuple[str, str, str]:
        """The identity of the mutant in `argued.toml`."""
        return f"{self.module}.{self.scope}".rstrip("."), self.before, self.after

    def __str__(self) -> str:
        return f"{self.key[0]}, line {self.line}\n-   {self.before}\n+   {self.after}"


def mutants(module: str, text: str) -> list[Mutant]:
    """Return the mutants of a module in the order of its lines, without duplicates."""
    source = text.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, Mutant] = {}
    for scope, node, new in _changes(ast.parse(text)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        changed = (source[:begin] + new.encode() + source[end:]).decode()
        if changed != text and changed not in found:
            before, after = _difference(text, changed)
            found[changed] = Mutant(module, scope, node.lineno, changed, before, after)
    return _distinguished(sorted(found.values(), key=lambda mutant: mutant.line), text.splitlines())


def _distinguished(found: list[Mutant], lines: list[str]) -> list[Mutant]:
    """Add the preceding line to mutants with the same key: an argument for one ``return`` must not cover another."""
    keys = Counter(mutant.key for mutant in found)
    return [
        replace(mutant, before=f"{lines[mutant.line - 2].strip()} {mutant.before}") if keys[mutant.key] > 1 else mutant
        for mutant in found
    ]


def _difference(old: str, new: str) -> tuple[str, str]:
    lines = [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[0] in "-+"]
    # Drop a comment at the end of a line, so that rewording it does not change the key of the mutant.
    before, after = (
        " ".join(line[2:].partition("  #")[0].strip() for line in lines if line[0] == sign) for sign in "-+"
    )
    return before, after


def _changes(tree: ast.Module) -> Iterator[tuple[str, Any, str]]:
    """Yield each possible change: the scope, the node, and the text that replaces it."""
    stack: list[tuple[str, ast.AST]] = [("", tree)]
    while stack:
        scope, node = stack.pop()
        if _is_overload(node):
            continue
        for change in _CHANGES.get(type(node), _none)(node):
            yield scope, *change
        if isinstance(node, _LEFT_OUT) and not _is_text(node):
            yield scope, node, "pass"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}".lstrip(".")
        stack.extend((scope, child) for child in _children(node))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children that run: no annotations, docstrings, slots or code that only type checkers see."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in {"__slots__", "__all__"}:
        return
    for name, value in ast.iter_fields(node):
        if name in {"annotation", "returns", "type_comment", "bases"}:
            continue
        if name == "test" and isinstance(value, ast.UnaryOp):
            value = value.operand  # noqa: PLW2901 - a condition fixed both ways says more than one negated
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not _is_text(child) and not _is_type_of_cast(node, child):
                yield child


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement must stay: a docstring, an ellipsis, a type, ``__slots__``, ``__all__``."""
    if isinstance(node, ast.Assign):
        return ast.unparse(node.targets[0]) in {"__slots__", "__all__"}
    if isinstance(node, ast.AnnAssign):
        return node.value is None or ast.unparse(node.annotation) == "TypeAlias"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_overload(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and "overload" in map(ast.unparse, node.decorator_list)


def _is_type_of_cast(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cast" and child is node.args[0]


# ---- the changes of each kind of node: the node to replace, and the new text

_Change = Iterator[tuple[ast.AST, str]]


def _none(_: Any) -> _Change:
    return iter(())


def _decided(node: Any) -> _Change:
    """Make a condition always true, or always false."""
    if ast.unparse(node.test) != "TYPE_CHECKING":
        yield node.test, "True"
        yield node.test, "False"


def _compare(node: ast.Compare) -> _Change:
    for index, operator in enumerate(node.ops):
        for other in _COMPARES[type(operator)]:
            new = copy.copy(node)
            new.ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield node, ast.unparse(new)


def _bool(node: ast.BoolOp) -> _Change:
    """Remove one operand."""
    for index in range(len(node.values)):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        yield node, ast.unparse(ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0])


def _binary(node: ast.BinOp) -> _Change:
    if isinstance(node.op, ast.BitOr):  # of types
        yield node, ast.unparse(node.left)
        yield node, ast.unparse(node.right)
    elif type(node.op) in _OPERATORS:
        yield node, ast.unparse(ast.BinOp(node.left, _OPERATORS[type(node.op)](), node.right))


def _augmented(node: ast.AugAssign) -> _Change:
    if type(node.op) in _OPERATORS:
        yield node, ast.unparse(ast.AugAssign(node.target, _OPERATORS[type(node.op)](), node.value))


def _unary(node: ast.UnaryOp) -> _Change:
    yield node, ast.unparse(node.operand)


def _chosen(node: ast.IfExp) -> _Change:
    yield node, f"({ast.unparse(node.body)})"
    yield node, f"({ast.unparse(node.orelse)})"


def _constant(node: ast.Constant) -> _Change:
    value = node.value
    if isinstance(value, bool):
        yield node, str(not value)
    elif isinstance(value, int | float):
        yield node, repr(value + 1)
    elif isinstance(value, str):
        yield node, '"mutated"'


def _text(node: ast.JoinedStr) -> _Change:
    yield node, '"mutated"'


def _call(node: ast.Call) -> _Change:
    """Remove a keyword argument, or call the opposite function."""
    for keyword in node.keywords:
        if keyword.arg is not None:
            rest = [one for one in node.keywords if one is not keyword]
            yield node, ast.unparse(ast.Call(node.func, node.args, rest))
    if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
        yield node.func, _SWAPPED[node.func.id]


def _returned(node: ast.Return) -> _Change:
    if node.value is not None and ast.unparse(node.value) != "None":
        yield node, "return None"


_CHANGES: Final[dict[type[ast.AST], Callable[[Any], _Change]]] = {
    ast.If: _decided,
    ast.While: _decided,
    ast.Compare: _compare,
    ast.BoolOp: _bool,
    ast.BinOp: _binary,
    ast.AugAssign: _augmented,
    ast.UnaryOp: _unary,
    ast.IfExp: _chosen,
    ast.Constant: _constant,
    ast.JoinedStr: _text,
    ast.Call: _call,
    ast.Return: _returned,
}
