"""The data of a trace, and its two outputs: the report and the file for Perfetto.

The modules, each importing only from those above it::

    file       write reports and traces: private, and never over another file
    record     the items of a run, as columns of numbers; their rows on a timeline; figures of the run and its workers
    picture    charts as SVG
    page       the report as HTML
    chrome     the trace file for Perfetto
"""
