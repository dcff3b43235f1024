"""The data of a trace, and its two outputs: the report and the file for Perfetto.

The modules, each importing only from those above it::

    record     the items of a run, as columns of numbers
    rows       the row of each item on the timeline; the figures of each worker
    numbers    quantiles, items in flight, histograms, ticks of axes
    picture    charts as SVG
    page       the report as HTML
    chrome     the trace file for Perfetto
"""
