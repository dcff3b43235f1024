"""What all rooms share.

The modules, each importing only from those above it::

    types  check  errors            words that all share; argument checks; what becomes of errors
    decorator  item_function        what decorators have in common; the function of an item, under the user's name
    clock  deadline                 clocks; an end that all calls keep to
    worker_info                     where items run
    system                          used, not imported: what differs between Linux, macOS and Windows
"""

__version__ = "1.0.0"
