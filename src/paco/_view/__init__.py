"""What people are shown of a run.

The modules, each importing only from those above it::

    console  units                  text that a terminal can show; numbers in words
    meter  progress                 how a run goes, and lines that say so
"""
