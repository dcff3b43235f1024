"""What a trace holds, and the pictures of it.

The layers, each importing only from those above it::

    _record     what a run did, item by item
    _rows       which items are on which row, and what each worker has done
    _numbers    quantiles, items in flight, distributions, ticks of axes
    _words      where the time went, in a sentence
    _picture    pictures as SVG
    _style      how the report looks
    _page       the report
    _chrome     the trace for Perfetto
"""
