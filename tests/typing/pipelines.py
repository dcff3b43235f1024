"""How types flow through pipelines. Checked by mypy and pyright, never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Generator
from typing import Any, assert_type

import paco


async def parse(word: str) -> int:
    return int(word)


async def half(number: int) -> float:
    return number / 2


async def is_even(number: int) -> bool:
    return number % 2 == 0


async def show(number: float) -> None: ...


async def add(total: float, number: float) -> float:
    return total + number


def take_wider(stage: paco.Stage[str, paco.Stream[float | None]]) -> None: ...


def generated() -> Generator[str]:
    yield "1"


async def streamed() -> AsyncGenerator[str]:
    yield "1"


async def fetched() -> list[str]:
    return ["1"]


async def sources(words: list[str]) -> None:
    assert_type(await (words | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await ([] | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await ({"1", "2"} | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await ({"1": 2} | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await (generated() | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await (streamed() | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await (fetched() | paco.map(parse) | paco.map(half)), list[float])
    assert_type(await (paco.map(parse, words) | paco.map(half)), list[float])


async def stages(words: list[str]) -> None:
    assert_type(paco.map(parse), paco.Stage[str, paco.Stream[int]])
    assert_type(paco.map(parse, limit=2, return_exceptions=True), paco.Stage[str, paco.Stream[int | Exception]])
    twice = paco.map(parse, limit=3) | paco.map(half)
    assert_type(twice, paco.Stage[str, paco.Stream[float]])
    take_wider(twice)
    assert_type(twice | paco.each(show), paco.Stage[str, Coroutine[Any, Any, None]])
    assert_type(twice | paco.reduce(add), paco.Stage[str, Coroutine[Any, Any, float]])
    assert_type(await (words | twice), list[float])
    assert_type(words | paco.map(parse) | paco.filter(is_even) | paco.map(half), paco.Stream[float])
    assert_type(await (words | paco.map(parse) | paco.filterfalse(is_even) | paco.reduce(add, initializer=0)), float)
    assert_type(await (words | paco.map(parse) | paco.some(is_even)), bool)
    assert_type(await (words | paco.map(parse) | paco.each(show)), None)
    async for number in words | paco.map(parse) | paco.dropwhile(is_even):
        assert_type(number, int)
    async with words | twice as numbers:
        assert_type(numbers, paco.Stream[float])
    assert_type(paco.run(words | twice), list[float])


async def total(numbers: list[int]) -> float:
    return sum(numbers)


async def batches(words: list[str]) -> None:
    assert_type(paco.batch(2, words), paco.Stream[list[str]])
    assert_type(await paco.map(parse, words).batch(2, within=1), list[list[int]])
    assert_type(await paco.map(parse, words).batch(2).drain(), int)
    assert_type(words | paco.batch(2), paco.Stream[list[str]])
    assert_type(streamed() | paco.batch(2), paco.Stream[list[str]])
    assert_type(words | paco.map(parse) | paco.batch(2), paco.Stream[list[int]])
    assert_type(words | paco.batch(2) | paco.batch(3), paco.Stream[list[list[str]]])
    assert_type(paco.map(parse) | paco.batch(2), paco.Stage[str, paco.Stream[list[int]]])
    assert_type(paco.batch(2) | paco.map(total), paco.Stage[int, paco.Stream[float]])
    assert_type(paco.map(parse) | paco.batch(2) | paco.map(total), paco.Stage[str, paco.Stream[float]])
    assert_type(await (words | paco.map(parse) | paco.batch(2) | paco.map(total) | paco.each(show)), None)
    assert_type(await paco.map(parse, paco.Inbox(words)), list[int])
    inbox = paco.Inbox[str](unique=True)
    assert_type(inbox.add("1", "2"), int)
    assert_type(await inbox.put("1"), bool)
    async for rows in words | paco.batch(2, within=1.0):
        assert_type(rows, list[str])


def sync(words: list[str]) -> None:
    with paco.iterate(paco.map(parse, words)) as results:
        for result in results:
            assert_type(result, int)


def refused(numbers: list[int], words: list[str]) -> None:
    _ = numbers | paco.map(parse)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = 5 | paco.map(half)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = paco.map(half) | 5  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = paco.map(half) | half  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = words | paco.map(parse) | paco.map(parse)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = paco.map(half) | paco.map(parse)  # type: ignore[call-overload] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = paco.some(is_even) | paco.map(half)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = words | paco.each(parse) | paco.map(half)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
    _ = words | paco.batch(2) | paco.map(parse)  # type: ignore[operator] # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
