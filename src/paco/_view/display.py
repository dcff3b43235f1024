"""What every display of runs can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._view.meter import Meter


class Display:
    """The base of the displays, which shows nothing."""

    #: The seconds between two calls of `show`.
    every: float = 0.1

    def show(self, meters: Sequence[Meter]) -> None:
        """Show the progress of the runs."""

    def end(self, meter: Meter) -> None:
        """Show that a run has ended; other runs may still be running."""

    def rest(self) -> None:
        """Remove the repainted lines, since no run is running."""

    def close(self) -> None:
        """End the display; nothing is shown after this."""
