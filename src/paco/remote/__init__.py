"""Runs whose items run elsewhere: in processes of this machine, in an executor, in a Dask cluster.

`Stream.on` is how it is used; `Workers` are processes that are kept for several runs.
"""

from __future__ import annotations

from paco.remote._errors import RemoteError, WorkerLost
from paco.remote._workers import Workers

__all__ = ["RemoteError", "WorkerLost", "Workers"]
