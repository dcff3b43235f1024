"""The results of a run, for the modules that print and write them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.demands import Demand
    from benchmarks.measure import Comparison
    from benchmarks.memory import Footprint


@dataclass
class Findings:
    """All figures of a run, and the machine and settings that they depend on."""

    machine: dict[str, str]
    rounds: int
    comparisons: list[Comparison] = field(default_factory=list)
    footprints: list[Footprint] = field(default_factory=list)
    demands: list[Demand] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """Return the figures as values for JSON."""
        return {
            "machine": self.machine,
            "rounds": self.rounds,
            "comparisons": [one.as_json() for one in self.comparisons],
            "footprints": [vars(one) for one in self.footprints],
            "demands": [vars(one) for one in self.demands],
        }
