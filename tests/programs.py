"""Python processes that tests start, with this paco on their path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import paco

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
