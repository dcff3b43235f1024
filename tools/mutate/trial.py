"""Try mutants in a copy of the project: collect the tests once, then fork for each mutant.

A mutant is planted in the imported modules by replacing the code of their functions. This needs no import and no
collection, so a mutant that the first test kills takes a few milliseconds. If a mutant cannot be planted like that (a
class with other slots, for example), the answer is `UNPLANTABLE`, and the tests need a new process.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import sys
from types import FunctionType, ModuleType
from typing import IO, TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PASSED: Final = "passed"
TIMEOUT: Final = "the time limit"
UNPLANTABLE: Final = "unplantable"
#: Address space in bytes, because a mutant may fill a list without end.
_MOST: Final = 4 * 2**30
#: CPU seconds for one test; the slowest takes two.
_CPU: Final = 10
#: Seconds of real time for all tests, because a mutant may sleep without end.
_LONGEST: Final = 600


class Unplantable(Exception):
    """The imported module cannot be turned into this mutant."""


def plant(module: ModuleType, text: str) -> None:
    """Turn an imported module into a mutant."""
    mutant = ModuleType(module.__name__)
    mutant.__dict__.update({name: value for name, value in vars(module).items() if name.startswith("__")})
    exec(compile(text, str(module.__file__), "exec"), mutant.__dict__)  # noqa: S102 - paco's own source with one fault
    _graft(module, vars(mutant), module.__name__)


def _graft(old: Any, new: MutableMapping[str, Any], module: str) -> None:
    for name, was in list(vars(old).items()):
        if name not in new:
            delattr(old, name)
        elif any(function.__module__ == module for function in _functions(was)):
            _recode(was, new[name])
        elif isinstance(was, type) and was.__module__ == module:
            _graft(was, vars(new[name]), module)
        elif isinstance(was, int | float | str | tuple) and not name.startswith("__") and was != new[name]:
            setattr(old, name, new[name])
        elif type(was) is not type(new[name]):
            raise Unplantable(name)
    if added := new.keys() - vars(old).keys():
        raise Unplantable(str(added))


def _functions(value: Any) -> list[FunctionType]:
    """Return a function, or those of a property, or that of a static or class method."""
    parts = [value.fget, value.fset] if isinstance(value, property) else [getattr(value, "__func__", value)]
    return [part for part in parts if isinstance(part, FunctionType)]


def _recode(old: Any, new: Any) -> None:
    try:
        for function, other in zip(_functions(old), _functions(new), strict=True):
            function.__code__ = other.__code__
            function.__defaults__, function.__kwdefaults__ = other.__defaults__, other.__kwdefaults__
    except ValueError as error:  # no longer a function, or one with another closure
        raise Unplantable(str(old)) from error


class Trials:
    """A pytest plugin that reads lines ``MODULE FILE KILLER ...`` and answers each with the failed test or `PASSED`."""

    def __init__(self, orders: IO[str], answers: IO[str]) -> None:
        self._orders, self._answers = orders, answers
        self._failed = ""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests once for each line, in a forked process."""
        for line in self._orders:
            module, file, *killers = line.rstrip("\n").split("\t")
            print(self._tried(session, module, file, killers), file=self._answers, flush=True)
        return True

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Remember the test that failed."""
        if report.failed:
            self._failed = report.nodeid

    def pytest_collectreport(self, report: Any) -> None:
        """Remember the file that could not be collected."""
        self.pytest_runtest_logreport(report)

    def _tried(self, session: pytest.Session, module: str, file: str, killers: list[str]) -> str:
        read, write = os.pipe()
        child = os.fork()
        if not child:
            try:
                resource.setrlimit(resource.RLIMIT_AS, (_MOST, _MOST))
                os.write(write, self._child(session, module, file, killers).encode())
            finally:
                os._exit(0)
        os.close(write)
        if not select.select([read], [], [], _LONGEST)[0]:
            os.kill(child, signal.SIGKILL)
        with os.fdopen(read) as answer:
            failed = answer.read() or TIMEOUT
        os.waitpid(child, 0)
        return failed

    def _child(self, session: pytest.Session, module: str, file: str, killers: list[str]) -> str:
        if self._failed:
            return self._failed
        if module:
            try:
                with open(file, encoding="utf-8") as text:  # noqa: PTH123 - pathlib is not needed here
                    plant(sys.modules[f"paco.{module}"], text.read())
            except Unplantable:
                return UNPLANTABLE
            except Exception as error:
                return f"the import: {error!r}"
        place = {test: index for index, test in enumerate(killers)}
        items = sorted(session.items, key=lambda item: place.get(item.nodeid, len(place)))
        for item, following in zip(items, [*items[1:], None], strict=True):
            # pytest's time limit ends a test that hangs, unless the mutant catches its exception. Then this limit does.
            spent = resource.getrusage(resource.RUSAGE_SELF).ru_utime
            resource.setrlimit(resource.RLIMIT_CPU, (int(spent) + _CPU, resource.RLIM_INFINITY))
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return self._failed
        return PASSED


if __name__ == "__main__":
    sys.path[0] = os.getcwd()  # noqa: PTH109 - what `python -m pytest` does
    with os.fdopen(int(sys.argv[1])) as orders, os.fdopen(int(sys.argv[2]), "w") as answers:
        trials = Trials(orders, answers)
        sys.exit(pytest.main(sys.argv[3:], plugins=[trials]))
