"""Records of finished items, one line of JSON each. Journals and the command share this format.

The modules, each importing only from those above it::

    errors         errors of a journal, and errors of items as an earlier run recorded them
    values         values to JSON and back
    keys           the key of an item, and an index from keys to records
    lines          the record of an item to a line and back
    file           the file of the records: lock it, read it, append to it
    function       the name and the source of the function that made the results
    memory         the keys of the items, and the records of earlier runs
    group_commit   a thread that writes lines in groups
    delivery       results that wait until their records are written
    limit          a limit that applies only to items without a record
    recorder       the journal of a run
"""
