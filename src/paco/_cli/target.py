"""Find, import and check TARGET, the function to run for each item, before any input is read.

It is an async function of one item, a plain one, which runs in threads, or an async context manager that yields a
function.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import functools
import importlib
import inspect
import os
import pkgutil
import re
import shutil
import sys
import types
import typing
from contextlib import asynccontextmanager
from importlib.machinery import SOURCE_SUFFIXES
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import paco
from paco._base.check import innermost, message, signature_of
from paco._base.system import command_line, import_file
from paco._cli.ending import ClosingError, CommandError, explain, suggest
from paco._cli.values import hide_secrets
from paco._records.lines import number

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from types import ModuleType

    from paco._base.check import ItemFunction

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
#: What ends a coroutine from outside.
_CANCELLATIONS: Final = (asyncio.CancelledError, GeneratorExit)
#: How text of ``--arg`` and ``--unpack`` is converted to the type of its parameter. Other types get the text.
_CONVERSIONS: dict[Any, Callable[[str], Any]] = {
    int: int,
    float: lambda text: float(text) if "inf" in text.lower() else number(text),
    bool: lambda text: _TRUTH[text.lower()],
}
#: Stands for the parameters that a function takes as ``**name``.
_FURTHER: Final = "**"


def find_target(target: str, folder: str = "") -> Any:
    """Return the object that ``module:name`` or ``path.py:name`` names; ``name`` may have dots.

    Modules and relative paths are looked up in ``folder``.

    Raises:
        CommandError: The object does not exist, or importing it failed.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and place and name) or name.endswith(".py"):  # in C:\\jobs.py, the colon belongs to the drive
        raise CommandError(_without_colon(target))
    is_file = place.endswith(".py") or "/" in place or os.sep in place
    try:
        found: Any = _import_file(place, folder) if is_file else _import_module(place, folder)
    except (CommandError, KeyboardInterrupt):
        raise
    except BaseException as error:  # even a panic of a library written in Rust
        what = 'what must not run on import under: if __name__ == "__main__":'
        hint = f"\n(put {what})" if isinstance(error, SystemExit) else ""
        raise CommandError(f"importing {place} failed:\n{explain(error)}{hint}") from error
    path = place
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(_without_attribute(found, path, part)) from None
        path = f"{path}:{part}" if path == place else f"{path}.{part}"
    return found


def _without_colon(target: str) -> str:
    said = f"TARGET must be module:function or path.py:function, got {target!r}"
    if target.rstrip(":").endswith(".py"):
        names = _async_functions(target.rstrip(":"))
        return said + (f"; it defines {', '.join(names)}" if names else "")
    if shutil.which(target.partition(" ")[0]) is not None:
        return f"{said}; to run a program: paco map --exec {command_line([target])}"
    if Path(target).is_file():
        return f"{said}, which is a file; TARGET comes first: paco map TARGET {target}"
    module, dot, function = target.rpartition(".")
    return said + (f"; did you mean {module}:{function}?" if dot and module and function else "")


def _async_functions(path: str) -> list[str]:
    """Return the names of the public async functions of a file, without running it."""
    with contextlib.suppress(OSError, SyntaxError, ValueError):
        tree = ast.parse(Path(path).read_bytes())
        return [one.name for one in tree.body if isinstance(one, ast.AsyncFunctionDef) and one.name[0] != "_"]
    return []


def _without_attribute(owner: object, path: str, name: str) -> str:
    names = [one for one in dir(owner) if not one.startswith("__")]
    hint = suggest(name, names)
    functions = [one for one in names if _is_own_function(owner, one)]
    if not hint and functions:
        hint = f"; it defines {', '.join(functions[:8])}"
    return f"{path} has no {name!r}{hint}"


def _is_own_function(owner: object, name: str) -> bool:
    one = getattr(owner, name, None)
    return hasattr(one, "__code__") and getattr(one, "__module__", None) == getattr(owner, "__name__", "")


#: The folders of Python's own modules.
_OWN = (str(Path(os.__file__).parent), str(Path(os.__file__).parent / "lib-dynload"))


def _search(folder: str) -> None:
    """Search ``folder`` for modules before installed ones, except with Python's option -P.

    Python's own modules come first, unlike for a script: paco and others import them later, and a file of the user that
    happens to have such a name must not take their place.
    """
    if not sys.flags.safe_path:
        if folder in sys.path:
            sys.path.remove(folder)
        sys.path.insert(max((place for place, one in enumerate(sys.path, 1) if one in _OWN), default=0), folder)


def _import_module(name: str, folder: str) -> ModuleType:
    _search(folder)
    if name in sys.stdlib_module_names and not sys.flags.safe_path and Path(folder, f"{name}.py").is_file():
        return _import_file(f"{name}.py", folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise CommandError(_without_module(name, missing, folder)) from None
        raise  # a module that it imports is missing


def _without_module(name: str, missing: str, folder: str) -> str:
    parent = missing.rpartition(".")[0]
    if parent and not hasattr(sys.modules[parent], "__path__"):
        function = name[len(parent) + 1 :]
        return f"{parent} is a module and no package, so there is no {missing}; did you mean {parent}:{function}?"
    folders: list[str] = list(sys.modules[parent].__path__) if parent else [folder]
    known = [one.name for one in pkgutil.iter_modules(folders)]
    hint = suggest(missing.rpartition(".")[2], known)
    if not parent and sys.flags.safe_path:
        hint = "; the current folder is not searched under Python's safe path (-P)"
    return f"there is no module {missing}{hint}"


def _import_file(name: str, folder: str) -> ModuleType:
    path = Path(folder, name)
    if not path.is_file():
        near = path.parent.glob("*.py") if path.parent.is_dir() else ()
        known = [str(Path(name).parent / one.name) for one in near]
        raise CommandError(f"there is no file {name}{suggest(name, known)}")
    _search(str(path.parent.resolve()))
    if path.suffix not in SOURCE_SUFFIXES:
        raise CommandError(f"{name} is not Python source: its name must end in .py")
    stem = path.stem
    if not stem.isidentifier() or stem in sys.modules or stem in sys.stdlib_module_names:
        stem = f"_paco_{re.sub(r'[^0-9a-zA-Z_]', '_', stem)}"
    return import_file(stem, str(path.resolve()))


# ---- the kinds of TARGET


def open_target(
    found: Any, name: str, arguments: Mapping[str, str], *, unpack: bool = False
) -> AbstractAsyncContextManager[ItemFunction]:
    """Return a context manager to enter around the run; it yields the function.

    None of the user's code is called before it is entered. With ``unpack``, the members of an item become keyword
    arguments.

    Raises:
        CommandError: ``found`` is neither a function of one item nor an async context manager, or it does not
            take ``arguments``.
    """
    if hasattr(found.__class__, "__aenter__"):
        if arguments:
            raise CommandError(f"{name} is an object, not a function or a class, so it takes no --arg")
        return _entered(lambda: found, name, unpack=unpack)
    if _makes_manager(found):
        keywords = _convert(found, name, arguments)
        _bind(found, name, "called with --arg alone", **keywords)
        return _entered(functools.partial(found, **keywords), name, unpack=unpack)
    function = _async_function(found, name)
    keywords = _convert(found, name, arguments)
    return contextlib.nullcontext(_one_item(function, name, keywords, unpack=unpack))


def _makes_manager(found: Any) -> bool:
    if inspect.isclass(found):
        return hasattr(found, "__aenter__")
    return inspect.isasyncgenfunction(inspect.unwrap(found)) and not inspect.isasyncgenfunction(found)


@asynccontextmanager
async def _entered(make: Callable[[], Any], name: str, *, unpack: bool) -> AsyncGenerator[ItemFunction]:
    """Enter the user's context manager around the run, and yield the function that it yields.

    Raises:
        CommandError: Entering it failed, or it did not yield a function of one item.
        ClosingError: Exiting it failed.
    """
    try:
        manager = make()
        function = await manager.__aenter__()
    except _CANCELLATIONS:
        raise
    except BaseException as error:
        raise CommandError(f"setting up {name} failed:\n{explain(error)}") from error
    try:
        what = f"what {name} yields"
        yield _one_item(_async_function(function, what), what, {}, unpack=unpack)
    finally:
        try:
            await manager.__aexit__(None, None, None)
        except _CANCELLATIONS:
            raise
        except BaseException as error:
            raise ClosingError(f"closing {name} failed:\n{explain(error)}") from error


def _one_item(function: Any, name: str, keywords: dict[str, Any], *, unpack: bool) -> ItemFunction:
    if unpack:  # the parameters are checked at each call, since the members are unknown before
        return functools.partial(_unpacked, functools.partial(function, **keywords), _kinds_of(function) or {})
    _bind(function, name, "called with one item", object(), **keywords)
    return functools.partial(function, **keywords) if keywords else function


async def _unpacked(function: Callable[..., Awaitable[Any]], kinds: Mapping[str, Sequence[Any]], item: object) -> Any:
    return await function(**_members(kinds, item))


def _members(kinds: Mapping[str, Sequence[Any]], item: object) -> dict[str, Any]:
    """Return the members of an item as keyword arguments. Text, as of a table, is converted like that of ``--arg``."""
    if not isinstance(item, dict):
        raise TypeError(f"--unpack: expected a JSON object, got {type(item).__name__}")
    given = cast("dict[str, Any]", item)
    try:
        return {key: _value(key, one, kinds) if isinstance(one, str) else one for key, one in given.items()}
    except ValueError as error:
        raise ValueError(f"--unpack: {error}") from None


def unpacking(found: Any, name: str, arguments: Mapping[str, str]) -> Callable[[Any], object] | None:
    """Return what raises the error that the call for an item has with ``--unpack``; ``None`` if it is unknown yet."""
    if hasattr(found.__class__, "__aenter__") or _makes_manager(found):
        return None
    function = _async_function(found, name)
    kinds, keywords = _kinds_of(function), _convert(function, name, arguments)
    if kinds is None:
        return None
    signature = signature_of(function)
    return lambda item: signature.bind(**{**keywords, **_members(kinds, item)})


def _bind(function: Any, name: str, how: str, /, *arguments: Any, **keywords: Any) -> None:
    try:
        signature = signature_of(function)
    except (TypeError, ValueError):  # a function in C without a signature
        return
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        hint = "; to pass the fields of an object: --unpack" if arguments and "missing" in message(error) else ""
        raise CommandError(f"{name}{signature} cannot be {how}: {message(error)}{hint}") from None


def _async_function(found: Any, name: str) -> ItemFunction:
    """Return an async function as it is, and one that runs a plain function in threads."""
    if inspect.isasyncgenfunction(found) or inspect.isgeneratorfunction(inspect.unwrap(innermost(found))):
        raise CommandError(
            f"{name} is a generator function; to open a resource once around the run, make it async and decorate it "
            "with @contextlib.asynccontextmanager"
        )
    if not callable(found) or inspect.isclass(found):
        what = "a class" if inspect.isclass(found) else f"of type {type(found).__name__}"
        raise CommandError(f"{name} is {what}; TARGET must be a function: async def f(item), or def f(item)")
    is_async = any(map(inspect.iscoroutinefunction, (found, inspect.unwrap(found), type(found).__call__)))
    return cast("ItemFunction", found if is_async else paco.threaded(found))


def _convert(found: Any, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the values of ``--arg``: text, or int, float or bool if the parameter is annotated as such."""
    kinds = _kinds_of(found) if arguments else None
    if kinds is None:
        return dict(arguments)
    for key in arguments:
        if key not in kinds and _FURTHER not in kinds:
            hint = suggest(key, kinds) or f"; it has {', '.join(kinds) or 'none'}"
            raise CommandError(f"--arg {key}: {name} has no such parameter{hint}")
    try:
        return {key: _value(key, text, kinds) for key, text in arguments.items()}
    except ValueError as error:
        raise CommandError(f"--arg {error}") from None


def _kinds_of(found: Any) -> dict[str, list[Any]] | None:
    """Return the types that text is converted to for each parameter, or none of them; ``None`` without a signature."""
    try:
        parameters = signature_of(found).parameters.values()
    except (TypeError, ValueError):
        return None
    known: Any = sys.modules.get(getattr(inspect.unwrap(innermost(found)), "__module__", ""))
    names = getattr(known, "__dict__", {})
    kinds = {_FURTHER if one.kind is one.VAR_KEYWORD else one.name: _types(one.annotation, names) for one in parameters}
    return {key: types if _CONVERSIONS.keys() >= set(types) else [] for key, types in kinds.items()}


def _types(annotation: Any, names: Mapping[str, Any]) -> list[Any]:
    """Return the types that an annotation allows besides ``None``; ``names`` are those that it may use."""

    def annotated() -> None: ...

    annotated.__annotations__ = {"value": annotation}
    try:
        found = typing.get_type_hints(annotated, dict(vars(typing)), dict(names))["value"]
    except Exception:  # a name that is imported for type checkers alone
        return [object]
    if typing.get_origin(found) in {typing.Union, types.UnionType}:
        return [kind for part in typing.get_args(found) for kind in _types(part, names)]
    if isinstance(found, type):
        return [] if found is types.NoneType else [found]
    alias = getattr(found, "__value__", getattr(found, "__supertype__", None))  # `type X = ...`, `NewType`
    return [object] if alias is None else _types(alias, names)


def _value(key: str, text: str, types_of: Mapping[str, Sequence[Any]]) -> Any:
    """Convert ``text`` to the annotated type. Guessing the type from the text would turn 1.10 into the number 1.1."""
    kinds = types_of.get(key, types_of.get(_FURTHER, ()))
    for kind in kinds:
        with contextlib.suppress(ValueError, KeyError):
            return _CONVERSIONS[kind](text)
    if not kinds:
        return text
    expected = " or ".join(kind.__name__ for kind in kinds)
    shown = hide_secrets(f"{key}={text}").removeprefix(f"{key}=")
    raise ValueError(f"{key} must be of type {expected}, got {shown!r}")
