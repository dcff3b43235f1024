"""The public functions, by theme.

The modules, each importing only from those above it::

    flatten  map  filter            functions over items; flattening of nested items
    futures  gather  executor       functions over coroutines; futures of their calls
    once                            calls that several callers share
    loops  timing  compose          repeated calls; timeouts and delays; functions that wrap functions
    limited                         limits on a function
    retry  hedge                    further attempts at a call, after a failure or in parallel
    listeners                       progress and traces
    run                             the entry point from sync code
"""
