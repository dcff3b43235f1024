"""Prove that each check can fail: plant one fault at a time in a copy of the project; the right tool must report it.

A check that cannot fail is worse than none: a coverage run over no files reports 100%, and a setting with a wrong name
has no effect. The commands come from ``dev`` itself, so that the proven commands are the ones that run. Run all gates
with ``./dev gates``, or some with ``./dev gates NAME ...``.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any, TypeAlias

ROOT = Path(__file__).resolve().parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".*cache", ".cache", ".coverage*", "__pycache__", "site", "site-look"
)

Edit: TypeAlias = Callable[[str], str]


def load_dev() -> Any:
    """Return the ``dev`` script as a module. Its name has no suffix, so ``import`` does not find it."""
    spec = spec_from_loader("dev", SourceFileLoader("dev", str(ROOT / "dev")))
    if spec is None or spec.loader is None:
        sys.exit("gates: cannot load the dev script")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


DEV = load_dev()


def append(text: str) -> Edit:
    """Return an edit that adds ``text`` at the end of a file, which need not exist."""
    return lambda old: f"{old}{text}"


def replace(pattern: str, new: str) -> Edit:
    """Return an edit that replaces the first match; a pattern without a match is an error, as it plants nothing."""

    def edit(old: str) -> str:
        text, count = re.subn(pattern, new, old, count=1, flags=re.MULTILINE)
        if not count:
            sys.exit(f"gates: the pattern of an edit must match, got no match for {pattern!r}; update its gate")
        return text

    return edit


@dataclass(frozen=True)
class Gate:
    """A fault, and the command that must report it."""

    name: str
    fault: str
    file: str
    edit: Edit
    command: list[str]
    #: A pattern that the output must match: a failure for another reason does not count.
    says: str


def shorten(text: str, most: int) -> str:
    """Return ``text``, cut to ``most`` characters."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def pytest(*arguments: str) -> list[str]:
    """Return a command that runs pytest and stops at the first failure."""
    return ["pytest", "-q", "-x", *arguments]


LEAK = """

async def test_planted() -> None:
    import asyncio

    globals()["planted"] = asyncio.get_running_loop().create_task(asyncio.sleep(1000))
"""

#: The laws of the whole API, on a few random workloads.
LAWS = pytest("tests/torture", "-k", "test_laws")
#: The tests run in random order, so any of the laws that a fault breaks may fail first.
A_LAW = "FAILED tests/torture/test_laws"

GATES = [
    Gate(
        "lint", "an unused import",
        "src/paco/_base/check.py", append("\nimport shelve\n"),
        DEV.CHECKS["lint"], "F401",
    ),
    Gate(
        "format", "a line in another format",
        "src/paco/_base/check.py", append("\nplanted = {  'a':1 }\n"),
        DEV.CHECKS["format"], "check.py",
    ),
    Gate(
        "types", "a wrong type in tests/typing",
        "tests/typing/planted.py", append("from typing import assert_type\n\nassert_type(1, str)\n"),
        DEV.CHECKS["types"], r"planted\.py.*assert-type",
    ),
    Gate(
        "newest", "a module that 3.13 has removed",
        "src/paco/_base/check.py", append("\nimport cgi\n"),
        DEV.CHECKS["newest"], r"check\.py.*cgi",
    ),
    Gate(
        "strict", "the same for pyright",
        "tests/typing/planted.py", append("from typing import assert_type\n\nassert_type(1, str)\n"),
        DEV.CHECKS["strict"], r"planted\.py.*reportAssertTypeFailure",
    ),
    Gate(
        "ty", "the same for ty",
        "tests/typing/functions.py", append("\n\nassert_type(1, str)\n"),
        DEV.CHECKS["ty"], r"functions\.py.*type-assertion-failure",
    ),
    Gate(
        "pyrefly", "the same for pyrefly",
        "tests/typing/functions.py", append("\n\nassert_type(1, str)\n"),
        DEV.CHECKS["pyrefly"], r"functions\.py.*assert-type",
    ),
    Gate(
        "rejected", "a line that is not rejected",
        "tests/typing/functions.py", append("\n\nplain(1)  # type: ignore[arg-type]\n"),
        DEV.CHECKS["ty"], r"functions\.py:\d+: ty must reject this",
    ),
    Gate(
        "typed", "a public function without types",
        "src/paco/__init__.py", append("\n\ndef planted(x):\n    return x\n"),
        DEV.CHECKS["typed"], "paco.planted",
    ),
    Gate(
        "workflow", "a job without a runner",
        ".github/workflows/ci.yml", replace(r" +runs-on: ubuntu-latest\n", ""),
        DEV.CHECKS["workflows"], "runs-on",
    ),
    Gate(
        "pinned", "an action that is not pinned",
        ".github/workflows/ci.yml", replace(r"@[0-9a-f]{40} # (v\d+)", r"@\1"),
        DEV.CHECKS["workflows"], "unpinned-uses",
    ),
    Gate(
        "layers", "an upward import",
        "src/paco/_base/check.py", append("\n\ndef planted() -> None:\n    from paco._engine import run\n"),
        DEV.CHECKS["laws"], "_base imports _engine",
    ),
    Gate(
        "circle", "an import of what imports it",
        "src/paco/_engine/source.py", append("\n\ndef planted() -> None:\n    from paco._engine import run\n"),
        DEV.CHECKS["laws"], "these import each other",
    ),
    Gate(
        "names", "a second class of one name",
        "src/paco/_base/item.py", append("\n\nclass Limit:\n    pass\n"),
        DEV.CHECKS["laws"], r"'Limit': \['_base/item\.py', 'limits/_count\.py'\]",
    ),
    Gate(
        "inside", "an upward import in a room",
        "src/paco/limits/_base.py", append("\n\nfrom paco.limits._rate import Rate\n"),
        DEV.CHECKS["laws"], "_base imports _rate, below it",
    ),
    Gate(
        "listed", "a module that no list has",
        "src/paco/testing/_planted.py", append('"""Planted."""\n'),
        pytest("tests/project/test_laws.py", "-k", "listed"), "the docstring of testing must list each",
    ),
    Gate(
        "absent", "a listed module that is not there",
        "src/paco/_stream/__init__.py", replace("consumer  stream ", "consumer  planted"),
        DEV.CHECKS["laws"], "the docstring of _stream must list each",
    ),
    Gate(
        "rooms", "a room that the page tells otherwise",
        "docs/design.md", replace(r"^_engine .*$", "_engine           planted"),
        DEV.CHECKS["laws"], r"run python -m tools\.rooms",
    ),
    Gate(
        "link", "a link that leads nowhere",
        "docs/tutorial.md", append("\n[planted](planted.md)\n"),
        pytest("tests/project/test_pages.py"), r"'planted\.md'",
    ),
    Gate(
        "alone", "an example that needs another one",
        "docs/streams.md", append("\n```python\npaco.run(serve([]))\n```\n"),
        pytest("docs/streams.md"), "NameError: name 'paco' is not defined",
    ),
    Gate(
        "reference", "a reference that is out of date",
        "docs/api.md", append("\nplanted\n"),
        pytest("tests/project/test_pages.py"), r"run python -m tools\.reference",
    ),
    Gate(
        "engine", "a second scheduler",
        "src/paco/_functions/map.py", append("\n\ndef planted(coro):\n    return asyncio.create_task(coro)\n"),
        DEV.CHECKS["laws"], "asyncio.create_task",
    ),
    Gate(
        "parts", "a run of another kind",
        "src/paco/_engine/admission.py",
        append("\n\nfrom paco._engine.run import Scheduler\n\n\nclass Planted(Scheduler):\n    pass\n"),
        DEV.CHECKS["laws"], "Planted: let it have a part instead",
    ),
    Gate(
        "mix-in", "a base that only type checkers see",
        "src/paco/_engine/admission.py",
        append("\n\n_Base = Admission if TYPE_CHECKING else object\n\n\nclass Planted(_Base):\n    pass\n"),
        DEV.CHECKS["laws"], "Planted: let it have a part instead",
    ),
    Gate(
        "limit", "an engine that ignores the limit",
        "src/paco/_engine/run.py", replace(r"limit or sys\.maxsize", "sys.maxsize"),
        pytest("tests", "-k", "limit"), "FAILED",
    ),
    Gate(
        "law-limit", "one item too many at once",
        "src/paco/_engine/run.py", replace(r"limit or sys\.maxsize", "(limit and limit + 1) or sys.maxsize"),
        LAWS, A_LAW,
    ),
    Gate(
        "law-join", "a sibling that is not awaited",
        "src/paco/_engine/nursery.py",
        replace(r"(self\.tasks\.discard\(task\)\n +if )not self\.tasks:", r"\1len(self.tasks) < 2:"),
        LAWS, A_LAW,
    ),
    Gate(
        "law-lost", "a result that is dropped",
        "src/paco/_engine/run.py", replace(r"store\[index\] = await fn", "store[index - (index == 2)] = await fn"),
        LAWS, A_LAW,
    ),
    Gate(
        "law-cancel", "a cancellation that is swallowed",
        "src/paco/_engine/nursery.py", replace(r"cancelled = cancelled or error$", "cancelled = None"),
        LAWS, A_LAW,
    ),
    Gate(
        "permit", "a permit that is never released",
        "src/paco/limits/_count.py", replace(r"^        self\._permits\.remove\(permit\)$", "        pass"),
        pytest("tests/torture/test_scenarios_paced.py"), "FAILED",
    ),
    Gate(
        "exports", "a stale name in __all__",
        "src/paco/__init__.py", append('\n__all__ += ["planted"]\n'),
        DEV.CHECKS["laws"], "test_all_is_sorted_and_complete",
    ),
    Gate(
        "examples", "a wrong result in the README",
        "README.md", append("\n```python\n>>> 1 + 1\n3\n\n```\n"),
        pytest("README.md"), "Expected:\n    3",
    ),
    Gate(
        "leaks", "a test that leaves a task running",
        "tests/test_planted.py", append(LEAK),
        pytest("tests/test_planted.py"), "left behind",
    ),
    Gate(
        "soak", "runs that stay alive after their end",
        "src/paco/_engine/nursery.py", replace(r"^            _alive\.discard\(self\)$", "            pass"),
        ["tools.soak", "--seed", "1", "--runs", "100"], r"VIOLATION: \d+ results are alive",
    ),
    Gate(
        "mutate", "a promise without a test",
        "tests/stream/test_stream.py", replace(r"^async def test_the_error_for_an_invalid_buffer", "async def planted"),
        ["tools.mutate", "_stream.stream", "--scope", r"Stream\.buffer$", "--jobs", "1"],
        r"SURVIVES _stream\.stream, line \d+, in Stream\.buffer",
    ),
    Gate(
        "argued", "an argument for no mutant",
        "tools/mutate/argued.toml",
        append('\n[[mutant]]\nin = "Scheduler.planted"\nfaults = ["drop it"]\nreason = "none"\n'),
        ["tools.mutate", "--list"], r"STALE in Scheduler\.planted: drop it",
    ),
    Gate(
        "coverage", "a line that no test runs",
        "src/paco/_base/check.py", append("\n\ndef planted() -> None:\n    raise NotImplementedError\n"),
        ["pytest", *DEV.COVERED], r"paco/_base/check\.py .*\n(.*\n)*.*Required test coverage of 100",
    ),
]  # fmt: skip


def copy(to: Path) -> Path:
    """Copy the project without installed and cached files, and return an interpreter that imports the copy."""
    shutil.copytree(ROOT, to, ignore=LEFT_OUT)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", to / ".venv"], check=True)
    python = to / ".venv" / "bin" / "python"
    packages = next((to / ".venv" / "lib").glob("python*")) / "site-packages"
    # A path file adds the installed packages to the path. Python reads no path files inside an added folder, so the
    # editable install of the original has no effect, and paco is the copy. That of coverage measures child processes.
    installed = Path(sysconfig.get_path("purelib"))
    (packages / "gates.pth").write_text(f"{to / 'src'}\n{installed}\n", "utf-8")
    for starts_coverage in installed.glob("*coverage.pth"):
        shutil.copy(starts_coverage, packages / f"z{starts_coverage.name}")  # read after the path is complete
    for script in ("paco", "pyrefly", "ruff", "ty", "zizmor"):
        (to / ".venv" / "bin" / script).symlink_to(Path(sys.executable).parent / script)
    return python


def run(python: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the command of a gate in the copy."""
    return subprocess.run(
        [python, "-m", *command],
        cwd=python.parents[2],
        env=DEV.activated(python),
        capture_output=True,
        text=True,
        check=False,
    )


def judge(python: Path, gate: Gate) -> str:
    """Plant the fault, run the command, restore the file, and return the verdict."""
    file = python.parents[2] / gate.file
    was = file.read_text("utf-8") if file.exists() else None
    file.write_text(gate.edit(was or ""), "utf-8")
    try:
        done = run(python, gate.command)
    finally:
        if was is None:
            file.unlink()
        else:
            file.write_text(was, "utf-8")
    if done.returncode == 0:
        return "NOT RED"
    return "RED ok" if re.search(gate.says, done.stdout + done.stderr) else "RED, for another reason"


def main(*names: str) -> int:
    """Prove all gates, or the named ones, and return the exit code."""
    if unknown := set(names) - {gate.name for gate in GATES}:
        names_of_all = ", ".join(gate.name for gate in GATES)
        sys.exit(f"gates: no such gate: {', '.join(sorted(unknown))}; there are {names_of_all}")
    gates = [gate for gate in GATES if not names or gate.name in names]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        python = copy(Path(folder).resolve() / "paco")
        row = "{:<10} {:<36} {:<38} {:<24} {:>7}"
        print(row.format("gate", "planted fault", "tool", "seen", "seconds"), flush=True)
        green: dict[tuple[str, ...], bool] = {}
        for gate in gates:
            start = time.monotonic()
            # The command of a gate with a new file checks only that file, so it cannot be run without the fault.
            if (python.parents[2] / gate.file).exists() and tuple(gate.command) not in green:
                before = run(python, gate.command)
                green[tuple(gate.command)] = before.returncode == 0
                if before.returncode:
                    print(f"{before.stdout}{before.stderr}", file=sys.stderr)
            seen = judge(python, gate) if green.get(tuple(gate.command), True) else "red without the fault"
            failed += seen != "RED ok"
            tool = shorten(" ".join(gate.command), 38)
            print(row.format(gate.name, gate.fault, tool, seen, f"{time.monotonic() - start:.1f}"), flush=True)
    print(f"{len(gates) - failed} of {len(gates)} gates went red")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
