"""Fixtures of the command: a pipe as standard input."""

from __future__ import annotations

import contextlib
import os
import sys
import threading

import pytest


def join_readers():
    for thread in threading.enumerate():
        if thread.name == "paco-reader":
            thread.join()


@pytest.fixture
def pipe(monkeypatch):
    """Have a pipe as standard input, and return both descriptors: one to read from, one to write to."""
    out, into = os.pipe()
    with os.fdopen(out) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        yield out, into
        with contextlib.suppress(OSError):  # the test has closed it
            os.close(into)
        join_readers()  # at the end of the pipe, before its number belongs to another file
