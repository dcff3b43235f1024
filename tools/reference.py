"""Write the reference: ``docs/api.md``, which lists all names by theme, and a page in ``docs/reference`` for each theme.

``./dev docs`` runs this, and a test compares. mkdocstrings replaces each line that begins with ``:::`` by a signature
and a docstring.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Final

import paco

ROOT: Final = Path(__file__).resolve().parent.parent
PAGES: Final = ROOT / "docs"
#: Each theme: its page, its title, a sentence about it, and its names; a name with a dot is outside ``paco.__all__``.
THEMES: Final = [
    (
        "items",
        "Items",
        "Run an async function over items. Each takes any iterable, async iterable, or awaitable of one. Without an "
        "iterable, it returns a stage for `|`.",
        "map each flat_map filter filterfalse dropwhile some every reduce repeat batch Inbox",
    ),
    (
        "streams",
        "Streams",
        "What the functions over items return, and how to use it from sync code.",
        "Stream Stage iterate run",
    ),
    (
        "coroutines",
        "Coroutines",
        "Run coroutines that are already there, or are added one by one.",
        "gather series race wait ConcurrentExecutor concurrent",
    ),
    (
        "limits",
        "Limits",
        "Values for `limit=`. They can be combined with `&`, shared between calls, and changed while in use. "
        "[Rates and limits](../limits.md) explains them.",
        "Limit Rate PerKey Adaptive Gate Budget Limiter limited",
    ),
    (
        "failures-and-time",
        "Failures and time",
        "Try again, keep errors as values, and bound time. [Retries, timeouts, 429](../retries.md) explains them.",
        "retry hedge settle Ok Err partition timeout TimeoutLimit deadline",
    ),
    (
        "functions",
        "Functions from functions",
        "Wrap a function to change how, when or how often it runs.",
        "threaded wraps once times throttle defer interval whilst until compose partial apply curry thunk constant "
        "identity",
    ),
    (
        "elsewhere",
        "Processes and clusters",
        "Use [`Stream.on`](streams.md) to run items in threads of an executor, processes or a cluster.",
        "remote.Workers",
    ),
    (
        "observation",
        "Observation",
        "See how runs go. [Watch a run](../watching.md) explains it.",
        "progress trace listening current Current events.install events.RunStarted events.ItemStarted "
        "events.ItemRetried events.ItemEnded events.RunEnded events.Run",
    ),
    (
        "tests",
        "Tests",
        "Fast, exact tests of concurrent code. [Test concurrent code](../testing.md) explains them.",
        "testing.run testing.now testing.VirtualLoop testing.check_leaks testing.cancel_at_every_step testing.Probe "
        "testing.Source testing.AsyncSource",
    ),
    (
        "errors",
        "Errors",
        "The exceptions that paco itself raises. Errors of your function are raised unchanged, with a note (PEP 678) that "
        "names the item. Wrong arguments are a `TypeError` or `ValueError` at the call, before anything starts.",
        "RunTimeout TooManyErrors ItemCancelled GateClosed remote.WorkerLost remote.RemoteError journal.JournalError "
        "journal.RecordedError testing.Deadlock testing.Leak",
    ),
]
HEAD: Final = """# All names

Every name is importable from `paco`, unless it is written with its module. Each links to its signature, description and
an example. Parameters that most functions share:

| parameter | meaning |
|---|---|
| `coro`, `fn` | any callable whose result is awaitable: an `async def`, a method, a `functools.partial`, a lambda |
| `iterable` | any iterable, async iterable, or awaitable of one; it is read as items are needed |
| `limit` | how many items run at once, or a [limit](reference/limits.md). **0 and `None` mean no limit, the default of most functions** |
| `timeout` | seconds for the whole call; for each item, wrap the function: `paco.timeout(fn, 10)` |
| `return_exceptions` | `True`: the exception of an item takes the place of its result |
| `loop` | the running event loop, or `None`; it has no effect, and is there for code written for the old library |
"""


def found(name: str) -> object:
    """Return what a name stands for."""
    thing: object = paco
    for part in name.split("."):
        if part in {"remote", "journal", "events", "testing"}:
            __import__(f"paco.{part}")
        thing = getattr(thing, part)
    return thing


def summary(name: str) -> str:
    """Return the first line of a docstring."""
    return (inspect.getdoc(found(name)) or "").partition("\n")[0].replace("``", "`").replace("|", "\\|")


def index() -> str:
    """Return the page of all names."""
    parts = [HEAD]
    for page, title, _, names in THEMES:
        rows = [f"| [`{name}`](reference/{page}.md#paco.{name}) | {summary(name)} |" for name in names.split()]
        parts.append("\n".join([f"## {title}", "", "| name | what it does |", "|---|---|", *rows]) + "\n")
    parts.append("The command has [its own page](command.md), and so has [the record](reference/record.md) that it writes.\n")
    return "\n".join(parts)


def theme(title: str, about: str, names: str) -> str:
    """Return the page of a theme."""
    return "\n\n".join([f"# {title}", about, *(f"::: paco.{name}" for name in names.split())]) + "\n"


def pages() -> dict[Path, str]:
    """Return the text of each page."""
    rest = {PAGES / "reference" / f"{page}.md": theme(title, about, names) for page, title, about, names in THEMES}
    return {PAGES / "api.md": index()} | rest


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, "utf-8")
