"""The progress of runs, shown to people.

The modules, each importing only from those above it::

    writer                          writes to a terminal or pipe in a thread
    console                         the terminal, and text that is safe to print
    meter  lines                    measurements of a run, quantiles, numbers as text; the lines that show them
    display  notebook               what a display can do; that of a notebook
    progress                        where and when these lines are shown
"""
