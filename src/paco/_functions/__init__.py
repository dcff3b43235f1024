"""The public functions, by theme.

The modules, each importing only from those above it::

    map  flat  filter               functions over items
    batch  room  inbox              lists of results; waits for room; a source to which items add
    futures  gather                 functions over coroutines; futures of their calls
    feed  session  block  executor  a pool of coroutines: its jobs, one run of it, its `async with` block
    loops                           repeated calls
    timeout  timing                 time limits of blocks and calls; limits and delays of calls
    once  compose                   calls that several callers share; functions that wrap functions
    threads                         blocking functions in threads
    retry                           further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run  iterate                    from sync code: run an awaitable, iterate a stream
"""
