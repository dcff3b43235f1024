"""Where the function runs: here, in worker processes, or in a Dask cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from paco._cli.errors import CommandError
from paco._view.console import message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    import paco
    from paco._base.worker_info import Ran, Worker
    from paco._cli.function import Function
    from paco._cli.options import MapOptions

#: Items in flight in workers where no limit is given.
_MOST = 10_000


class Place(NamedTuple):
    """Where the items run.

    Attributes:
        function: Has an item run there.
        limit: For its calls.
        workers: Those who have had items, by their names; ``None`` for this process.
        last: Returns where and when the item of the call that has just returned ran, if that is known.
    """

    function: Function
    limit: int | paco.Limiter
    workers: dict[str, Worker] | None = None
    last: Callable[[], Ran | None] = lambda: None


@asynccontextmanager
async def elsewhere(function: Function, limit: int | paco.Limiter, options: MapOptions) -> AsyncGenerator[Place]:
    """Give the place that the options say.

    Raises:
        CommandError: The function cannot be sent there, or there is no such place.
    """
    if options.workers is None and options.dask is None:
        yield Place(function, limit)
        return
    from paco.remote._engines import engine_of
    from paco.remote._item_calls import Calling
    from paco.remote._pickles import dump_function

    name = "map --workers" if options.dask is None else "map --dask"
    try:
        engine = engine_of(name, options.workers if options.dask is None else options.dask, None)
        dump_function(name, function)
    except (ImportError, TypeError, ValueError) as error:
        raise CommandError(message(error).removeprefix("paco.")) from None
    async with Calling("map", function, engine, limit, _MOST, 0, watched=True) as calls:
        yield Place(calls.function, calls.limit, calls.workers, lambda: calls.last)
