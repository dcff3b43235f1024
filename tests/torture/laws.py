"""The laws of every run, however it ends. Each law takes the log of a run and fails if the run breaks it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from tests.torture.log import Event, Log

Law = Callable[[Log], None]

#: Errors that end a coroutine from outside. They need not be reported after another error.
_ENDED: Final = (asyncio.CancelledError, GeneratorExit)


def the_limit_is_never_exceeded(log: Log) -> None:
    for number, stage in enumerate(log.scenario.stages):
        running = 0
        for event in log.of("start", "end", stage=number):
            running += 1 if event.what == "start" else -1
            assert not stage.most or running <= stage.most, f"{running} at once at {event.time}, not {stage.most}"


def the_window_is_never_exceeded(log: Log) -> None:
    """No item is started, or pulled from the source, beyond the window of the consumer."""
    window = log.scenario.window
    if window is None:
        return
    counted = "pull" if len(log.scenario.stages) == 1 and log.of("pull") else "start"
    ahead = 0
    taken = _dropped(log)
    last = len(log.scenario.stages) - 1
    for event in log.events:
        ahead += event.what == counted and event.stage in {-1, last}
        taken += event.what == "take"
        assert ahead <= taken + window, f"{ahead} {counted}s at {event.time} after {taken} takes, window {window}"


def _dropped(log: Log) -> int:
    """Return how many results a filter may have dropped before the consumer: at most all, the log does not say."""
    return log.scenario.source.count if log.scenario.last.verb.startswith("filter") else 0


def nothing_is_pulled_without_a_free_slot(log: Log) -> None:
    """The items that are pulled and have not ended are never more than the limit of the first stage."""
    first = log.scenario.stages[0]
    most = 0 if first.reads_to_the_end_first else first.most
    busy = 0
    for event in log.events:
        busy += (event.what == "pull") - (event.what == "end" and event.stage == 0)
        assert not most or event.what != "pull" or busy <= most, f"{busy} pulled and not ended at {event.time}"


def items_start_once_and_in_order(log: Log) -> None:
    for number, stage in enumerate(log.scenario.stages):
        started = [event.item for event in log.of("start", stage=number)]
        if stage.reads_to_the_end_first:
            started.reverse()
        assert all(one < other for one, other in pairwise(started)), f"stage {number} started {started}"


def everything_has_ended_before_the_return(log: Log) -> None:
    """Every item ends and the source is closed before the call returns.

    There are two exceptions: a plain loop that was left ends soon after, and `wait` hands pending items to its caller.
    """
    later = log.left_running or log.pending
    events = log.events if later else log.until("return")
    running = {(event.stage, event.item) for event in events if event.what == "start"}
    running -= {(event.stage, event.item) for event in events if event.what == "end"}
    assert not running, f"still running: {running}"
    lets_go = log.scenario.last.verb == "wait"  # it returns when its condition holds, while idle tasks may be ending
    assert later or lets_go or not log.alive, f"tasks alive: {log.alive}"
    opened, closed = ([event for event in events if event.what == what] for what in ("open", "close"))
    assert len(opened) == len(closed), "the source was not closed"


def an_iterator_of_the_caller_is_not_closed(log: Log) -> None:
    assert not log.of("close of the caller's iterator")


def a_source_is_asked_for_one_item_at_a_time_and_not_after_its_end(log: Log) -> None:
    assert not log.of("asked twice at once", "asked after the end")


def no_item_is_cancelled_twice(log: Log) -> None:
    cancelled = [(event.stage, event.item) for event in log.of("cancel") if not _cancels_itself(log, event)]
    assert len(cancelled) == len(set(cancelled)), f"cancelled: {cancelled}"


def _cancels_itself(log: Log, event: Event) -> bool:
    item = log.scenario.stages[event.stage].item(event.item)
    return item.ends == "cancels itself" or item.mark == "cancelling"


def items_running_at_the_end_of_a_call_are_cancelled(log: Log) -> None:
    """After the moment that ends the run no item starts, and each item still running has been cancelled once."""
    ended = ended_at(log)
    if ended is None:
        return
    cancelled = {(event.stage, event.item) for event in log.of("cancel")}
    for event in log.of("start", "end"):
        if event.time <= ended or _cancels_itself(log, event):
            continue
        assert event.what == "end", f"{event} after the end at {ended}"
        assert (event.stage, event.item) in cancelled, f"{event} was not cancelled at the end at {ended}"


def ended_at(log: Log) -> float | None:
    """Return when a call was ended early by an error, a cancellation, a verdict, a timeout or the consumer."""
    ends = [event.time for event in log.events if event.what in {"cancel caller", "leave"} or ends_it(log, event)]
    if isinstance(log.error, TimeoutError):
        ends.append(log.scenario.last.timeout)
    return min(ends, default=None)


def ends_it(log: Log, event: Event) -> bool:
    """Return whether an event of an item or of the source ends the whole run."""
    last = len(log.scenario.stages) - 1
    verb = log.scenario.last.verb
    if verb == "wait":
        return False  # `wait` has its own laws
    if event.what == "error":
        if event.stage == -1 and log.scenario.source.asynchronous:
            return False  # the error is raised in the order of the items, for which there may be no room yet
        caught = log.scenario.last.catch and event.stage == last and _becomes_an_exception(event.error)
        return not caught
    if event.what != "end" or event.stage != last:
        return False
    return verb == "race" or (verb in {"some", "every"} and decides(log, event))


def _becomes_an_exception(error: BaseException | None) -> bool:
    return isinstance(error, Exception | asyncio.CancelledError | GeneratorExit)


def decides(log: Log, event: Event) -> bool:
    """Return whether the end of an item is the verdict that `some` or `every` waits for."""
    if any((one.stage, one.item) == (event.stage, event.item) for one in log.of("error", "cancel")):
        return False
    return log.scenario.last.item(event.item).verdict is (log.scenario.last.verb == "some")


def no_item_sees_the_context_of_another(log: Log) -> None:
    assert not log.of("foreign context")


def a_cancellation_is_never_swallowed(log: Log) -> None:
    """The caller ends cancelled if and only if it was cancelled, and ``Task.cancelling()`` counts correctly."""
    assert log.cancelling == log.cancels, f"cancelling() is {log.cancelling} after {log.cancels}"
    if log.cancels:
        assert isinstance(log.error, asyncio.CancelledError), f"swallowed: {log.result!r} {type(log.error)}"
    else:
        assert not isinstance(log.error, asyncio.CancelledError), "the caller ended cancelled without a cancellation"


def no_error_is_lost_or_reported_twice(log: Log) -> None:
    """Each error is raised, or counted in a note of the raised error, or reported to the event loop."""
    scenario = log.scenario
    if scenario.last.catch or scenario.last.verb == "wait" or len(scenario.stages) > 1:
        return
    errors = [event.error for event in log.of("error")]
    raised = log.error is not None and any(error in errors for error in origins(log.error))
    news = [error for error in errors if not isinstance(error, _ENDED)]
    seen = raised + sum(reported(log))
    # A CancelledError or GeneratorExit counts if it is the first error.
    least, most = len(news), len(news) + (len(news) < len(errors))
    assert least <= seen <= most, f"{seen} errors were reported of {errors}: {log.error!r}, {notes(log)}, {log.reports}"


def reported(log: Log) -> list[int]:
    """Return how many errors each note and each report to the loop mentions."""
    more = [int(count) for text in texts(log) for count in re.findall(r"(\d+) more failed while stopping", text)]
    failing = [text.count("cancelled while failing with") for text in notes(log) if "RunTimeout" not in text]
    to_loop = [not isinstance(error, TimeoutError) for _, error in log.reports if error is not None]
    return [*more, *failing, *to_loop]


def notes(log: Log) -> list[str]:
    return list(getattr(log.error, "__notes__", []))


def texts(log: Log) -> list[str]:
    return notes(log) + [note for message, error in log.reports for note in (message, *getattr(error, "__notes__", []))]


def origins(error: BaseException | None) -> list[BaseException]:
    """Return an error and its chain of causes."""
    chain = []
    while error is not None:
        chain.append(error)
        error = error.__cause__
    return chain


def only_late_errors_are_reported_to_the_loop(log: Log) -> None:
    """The loop gets a report only of errors after a call has succeeded or after its consumer has left."""
    if log.scenario.last.verb == "wait":
        return  # asyncio reports futures that are dropped with their errors
    assert all(message.startswith("paco.") for message, _ in log.reports), log.reports
    ended_well = log.error is None or log.first("leave") or len(log.scenario.stages) > 1 or log.left_running
    assert ended_well or log.cancels or not log.reports, f"{log.error!r} and {log.reports}"


def an_awaited_call_returns_at_once_when_all_has_ended(log: Log) -> None:
    if log.scenario.consumer.iterates or log.scenario.last.verb == "wait":
        return
    times = [event.time for event in log.until("return")]
    if isinstance(log.error, TimeoutError):
        times.append(log.scenario.last.timeout)
    assert log.returned_at == max(times, default=0), f"returned at {log.returned_at}, ended at {max(times, default=0)}"


ALWAYS: Final[list[Law]] = [
    the_limit_is_never_exceeded,
    the_window_is_never_exceeded,
    nothing_is_pulled_without_a_free_slot,
    items_start_once_and_in_order,
    everything_has_ended_before_the_return,
    an_iterator_of_the_caller_is_not_closed,
    a_source_is_asked_for_one_item_at_a_time_and_not_after_its_end,
    no_item_is_cancelled_twice,
    items_running_at_the_end_of_a_call_are_cancelled,
    no_item_sees_the_context_of_another,
    a_cancellation_is_never_swallowed,
    no_error_is_lost_or_reported_twice,
    only_late_errors_are_reported_to_the_loop,
    an_awaited_call_returns_at_once_when_all_has_ended,
]


def check(log: Log) -> None:
    """Fail if the run breaks one of the laws of every run."""
    for law in ALWAYS:
        law(log)
