"""What a trace holds, and the pictures of it.

The layers, each importing only from those above it::

    record     what a run did, item by item
    rows       which items are on which row, and what each worker has done
    numbers    quantiles, items in flight, distributions, ticks of axes
    picture    pictures as SVG
    page       the report: how it looks, where the time went in a sentence
    chrome     the trace for Perfetto
"""
