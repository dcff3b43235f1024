"""The public functions, by theme.

The modules, each importing only from those above it::

    map  filter                     functions over items
    futures  gather  executor       functions over coroutines; futures of their calls
    once                            calls that several callers share
    loops  timing  compose          repeated calls; timeouts, limits and delays; functions that wrap functions
    retry                           further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run                             the entry point from sync code
"""
