"""The functions of the API, by theme.

The modules, each importing only from those above it::

    flatten  map  filter            functions over items, nested ones too
    futures  gather  executor       groups of coroutines, and the futures of their calls
    once                            calls that several callers share
    loops  timing  compose          loops, time, and functions of functions
    limited                         limits on functions
    retry  hedge                    more than one attempt at a call: one after the other, and beside each other
    listeners                       the listeners that come with it
    run                             from sync code
"""
