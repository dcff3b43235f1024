"""Where the function runs: here, in worker processes, or in a Dask cluster."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from paco._cli._errors import CommandError
from paco._console import message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import paco
    from paco._cli._function import Function
    from paco._cli._options import MapOptions

#: Items in flight in workers where no limit is given.
_MOST = 10_000


@asynccontextmanager
async def elsewhere(
    function: Function, limit: int | paco.Limiter, options: MapOptions
) -> AsyncGenerator[tuple[Function, int | paco.Limiter]]:
    """Give the function, and the limit for its calls, that have the items run where the options say.

    Raises:
        CommandError: The function cannot be sent there, or there is no such place.
    """
    if options.workers is None and options.dask is None:
        yield function, limit
        return
    from paco.remote._calls import Calling
    from paco.remote._engines import engine_of
    from paco.remote._pickles import dump_function

    name = "map --workers" if options.dask is None else "map --dask"
    try:
        engine = engine_of(name, options.workers if options.dask is None else options.dask, None)
        dump_function(name, function)
    except (ImportError, TypeError, ValueError) as error:
        raise CommandError(message(error).removeprefix("paco.")) from None
    async with Calling("map", function, engine, limit, _MOST, limit if isinstance(limit, int) else 0) as calls:
        yield calls.function, calls.limit
