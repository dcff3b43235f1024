"""The mutants of `./dev mutate`: which arguments they are found by, and what is said of an argument for none."""

from __future__ import annotations

import sys
from collections import Counter
from types import ModuleType

import pytest

mutate = pytest.importorskip("tools.mutate.__main__")  # a source distribution comes without it
trial = pytest.importorskip("tools.mutate.trial")
mutants = mutate.mutants

SOURCE = """
class Run:
    def grow(self):
        if self.idle or self.ending:
            return None
        self.count += 1
        return self.limit > self.count

    def end(self):
        self.limit = 1
        self.limit = 2
"""


def faults(text, scope):
    return [mutant.fault for mutant in mutants("run", text) if mutant.scope == scope]


def test_a_mutant_is_identified_by_its_function_and_fault():
    assert faults(SOURCE, "Run.grow") == [
        "always idle ending",
        "never idle ending",
        "without idle",
        "without ending",
        "drop return (1 of 2)",
        "-= for += count",
        "drop count",
        "2 for 1 count",
        "None for return",
        "drop return (2 of 2)",
        ">= for > limit count",
        "< for > limit count",
    ]


@pytest.mark.parametrize(
    "text", ['T = TypeVar("T", covariant=True)', '__slots__ = ("a",)', "Name: TypeAlias = int", '"text"']
)
def test_what_only_readers_and_type_checkers_see_has_no_mutants(text):
    assert not list(mutants("run", text))


def test_equal_faults_of_a_function_are_numbered():
    assert [fault for fault in faults(SOURCE, "Run.end") if "drop" in fault] == [
        "drop limit (1 of 2)",
        "drop limit (2 of 2)",
    ]
    assert max(Counter(mutant.key for mutant in mutants("run", SOURCE)).values()) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("class Run:", "import os\n\nclass Run:"),
        ("self.count += 1", "self.count += 1  # a comment"),
        ("self.count += 1", "self.note('a statement more')\n        self.count += 1"),
        ("self.limit = 2", "self.limit = 3"),
    ],
)
def test_other_edits_do_not_change_the_identity_of_a_mutant(old, new):
    assert set(faults(SOURCE, "Run.grow")) <= set(faults(SOURCE.replace(old, new), "Run.grow"))


def test_a_mutant_prints_its_place_and_its_diff():
    assert str(mutants("run", SOURCE)[0]).splitlines() == [
        "run, line 4, in Run.grow: always idle ending",
        "-   if self.idle or self.ending:",
        "+   if True:",
    ]


def test_an_argument_for_no_mutant_is_reported(monkeypatch, tmp_path, capsys):
    (tmp_path / "_engine").mkdir()
    (tmp_path / "_engine" / "run.py").write_text(SOURCE)
    reasons = {("Run.grow", "without idle"): "true", ("Run.grow", "without gone"): "was true once"}
    monkeypatch.setattr(mutate, "SOURCE", tmp_path)
    monkeypatch.setattr(mutate, "argued", lambda: reasons)
    monkeypatch.setattr(sys, "argv", ["mutate", "_engine.run", "--list"])
    assert mutate.main() == 1
    shown = capsys.readouterr().out
    assert "STALE in Run.grow: without gone: argued, but there is no such mutant" in shown
    assert "Run.grow: without ending" in shown
    assert "without idle" not in shown
    del reasons["Run.grow", "without gone"]
    assert mutate.main() == 0


def test_faults_are_planted_in_methods_of_each_kind():
    text = """
class Some:
    def plain(self): return 1
    @staticmethod
    def static(): return 1
    @classmethod
    def of_class(cls): return 1
    @property
    def value(self): return 1
"""
    module = ModuleType("some")
    module.__file__ = "some.py"
    exec(text, vars(module))  # noqa: S102 - the text above
    some = module.Some()
    trial.plant(module, text.replace("1", "2"))
    assert [some.plain(), some.static(), some.of_class(), some.value] == [2, 2, 2, 2]
