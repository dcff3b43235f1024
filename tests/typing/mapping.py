"""What type checkers infer of map, each, flat_map and repeat. Checked by mypy and pyright, never run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine, Generator
from functools import partial
from typing import Any, assert_type

import paco


async def half(number: int) -> float:
    return number / 2


async def label(number: float) -> str:
    return str(number)


async def extra(number: int, text: str, *, key: int = 0) -> float:
    return number / len(text) + key


def plain(number: int) -> int:
    return number


class Callee:
    async def __call__(self, number: int) -> bytes:
        return bytes(number)

    async def method(self, number: int) -> str:
        return str(number)


def generated() -> Generator[int]:
    yield 1


async def streamed() -> AsyncGenerator[int]:
    yield 1


async def fetched() -> list[int]:
    return [1]


async def connected() -> AsyncIterator[int]:
    return streamed()


async def sources(numbers: list[int], task: asyncio.Task[list[int]]) -> None:
    assert_type(paco.map(half, numbers), paco.Stream[float])
    assert_type(await paco.map(half, numbers), list[float])
    assert_type(await paco.map(half, {1, 2}), list[float])
    assert_type(await paco.map(half, {1: "one"}), list[float])
    assert_type(await paco.map(half, []), list[float])
    assert_type(await paco.map(half, generated()), list[float])
    assert_type(await paco.map(half, streamed()), list[float])
    assert_type(await paco.map(half, fetched()), list[float])
    assert_type(await paco.map(half, connected()), list[float])
    assert_type(await paco.map(half, task), list[float])
    assert_type(await paco.map(label, paco.map(half, numbers)), list[str])
    assert_type(await paco.map(label, numbers), list[str])


async def functions(numbers: list[int]) -> None:
    assert_type(await paco.map(Callee(), numbers), list[bytes])
    assert_type(await paco.map(Callee().method, numbers), list[str])
    assert_type(await paco.map(partial(extra, text="text"), numbers), list[float])
    assert_type(await paco.map(lambda number: half(number + 1), numbers), list[float])
    assert_type(await paco.map(paco.timeout(half, 1), numbers), list[float])
    assert_type(await paco.map(paco.wraps(plain), numbers), list[int])


async def arguments(numbers: list[int]) -> None:
    assert_type(await paco.map(extra, numbers, 10, None, None, False, "extra", key=1), list[float])
    assert_type(await paco.map(extra, numbers, 10, text="extra"), list[float])  # not pyrefly: its P.args
    assert_type(await paco.map(extra, numbers, limit=10, text="extra", key=1), list[float])  # not pyrefly: its P.args
    assert_type(await paco.flat_map(extra, [numbers], 10, None, None, False, None, "extra", key=1), list[float])
    assert_type(await paco.each(extra, numbers, 10, None, True, None, False, "extra", key=1), list[float])
    assert_type(await (numbers | paco.map(extra, text="extra")), list[float])  # not pyrefly: its P.args


async def errors_as_results(numbers: list[int], flag: bool) -> None:
    assert_type(await paco.map(half, numbers, return_exceptions=True), list[float | Exception])
    assert_type(await paco.map(half, numbers, return_exceptions=flag), list[float | Exception])
    assert_type(await paco.map(extra, numbers, 0, None, None, True, "extra"), list[float | Exception])
    assert_type(await (numbers | paco.map(half, return_exceptions=True)), list[float | Exception])
    assert_type(await paco.flat_map(half, [numbers], return_exceptions=True), list[float | Exception])
    assert_type(await paco.each(half, numbers, collect=True, return_exceptions=True), list[float | Exception])


async def each(numbers: list[int]) -> None:
    assert_type(await paco.each(half, numbers), None)
    await asyncio.create_task(assert_type(paco.each(half, numbers), Coroutine[Any, Any, None]))
    assert_type(await paco.each(half, numbers, return_exceptions=True), None)
    assert_type(await paco.each(half, numbers, collect=True), list[float])
    assert_type(await (numbers | paco.each(half)), None)
    assert_type(await (numbers | paco.each(half, collect=True)), list[float])
    assert_type(paco.each(half), paco.Stage[int, Coroutine[Any, Any, None]])


async def flat_map_and_repeat() -> None:
    assert_type(await paco.flat_map(half, [1, [2, [3]]]), list[float])
    assert_type(await paco.flat_map(half, [1], initializer=[0.5]), list[float])
    assert_type(await ([1, [2]] | paco.flat_map(half)), list[float])
    assert_type(await paco.repeat(half, 3, limit=2), list[float])


async def streams(numbers: list[int]) -> None:
    stream = paco.map(half, numbers)
    async for number in stream:
        assert_type(number, float)
    async with paco.map(half, numbers) as results:
        assert_type(results, paco.Stream[float])
        assert_type(await anext(results), float)
    assert_type([number async for number in paco.map(half, numbers)], list[float])
    assert_type(await stream.as_completed(), list[float])
    assert_type(await stream.buffer(10), list[float])
    wider: paco.Stream[float | None] = stream
    assert_type(await asyncio.wait_for(paco.map(half, numbers), 1), list[float])
    assert_type(await asyncio.create_task(paco.map(half, numbers)), list[float])
    assert_type(asyncio.run(paco.map(half, numbers)), list[float])
    assert_type(paco.run(paco.map(half, numbers)), list[float])
    await wider.aclose()


async def in_threads(numbers: list[int]) -> None:
    # mypy gives up at the partial of a function with parameters of another one, before it comes to paco.
    in_thread = partial(asyncio.to_thread, plain)  # type: ignore[call-arg]  # not ty: right # not pyrefly: right
    assert_type(await paco.map(in_thread, numbers), list[int])  # not pyrefly: unknown result of the partial


async def chained(numbers: list[int]) -> None:
    stream = paco.map(half, numbers, limit=3)
    assert_type(stream.journal("run.jsonl", decode=len).on(2).as_completed(), paco.Stream[int])


async def refused(numbers: list[int], words: list[str]) -> None:
    paco.map(plain, numbers)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half, words)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half, 5)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half(1), numbers)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half, numbers, limit="1")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(half, numbers).on()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    paco.map(half, numbers, limt=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.map(extra, numbers)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.map(extra, numbers, 0, None, None, False, 5)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(extra, numbers, text="", key="1")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.map(extra, numbers, text="", other=1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.map(half, words, return_exceptions=True)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.each(extra, numbers, text=5)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.flat_map(extra, numbers, text=5)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.repeat(Callee.method)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    strings: list[str] = await paco.map(half, numbers)  # type: ignore[call-overload] # pyright: ignore[reportAssignmentType]
    assert_type(strings, list[str])
