"""The standard streams: stdout is for records alone, and what anything else writes there goes to stderr.

That is done to the descriptors, since not only ``print`` writes there: programs that TARGET starts, worker processes,
libraries in C, and functions that run at exit do so too.
"""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack, contextmanager, redirect_stdout
from typing import TYPE_CHECKING, NamedTuple, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Generator


class Streams(NamedTuple):
    """The streams of the command, which TARGET does not have."""

    stdin: int  # its descriptor, or -1 if it is closed
    stdout: int  # likewise; for the records
    stderr: TextIO | None

    def answer(self, text: str) -> None:
        """Write a text to stdout, if there is one."""
        if self.stdout >= 0:
            with _stream(os.dup(self.stdout), sys.__stdout__) as out:
                print(text, file=out)


def open_closed() -> None:
    """Open each standard descriptor that is closed on a file without an end, so that no other file gets its number."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)  # as each of them is
    if sys.stderr is None:
        sys.stderr = _stream(2, None, close=False)


@contextmanager
def records_alone(*, for_good: bool) -> Generator[Streams]:
    """Have what is written to stdout go to stderr within the block; with ``for_good``, until the process ends."""
    stdin = _descriptor(sys.stdin)
    with ExitStack() as undone:
        stdout, stderr, before = (_copy(one, undone) for one in (_descriptor(sys.stdout), _descriptor(sys.stderr), 1))
        undone.callback(os.dup2, before, 1)
        messages = sys.stderr
        if stderr >= 0:
            messages = _stream(stderr, sys.stderr, close=False)
            os.dup2(stderr, 1)
        theirs = _stream(1, sys.stderr, close=False)
        undone.callback(theirs.close)
        undone.enter_context(redirect_stdout(theirs))
        if for_good:
            undone.pop_all()
        yield Streams(stdin, stdout, messages)


def _descriptor(stream: TextIO | None) -> int:
    try:
        return -1 if stream is None else stream.fileno()
    except (OSError, ValueError):  # closed, or replaced by something without a descriptor
        return -1


def _copy(descriptor: int, undone: ExitStack) -> int:
    """Return a copy of a descriptor, which ``undone`` closes, or -1 if it is closed."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return -1
    undone.callback(os.close, copy)
    return copy


def _stream(descriptor: int, like: TextIO | None, *, close: bool = True) -> TextIO:
    """Return a stream that writes each line at once, and escapes what the encoding of another stream lacks."""
    encoding = getattr(like, "encoding", None)
    return cast("TextIO", open(descriptor, "w", 1, encoding, "backslashreplace", closefd=close))
