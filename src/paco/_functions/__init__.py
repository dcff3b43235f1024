"""The public functions, by theme.

The modules, each importing only from those above it::

    map  flat  filter               functions over items
    batch  inbox                    lists of results; a source to which items add
    futures  gather  executor       functions over coroutines; futures of their calls
    loops                           repeated calls
    timeout  timing                 time limits of blocks and calls; limits and delays of calls
    once  compose                   calls that several callers share; functions that wrap functions
    threads                         blocking functions in threads
    retry                           further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run  iterate                    from sync code: run an awaitable, iterate a stream
"""
