"""What type checkers infer of retry, hedge, settle, partition, deadline and the runs that end early. Never run."""

from __future__ import annotations

from typing import Any, assert_type

import paco


async def half(number: int, *, key: str = "") -> float:
    return number / 2 + len(key)


def plain(number: int) -> float:
    return number / 2


def after(error: Exception) -> float | None:
    return float(str(error)) if isinstance(error, ValueError) else None


def broad(error: BaseException) -> bool:
    return isinstance(error, OSError)


async def retried(numbers: list[int]) -> None:
    assert_type(await paco.retry(half)(1, key=""), float)
    assert_type(await paco.retry(half, 5, OSError, 1, 30, 10, 0.1)(1), float)
    assert_type(await paco.retry(half, on=(OSError, ValueError))(1), float)
    assert_type(await paco.retry(half, on=after, longest=3600)(1), float)
    assert_type(await paco.retry(half, on=broad)(1), float)
    assert_type(await paco.retry(half, on=lambda error: isinstance(error, OSError))(1), float)
    assert_type(await paco.map(paco.retry(half), numbers), list[float])
    assert_type(await paco.map(paco.retry(paco.timeout(half, 1), budget=0.2), numbers, limit=3), list[float])


async def hedged(numbers: list[int]) -> None:
    assert_type(await paco.hedge(half, 0.5)(1, key=""), float)
    assert_type(await paco.hedge(half, 1, extra=2)(1), float)
    assert_type(await paco.map(paco.retry(paco.hedge(half, 1)), numbers), list[float])


@paco.retry
async def retry_bare(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.retry(attempts=5, on=OSError)
async def retry_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.hedge(0.5)
async def hedge_with_options(number: int, *, text: str = "") -> float:
    return number / len(text)


@paco.settle
async def settle_bare(number: int, *, text: str = "") -> float:
    return number / len(text)


class Client:
    @paco.retry
    async def fetch(self, url: str) -> bytes:
        return url.encode()

    @paco.hedge(delay=1, extra=2)
    async def ask(self, url: str) -> bytes:
        return url.encode()


async def decorated() -> None:
    assert_type(await retry_bare(1, text="text"), float)
    assert_type(await retry_with_options(1, text="text"), float)
    assert_type(await hedge_with_options(1, text="text"), float)
    assert_type(await settle_bare(1, text="text"), paco.Ok[int, float] | paco.Err[int])
    assert_type(await Client().fetch("url"), bytes)
    assert_type(await Client().ask("url"), bytes)


async def settled(numbers: list[int]) -> None:
    outcomes = await paco.map(paco.settle(half), numbers)
    assert_type(outcomes, list[paco.Ok[int, float] | paco.Err[int]])
    assert_type(
        await paco.map(paco.settle(paco.retry(half)), numbers).max_errors(0.1),
        list[paco.Ok[int, float] | paco.Err[int]],
    )
    for outcome in outcomes:
        match outcome:
            case paco.Ok(item, value, attempts):
                assert_type(item, int)
                assert_type(value, float)
                assert_type(attempts, int)
            case paco.Err(item, error):
                assert_type(item, int)
                assert_type(error, Exception)
    done, failed = paco.partition(outcomes)
    assert_type(done, list[paco.Ok[int, float]])
    assert_type(failed, list[paco.Err[int]])
    wider: paco.Ok[int | str, float | None] = done[0]
    assert_type(wider.elapsed, float)


async def ended_early(numbers: list[int]) -> None:
    try:
        async with paco.map(half, numbers, timeout=1).max_errors(10) as results:
            assert_type(results, paco.Stream[float])
    except paco.RunTimeout as error:
        timeout: TimeoutError = error
        assert_type(error.outcomes, tuple[paco.Ok[Any, Any] | paco.Err[Any], ...])
        raise timeout from None
    except paco.TooManyErrors as error:
        assert_type(paco.partition(error.outcomes), tuple[list[paco.Ok[Any, Any]], list[paco.Err[Any]]])


async def in_time() -> None:
    with paco.deadline(10), paco.deadline(None):
        await half(1)


async def refused(numbers: list[int]) -> None:
    paco.retry(plain)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.retry(half, on=int)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.retry(half, on=KeyboardInterrupt)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.retry(half, tries=3)  # type: ignore[call-overload] # pyright: ignore[reportCallIssue]
    paco.hedge(half)  # type: ignore[call-overload] # pyright: ignore[reportArgumentType]
    paco.hedge(plain, 1)  # type: ignore[arg-type] # pyright: ignore[reportCallIssue, reportArgumentType]
    paco.settle(plain)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.partition([1])  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await retry_bare("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    await hedge_with_options(1, txt="")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    await settle_bare(txt="")  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
    paco.map(half, numbers).max_errors("1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    paco.Ok(1, 2).value = 3  # type: ignore[misc] # pyright: ignore[reportAttributeAccessIssue]
    with paco.deadline("5"):  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        pass
