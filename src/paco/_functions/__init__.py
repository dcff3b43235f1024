"""The public functions, by theme.

The modules, each importing only from those above it::

    map  filter                     functions over items
    futures  gather  executor       functions over coroutines; futures of their calls
    loops  timing                   repeated calls; timeouts, limits and delays
    once  compose                   calls that several callers share; functions that wrap functions
    retry                           further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run                             the entry point from sync code
"""
