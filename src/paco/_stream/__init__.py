"""What the public functions return: a stream of results, a single result, or a stage of a pipeline.

The modules, each importing only from those above it::

    coroutine  plan                 one result; what a run will do, and pipelines
    consumer  stream                the use of a run by its consumer; many results
"""
