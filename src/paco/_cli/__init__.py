"""The command `paco`.

The modules, each importing only from those above it::

    ending     errors, signals and exit codes, and the counts of how items ended
    loop       the event loop of a run: which one it is, how it ends, and its garbage
    beginning  what is not text at the beginning of an input, and the first line that is not UTF-8
    formats    split bytes into items, and parse them
    packed     unpack compressed inputs as they are read
    values     the values of options: durations, rates, rules to halt; the secrets among them
    options    parse the command line
    files      where files are, and that none is used for two things
    inputs     find the inputs, and read their bytes and items
    fields     check the fields that options name against the headers of tables
    target     find, import and check TARGET and the errors to retry
    programs   find and check the program of --exec
    budget     what an item costs
    pace       the errors to retry, and the limit
    keys       keys that steer a run, and the mode of their terminal
    progress   the summary and the progress of a run, for people and programs
    output     the file of the records, the records of earlier runs in it, and the record of each item
    run        run the items, end early, and report the end
    job        `paco map`: check and open everything that a run needs
    report     `paco report`
    command    the entry point, which calls one of them
"""

from paco._cli.command import main

__all__ = ["main"]
