"""TARGET: found, imported, checked; each mistake is told with the way out."""

from __future__ import annotations

import functools
import itertools
import json
import sys
import threading
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Annotated, Literal, NewType, Optional, Union

import pytest

pytestmark = [pytest.mark.realtime, pytest.mark.usefixtures("folder")]

JOBS = """
import asyncio

async def fetch(item):
    return item

async def _hidden(item): ...

def resize(item): ...

class Client:
    async def get(self, item): ...

client = Client()
URLS = ["a"]
"""
FILES = {"jobs.py": JOBS, "item.jsonl": "7\n", "pack/__init__.py": "", "pack/inner.py": "async def f(item): ...\n"}


@pytest.fixture
def refused(run):
    """Return a function that returns why a target is refused."""

    def refused(target, **arguments):
        code, out, err = run(target, "item.jsonl", *words(arguments))
        assert (code, out) == (2, "")
        return err.removeprefix("paco: ").removesuffix("\n")

    return refused


@pytest.fixture
def called(run, monkeypatch):
    """Return a function that runs this object as the target for one item, and returns the record and stderr."""

    def called(found, **arguments):
        monkeypatch.setitem(sys.modules, "jobs", SimpleNamespace(it=found))
        _, out, err = run("jobs:it", "item.jsonl", *words(arguments))
        return json.loads(out)["result"] if out else None, err

    return called


def words(arguments):
    return [word for name, value in arguments.items() for word in ("--arg", f"{name}={value}")]


@pytest.mark.parametrize(
    "target", ["jobs:fetch", "jobs.py:fetch", "./jobs.py:fetch", "jobs:client.get", "pack.inner:f"]
)
def test_a_function_is_found_by_module_or_file(run, target):
    assert run(target, "item.jsonl")[0] == 0


def test_a_file_in_another_folder_can_import_its_neighbors(run, folder, monkeypatch):
    (folder / "other.py").write_text("from jobs import fetch\n")
    monkeypatch.chdir("/")
    assert run(f"{folder}/other.py:fetch", folder / "item.jsonl")[0] == 0


def test_a_file_named_like_a_module_does_not_replace_it(run, folder):
    (folder / "json.py").write_text("async def f(item):\n    return __name__\n")
    assert '"result":"_paco_json"' in run("json.py:f", "item.jsonl")[1]
    assert hasattr(sys.modules["json"], "loads")


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("jobs", "TARGET must be module:function or path.py:function, got 'jobs'"),
        ("jobs.fetch", "did you mean jobs:fetch?"),
        ("jobs.py", "it defines fetch"),
        ("none.py", "got 'none.py'"),
        (":fetch", "TARGET must be"),
        ("jbos:fetch", "there is no module jbos; did you mean jobs?"),
        ("pack.iner:f", "there is no module pack.iner; did you mean inner?"),
        ("jobs.fetch:x", "jobs is a module and no package, so there is no jobs.fetch; did you mean jobs:fetch?"),
        ("jbos.py:fetch", "there is no file jbos.py; did you mean jobs.py?"),
        ("none/jobs.py:fetch", "there is no file none/jobs.py"),
        ("jobs:fetsh", "jobs has no 'fetsh'; did you mean fetch?"),
        ("jobs:zzz", "jobs has no 'zzz'; it defines"),
        ("jobs:client.zzz", "jobs:client has no 'zzz'"),
        ("jobs:client.get.zzz", "jobs:client.get has no 'zzz'"),
        ("./pack:f", "there is no file ./pack"),
    ],
)
def test_a_missing_target_is_reported_with_a_suggestion(refused, target, told):
    assert told in refused(target)


def test_a_file_that_is_not_python_source_is_refused(refused, folder):
    (folder / "data.txt").touch()
    assert "must end in .py" in refused("./data.txt:f")


ODD_NAMES = [
    "html.py",
    "random.py",
    "multiprocessing.py",
    "asyncio.py",
    "jobs.v2.py",
    "2 jobs.py",
    "class.py",
    "é-ü.py",
]


@pytest.mark.realtime
@pytest.mark.parametrize("name", ODD_NAMES)
@pytest.mark.parametrize("more", [[], pytest.param(["--workers", "1"], marks=pytest.mark.slow)], ids=" ".join)
def test_a_target_may_have_any_name(run, folder, name, more):
    """Whatever the file is called, its classes travel from the workers, and it imports what is beside it."""
    (folder / "beside_it.py").write_text("class Mine(Exception): ...\n")
    (folder / name).write_text(
        "import beside_it, enum\nclass Own(Exception): ...\nclass Kind(enum.Enum):\n    A = 1\nasync def f(item):\n"
        "    if item == '1': raise Own('own')\n    if item == '2': raise beside_it.Mine('mine')\n    return Kind.A\n"
    )
    (folder / "items.txt").write_text("1\n2\n3\n")
    code, out, err = run(f"{name}:f", "items.txt", "--report", "page.html", "--trace", "trace.json", *more)
    assert code == 1, err
    found = sorted(map(json.loads, out.splitlines()), key=lambda record: record["id"])
    assert [record["error"]["type"] for record in found[:2]] == ["Own", "Mine"]
    assert found[2]["result"] == 1
    assert (folder / "page.html").stat().st_size > 1000


def test_a_module_of_the_current_folder_may_have_the_name_of_one_of_python(run, folder):
    (folder / "html.py").write_text("async def f(item): return 'mine'\n")
    assert '"result":"mine"' in run("html:f", "item.jsonl")[1]


def test_files_beside_the_target_do_not_take_the_place_of_pythons_modules(folder, start):
    (folder / "target.py").write_text("import statistics\nasync def f(item): return statistics.mean([1, 3])\n")
    for name in ("html", "random", "statistics", "csv", "gzip", "json", "socket"):
        (folder / f"{name}.py").write_text(f"raise RuntimeError('my own {name}.py')\n")
    (folder / "items.csv").write_text("a\n1\n")
    words = ["map", "target.py:f", "items.csv", "--report", "page.html", "--workers", "1", "--values"]
    code = "import sys; sys.path.remove(''); from paco._cli import main; sys.exit(main())"  # as of a script
    out, err = start("-c", code, *words).communicate()
    assert (out, "own" in err) == ("2\n", False), err


def test_a_file_that_cannot_be_parsed_names_no_functions(refused, folder):
    (folder / "bad.py").write_text("def f(:\n")
    assert refused("bad.py").endswith("got 'bad.py'")


@pytest.mark.parametrize("target", ["broken:f", "broken.py:f"])
@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def helper():\n    raise ValueError('mine')\nhelper()\n", "in helper\n    raise ValueError('mine')"),
        ("import nonexisting\n", "No module named 'nonexisting'"),
        ("f(:\n", "SyntaxError"),
        ("raise SystemExit(3)\n", 'if __name__ == "__main__":'),
        ("class Panic(BaseException): ...\nraise Panic('mine')\n", "Panic: mine"),
    ],
)
def test_a_failing_import_shows_only_the_traceback_of_the_users_code(refused, folder, target, source, told):
    (folder / "broken.py").write_text(source)
    text = refused(target)
    assert text.startswith(f"importing {target.partition(':')[0]} failed:\n")
    assert told in text
    assert "importlib" not in text
    assert "_target.py" not in text


def test_the_current_folder_is_not_searched_under_pythons_safe_path(refused, run, monkeypatch):
    monkeypatch.setattr(sys, "path", [one for one in sys.path if one])
    before = sys.path[:]
    flags = {name: getattr(sys.flags, name) for name in dir(sys.flags) if name[0] != "_"}
    monkeypatch.setattr(sys, "flags", SimpleNamespace(**flags | {"safe_path": True}))
    assert "is not searched under Python's safe path (-P)" in refused("jobs:fetch")
    assert run("jobs.py:fetch", "item.jsonl")[0] == 0
    assert sys.path == before


async def fetch(item):
    return item


class Caller:
    async def __call__(self, item):
        return item

    async def method(self, item):
        return item


def decorated(function):
    @functools.wraps(function)
    def wrapper(*arguments):
        return function(*arguments)

    return wrapper


KINDS = {
    "function": fetch,
    "object": Caller(),
    "method": Caller().method,
    "partial": functools.partial(fetch),
    "decorated": decorated(fetch),
    "decorated method": decorated(Caller().method),
}


@pytest.mark.parametrize("found", KINDS.values(), ids=KINDS)
def test_an_async_function_is_called_with_the_item(called, found):
    assert called(found)[0] == 7


class PlainCaller:
    def __call__(self, item):
        return item

    def method(self, item):
        return item


@pytest.mark.parametrize(
    "found",
    [lambda item: item, PlainCaller(), PlainCaller().method, functools.partial(max, 1), abs],
    ids=["function", "object", "method", "partial", "function in C"],
)
def test_a_plain_function_is_called_with_the_item_in_a_thread(called, found):
    assert called(found)[0] == 7


def test_a_plain_function_gets_what_an_async_one_gets(called):
    def job(item, a, b: int = 0):
        return item, a, b, threading.current_thread() is threading.main_thread()

    assert called(job, a="1", b="2")[0] == [7, "1", 2, False]
    assert "--arg c: jobs:it has no such parameter; it has item, a, b" in called(job, c="1")[1]


def test_a_context_manager_may_yield_a_plain_function(called):
    assert called(yields_a_plain_function)[0] == "function"


def test_a_context_manager_is_entered_once_and_provides_the_function(called):
    events = []

    @asynccontextmanager
    async def client(name="none"):
        events.append(f"open {name}")
        yield fetch
        events.append("close")

    assert called(client, name="a")[0] == 7
    assert called(client())[0] == 7
    assert events == ["open a", "close", "open none", "close"]


def test_a_class_or_an_object_that_is_a_context_manager_is_entered(called):
    class Pool:
        async def __aenter__(self):
            return fetch

        async def __aexit__(self, *_):
            return None

    assert called(Pool)[0] == 7
    assert called(Pool())[0] == 7
    assert "so it takes no --arg" in called(Pool(), a=1)[1]


@asynccontextmanager
async def yields_no_function():
    yield 7


@asynccontextmanager
async def yields_a_plain_function():
    yield lambda item: "function"


def reads(item):
    yield item


@asynccontextmanager
async def fails_to_open():
    raise ValueError("no database")
    yield


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (yields_no_function, "what jobs:it yields is of type int; TARGET must be a function"),
        (fails_to_open, "ValueError: no database"),
    ],
)
def test_an_error_in_the_setup_of_the_target_is_an_error_of_the_command(called, found, told):
    _, err = called(found)
    assert told in err
    assert "contextlib" not in err


async def generator(item):
    yield item


async def two(session, item): ...


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["a"], "jobs:it is of type list; TARGET must be a function: async def f(item), or def f(item)"),
        (reads, "jobs:it is a generator function; to open a resource once around the run, make it async and decorate"),
        (functools.partial(reads), "@contextlib.asynccontextmanager"),
        (contextmanager(reads), "@contextlib.asynccontextmanager"),
        (lambda: 7, "cannot be called with one item: too many positional arguments"),
        (generator, "@contextlib.asynccontextmanager"),
        (
            two,
            "it(session, item) cannot be called with one item: missing a required argument: 'item'; to pass the ",
        ),
        (Caller, "jobs:it is a class; TARGET must be a function"),
        (asynccontextmanager(generator), "cannot be called with --arg alone"),
    ],
)
def test_a_target_that_cannot_run_is_refused_with_advice(called, found, told):
    assert told in called(found)[1]


def test_a_function_without_a_signature_is_accepted(called):
    class Compiled:
        __signature__ = "unreadable"

        async def __call__(self, item, **arguments):
            return item, arguments

    assert called(Compiled(), a="b")[0] == [7, {"a": "b"}]


def test_arg_is_text_unless_its_parameter_is_annotated(called):
    async def job(item, a, b: int = 0, c: float = 0, d: bool | None = False, **more):
        return a, b, c, d, more

    given = {"a": "1.10", "b": "2", "c": "1.5", "d": "Yes", "e": "5"}
    assert called(job, **given)[0] == ["1.10", 2, 1.5, True, {"e": "5"}]


def test_unpacked_text_is_converted_like_that_of_arg(run, folder):
    (folder / "typed.py").write_text(
        "async def f(name, age: int, *, far: float | None = None, **more: bool): return [name, age, far, more]\n"
        "def plain(name, age: 'int'): return [name, age]\n"
    )
    (folder / "rows.csv").write_text("name,age,far,last\n1,7,2.5,no\n2,old,1,yes\n")
    code, out, _ = run("typed:f", "rows.csv", "--unpack", "-k")
    assert code == 1
    first, second = map(json.loads, out.splitlines())
    assert first["result"] == ["1", 7, 2.5, {"last": False}]
    assert second["error"] == {"type": "ValueError", "message": "--unpack: age must be of type int, got 'old'"}
    (folder / "rows.jsonl").write_text('{"name": 1, "age": "7"}\n')
    assert json.loads(run("typed:plain", "rows.jsonl", "--unpack")[1])["result"] == [1, 7]


Count = NewType("Count", int)


@pytest.mark.parametrize(
    "annotation",
    [
        "int",
        "int | None",
        "Optional[int]",
        "Size",
        Optional[int],  # noqa: UP045 - as it was written before Python 3.10
        Union[None, int],  # noqa: UP007 - likewise
        Annotated[int | None, "a note"],
        Optional["int"],
        Count,
        int | float,
    ],
    ids=itertools.count(),
)
def test_an_optional_annotation_is_that_of_its_value(called, monkeypatch, annotation):
    async def job(item, n=None):
        return type(n).__name__

    monkeypatch.setitem(globals(), "Size", int | None)
    job.__annotations__["n"] = annotation
    assert called(job, n="5")[0] == "int"
    assert "--arg n must be of type int" in called(job, n="five")[1]


@pytest.mark.parametrize("annotation", ["Missing", "Missing | int", str | int, list[int], Literal["5"], [5], None])
def test_any_other_annotation_leaves_the_text(called, annotation):
    async def job(item, n=None):
        return n

    job.__annotations__["n"] = annotation
    assert called(job, n="5")[0] == "5"


def test_annotations_of_names_that_only_type_checkers_import_do_no_harm(run, folder):
    late = "" if sys.version_info >= (3, 14) else "from __future__ import annotations\n"
    source = "async def f(item, n: int = 0, other: Missing = None): return type(n).__name__\n"
    (folder / "typed.py").write_text(late + source)
    assert json.loads(run("typed:f", "item.jsonl", "--arg", "n=5", "--arg", "other=x")[1])["result"] == "int"


def test_a_class_and_further_keywords_have_annotations_too(called):
    class Pool:
        def __init__(self, size: Optional[int] = None, **more: float):  # noqa: UP045 - as above
            self._given = type(size).__name__, more

        async def __aenter__(self):
            async def job(item):
                return self._given

            return job

        async def __aexit__(self, *_): ...

    assert called(Pool, size="5", other="1.5", far="inf")[0] == ["int", {"other": 1.5, "far": None}]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"b": "x"}, "--arg b must be of type int, got 'x'"),
        ({"c": "1e400"}, "--arg c must be of type float or bool, got '1e400'"),
        ({"d": "perhaps"}, "--arg d must be of type bool, got 'perhaps'"),
        ({"verbsoe": "1"}, "--arg verbsoe: jobs:it has no such parameter; did you mean verbose?"),
        ({"zzz": "1"}, "has no such parameter; it has item, b, c, d, verbose"),
        ({"item": "1"}, "multiple values for argument 'item'"),
    ],
)
def test_an_arg_that_does_not_fit_is_refused(called, arguments, told):
    async def job(item, b: int = 0, c: float | bool = 0, d: bool = False, verbose=0): ...

    assert told in called(job, **arguments)[1]
