"""What `SECURITY.md` says: what paco trusts, what it does not, and what it leaves in files."""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import os
import pickle
import sys

import pytest

import paco
from paco._cli.packed import _UNPACKERS
from paco.journal import JournalError
from tests.project.source import MODULES, SOURCE, nodes

FILES = {"jobs.py": "async def echo(item):\n    return item\n"}


@functools.cache
def imports(path):
    """Return the top-level names that a module imports, also those that `import_module` is given by name."""
    found = set()
    for node in nodes(path):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            found.update(one.value.partition(".")[0] for one in node.args if isinstance(one, ast.Constant))
    return found


@functools.cache
def calls(path):
    """Return what a module calls."""
    return {ast.unparse(node.func) for node in nodes(path) if isinstance(node, ast.Call)}


def importers(*names):
    return {name_of(path) for path in MODULES if not imports(path).isdisjoint(names)}


def callers(*names):
    return {name_of(path) for path in MODULES if not calls(path).isdisjoint(names)}


def name_of(path):
    return path.relative_to(SOURCE).as_posix()


# ---- what is trusted


@pytest.mark.slow
def test_only_modules_that_talk_to_other_processes_unpickle():
    assert all(path.startswith(("remote/", "_exec/")) for path in importers("pickle", "marshal", "cloudpickle"))
    assert not importers("shelve", "dill", "joblib")


@pytest.mark.slow
def test_nothing_evaluates_text():
    assert not callers("eval", "exec", "compile")
    assert not importers("code", "codeop", "runpy")


@pytest.mark.slow
def test_no_shell_is_started_and_no_process_except_workers_and_programs():
    assert not callers("os.system", "os.popen", "os.posix_spawn", "os.execv", "asyncio.create_subprocess_shell")
    ours = {"remote/_processes.py", "_exec/client.py"}
    assert importers("subprocess") == {"_base/system.py", "_exec/outcome.py", *ours}
    assert callers("subprocess.Popen", "subprocess.run") == ours
    assert callers("os.fork") == {"remote/_fork_server.py"}
    assert callers("os.posix_spawnp") == {"_exec/server.py"}
    assert not any(
        keyword.arg == "shell" for path in MODULES for keyword in nodes(path) if isinstance(keyword, ast.keyword)
    )


@pytest.mark.slow
def test_no_port_is_opened_and_only_dask_is_connected_to():
    # Pairs of sockets: signals wake the loop through one, the servers that start processes are asked through others.
    assert callers("socket.socketpair") == {"_cli/ending.py", "_exec/client.py", "remote/_processes.py"}
    assert importers("socket") == {*callers("socket.socketpair"), "_base/system.py", "remote/_fork_server.py"}
    assert not importers("ftplib", "http", "smtplib", "socketserver", "ssl", "urllib", "xmlrpc")
    methods = {"bind", "listen", "connect", "create_connection", "create_server", "open_connection", "start_server"}
    assert not {
        name_of(path)
        for path in MODULES
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and node.attr in methods and ast.unparse(node) != "signature.bind"
    }


@pytest.mark.slow
def test_only_packages_of_the_extras_are_imported():
    there = {"IPython"}  # in a notebook, and not imported anywhere else
    found = set().union(*map(imports, MODULES)) - {*sys.stdlib_module_names, "paco", "msvcrt"} - there
    assert found == {"cloudpickle", "dask", "distributed", "orjson", "rich", "uvloop"}
    unpack = {name.partition(".")[0] for _, names, *_ in _UNPACKERS.values() for name in names}
    assert unpack - sys.stdlib_module_names - {"compression"} == {"backports"}


# ---- what is not trusted


HOSTILE = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "__import__('os').system('touch pwned')", "\x1b[2J\x9b"]


@pytest.mark.realtime
def test_the_text_of_an_item_is_never_executed(run, folder):
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in HOSTILE), "utf-8")
    code, out, _ = run("jobs:echo", "items.txt", "--arg", "x=1")
    assert code == 2  # there is no such parameter
    code, out, _ = run("jobs:echo", "items.txt")
    assert code == 0
    assert [json.loads(line)["result"] for line in out.splitlines()] == HOSTILE
    assert out.replace("\n", "").isprintable()
    assert not (folder / "pwned").exists()


@pytest.mark.realtime
@pytest.mark.posix
def test_a_program_gets_the_text_of_an_item_as_it_is(run, folder):
    (folder / "items.txt").write_text("".join(f"{line}\n" for line in HOSTILE), "utf-8")
    for words in (["printf %s {}"], ["sh -c 'printf %s \"$1\"' sh {}"], ["cat", "--stdin", "item"]):
        code, out, _ = run("--exec", *words, "items.txt", "--keep-order")
        assert code == 0
        assert [json.loads(line)["result"] for line in out.splitlines()] == HOSTILE
        assert out.replace("\n", "").isprintable()
    assert not (folder / "pwned").exists()


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("pwned",)


async def echo(item):
    return item


async def test_an_untrusted_journal_runs_no_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "run.jsonl"
    for content in (pickle.dumps(Bomb()), b'{"py/object":"os.mkdir"}\n', b"!!python/object/apply:os.mkdir [pwned]\n"):
        path.write_bytes(content)
        with pytest.raises(JournalError, match="is not a record"):
            await paco.map(echo, [1]).journal(path)
    assert not (tmp_path / "pwned").exists()


@contextlib.contextmanager
def or_refused(why):
    try:
        yield
    except JournalError as error:
        if why not in str(error):
            raise


ODD = [None, -1, 2**64, 1e308, "", "\ud800", [], {}, [[]], {"type": []}]


async def odd_journals(path, field, **more):
    """Write one journal for each odd value of a field of its only record."""
    await paco.map(echo, [1]).journal(path)
    record = {**json.loads(path.read_text()), **more}
    for value in ODD:
        path.write_text(json.dumps({**record, field: value}) + "\n")
        yield


@pytest.mark.parametrize("field", ["id", "key", "input", "ok", "result", "error", "attempts", "slot", "start", "ms"])
async def test_any_content_of_a_line_is_a_record_or_refused(tmp_path, field):
    path = tmp_path / "run.jsonl"
    async for _ in odd_journals(path, field, ok=field != "error"):
        with or_refused("line 1 is not a record"):
            await paco.map(paco.settle(echo), [1]).journal(path, retry_errors=False)


@pytest.mark.parametrize("field", ["function", "source", "version"])
@pytest.mark.filterwarnings("ignore:.*has changed since")
async def test_any_changed_field_of_a_record_counts_or_is_refused(tmp_path, field):
    path = tmp_path / "run.jsonl"
    async for _ in odd_journals(path, field):
        with or_refused("has the results of another function"):
            assert await paco.map(echo, [1]).journal(path) == [1]


@pytest.mark.realtime
def test_the_content_of_a_record_is_escaped_on_the_terminal(run, report, folder):
    text = "\x1b]52;c;aGk=\x07\x9b2J\u202e"
    record = {"id": 0, "key": "00" * 8, "input": text, "ok": False, "error": {"type": text, "message": text}, "slot": 0}
    record |= {"attempts": 1, "start": "2026-11-22T12:04:10.115Z", "ms": 1.0, "function": text, "worker": text}
    (folder / "out.jsonl").write_text(json.dumps(record) + "\n")
    _, out, err = report("out.jsonl")
    assert out.replace("\n", "").isprintable()
    (folder / "items.txt").write_text("1\n")
    (folder / "out.jsonl").write_text(json.dumps(record | {"ok": True, "result": text}) + "\n")
    code, out, err = run("jobs:echo", "items.txt", "-o", "out.jsonl", "--resume")
    assert code == 2
    assert err.replace("\n", "").isprintable()


# ---- files


@pytest.mark.posix
@pytest.mark.realtime
def test_new_files_are_private_and_existing_files_keep_their_permissions(run, folder):
    (folder / "items.txt").write_text("1\n")
    (folder / "old.jsonl").touch()
    (folder / "old.jsonl").chmod(0o640)
    before = os.umask(0)
    try:
        run("jobs:echo", "items.txt", "-o", "new.jsonl", "--report", "page.html")
        run("jobs:echo", "items.txt", "-o", "old.jsonl")
        paco.run(paco.map(echo, [1]).journal(folder / "run.jsonl"))
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.*l")}
    assert modes == {"new.jsonl": 0o600, "run.jsonl": 0o600, "old.jsonl": 0o640, "page.html": 0o600}
