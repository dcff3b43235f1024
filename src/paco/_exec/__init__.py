"""Programs that run for items.

The modules, each importing only from those above it::

    template   the words of a program, filled with an item
    server     the process that starts programs, and ends them
    client     run programs through that process
    outcome    the result of a program, or its error
"""
