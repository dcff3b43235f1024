"""The progress of runs, shown to people.

The modules, each importing only from those above it::

    writer                          writing to a terminal that nobody may read
    console                         the terminal, and text that is safe to print
    meter  lines                    measurements of a run, quantiles, numbers as text; the lines that show them
    progress                        where and when these lines are shown
"""
