"""What type checkers infer of gather, series, race, wait and the executor. Never run."""

from __future__ import annotations

import asyncio
from typing import Any, assert_type

import paco


async def half(number: int) -> float:
    return number / 2


async def answer() -> int:
    return 42


def take(stream: paco.Stream[int | str]) -> None: ...


async def word() -> str:
    return "word"


async def gather(numbers: list[int], future: asyncio.Future[int], flag: bool) -> None:
    assert_type(await paco.gather(answer(), word()), tuple[int, str])
    assert_type(await paco.gather(answer(), word, future, limit=2), tuple[int, str, int])
    assert_type(await paco.gather(lambda: half(1), word), tuple[float, str])
    assert_type(await paco.gather(answer()), tuple[int])
    assert_type(await paco.gather(answer(), half(1), word(), word(), answer()), tuple[int, float, str, str, int])
    assert_type(await paco.gather(answer(), answer(), answer(), answer(), answer(), answer()), list[int])
    assert_type(paco.run(paco.gather(answer(), word())), tuple[int, str])  # not ty: it adds the list of the stream
    take(paco.gather(answer(), word()))
    assert_type(await paco.gather(answer(), word()).as_completed(), list[int | str])
    async with paco.gather(answer(), word()) as results:
        async for result in results:
            assert_type(result, int | str)
    assert_type(await paco.gather([answer(), answer()]), list[int])
    assert_type(await paco.gather([answer, answer], preserve_order=True), list[int])
    assert_type(await paco.gather(half(number) for number in numbers), list[float])
    assert_type(await paco.gather(*(half(number) for number in numbers)), list[float])
    assert_type(await paco.gather(*(answer, answer, answer, answer, answer, answer), limit=2), list[int])
    assert_type(await paco.gather(paco.map(half, numbers), paco.map(half, numbers)), tuple[list[float], list[float]])
    assert_type(await paco.gather(answer(), return_exceptions=True), tuple[int | Exception])
    assert_type(await paco.gather(answer(), word, return_exceptions=flag), tuple[int | Exception, str | Exception])
    assert_type(await paco.gather([answer()], return_exceptions=True), list[int | Exception])
    assert_type(await paco.gather([answer()], return_exceptions=flag), list[int | Exception])


async def series_and_race(numbers: list[int]) -> None:
    assert_type(await paco.series(answer(), answer), list[int])
    assert_type(await paco.series([answer(), answer()], timeout=1), list[int])
    assert_type(await paco.series(answer(), return_exceptions=True), list[int | Exception])
    assert_type(await paco.series([answer], return_exceptions=True), list[int | Exception])
    assert_type(await paco.race([answer(), answer()]), int)
    assert_type(await paco.race([half, half], None, 10, 1), float)
    assert_type(await paco.race((answer, answer())), int)
    first: int = await paco.race([answer, answer()])
    either: int | str = await paco.race([answer, word])
    assert_type(await paco.race([first_of(first, either)]), int | str)
    assert_type(await paco.race(half(number) for number in numbers), float)


async def first_of(number: int, other: int | str) -> int | str:
    return number or other


async def wait() -> None:
    done, pending = await paco.wait(answer(), answer, return_when=asyncio.FIRST_COMPLETED)
    assert_type(done, set[asyncio.Future[int]])
    assert_type(pending, set[asyncio.Future[int]])
    done, pending = await paco.wait([answer(), answer()])
    assert_type(done, set[asyncio.Future[int]])
    caught, _ = await paco.wait(answer(), return_exceptions=True)
    assert_type(caught, set[asyncio.Future[int | Exception]])
    caught, _ = await paco.wait([answer()], return_exceptions=True)
    assert_type(caught, set[asyncio.Future[int | Exception]])


async def executor(future: asyncio.Future[int]) -> None:
    assert_type(paco.concurrent(5), paco.ConcurrentExecutor)
    async with paco.ConcurrentExecutor(limit=2) as pool:
        assert_type(pool, paco.ConcurrentExecutor)
        assert_type(pool.add(half, 1), asyncio.Future[float])
        assert_type(pool.add(half, number=1), asyncio.Future[float])
        assert_type(pool.add(half(1)), asyncio.Future[float])
        assert_type(pool.submit(half, 1), asyncio.Future[float])
        assert_type(pool.submit(future), asyncio.Future[int])
        assert_type(await pool.put(half, 1), asyncio.Future[float])
        assert_type(await pool.put(half(1)), asyncio.Future[float])
        pool.limit = 5
        pool.pause()
        pool.resume()
        pool.extend(half(1), answer)
        pool.on("task.finish", print)
        assert_type(await pool.run(), tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]])
        assert_type(await pool.wait(timeout=1), tuple[set[asyncio.Future[Any]], set[asyncio.Future[Any]]])
        assert_type(pool.errors, list[Exception])
        assert_type(pool.is_running(), bool)
        assert_type(len(pool), int)
        pool.add(half, "1")  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
        pool.add(half)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
        pool.add(half(1), 1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
        pool.add(1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]


async def refused() -> None:
    paco.gather(1)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.gather(answer(), word(), limt=2)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]  # not ty: it knows no such dict
    paco.gather(answer(), word(), limit="2")  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.gather(half)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    await paco.race([1])  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.gather([half])  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.series(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    await paco.race(answer())  # type: ignore[call-overload] # pyright: ignore[reportCallIssue, reportArgumentType]
    await paco.wait(1)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
