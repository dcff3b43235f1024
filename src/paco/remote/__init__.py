"""Runs whose items run elsewhere: in processes of this machine, in an executor, in a Dask cluster.

`Stream.on` is how it is used; `Workers` are processes that are kept for several runs. From the bottom up:

    _pickles  _errors  _messages    values as bytes; errors that travel; the form of an order and of a report
    _chunk  _host                   where the items run: a chunk of them, in the one event loop of a process
    _line  _worker                  processes of ours, and what they hear
    _fork_server  _start  _workers  how they are started; those of this machine, each replaced when it dies
    _engines  _dask                 all that chunks can be given to
    _sizes  _worker_stats           how large chunks are; what each worker has done
    _in_flight  _dispatch           chunks in flight, and those that are lost
    _chunked_run  _item_calls       a run whose items travel in chunks; items that are handed over one by one
"""

from __future__ import annotations

from paco.remote._errors import RemoteError, WorkerLost
from paco.remote._workers import Workers

__all__ = ["RemoteError", "WorkerLost", "Workers"]
