"""The scheduler of every run.

The modules, each importing only from those above it::

    outcomes  sinks                 the outcome of an item; where results go
    source  reader                  the source of items; the task that reads an async one
    failure                         the errors of a run
    nursery  workers                tasks that end together; workers, their slots, and the time that they hold the loop
    watch                           how listeners are notified
    recycled  queues  permits       a worker under a limit object; items that wait in queues; what items hold
    run  admission                  the scheduler; its variant for limit objects
    here                            which item runs here
"""
