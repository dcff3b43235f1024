"""What travels between processes, as bytes: items and results by pickle, functions by cloudpickle.

`pickle` knows a function by its name, which does for one that can be imported where it arrives. For one of
``__main__``, a closure or a lambda, cloudpickle sends the code. The functions that paco makes, such as `settle` does,
are closures over the user's; since paco is there on the other side, only their code and cells go, by either of them.
"""

from __future__ import annotations

import copyreg
import importlib
import inspect
import io
import marshal
import pickle
import warnings
from types import CellType, FunctionType, ModuleType
from typing import Any, Final

from paco._base import check
from paco._base.item_function import given
from paco._view.console import message
from paco.limits import Limiter

#: Bytes of a function from which on there is a warning.
_LARGE: Final = 1_000_000
_MAIN: Final = "__main__"
_OURS: Final = __name__.partition(".")[0] + "."
_INSTALL: Final = "to send functions of __main__, closures and lambdas, pip install paco[workers]"

#: Make a value of bytes. They come from the other side of a connection that this program has opened.
loads = pickle.loads


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None


def dumps(value: object) -> bytes:
    """Make bytes of a value: what only this program's ``__main__`` knows goes by value, where cloudpickle is there."""
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        data = b""
    cloudpickle = _cloudpickle() if not data or _MAIN.encode() in data else None
    if cloudpickle is not None:
        data = cloudpickle.dumps(value)
    return data or pickle.dumps(value)  # which raises again


def dump_function(name: str, fn: Any) -> bytes:
    """Make bytes of the function of a run.

    Args:
        name: The operation, for messages.
        fn: The function.

    Raises:
        TypeError: It cannot be sent; the text says what in it.
    """
    try:
        data = _dump(fn)
    except Exception as error:
        called = check.called(given(fn))
        raise TypeError(
            f"paco.{name}: {called} cannot be sent to other processes: {_culprit(fn)}{message(error)}; "
            "make what it needs inside of it, or hand it over with the items"
        ) from error
    if len(data) > _LARGE:
        warnings.warn(
            f"paco.{name}: {check.called(given(fn))} takes {len(data) / 1e6:.1f} MB, which go with every chunk of "
            "items; let it load large data where it runs",
            stacklevel=2,
        )
    return data


def unfit(name: str, what: str, error: Exception) -> TypeError:
    """Return the error that says what cannot travel, with the reason as its cause.

    Args:
        name: The operation, for messages.
        what: It, in words.
        error: What pickle says.
    """
    refused = TypeError(f"paco.{name}: {what} cannot be sent to another process: {message(error)}")
    refused.__cause__ = error
    return refused


def dump_error(error: BaseException) -> bytes:
    """Make bytes of an error, without its traceback and its cause, whoever has taught pickle to add them, as tblib."""
    return _dump(error, plain_errors=True)


def _dump(value: object, *, plain_errors: bool = False) -> bytes:
    buffer = io.BytesIO()
    cloudpickle = _cloudpickle()
    kind = _pickler(pickle.Pickler if cloudpickle is None else cloudpickle.Pickler)
    if plain_errors:
        table = getattr(kind, "dispatch_table", copyreg.dispatch_table)
        kind.dispatch_table = {kind: how for kind, how in table.items() if not _is_error(kind)}
    kind(buffer).dump(value)
    return buffer.getvalue()


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


def _pickler(base: Any) -> Any:
    """Return a pickler that knows our functions and limits; where there is only pickle, it knows what that cannot."""

    class Pickler(base):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            if isinstance(obj, Limiter):
                raise TypeError(
                    f"{check.shorten(obj)} inside of the function would be another one in each process; "
                    "give it to the call, as limit="
                )
            if isinstance(obj, FunctionType) and _is_ours(obj):
                return _reduced(obj)
            if base is not pickle.Pickler:
                return base.reducer_override(self, obj)
            if isinstance(obj, FunctionType | type) and obj.__module__ == _MAIN:
                raise TypeError(f"{obj.__qualname__} is of __main__; {_INSTALL}")
            if isinstance(obj, FunctionType) and "<" in obj.__qualname__:
                raise TypeError(f"{obj.__qualname__} cannot be imported by its name; {_INSTALL}")
            return NotImplemented

    return Pickler


def _is_ours(fn: FunctionType) -> bool:
    return "<locals>" in fn.__code__.co_qualname and str(fn.__globals__.get("__name__")).startswith(_OURS)


def _reduced(fn: FunctionType) -> tuple[Any, ...]:
    cells = fn.__closure__ or ()
    made_of = (fn.__globals__["__name__"], marshal.dumps(fn.__code__), len(cells))
    state = {name: getattr(fn, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")}
    state |= {"__defaults__": fn.__defaults__, "__kwdefaults__": fn.__kwdefaults__, **fn.__dict__}
    return _empty, made_of, (state, [cell.cell_contents for cell in cells]), None, None, _fill


def _empty(module: str, code: bytes, cells: int) -> FunctionType:
    """Make a function whose cells are filled later: one of them may lead back to it."""
    scope = vars(importlib.import_module(module))
    return FunctionType(marshal.loads(code), scope, closure=tuple(CellType() for _ in range(cells)))  # noqa: S302 - see `loads`


def _fill(fn: FunctionType, state: tuple[dict[str, Any], list[Any]]) -> None:
    attributes, contents = state
    for name, value in attributes.items():
        setattr(fn, name, value)
    for cell, value in zip(fn.__closure__ or (), contents, strict=True):
        cell.cell_contents = value


def _culprit(fn: Any) -> str:
    """Return what in a function cannot be sent, by its name, if that can be told."""
    fn = inspect.unwrap(check.innermost(fn))
    try:
        used = inspect.getclosurevars(fn)
    except TypeError:  # an object that can be called
        used = None
    names = {} if used is None else {**used.globals, **used.nonlocals}
    for name, value in names.items():
        if isinstance(value, ModuleType | FunctionType | type):
            continue
        try:
            _dump(value)
        except Exception:
            return f"its {name} is {check.shorten(value)}: "
    return ""
