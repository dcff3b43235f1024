"""What TARGET may be: an async function of one item, or an async context manager that yields such a function."""

from __future__ import annotations

import functools
import inspect
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from paco._cli.errors import ClosingError, CommandError, explain, suggest
from paco._view.console import message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager

    #: The function that is run: an item in, a result out.
    Function: TypeAlias = Callable[[Any], Awaitable[Any]]

_TRUTH = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


def open_target(
    found: Any, name: str, arguments: Mapping[str, str], *, unpack: bool = False
) -> AbstractAsyncContextManager[Function]:
    """Return a context manager that is entered around the run and gives the function.

    Args:
        found: What ``name`` stands for.
        name: TARGET.
        arguments: Of ``--arg``.
        unpack: Whether items are objects whose members are keyword arguments.

    Raises:
        CommandError: ``found`` is neither an async function of one item nor an async context manager, or ``arguments``
            (of ``--arg``) are not its own. Nothing of the user's has been called by then.
    """
    if hasattr(found.__class__, "__aenter__"):
        if arguments:
            raise CommandError(f"{name} is made already: --arg has nothing to be given to")
        return _entered(lambda: found, name, unpack=unpack)
    if _makes_manager(found):
        keywords = _convert(found, name, arguments)
        _bind(found, name, "called with --arg alone", **keywords)
        return _entered(functools.partial(found, **keywords), name, unpack=unpack)
    _check_async(found, name)
    keywords = _convert(found, name, arguments)
    return _plain(_one_item(found, name, keywords, unpack=unpack))


def _makes_manager(found: Any) -> bool:
    if inspect.isclass(found):
        return hasattr(found, "__aenter__")
    return inspect.isasyncgenfunction(inspect.unwrap(found)) and not inspect.isasyncgenfunction(found)


@asynccontextmanager
async def _plain(function: Function) -> AsyncGenerator[Function]:
    yield function


@asynccontextmanager
async def _entered(make: Callable[[], Any], name: str, *, unpack: bool) -> AsyncGenerator[Function]:
    """Enter the user's manager; an error of its setup is one of the command, an error of its end stays what it is."""
    try:
        manager = make()
        function = await manager.__aenter__()
    except (Exception, SystemExit) as error:
        raise CommandError(f"setting up {name} failed:\n{explain(error)}") from error
    try:
        what = f"what {name} yields"
        _check_async(function, what)
        yield _one_item(function, what, {}, unpack=unpack)
    finally:
        try:
            await manager.__aexit__(None, None, None)
        except (Exception, SystemExit) as error:
            raise ClosingError(f"closing {name} failed:\n{explain(error)}") from error


def _one_item(function: Any, name: str, keywords: dict[str, Any], *, unpack: bool) -> Function:
    if unpack:  # whether the members of an item fit is known when there is an item
        return functools.partial(_unpacked, functools.partial(function, **keywords))
    _bind(function, name, "called with one item", object(), **keywords)
    return functools.partial(function, **keywords) if keywords else function


async def _unpacked(function: Callable[..., Awaitable[Any]], item: object) -> Any:
    if not isinstance(item, dict):
        raise TypeError(f"--unpack: expected a JSON object, got {type(item).__name__}")
    return await function(**cast("dict[str, Any]", item))


def _bind(function: Any, name: str, how: str, /, *arguments: Any, **keywords: Any) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # written in C, without a signature
        return
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        raise CommandError(f"{name} must be able to be {how}, it is {name}{signature}: {message(error)}") from None


def _check_async(found: Any, name: str) -> None:
    if inspect.isasyncgenfunction(found):
        raise CommandError(
            f"{name} is an async generator function; to open something once around the run, "
            "decorate it with @contextlib.asynccontextmanager"
        )
    if not callable(found):
        raise CommandError(
            f"{name} is of type {type(found).__name__}; TARGET must be an async function: async def f(item)"
        )
    if not any(map(inspect.iscoroutinefunction, (found, inspect.unwrap(found), type(found).__call__))):
        raise CommandError(
            f"{name} is not an async function. If it blocks, give it a thread:\n"
            f"    async def f(item):\n        return await asyncio.to_thread({_short(found)}, item)\n"
            f"if it is quick, wrap it: f = paco.wraps({_short(found)})"
        )


def _short(found: Any) -> str:
    return getattr(found, "__name__", "function")


def _convert(found: Any, name: str, arguments: Mapping[str, str]) -> dict[str, Any]:
    """Return the texts of ``--arg``, turned into int, float or bool where the parameter is annotated so."""
    if not arguments:
        return {}
    try:
        parameters = inspect.signature(found).parameters
    except (TypeError, ValueError):
        return dict(arguments)
    free = any(one.kind is one.VAR_KEYWORD for one in parameters.values())
    values: dict[str, Any] = {}
    for key, text in arguments.items():
        if key not in parameters and not free:
            known = ", ".join(parameters) or "none"
            raise CommandError(
                f"--arg {key}: {name} has no such parameter{suggest(key, parameters) or f'; it has {known}'}"
            )
        values[key] = _value(key, text, parameters[key].annotation) if key in parameters else text
    return values


def _value(key: str, text: str, annotation: Any) -> Any:
    """Return ``text`` as the annotated type says; a guess from the text would make 1.10 a number and lose the 0."""
    written = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    kind = written.strip("'\"").removesuffix(" | None")
    try:
        match kind:
            case "int" | "float":
                return int(text) if kind == "int" else float(text)
            case "bool":
                return _TRUTH[text.lower()]
            case _:
                return text
    except (ValueError, KeyError):
        raise CommandError(f"--arg {key} must be of type {kind}, got {text!r}") from None
