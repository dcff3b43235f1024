"""The end of a run of the command: write the pictures, the summary and what went wrong, and return the exit code."""

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
    from paco._cli.progress import Progress, Tally

RESUME: Final = "--resume"
RETRY: Final = "--retry-failed"
_FAILED = 1
_HALTED = 3
_CLOSED_PIPE = 141  # 128 + SIGPIPE, which a shell reports for `yes` in `yes | head`


@dataclass
class Ending:
    """What to report at the end of a run, besides its counts.

    Attributes:
        halted: Why the run was halted, if it was.
        first_error: The traceback of the first failure, if all items failed.
        out_of_time: Whether the time of ``--max-time`` ran out.
        output_error: The error that ended the output, if there was one.
        place_error: Why the items could not run in the workers or the cluster, if they could not.
        closing_error: The error with which the user's context manager exited, if there was one.
        found: The last limit of ``--limit auto``; otherwise 0.
        trace: The trace for ``--report`` and ``--trace``, if one is wanted.
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
        """Write the pictures, the summary and what went wrong; return the exit code."""
        first = job.interrupts.first
        by_signal = 0 if first is None else 128 + first
        if isinstance(self.output_error, BrokenPipeError):  # quiet, as other tools in a pipe are
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
            yield f"the workers cannot run the items, so the run was cancelled: {self.place_error}"
        if picture_error is not None:
            yield f"cannot write the pictures: {describe(picture_error)}"
        if job.reader.error is not None:
            yield f"cannot read further, so the later items are missing: {describe(job.reader.error)}"
        if self.closing_error is not None:
            yield str(self.closing_error)
        if self.out_of_time and not job.reader.ended and tally.started != job.reader.total():
            yield "the time of --max-time ran out before all items had started"
        if self.first_error:
            yield f"{self.halted}; the first error:\n{self.first_error}"


def _left(job: MapJob, tally: Tally) -> str:
    """Return the command line that runs the items left, or an empty text if there is none."""
    options = job.options
    if options.values or options.output == STDOUT or not job.output.regular:
        return ""
    if job.stop.wanted:
        return again(options.words, RESUME)
    return again(options.words, RETRY) if tally.failed else ""


def again(words: Sequence[str], option: str) -> str:
    """Return the command line that runs the items left: the same words, with ``option`` instead of a similar one."""
    kept = [word for word in words if word not in {RESUME, RETRY}]
    place = kept.index("--") if "--" in kept else len(kept)
    return command_line(["paco", "map", *kept[:place], option, *kept[place:]])
