"""TARGET: the function that is run for each item, found, imported and checked before any input is read."""

from __future__ import annotations

import ast
import contextlib
import importlib
import importlib.util
import os
import pkgutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paco._cli.errors import CommandError, explain, suggest

if TYPE_CHECKING:
    from types import ModuleType


def find_target(target: str) -> Any:
    """Return the object that ``module:name`` or ``path.py:name`` stands for; ``name`` may have dots.

    Raises:
        CommandError: It is not there, or importing it failed.
    """
    place, colon, name = target.rpartition(":")
    if not (colon and place and name) or name.endswith(".py"):  # the colon of C:\\jobs.py is that of the drive
        raise CommandError(_without_colon(target))
    if place.endswith(".py") or "/" in place or os.sep in place:
        found: Any = _import_file(place)
    else:
        found = _import_module(place)
    path = place
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CommandError(_without_attribute(found, path, part)) from None
        path = f"{path}:{part}" if path == place else f"{path}.{part}"
    return found


def _without_colon(target: str) -> str:
    message = f"TARGET must be module:function or path.py:function, got {target!r}"
    if target.rstrip(":").endswith(".py"):
        names = _async_functions(target.rstrip(":"))
        return message + (f"; it defines {', '.join(names)}" if names else "")
    module, dot, function = target.rpartition(".")
    return message + (f"; did you mean {module}:{function}?" if dot and module and function else "")


def _async_functions(path: str) -> list[str]:
    """Return the public async functions of a file, read and not run."""
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


def _search(folder: str) -> None:
    """Let modules of ``folder`` be imported, as Python does for a script, but not under its safe path (-P)."""
    if not sys.flags.safe_path and folder not in sys.path:
        sys.path.insert(0, folder)


def _import_module(name: str) -> ModuleType:
    _search(str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name != missing and not name.startswith(missing + "."):
            raise CommandError(_broken(name, error)) from None
        raise CommandError(_without_module(name, missing)) from None
    except (Exception, SystemExit) as error:
        raise CommandError(_broken(name, error)) from error


def _without_module(name: str, missing: str) -> str:
    parent = missing.rpartition(".")[0]
    if parent and not hasattr(sys.modules[parent], "__path__"):
        function = name[len(parent) + 1 :]
        return f"{parent} is a module and no package, so there is no {missing}; did you mean {parent}:{function}?"
    folders: list[str] = list(sys.modules[parent].__path__) if parent else [str(Path.cwd())]
    known = [one.name for one in pkgutil.iter_modules(folders)]
    hint = suggest(missing.rpartition(".")[2], known)
    if not parent and sys.flags.safe_path:
        hint = "; the current folder is not searched under Python's safe path (-P)"
    return f"there is no module {missing}{hint}"


def _import_file(name: str) -> ModuleType:
    path = Path(name)
    if not path.is_file():
        folder = path.parent
        known = [str(folder / one.name) for one in folder.glob("*.py")] if folder.is_dir() else []
        raise CommandError(f"there is no file {name}{suggest(name, known)}")
    _search(str(path.parent.resolve()))
    taken = path.stem in sys.modules or path.stem in sys.stdlib_module_names
    spec = importlib.util.spec_from_file_location(f"_paco_{path.stem}" if taken else path.stem, path.resolve())
    if spec is None or spec.loader is None:
        raise CommandError(f"{name} is not Python source: its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise CommandError(_broken(name, error)) from error
    return module


def _broken(name: str, error: BaseException) -> str:
    hint = (
        '\n(put what must not run on import under: if __name__ == "__main__":)' if isinstance(error, SystemExit) else ""
    )
    return f"importing {name} failed:\n{explain(error)}{hint}"
