"""The scheduler of every run.

The modules, each importing only from those above it::

    outcomes  source  time_slice    the outcome of an item; the source of items; the time that runs may hold the loop
    nursery  workers                tasks that end together; workers and their slots
    sinks  watch                    where results go; how listeners are notified
    run  admission  plan            the scheduler; its variant for limit objects; what a run will do
"""
