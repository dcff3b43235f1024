"""The pytest plugin. Its hooks are plain functions, so that pytest need not be imported."""

from __future__ import annotations

import functools
import importlib
import inspect
import os
from typing import TYPE_CHECKING, Any

from paco.testing._leaks import Leak
from paco.testing._loop import VirtualLoop
from paco.testing._runs import run_on

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Awaitable, Callable


def pytest_configure(config: Any) -> None:
    """Register the ``realtime`` marker."""
    config.addinivalue_line("markers", "realtime: run this async test on a real loop instead of on virtual time")


# Neither tryfirst nor a wrapper: pytest's own hook runs last anyway, and other plugins must get their own tests.
def pytest_pyfunc_call(pyfuncitem: Any) -> bool | None:
    """Run an ``async def`` test, also one of Hypothesis, unless it is marked for another plugin."""
    if any(pyfuncitem.get_closest_marker(name) for name in ("asyncio", "anyio", "trio")):
        return None
    __tracebackhide__ = True
    realtime = pyfuncitem.get_closest_marker("realtime") is not None
    test = pyfuncitem.obj
    if inspect.iscoroutinefunction(test):
        names = pyfuncitem._fixtureinfo.argnames  # noqa: SLF001 - where pytest itself looks up a test's arguments
        _as_sync(test, realtime=realtime)(**{name: pyfuncitem.funcargs[name] for name in names})
        return True
    law: Any = getattr(test, "hypothesis", None)
    if inspect.iscoroutinefunction(getattr(law, "inner_test", None)):
        law.inner_test = _as_sync(law.inner_test, realtime=realtime)  # a fresh loop for each example
    return None


def _as_sync(test: Callable[..., Awaitable[object]], *, realtime: bool) -> Callable[..., None]:
    loop_factory: Callable[[], AbstractEventLoop] = VirtualLoop
    if realtime:
        loop_factory = importlib.import_module(os.environ.get("PACO_TEST_LOOP") or "asyncio").new_event_loop

    @functools.wraps(test)
    def run_test(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            run_on(loop_factory, functools.partial(test, *args, **kwargs), eager=None, debug=False)
        except Leak as leak:
            raise leak.with_traceback(None) from None  # all frames are paco's; the message is sufficient

    return run_test
