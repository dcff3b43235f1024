"""Building blocks that every other room uses.

The modules, each importing only from those above it::

    types  check  errors            shared types; argument checks; raising and reporting errors
    decorator  item_function        decorators with options; the function that runs on each item
    clock  deadline                 clocks of event loops; deadlines that nested calls inherit
    worker_info  item               slots and workers, where an item ran; the record of one item
    system                          used, not imported: what differs between Linux, macOS and Windows
"""

__version__ = "1.0.0"
