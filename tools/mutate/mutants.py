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
    """A module with one fault, identified by its function and its fault.

    Attributes:
        module: The name of the module, without the package.
        scope: The function or class with the fault.
        fault: The change, such as ``drop _attention`` or ``>= for > started _attention``.
        line: The line with the fault.
        original: The whole module.
        text: The whole module, with the fault.
    """

    module: str
    scope: str
    fault: str
    line: int
    original: str
    text: str

    @property
    def key(self) -> tuple[str, str]:
        """The identity of the mutant in `argued.toml`. An edit of another statement does not change it."""
        return self.scope or self.module, self.fault

    def __str__(self) -> str:
        lines = difflib.ndiff(self.original.splitlines(), self.text.splitlines())
        changed = [f"{line[0]}   {line[2:].strip()}" for line in lines if line[0] in "-+"]
        return "\n".join([f"{self.module}, line {self.line}, in {self.key[0]}: {self.fault}", *changed])


def mutants(module: str, text: str) -> list[Mutant]:
    """Return the mutants of a module in the order of its lines, without duplicates."""
    source = text.encode()
    starts = [0]
    for line in source.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found: dict[str, Mutant] = {}
    for scope, fault, node, new in _changes(ast.parse(text)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or node.lineno) - 1] + (node.end_col_offset or 0)
        changed = (source[:begin] + new.encode() + source[end:]).decode()
        if changed != text and changed not in found:
            found[changed] = Mutant(module, scope, fault, node.lineno, text, changed)
    return _numbered(sorted(found.values(), key=lambda mutant: mutant.line))


def _numbered(found: list[Mutant]) -> list[Mutant]:
    """Number mutants with the same key, ``drop return (2 of 3)``: an argument for one must not cover another."""
    counts, seen = Counter(mutant.key for mutant in found), Counter[tuple[str, str]]()
    numbered: list[Mutant] = []
    for mutant in found:
        seen[mutant.key] += 1
        number = f" ({seen[mutant.key]} of {counts[mutant.key]})" if counts[mutant.key] > 1 else ""
        numbered.append(replace(mutant, fault=mutant.fault + number))
    return numbered


def _changes(tree: ast.Module) -> Iterator[tuple[str, str, Any, str]]:
    """Yield each possible change: the scope, the fault, the node, and the text that replaces it."""
    stack: list[tuple[str, str, ast.AST]] = [("", "", tree)]
    while stack:
        scope, head, node = stack.pop()
        if _is_overload(node):
            continue
        if isinstance(node, ast.stmt):
            head = _head(node)
        for old, new, fault in _CHANGES.get(type(node), _none)(node):
            yield scope, fault.format(_names(old) or head), old, new
        if isinstance(node, _LEFT_OUT) and not _is_text(node):
            yield scope, f"drop {head}", node, "pass"
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            scope = f"{scope}.{node.name}".lstrip(".")
        stack.extend((scope, head, child) for child in _children(node))


def _head(statement: ast.stmt) -> str:
    """Return a name for a statement: what it assigns or calls, otherwise its kind."""
    match statement:
        case ast.Assign(targets=targets):
            return " ".join(map(_names, targets))
        case ast.AugAssign(target=target) | ast.AnnAssign(target=target):
            return _names(target)
        case ast.Expr(value=ast.Await(value=ast.Call(func=called)) | ast.Call(func=called)):
            return _names(called)
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            return name
        case _:
            return type(statement).__name__.lower()


def _names(node: ast.AST) -> str:
    """Return the names in an expression, in order, without duplicates; nothing for a statement."""
    if isinstance(node, ast.stmt):
        return ""
    found = [
        (one.end_lineno or 0, one.end_col_offset or 0, one.attr if isinstance(one, ast.Attribute) else one.id)
        for one in ast.walk(node)
        if isinstance(one, ast.Attribute | ast.Name)
    ]
    return " ".join(dict.fromkeys(name for *_, name in sorted(found) if name != "self"))


def _children(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children that run: no annotations, docstrings, slots or code that only type checkers see."""
    if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
        return
    if isinstance(node, ast.Assign) and _is_text(node):
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
    """Return whether a statement must stay: a docstring, an ellipsis, a type or its variable, a list of names."""
    if isinstance(node, ast.Assign):
        is_variable = isinstance(node.value, ast.Call) and ast.unparse(node.value.func) == "TypeVar"
        return is_variable or ast.unparse(node.targets[0]) in {"__slots__", "__all__"}
    if isinstance(node, ast.AnnAssign):
        return node.value is None or ast.unparse(node.annotation) == "TypeAlias"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_overload(node: ast.AST) -> bool:
    return isinstance(node, ast.FunctionDef) and "overload" in map(ast.unparse, node.decorator_list)


def _is_type_of_cast(node: ast.AST, child: ast.AST) -> bool:
    return isinstance(node, ast.Call) and ast.unparse(node.func) == "cast" and child is node.args[0]


# ---- the changes of each kind of node: the node to replace, the new text, and the fault, with {} for the names in it

_Change = Iterator[tuple[ast.AST, str, str]]


def _none(_: Any) -> _Change:
    return iter(())


def _sign(operator: ast.cmpop | ast.operator | ast.unaryop) -> str:
    """Return an operator as it is written."""
    some = ast.Name("x")
    if isinstance(operator, ast.cmpop):
        return ast.unparse(ast.Compare(some, [operator], [some]))[2:-2]
    if isinstance(operator, ast.operator):
        return ast.unparse(ast.BinOp(some, operator, some))[2:-2]
    return ast.unparse(ast.UnaryOp(operator, some))[:-1].strip()


def _decided(node: Any) -> _Change:
    """Make a condition always true, or always false."""
    if ast.unparse(node.test) != "TYPE_CHECKING":
        yield node.test, "True", "always {}"
        yield node.test, "False", "never {}"


def _compare(node: ast.Compare) -> _Change:
    for index, operator in enumerate(node.ops):
        for other in _COMPARES[type(operator)]:
            new = copy.copy(node)
            new.ops = [*node.ops[:index], other(), *node.ops[index + 1 :]]
            yield node, ast.unparse(new), f"{_sign(other())} for {_sign(operator)} {{}}"


def _bool(node: ast.BoolOp) -> _Change:
    """Remove one operand."""
    for index, value in enumerate(node.values):
        rest = [*node.values[:index], *node.values[index + 1 :]]
        new = ast.unparse(ast.BoolOp(node.op, rest) if len(rest) > 1 else rest[0])
        yield node, new, f"without {_names(value) or index}"


def _binary(node: ast.BinOp) -> _Change:
    if isinstance(node.op, ast.BitOr):  # of types
        yield node, ast.unparse(node.left), "left of {}"
        yield node, ast.unparse(node.right), "right of {}"
    elif type(node.op) in _OPERATORS:
        other = _OPERATORS[type(node.op)]()
        yield node, ast.unparse(ast.BinOp(node.left, other, node.right)), f"{_sign(other)} for {_sign(node.op)} {{}}"


def _augmented(node: ast.AugAssign) -> _Change:
    if type(node.op) in _OPERATORS:
        other = _OPERATORS[type(node.op)]()
        yield (
            node,
            ast.unparse(ast.AugAssign(node.target, other, node.value)),
            f"{_sign(other)}= for {_sign(node.op)}= {{}}",
        )


def _unary(node: ast.UnaryOp) -> _Change:
    yield node, ast.unparse(node.operand), f"without {_sign(node.op)} {{}}"


def _chosen(node: ast.IfExp) -> _Change:
    yield node, f"({ast.unparse(node.body)})", "always first of {}"
    yield node, f"({ast.unparse(node.orelse)})", "always second of {}"


def _constant(node: ast.Constant) -> _Change:
    value = node.value
    if isinstance(value, bool):
        yield node, str(not value), f"{not value} {{}}"
    elif isinstance(value, int | float):
        yield node, repr(value + 1), f"{value + 1} for {value} {{}}"
    elif isinstance(value, str):
        yield node, '"mutated"', "other text {}"


def _text(node: ast.JoinedStr) -> _Change:
    yield node, '"mutated"', "other text {}"


def _call(node: ast.Call) -> _Change:
    """Remove a keyword argument, or call the opposite function."""
    for keyword in node.keywords:
        if keyword.arg is not None:
            rest = [one for one in node.keywords if one is not keyword]
            yield (
                node,
                ast.unparse(ast.Call(node.func, node.args, rest)),
                f"without {keyword.arg}= of {_names(node.func)}",
            )
    if isinstance(node.func, ast.Name) and node.func.id in _SWAPPED:
        yield node.func, _SWAPPED[node.func.id], f"{_SWAPPED[node.func.id]} for {{}}"


def _returned(node: ast.Return) -> _Change:
    if node.value is not None and ast.unparse(node.value) not in {"None", "False"}:  # None is as false as False
        yield node, "return None", "None for {}"


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
