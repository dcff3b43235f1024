"""Python processes that tests start, with this paco on their path."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import paco

PS = shutil.which("ps")
SOURCE = str(Path(paco.__file__).parents[1])


def popen(*words, environ=(), **more):
    """Start Python with these arguments and pipes.

    Args:
        environ: Further environment variables.
        more: Arguments of `subprocess.Popen`.
    """
    options = {"text": True, **dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE), **more}
    command = [sys.executable, *map(str, words)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": SOURCE, **dict(environ)}, **options)


def is_there(pid):
    """Return whether a process runs; a zombie does not."""
    state = subprocess.run([PS, "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return state.strip() != "" and not state.startswith("Z")
