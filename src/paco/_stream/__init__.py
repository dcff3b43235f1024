"""What the functions return.

The modules, each importing only from those above it::

    coroutine  stream  stage        one result, or many; and pipelines of them
"""
