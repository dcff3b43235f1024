"""What people are shown of a run.

The modules, each importing only from those above it::

    console  units                  text that a terminal can show, and the terminal; quantiles, numbers in words
    meter  lines                    what is measured of a run, and lines that tell it
    progress                        where and when these lines are shown
"""
