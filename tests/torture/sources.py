"""Sources of every kind that follow the plan of a scenario, and record how they are used."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.torture.log import Log


def value(log: Log, number: int) -> Any:
    """Return an item of the source; for `flat_map`, a nested one."""
    if log.scenario.stages[0].verb != "flat_map":
        return number
    return [number, [number], ([], iter([number]))][number % 3]


def _list(log: Log) -> list[Any]:
    return [value(log, number) for number in range(log.scenario.source.count)]


def _generator(log: Log) -> Iterator[Any]:
    source = log.scenario.source
    log.note("open")
    try:
        for number in range(source.count):
            _fail_at(log, number)
            log.note("pull", item=number)
            yield value(log, number)
        _fail_at(log, source.count)
        log.note("exhausted")
    finally:
        log.note("close")
        _fail_in_closing(log)


async def _async_generator(log: Log) -> AsyncIterator[Any]:
    source = log.scenario.source
    log.note("open")
    try:
        for number in range(source.count):
            await _delay(log, number)
            _fail_at(log, number)
            log.note("pull", item=number)
            yield value(log, number)
        _fail_at(log, source.count)
        log.note("exhausted")
    finally:
        try:
            if _ends_early(log) and "slow" in source.closing:
                await asyncio.sleep(2)
        finally:
            log.note("close")
        _fail_in_closing(log)


def _ends_early(log: Log) -> bool:
    return not log.of("exhausted") and not log.of("error", stage=-1)


def _fail_in_closing(log: Log) -> None:
    if _ends_early(log) and "fail" in log.scenario.source.closing:
        raise log.failed(ValueError("closing the source"), -1, -1)


async def _awaitable(log: Log) -> Iterator[Any]:
    if log.scenario.source.count:
        await _delay(log, 0)
    return _generator(log)


class _Recorded:
    """The common part of both iterators: paco must not close them, nor ask them for an item after their end."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.number = 0
        self.ended = False
        self.asked = False

    def item(self, end: type[Exception]) -> Any:
        if self.ended:
            self.log.note("asked after the end")
            raise end
        number, log = self.number, self.log
        self.ended = True
        _fail_at(log, number)
        if number == log.scenario.source.count:
            log.note("exhausted")
            raise end
        self.ended = False
        self.number += 1
        log.note("pull", item=number)
        return value(log, number)

    def close(self) -> None:
        self.log.note("close of the caller's iterator")


class _Iterator(_Recorded):
    def __iter__(self):
        return self

    def __next__(self):
        return self.item(StopIteration)


class _AsyncIterator(_Recorded):
    def __aiter__(self):
        return self

    async def __anext__(self):
        if self.asked:
            self.log.note("asked twice at once")
        self.asked = True
        try:
            if self.number < self.log.scenario.source.count:
                await _delay(self.log, self.number)
            return self.item(StopAsyncIteration)
        finally:
            self.asked = False

    async def aclose(self) -> None:
        self.close()


class _Iterable:
    """An iterable whose iterator is a generator. paco has created that generator, so it must close it."""

    def __init__(self, log: Log) -> None:
        self.log = log

    def __iter__(self):
        return _generator(self.log)


class _AsyncIterable:
    def __init__(self, log: Log) -> None:
        self.log = log

    def __aiter__(self):
        return _async_generator(self.log)


async def _delay(log: Log, number: int) -> None:
    source = log.scenario.source
    delay = source.delays[number % len(source.delays)]
    if delay is None:
        return
    try:
        await asyncio.sleep(delay)
    except asyncio.CancelledError:
        if not source.stubborn:
            raise


def _fail_at(log: Log, number: int) -> None:
    if log.scenario.source.fails_at == number:
        raise log.failed(ValueError("the source"), -1, number)


SOURCES: dict[str, Callable[[Log], Any]] = {
    "list": _list,
    "generator": _generator,
    "iterator": _Iterator,
    "async generator": _async_generator,
    "async iterator": _AsyncIterator,
    "async awaitable": _awaitable,
    "iterable of a generator": _Iterable,
    "async iterable of a generator": _AsyncIterable,
}
