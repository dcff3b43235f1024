"""What the end of a program means: the result of an item, or its error."""

from __future__ import annotations

import json
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any, Final

from paco._base.system import how_ended
from paco._exec.server import STDOUT
from paco._records.lines import encode, members, number, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from paco._exec.client import Ended

_BEGINNINGS: Final = tuple('{["-0123456789tfn')
_DECODER: Final = json.JSONDecoder(parse_constant=refuse, parse_float=number, object_pairs_hook=members)


class ProgramError(CalledProcessError):
    """Raised for a program that ended by a signal or with an exit code other than 0.

    The attributes are those of `subprocess.CalledProcessError`; ``stderr`` has its last 4 KiB.
    """

    @property
    def said(self) -> str:
        """The end of what the program wrote to stderr, as text."""
        return bytes(self.stderr).decode(errors="backslashreplace").strip()

    def __str__(self) -> str:
        how = how_ended(self.returncode).removeprefix("with ")
        return f"{how}: {self.said}" if self.said else how


def result_of(argv: Sequence[str], ended: Ended) -> Any:
    """Return what a program wrote to stdout: its value if that is JSON, otherwise its text without the last line end.

    A number is one only if it is written like that in JSON too: ``007`` and ``1.10`` stay text. Of a longer output, the
    text is the last 16 MiB, after a line that says so.

    Raises:
        ProgramError: The program failed.
    """
    if ended.code:
        raise ProgramError(ended.code, list(argv), ended.stdout, ended.stderr)
    text = ended.stdout.decode(errors="backslashreplace")
    if ended.dropped:
        said = f"[paco: the output is longer than {STDOUT >> 20} MiB; {ended.dropped:,} bytes before this are left out]"
        return f"{said}\n{text}"
    if text.lstrip().startswith(_BEGINNINGS):
        try:
            value = _DECODER.decode(text)
            if not isinstance(value, int | float) or encode(value).decode() == text.strip():
                return value
        except (ValueError, RecursionError):
            pass
    return text.removesuffix("\n")
