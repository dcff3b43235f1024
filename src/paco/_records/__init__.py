"""Records of finished items, one line of JSON each. Journals and the command share this format.

The modules, each importing only from those above it::

    lines          values to JSON and back; a record to its line and back
    file           the file of the records: lock it, read it, append to it; torn lines
    maker          the function that made the results
    keys           keys of items, and where the records with these keys are
    earlier        the records of earlier runs
    delivery       results that wait for their lines
    group_commit   a thread that writes lines in groups
"""
