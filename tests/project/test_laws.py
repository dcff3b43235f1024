"""The laws about the source itself."""

from __future__ import annotations

import ast
import functools
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import paco
from tests.project.source import MODULES, SOURCE, nodes
from tools import rooms

ROOT = Path(__file__).parents[2]


def listed(package: Path) -> list[str]:
    """Return the names that the docstring of a package lists."""
    return [name for names, _ in rooms.rows(package) for name in names]


#: The rooms: modules and packages, from the bottom up.
ROOMS = listed(SOURCE)
#: What `import paco` brings; `paco` is `__init__.py`, the table of contents.
CORE = [*ROOMS[: ROOMS.index("_functions") + 1], "paco"]
#: Imported on use, inside a function, so that importing paco does not pay for them.
OPTIONAL = [*ROOMS[ROOMS.index("_functions") + 1 :], "__main__"]
LAYERS = [*CORE, *OPTIONAL]
#: The modules of each room, from the bottom up.
INSIDE = {room: listed(SOURCE / room) for room in ROOMS if (SOURCE / room).is_dir()}
#: Of the standard library, and left out of `sys.stdlib_module_names`: since Python 3.15 traceback imports it.
UNLISTED = {"_missing_stdlib_info"}


def place(path: Path) -> tuple[str, str]:
    """Return the room of a file and its name in that room; a room that is one module has no names."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ("paco", "") if parts == ("__init__",) else (parts[0], parts[1] if parts[1:] else "")


def files(room: str) -> list[Path]:
    """Return the files of a room."""
    return [path for path in MODULES if place(path)[0] == room]


@functools.cache
def for_type_checkers(path: Path) -> set[int]:
    """Return the ids of the nodes that only type checkers read."""
    return {
        id(inner)
        for node in nodes(path)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for branch in node.body
        for inner in ast.walk(branch)
    }


@functools.cache
def imports(path: Path, *, types: bool = True) -> set[tuple[str, str, bool]]:
    """Return what a file imports: the room, the name in it, and whether that happens inside a function.

    Without ``types``, leave out what only type checkers read.
    """
    functions = [node for node in nodes(path) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    late = {id(node) for function in functions for node in ast.walk(function)}
    unread = set() if types else for_type_checkers(path)
    package = ["paco", *path.relative_to(SOURCE).parts[:-1]]
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, [base, node.module]))
            names = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names if id(node) not in unread else ():
            top, room, inside = [*name.split("."), "", ""][:3]
            if top == "paco":
                found.add((room if room in LAYERS else "paco", inside, id(node) in late))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("here", LAYERS)
def test_a_module_imports_only_from_rooms_above_its_own(here):
    for path in files(here):
        # The table of contents has what is imported on use, too, for type checkers.
        for there, _, late in imports(path, types=here != "paco"):
            on_use = late and there in OPTIONAL and here in CORE
            above = there == here or LAYERS.index(there) < LAYERS.index(here)
            assert on_use or above, f"{here} imports {there}, below it, in {path.name}"


@pytest.mark.slow
@pytest.mark.parametrize("room", INSIDE)
def test_a_module_imports_only_from_modules_above_it_in_its_room(room):
    """Type checkers may read an import from below: a part of a run names the type of the run that holds it."""
    inside = INSIDE[room]
    for path in (SOURCE / room).glob("[!_]*.py" if room[0] == "_" else "_[!_]*.py"):
        here = path.stem
        assert here in inside, f"{here} has no place in {room}: give it one in the docstring of that package"
        for there in {
            name for other, name, late in imports(path, types=False) if other == room and name in inside and not late
        }:
            assert inside.index(there) < inside.index(here), f"{here} imports {there}, below it"


def test_every_room_and_every_module_is_listed_once_and_every_listed_one_exists():
    assert sorted(ROOMS) == sorted({place(path)[0] for path in MODULES} - {"paco", "__main__"})
    for room, inside in INSIDE.items():
        there = {path.stem for path in (SOURCE / room).rglob("*.py")} - {"__init__"}
        assert sorted(inside) == sorted(there), f"the docstring of {room} must list each of its modules once"


def test_the_page_about_the_design_has_the_list_of_rooms_and_modules():
    page = rooms.PAGE.read_text("utf-8")
    assert rooms.rooms() in page, "run python -m tools.rooms"


def modules_imported(path: Path) -> set[Path]:
    """Return the files of paco that a file imports, in functions too, but not those that only type checkers read."""
    unread, found = for_type_checkers(path), set()
    for node in nodes(path):
        if isinstance(node, ast.Import) and id(node) not in unread:
            names = {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in unread:
            assert not node.level, f"line {node.lineno}: import by the whole name"
            # What is no module is a name in one.
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            names = {name if file_of(name) else str(node.module) for name in names}
        else:
            continue
        found |= {file for name in names if (file := file_of(name)) is not None}
    return found - {path}


def file_of(module: str) -> Path | None:
    """Return the file of a module of paco; ``None`` for anything else."""
    base = SOURCE.parent.joinpath(*module.split("."))
    files = (base.with_suffix(".py"), base / "__init__.py")
    return next((file for file in files if file.exists()), None)


def test_no_import_leads_back_to_where_it_came_from():
    """A circle of imports, also of those inside of functions, makes one module of several files."""
    graph = {path: modules_imported(path) for path in MODULES}
    while ends := [path for path, imported in graph.items() if not imported & graph.keys()]:
        for path in ends:
            del graph[path]
    while starts := [path for path in graph if not any(path in imported for imported in graph.values())]:
        for path in starts:
            del graph[path]
    assert [str(path.relative_to(SOURCE)) for path in graph] == [], "these import each other: cut or merge them"


def test_no_two_classes_have_one_name():
    where: dict[str, list[str]] = {}
    for path in MODULES:
        for node in classes(path):
            where.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert {name: files for name, files in where.items() if len(files) > 1} == {}


def classes(path: Path) -> list[ast.ClassDef]:
    return [node for node in nodes(path) if isinstance(node, ast.ClassDef)]


def names_of(bases: list[ast.expr]) -> set[str]:
    """Return what classes are derived from, by the last parts of their names: ``Limiter`` for ``limits.Limiter``."""
    plain = [base.value if isinstance(base, ast.Subscript) else base for base in bases]
    return {ast.unparse(base).rpartition(".")[2] for base in plain}


ENGINE = [path for path in MODULES if place(path)[0] in {"_engine", "_stream", "limits", "remote", "_records"}]


def test_no_class_of_the_engine_is_more_than_one_level_below_a_base():
    own = {node.name: names_of(node.bases) for path in ENGINE for node in classes(path)}
    for node in (node for path in ENGINE for node in classes(path)):
        bases = names_of(node.bases) & own.keys()
        assert not {one for base in bases for one in own[base] & own.keys()}, f"{node.name}: let it have a part instead"
        assert len(bases) <= 1, f"{node.name} is mixed from {bases}: let it have them as parts"


@pytest.mark.slow
@pytest.mark.parametrize("room", LAYERS)
def test_no_class_has_another_base_for_type_checkers(room):
    """A base that type checkers see, and Python does not, hides a mix-in."""
    for path in files(room):
        seen_by_checkers = [
            node for node in nodes(path) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        ]
        inside = {id(node) for branch in seen_by_checkers for node in ast.walk(branch)}
        chosen = {
            ast.unparse(target)
            for node in nodes(path)
            if isinstance(node, ast.Assign) and (id(node) in inside or "TYPE_CHECKING" in ast.unparse(node.value))
            for target in node.targets
        }
        for node in classes(path):
            assert not names_of(node.bases) & chosen, f"{node.name}: let it have a part instead"
            assert not any("TYPE_CHECKING" in ast.unparse(base) for base in node.bases), node.name


SCHEDULES = {"create_task", "ensure_future"}
SCHEDULES_OF_ASYNCIO = {"Task", "TaskGroup", "as_completed", "gather", "wait_for"}


@pytest.mark.slow
@pytest.mark.parametrize("room", [room for room in LAYERS if room not in {"testing", "_cli"}])
def test_tasks_are_created_in_one_place(room):
    for path in files(room):
        for node in nodes(path) if place(path) != ("_engine", "nursery") else ():
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                module, _, name = called.rpartition(".")
                schedules = name in SCHEDULES or (module == "asyncio" and name in SCHEDULES_OF_ASYNCIO)
                assert not schedules, f"{path.name}, line {node.lineno}: {called}"
            elif isinstance(node, ast.ImportFrom) and node.module == "asyncio":
                names = {alias.name for alias in node.names}
                assert not names & (SCHEDULES | SCHEDULES_OF_ASYNCIO), f"{path.name}, line {node.lineno}: {names}"


@pytest.mark.slow
def test_a_module_has_at_most_400_lines():
    lines = {path.relative_to(SOURCE).as_posix(): path.read_text("utf-8").count("\n") for path in MODULES}
    assert {file: number for file, number in lines.items() if number > 400} == {}, "split it by theme"


def test_all_is_sorted_and_complete():
    public = {name for name, value in vars(paco).items() if name[0] != "_" and not isinstance(value, ModuleType)}
    public -= {"annotations", "TYPE_CHECKING"}
    assert paco.__all__ == sorted(paco.__all__)
    assert set(paco.__all__) - {"__version__"} == public


def test_the_help_of_paco_lists_every_name_once():
    _, _, table = (paco.__doc__ or "").partition("help(paco.map)")
    names = [name for line in table.splitlines() if line[:4] == "    " for name in line[18:].split()]
    assert sorted(names) == paco.__all__


@pytest.mark.parametrize("name", ["events", "journal", "limits", "remote", "testing"])
def test_a_public_module_is_an_attribute_of_paco_without_an_import_of_its_own(start, name):
    code = f"import paco; print(paco.{name}.__name__)"
    assert start("-c", code).communicate()[0].strip() == f"paco.{name}"


def test_a_name_that_paco_does_not_have_is_an_attribute_error_that_suggests_one(start):
    assert not hasattr(paco, "mapp")
    last = start("-c", "import paco; paco.mapp").communicate()[1].splitlines()[-1]
    assert re.search(r"module 'paco' has no attribute 'mapp'\. Did you mean\W+map\b", last)


def test_importing_paco_imports_the_standard_library_and_nothing_that_is_optional(start):
    code = "import sys; before = set(sys.modules); import paco; print(*set(sys.modules) - before)"
    imported = start("-c", code).communicate()[0].split()
    assert "paco" in imported
    assert {name.partition(".")[0] for name in imported} <= {"paco", *sys.stdlib_module_names, *UNLISTED}
    assert not {f"paco.{name}" for name in OPTIONAL} & set(imported)
    assert not {"argparse", "json", "multiprocessing", "unittest"} & set(imported)


def test_the_version_is_the_newest_entry_of_the_changelog():
    entries = re.findall(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert entries[0] == paco.__version__
