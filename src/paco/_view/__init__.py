"""The progress of runs, shown to people.

The modules, each importing only from those above it::

    console  units                  the terminal, and text that is safe to print; quantiles and numbers as text
    meter  lines                    measurements of a run, and the lines that show them
    progress                        where and when these lines are shown
"""
