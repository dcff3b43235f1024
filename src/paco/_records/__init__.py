"""Records: what is remembered of each item, one line of JSON each. The journal and the command have them in common.

The layers, each importing only from those above it::

    _values     values as JSON, and back
    _lines      the record of an item, as a line
    _keys       what identifies an item, and where its record is
    _file       the file: locked, read, appended to
    _function   what has made the results: the name of a function, and its source
    _memory     what is known of the items: the key of each, and the record of an earlier run
    _keeper     results that wait for their records
    _limit      a limit object, for those items that are not recorded
    _recorder   a run with a journal
"""
