"""Building blocks that every other room uses.

The modules, each importing only from those above it::

    types  check  errors            shared types; argument checks, functions over items; raising and reporting errors
    keywords                        keyword arguments for the user's function
    decorator                       decorators with options
    deadline                        deadlines that nested calls inherit; clocks of event loops
    item                            the record of one item; slots and workers, where an item ran
    system                          used, not imported: what differs between Linux, macOS and Windows
"""

__version__ = "1.0.0"
