"""Modules of files that were imported by their paths: Python would find another file by the name, or none."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from types import ModuleType

#: The path of the file of each of these modules, by the name of the module.
files: Final[dict[str, str]] = {}


class FileFinder:
    """Finds these modules for ``import``, and so for pickle."""

    @staticmethod
    def find_spec(name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return how to load a module, or ``None`` if it is not one of these."""
        return importlib.util.spec_from_file_location(name, files[name]) if name in files else None


def import_file(name: str, path: str) -> ModuleType:
    """Import a file of Python source as a module of this name."""
    files[name] = path
    spec: Any = FileFinder.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_files(more: dict[str, str]) -> None:
    """Have these files found under these names, before all others."""
    files.update(more)
    sys.meta_path.insert(0, FileFinder)
