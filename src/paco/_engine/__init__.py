"""The scheduler of every run.

The modules, each importing only from those above it::

    outcomes                        what became of an item
    time_slice  nursery  workers    how long runs may hold the loop; tasks that end together; workers and their slots
    source  sinks  run              where items come from, where results go, and the scheduler between them
    admission  watch  plan          the same under a limit object; the same with listeners; what a run will do
"""
