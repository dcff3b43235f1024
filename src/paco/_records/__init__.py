"""Records: what is remembered of each item, one line of JSON each. The journal and the command have them in common.

The layers, each importing only from those above it::

    errors         what goes wrong with records, and errors of an earlier run
    values         values as JSON, and back
    keys           what identifies an item, and where its record is
    lines          the record of an item, as a line, and back
    file           the file: locked, read, appended to
    function       what has made the results: the name of a function, and its source
    memory         what is known of the items: the key of each, and the record of an earlier run
    group_commit   lines written in groups by a thread
    delivery       results that wait for their records
    limit          a limit object, for those items that are not recorded
    recorder       a run with a journal
"""
