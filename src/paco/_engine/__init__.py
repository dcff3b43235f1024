"""The scheduler of every run.

The modules, each importing only from those above it::

    outcomes  source  time_slice    what became of an item; where items come from; how long runs may hold the loop
    nursery  workers                tasks that end together; workers and their slots
    sinks  watch                    where results go, and who is told of it
    run  admission  plan            the scheduler of them; the same under a limit object; what a run will do
"""
