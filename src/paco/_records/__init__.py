"""Records of finished items, one line of JSON each. Journals and the command share this format.

The modules, each importing only from those above it::

    values         values to JSON and back
    lines          the key of an item, the function that made its result, and its record to a line and back
    file           the file of the records: lock it, read it, append to it; the records of earlier runs
    group_commit   a thread that writes lines in groups, and results that wait for it
    recorder       the journal of a run, and a limit that applies only to items without a record
"""
