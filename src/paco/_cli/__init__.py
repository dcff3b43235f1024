"""The command `paco`.

The modules, each importing only from those above it::

    errors     the error that ends the command, and errors of the user's code as text
    stop       signals, and the request to read no more items
    chunks     read bytes from files, pipes and terminals
    formats    split bytes into items, and parse them
    output     the file of the records, and the records of earlier runs in it
    inputs     find the inputs and read the items
    target     find, import and check TARGET
    progress   the counts, the summary and the progress of a run, for people and programs
    options    parse the command line
    pace       limits, rates and retries
    job        check and open everything that a run needs
    work       run one item and write its record
    ending     what is reported after a run, and the exit code
    run        run `paco.map` over the items, and end it early
    report     `paco report`
    command    the entry point, which calls one of them
"""

from paco._cli.command import main

__all__ = ["main"]
