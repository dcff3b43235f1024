"""Runs whose items run elsewhere: in processes of this machine, in an executor, or in a Dask cluster.

Use `Stream.on` to run items elsewhere, and `Workers` to keep processes for several runs. The modules, from the bottom
up:

    _pickles  _messages             pickled values; orders, reports, errors, and the connection to a worker process
    _chunk  _host                   how a worker runs chunks of items, in one event loop per process
    _worker                         the code that runs in a worker process
    _fork_server  _start  _workers  how worker processes start; the workers of this machine, replaced when they die
    _engines  _dask                 the engines that accept chunks
    _feedback  _dispatch            what reports tell: sizes, worker statistics; sending chunks, recovery of lost ones
    _chunked_run  _item_calls       a run that sends its items in chunks; a run that sends items one by one
"""

from __future__ import annotations

from paco.remote._messages import RemoteError, WorkerLost
from paco.remote._workers import Workers

__all__ = ["RemoteError", "WorkerLost", "Workers"]
