"""Runs whose items run elsewhere: in processes of this machine, in an executor, or in a Dask cluster.

Use `Stream.on` to run items elsewhere, and `Workers` to keep processes for several runs. The modules, from the bottom
up:

    _pickles  _messages             pickled values; orders, reports, and errors that travel
    _marks                          what a worker does at the moment, in memory that its program reads
    _processes                      worker processes: their start, their connection, their end
    _chunk  _worker  _fork_server   how a worker runs chunks of items; its event loop; the server that forks workers
    _engines  _executors  _dask     the engines that accept chunks
    _threads                        items in threads of this process, without chunks
    _feedback  _dispatch            what reports tell: sizes, worker statistics; sending chunks, recovery of lost ones
    _chunked_run  _item_calls       a run that sends its items in chunks; a run that sends items one by one
"""

from __future__ import annotations

from paco.remote._engines import Workers
from paco.remote._messages import RemoteError, WorkerLost

__all__ = ["RemoteError", "WorkerLost", "Workers"]
