"""Pickling of what is sent between processes: items and results with pickle, functions with cloudpickle.

`pickle` sends a function by name, which suffices if the other side can import it. For a function of ``__main__``, a
closure or a lambda, cloudpickle sends the code. The functions that paco returns, for example from `settle`, are
closures over the user's function. Because paco is installed on the other side, either pickler sends only their code and
their cells.
"""

from __future__ import annotations

import copyreg
import importlib
import inspect
import io
import marshal
import pickle
import warnings
from contextlib import contextmanager, suppress
from types import CellType, FunctionType, ModuleType
from typing import TYPE_CHECKING, Any, Final

from paco._base import check
from paco._base.check import given, message
from paco._base.errors import install
from paco.limits import Limiter

if TYPE_CHECKING:
    from collections.abc import Generator

#: The size of a pickled function, in bytes, above which a warning is given.
_LARGE: Final = 1_000_000
_MAIN: Final = "__main__"
_OURS: Final = __name__.partition(".")[0] + "."
_OR_INSTALL: Final = f"and import it, or {install('workers')}"
_MOVE: Final = f"move it to a module of its own {_OR_INSTALL}"


@contextmanager
def _raising_errors() -> Generator[None]:
    """Raise an `Exception` instead of what the code of a value raises, which must end neither its chunk nor its run.

    Examples are a `CancelledError`, which would count as one of the chunk, and the panic of an extension in Rust.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise pickle.PickleError(repr(error)) from error


@_raising_errors()
def loads(data: bytes) -> Any:
    """Return the value of pickled bytes. They must come from a connection that this program opened."""
    return pickle.loads(data)  # noqa: S301 - see above


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None


class _Advice(TypeError):
    """A value cannot be sent, and the message says what to do."""


@_raising_errors()
def dumps(value: object) -> bytes:
    """Return a value as bytes. If cloudpickle is installed, definitions in ``__main__`` are sent by value."""
    try:
        data = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    except Exception:
        data = b""
    by_name = data and (_MAIN.encode() not in data or _cloudpickle() is None)
    return data if by_name else _dump(value)


def dump_function(name: str, fn: Any) -> bytes:
    """Return the function of a run as bytes. ``name`` is the operation, for messages.

    Raises:
        TypeError: The function cannot be pickled; the message names the culprit.
    """
    try:
        data = _dump(fn, imports_main=False)
    except Exception as error:
        advice = "; create what it needs inside the function, or pass it with the items"
        why = f"{_culprit(fn)}{message(error)}{'' if isinstance(error, _Advice) else advice}"
        raise TypeError(f"paco.{name}: {check.called(given(fn))} cannot be sent to other processes: {why}") from error
    if len(data) > _LARGE:
        warnings.warn(
            f"paco.{name}: {check.called(given(fn))} takes {len(data) / 1e6:.1f} MB, which are sent with every chunk "
            "of items; let it load large data in the worker",
            stacklevel=2,
        )
    return data


def unfit(name: str, what: str, error: Exception) -> TypeError:
    """Return an error that says what cannot be sent, with the error of pickle as its cause."""
    why = message(error)
    if isinstance(error, AttributeError) and _MAIN in why:  # a worker does not import the program
        why += f"; {_MOVE}"
    refused = TypeError(f"paco.{name}: {what} cannot be sent to another process: {why}")
    refused.__cause__ = error
    return refused


class _Plain(pickle.Pickler):
    """Pickles values of built-in types only. It is asked about no other values, so these cost nothing."""

    def reducer_override(self, obj: object) -> Any:
        raise TypeError(type(obj))


def dump_all(values: dict[int, Any]) -> tuple[bytes, dict[int, Exception]]:
    """Return values by number as bytes, and the errors of those that cannot be pickled.

    Values of built-in types are sent in one pickle, which can be read anywhere. Each other value may fail to unpickle:
    it is sent in a pickle of its own, so that the others can be read.
    """
    data, errors = io.BytesIO(), dict[int, Exception]()
    with suppress(Exception):
        _Plain(data, pickle.HIGHEST_PROTOCOL).dump((values, None))
        return data.getvalue(), errors
    pickles = dict[int, bytes]()
    for number, value in values.items():
        try:
            pickles[number] = dumps(value)
        except Exception as error:
            errors[number] = error
    return pickle.dumps((None, pickles)), errors


def load_all(data: bytes) -> tuple[dict[int, Any], dict[int, Exception]]:
    """Return the values from their bytes, and the errors of those that cannot be unpickled, by number."""
    plain, pickles = loads(data)
    if pickles is None:
        return plain, {}
    values, errors = dict[int, Any](), dict[int, Exception]()
    for number, one in pickles.items():
        try:
            values[number] = loads(one)
        except Exception as error:
            errors[number] = error
    return values, errors


def dump_error(error: BaseException) -> bytes:
    """Return an error as bytes, without traceback and cause, even if a library such as tblib makes pickle add them."""
    return _dump(error, plain_errors=True)


@_raising_errors()
def _dump(value: object, *, plain_errors: bool = False, imports_main: bool = True) -> bytes:
    """Return a value as bytes. ``imports_main`` says that the receiver may have the same ``__main__``."""
    buffer = io.BytesIO()
    cloudpickle = _cloudpickle()
    kind: Any = _ByName if cloudpickle is None else _by_value(cloudpickle.Pickler)
    if plain_errors:
        table = copyreg.dispatch_table if cloudpickle is None else kind.dispatch_table
        plain = {one: reduce for one, reduce in table.items() if not _is_error(one)}
        kind = type(kind.__name__, (kind,), {"dispatch_table": plain})
    pickler = kind(buffer)
    pickler.imports_main = imports_main
    pickler.dump(value)
    return buffer.getvalue()


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseException)


class _ByName(pickle.Pickler):
    """Pickles paco's functions by value, the rest by name; refuses limits, and with advice what has no such name."""

    imports_main = True

    def reducer_override(self, obj: Any) -> Any:
        reduced = _special(obj)
        if reduced is NotImplemented and isinstance(obj, FunctionType | type):
            if obj.__module__ == _MAIN and not self.imports_main:
                raise _Advice(f"{obj.__qualname__} is defined in __main__; {_MOVE}")
            if "<" in obj.__qualname__:
                advice = f"define it at the top level of a module {_OR_INSTALL}"
                raise _Advice(f"{obj.__qualname__} cannot be imported by name; {advice}")
        return reduced


def _by_value(base: Any) -> Any:
    """Return a class of picklers, from that of cloudpickle, that handles paco's functions and refuses limits."""

    class ByValue(base):  # type: ignore[misc]
        def reducer_override(self, obj: Any) -> Any:
            reduced = _special(obj)
            return base.reducer_override(self, obj) if reduced is NotImplemented else reduced

    return ByValue


def _special(obj: Any) -> Any:
    """Return how to pickle a function of paco; refuse a limit; return ``NotImplemented`` for all else."""
    if isinstance(obj, Limiter):
        raise _Advice(f"{check.shorten(obj)} would be a separate limit in each process; pass it to the call, as limit=")
    return _reduced(obj) if isinstance(obj, FunctionType) and _is_ours(obj) else NotImplemented


def _is_ours(fn: FunctionType) -> bool:
    return "<locals>" in fn.__code__.co_qualname and str(fn.__globals__.get("__name__")).startswith(_OURS)


def _reduced(fn: FunctionType) -> tuple[Any, ...]:
    cells = fn.__closure__ or ()
    made_of = (fn.__globals__["__name__"], marshal.dumps(fn.__code__), len(cells))
    state = {name: getattr(fn, name) for name in ("__name__", "__qualname__", "__module__", "__doc__")}
    state |= {"__defaults__": fn.__defaults__, "__kwdefaults__": fn.__kwdefaults__, **fn.__dict__}
    return _empty, made_of, (state, [cell.cell_contents for cell in cells]), None, None, _fill


def _empty(module: str, code: bytes, cells: int) -> FunctionType:
    """Return a function with empty cells. They are filled later, because a cell may refer to the function itself."""
    scope = vars(importlib.import_module(module))
    return FunctionType(marshal.loads(code), scope, closure=tuple(CellType() for _ in range(cells)))  # noqa: S302 - see `loads`


def _fill(fn: FunctionType, state: tuple[dict[str, Any], list[Any]]) -> None:
    attributes, contents = state
    for name, value in attributes.items():
        setattr(fn, name, value)
    for cell, value in zip(fn.__closure__ or (), contents, strict=True):
        cell.cell_contents = value


def _culprit(fn: Any) -> str:
    """Return the name of a value in a function that cannot be pickled, with the value; empty if unknown."""
    fn = inspect.unwrap(check.innermost(fn))
    try:
        used = inspect.getclosurevars(fn)
    except TypeError:  # a callable object
        return ""
    for name, value in {**used.globals, **used.nonlocals}.items():
        if isinstance(value, ModuleType | FunctionType | type):
            continue
        try:
            _dump(value)
        except Exception:
            return f"its {name} is {check.shorten(value)}: "
    return ""
