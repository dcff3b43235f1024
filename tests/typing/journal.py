"""What type checkers infer of streams with a journal. Checked by mypy and pyright, never run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, assert_type

import paco

if TYPE_CHECKING:
    from paco.journal import JournalError, RecordedError


async def half(number: int) -> float:
    return number / 2


def read(value: Any) -> bytes:
    return bytes(value)


async def inferred(numbers: list[int]) -> None:
    stream = paco.map(half, numbers, limit=2).journal("run.jsonl")
    assert_type(stream, paco.Stream[Any])  # JSON may make something else of it
    assert_type(await stream, list[Any])
    decoded = paco.map(half, numbers).journal(Path("run.jsonl"), key="id", encode=str, decode=read, version=2)
    assert_type(decoded, paco.Stream[bytes])
    async for value in decoded.as_completed():
        assert_type(value, bytes)
    settled = paco.map(paco.settle(half), numbers)
    assert_type(settled.journal("run.jsonl"), paco.Stream[paco.Ok[int, Any] | paco.Err[int]])
    settled = paco.map(paco.settle(half), numbers)
    outcomes = await settled.max_errors(3).journal("run.jsonl", decode=read).on(2).as_completed()
    assert_type(outcomes, list[paco.Ok[int, bytes] | paco.Err[int]])
    assert_type(paco.partition(outcomes), tuple[list[paco.Ok[int, bytes]], list[paco.Err[int]]])
    piped = paco.map(half, numbers).journal("one", decode=len) | paco.map(half)
    assert_type(await piped, list[float])


def refused(numbers: list[int]) -> None:
    paco.map(half, numbers).journal("run.jsonl", durable="disk")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.map(half, numbers).journal("run.jsonl", key=3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.map(half, numbers).journal()  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]


def told(error: RecordedError, other: JournalError) -> None:
    assert_type(error.type, str)
    assert_type(error.message, str)
    assert_type(other.args, tuple[Any, ...])
