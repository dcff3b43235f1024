"""The public functions, by theme.

The modules, each importing only from those above it::

    map  filter                     functions over items
    futures  gather  executor       functions over coroutines; futures of their calls
    loops                           repeated calls
    timeout  timing                 time limits of blocks and calls; limits and delays of calls
    once  compose                   calls that several callers share; functions that wrap functions
    threads                         blocking functions in threads
    retry                           further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run                             the entry point from sync code
"""
