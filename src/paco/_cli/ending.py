"""How a run of the command has ended: pictures, summary, what went wrong, and the exit code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from paco._base.system import command_line
from paco._cli.errors import describe
from paco._cli.output import STDOUT
from paco._view.console import safe_lines

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import paco
    from paco._cli.errors import ClosingError
    from paco._cli.job import MapJob
    from paco._cli.options import MapOptions
    from paco._cli.progress import Progress
    from paco._cli.tally import Tally

RESUME: Final = "--resume"
RETRY: Final = "--retry-failed"
_FAILED = 1
_HALTED = 3
_CLOSED_PIPE = 141  # what a shell shows for `yes | head`: 128 + SIGPIPE


@dataclass
class Ending:
    """What has to be told of a run beside what was counted.

    Attributes:
        halted: Why it was halted, if it was.
        first_error: The traceback of the first failure, if all items failed.
        out_of_time: Whether the longest time was over.
        output_error: Why the output could not be written.
        place_error: Why the items could not be run where they should.
        closing_error: Why the user's context manager could not be closed.
        found: The limit that was found, if one was.
        trace: What was recorded for pictures, if any are wanted.
    """

    halted: str = ""
    first_error: str = ""
    out_of_time: bool = False
    output_error: BaseException | None = None
    place_error: str = ""
    closing_error: ClosingError | None = None
    found: int = 0
    trace: paco.trace | None = None

    def code(self, job: MapJob, tally: Tally, progress: Progress) -> int:
        """Write the pictures, say how it went, and return the exit code."""
        first = job.interrupts.first
        by_signal = 0 if first is None else 128 + first
        if isinstance(self.output_error, BrokenPipeError):  # as quiet as other tools
            return by_signal or _CLOSED_PIPE
        picture_error = self._save_pictures(job.options)
        stopped = "halted" if self.halted else "stopped"
        progress.summary(stopped if job.stop.wanted else "done", _left(job, tally), self.found)
        troubles = list(self._troubles(job, tally, picture_error))
        for trouble in troubles:
            job.console.say(safe_lines(f"paco: {trouble}"))
        if by_signal or self.halted:
            return by_signal or _HALTED
        return _FAILED if troubles or tally.failed else 0

    def _save_pictures(self, options: MapOptions) -> OSError | None:
        if self.trace is not None:
            try:
                if options.report:
                    self.trace.report(options.report)
                if options.trace:
                    self.trace.save(options.trace)
            except OSError as error:
                return error
        return None

    def _troubles(self, job: MapJob, tally: Tally, picture_error: OSError | None) -> Iterator[str]:
        if isinstance(self.output_error, OSError):
            yield f"cannot write the output, so the run was cancelled: {describe(self.output_error)}"
        if self.place_error:
            yield f"the items cannot run there, so the run was cancelled: {self.place_error}"
        if picture_error is not None:
            yield f"cannot write the pictures: {describe(picture_error)}"
        if job.reader.error is not None:
            yield f"cannot read on, so the items end here: {describe(job.reader.error)}"
        if self.closing_error is not None:
            yield str(self.closing_error)
        if self.out_of_time and not job.reader.ended and tally.started != job.reader.total():
            yield "the time of --max-time was over before all items were started"
        if self.first_error:
            yield f"{self.halted}; the first error:\n{self.first_error}"


def _left(job: MapJob, tally: Tally) -> str:
    """Return the command line that runs what is left, or nothing."""
    options = job.options
    if options.values or options.output == STDOUT or not job.output.regular:
        return ""
    if job.stop.wanted:
        return again(options.words, RESUME)
    return again(options.words, RETRY) if tally.failed else ""


def again(words: Sequence[str], option: str) -> str:
    """Return the command line that runs what is left: with ``option``, and without what it replaces."""
    kept = [word for word in words if word not in {RESUME, RETRY}]
    place = kept.index("--") if "--" in kept else len(kept)
    return command_line(["paco", "map", *kept[:place], option, *kept[place:]])
