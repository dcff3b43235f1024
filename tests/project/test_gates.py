"""The gates that `./dev gates` proves: here only that each of them still plants its fault."""

from __future__ import annotations

import pytest

gates = pytest.importorskip("tools.gates")  # a source distribution comes without it


@pytest.mark.parametrize("gate", gates.GATES, ids=lambda gate: gate.name)
def test_every_gate_plants_its_fault(gate):
    file = gates.ROOT / gate.file
    before = file.read_text("utf-8") if file.exists() else ""
    assert gate.edit(before) != before
