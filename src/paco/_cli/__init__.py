"""The command `paco`.

The layers, each importing only from those above it::

    errors     the error that ends the command, how an error of the user's code is shown
    stop       signals, and the wish that nothing more is read
    chunks     bytes of files, pipes and terminals
    formats    bytes cut into items, and parsed
    output     where the records go, and what earlier runs have left there
    inputs     items
    target     TARGET found, imported and checked
    tally      what is counted, and the summary of it
    progress   how it goes, for people and programs
    options    the words of the command line
    pace       limits, rates and attempts
    job        all that a run needs, checked and opened
    work       what is done for one item
    ending     how a run has ended, and the exit code
    run        a run: `paco.map` over the items, and what ends it early
    report     `paco report`
    command    which of them
"""

from paco._cli.command import main

__all__ = ["main"]
