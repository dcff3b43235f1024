"""The script `./dev`, and the gates that `./dev gates` proves: here only that each of them still plants its fault."""

from __future__ import annotations

import pytest

gates = pytest.importorskip("tools.gates")  # a source distribution comes without it


@pytest.mark.parametrize("gate", gates.GATES, ids=lambda gate: gate.name)
def test_every_gate_plants_its_fault(gate):
    file = gates.ROOT / gate.file
    before = file.read_text("utf-8") if file.exists() else ""
    assert gate.edit(before) != before


@pytest.fixture
def dev(monkeypatch):
    """The script, which must not set up an environment."""

    def environment(verb, *_, **__):
        pytest.fail(f"{verb} sets up an environment")

    monkeypatch.setattr(gates.DEV, "environment", environment)
    return gates.DEV


@pytest.mark.parametrize("verb", sorted(set(gates.DEV.VERBS) - {"map"}))
def test_help_after_a_verb_is_about_that_verb_and_sets_up_nothing(dev, capsys, verb):
    for option in ("--help", "-h"):
        assert dev.main(verb, option) == 0
        first, *rest = capsys.readouterr().out.splitlines()
        assert first.startswith(f"usage: ./dev {verb}")
        assert [line for line in rest if line.startswith(f"  {verb} ")]


def test_the_help_of_a_verb_names_the_options_of_its_program(dev, capsys):
    dev.main("mutate", "--help")
    assert "options: --argued, --jobs, --list, --scope" in capsys.readouterr().out
    dev.main("bench", "--help")
    assert "--markdown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["docs", "--lok"], "dev: docs has no option --lok; it has --look (./dev docs --help)"),
        (["docs", "page"], "dev: docs takes no page (./dev docs --help)"),
        (["build", "--quick"], "dev: build has no option --quick (./dev build --help)"),
        (["check", "--fix"], "dev: check has no option --fix (./dev check --help)"),
        (["soak", "5", "--sed=3"], "dev: soak has no option --sed; it has --runs, --seed (./dev soak --help)"),
        (["mutate", "run", "-x"], "dev: mutate has no option -x; it has --argued, --jobs, --list, --scope (./dev"),
        (["gates", "--all"], "dev: gates has no option --all (./dev gates --help)"),
    ],
)
def test_an_unknown_option_is_refused_before_anything_is_set_up(dev, words, message):
    with pytest.raises(SystemExit) as caught:
        dev.main(*words)
    assert str(caught.value).startswith(message)
