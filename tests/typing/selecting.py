"""What type checkers infer of filter, filterfalse, dropwhile, some, every and reduce. Never run."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import Any, assert_type

import paco


async def is_even(number: int) -> bool:
    return number % 2 == 0


async def is_small(number: float) -> bool:
    return number < 1


async def judge(number: int) -> str:
    return str(number)


async def add(total: int, number: int) -> int:
    return total + number


async def scale(total: float, number: int) -> float:
    return total * number


async def count(total: int, word: str) -> int:
    return total + len(word)


async def tally(totals: dict[str, int], word: str) -> dict[str, int]:
    return totals | {word: 1}


def plain(number: int) -> bool:
    return bool(number)


async def streamed() -> AsyncGenerator[int]:
    yield 1


async def fetched() -> list[int]:
    return [1]


async def some_of_them(numbers: list[int]) -> None:
    assert_type(paco.filter(is_even, numbers), paco.Stream[int])
    assert_type(await paco.filter(is_even, numbers), list[int])
    assert_type(await paco.filter(is_even, streamed()), list[int])
    assert_type(await paco.filter(is_even, fetched()), list[int])
    assert_type(await paco.filter(is_even, paco.filter(is_even, numbers)), list[int])
    assert_type(await paco.filter(is_small, numbers), list[int])
    assert_type(await paco.filter(judge, numbers, lambda verdict: verdict == "1", 10), list[int])
    assert_type(await paco.filter(judge, numbers, assert_fn=is_even), list[int])
    assert_type(await paco.filterfalse(is_even, numbers), list[int])
    assert_type(await paco.filterfalse(is_small, numbers, limit=2), list[int])
    assert_type(await paco.dropwhile(is_even, numbers), list[int])
    assert_type(paco.filter(is_even, limit=2), paco.Stage[int, paco.Stream[int]])
    assert_type(paco.filterfalse(is_even, limit=2), paco.Stage[int, paco.Stream[int]])
    assert_type(paco.dropwhile(is_even), paco.Stage[int, paco.Stream[int]])


async def truths(numbers: list[int]) -> None:
    assert_type(await paco.some(is_even, numbers, timeout=1), bool)
    assert_type(await paco.every(is_even, numbers, limit=2), bool)
    assert_type(await (numbers | paco.some(is_even)), bool)
    assert_type(await (numbers | paco.every(is_even)), bool)
    assert_type(paco.some(is_even), paco.Stage[int, Coroutine[Any, Any, bool]])
    assert_type(paco.every(is_even), paco.Stage[int, Coroutine[Any, Any, bool]])


async def folds(numbers: list[int], words: list[str]) -> None:
    assert_type(await paco.reduce(add, numbers), int)
    assert_type(await paco.reduce(add, numbers, right=True), int)
    assert_type(await paco.reduce(add, streamed()), int)
    assert_type(await paco.reduce(lambda total, number: add(number, total), numbers), int)
    assert_type(await paco.reduce(count, words, initializer=0), int)
    assert_type(await paco.reduce(count, words, True, 0), int)
    assert_type(await paco.reduce(scale, numbers, initializer=1), float)
    assert_type(await paco.reduce(tally, words, initializer={}), dict[str, int])
    assert_type(await (numbers | paco.reduce(add)), int)
    assert_type(await (words | paco.reduce(count, initializer=0)), int)
    assert_type(await (words | paco.reduce(tally, initializer={})), dict[str, int])
    assert_type(paco.reduce(count, right=True, initializer=0), paco.Stage[str, Coroutine[Any, Any, int]])


async def refused(numbers: list[int], words: list[str]) -> None:
    paco.filter(is_even, words)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.filter(plain, numbers)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.filterfalse(is_even, words)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.dropwhile(is_even, words)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.some(is_even, words)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.every(plain, numbers)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.reduce(is_even, numbers)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await paco.reduce(count, words)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] # not pyrefly: accepts it
    await paco.reduce(add, words, initializer=0)  # type: ignore[misc] # pyright: ignore[reportArgumentType]
    await paco.reduce(count, words, initializer="")  # type: ignore[misc] # pyright: ignore[reportArgumentType]
