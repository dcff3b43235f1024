"""The command `paco`.

The layers, each importing only from those above it::

    errors     the error that ends the command, how an error of the user's code is shown
    stop       signals, and the wish that nothing more is read
    keys       what identifies an item
    chunks     bytes of files, pipes and terminals
    formats    bytes cut into items, and parsed
    inputs     items
    writer     the one writer of records
    output     where they go
    resume     what earlier runs have left
    order      lines as they come, or in order
    target     TARGET found and imported
    function   what TARGET may be
    tally      what is counted, and the summary of it
    progress   how it goes, for people and programs
    words      the words behind the options
    options    the words of the command line
    pace       limits, rates and attempts
    halting    whether too much fails
    elsewhere  where the function runs
    garbage    how garbage is collected meanwhile
    work       what is done for one item
    run        a run
    dry        what a run would be
    map        `paco map`
    report     `paco report`
    command    which of them
"""

from paco._cli.command import main

__all__ = ["main"]
