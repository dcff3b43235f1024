"""Small programs, each of one fault that was met in the field. They exit with 0 if paco does what is right.

Each begins with the situation and with what is right in it. `OPEN` lists those that still fail.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.programs import popen

FOLDER = Path(__file__).parent
PROGRAMS = sorted(path for path in FOLDER.glob("*/*") if path.suffix in {".py", ".sh"})

#: The programs that still fail. Remove a program when you have mended its fault: from then on its test fails here.
OPEN = frozenset(
    {
        "command/again_secret.sh",
        "command/arg_optional.sh",
        "command/base_exception.sh",
        "command/chdir.sh",
        "command/closed_stderr.sh",
        "command/closed_stdin_stdout.sh",
        "command/dask_dead.sh",
        "command/dotted_name.sh",
        "command/duplicate_key.sh",
        "command/first_twenty.sh",
        "command/key_twice.sh",
        "command/named_html.sh",
        "command/named_random.sh",
        "command/no_flock.sh",
        "command/number_too_large.sh",
        "command/output_is_input.sh",
        "command/output_replaced.sh",
        "command/packed_input.sh",
        "command/progress_bars.sh",
        "command/report_folder.sh",
        "command/report_mode.sh",
        "command/report_over_page.sh",
        "command/report_over_records.sh",
        "command/resume_arg.sh",
        "command/resume_foreign.sh",
        "command/second_run.sh",
        "command/sighup.sh",
        "command/slow_items.sh",
        "command/stdout_child.sh",
        "command/stdout_detach.sh",
        "command/swapped.sh",
        "command/task_left.sh",
        "command/terminal_unread.py",
        "command/thread_left.sh",
        "command/thread_limit.sh",
        "command/trace_over_input.sh",
        "command/unpickle_error.sh",
        "command/utf16.sh",
        "command/values_failures.sh",
        "command/wide_csv.sh",
        "library/anyio_scope_around_slow_cleanup.py",
        "library/executor_errors_that_were_read.py",
        "library/executor_run_positional.py",
        "library/filterfalse_limit_positional.py",
        "library/frozen_clock.py",
        "library/gather_the_same_coroutine_twice.py",
        "library/huge_range.py",
        "library/item_leaves_a_process_behind.py",
        "library/journal_deleted_under_the_run.py",
        "library/journal_of_a_busy_loop_killed.py",
        "library/journal_over_another_file.py",
        "library/journal_without_file_locks.py",
        "library/late_keyboard_interrupt.py",
        "library/misspelt_limit.py",
        "library/notes_of_a_shared_error.py",
        "library/once_and_a_callers_deadline.py",
        "library/reduce_initializer_positional.py",
        "library/result_beyond_memory.py",
        "library/retry_after_of_a_day.py",
        "library/settle_error_that_does_not_unpickle.py",
        "library/settled_item_that_cancels_itself.py",
        "library/stopped_worker_and_timeout.py",
        "library/threads_without_pickling.py",
        "library/timeout_around_anext.py",
        "library/virtual_loop_and_endless_callbacks.py",
        "library/virtual_loop_and_threads_of_anyio.py",
        "library/worker_survives_killed_program.py",
    }
)

#: The seconds after which a program hangs. The slowest one takes a minute under load.
_HANGS = 200
_IMPORT = re.compile(r"^ *(?:import|from) (\w+)", re.MULTILINE)


def name(path):
    return path.relative_to(FOLDER).as_posix()


def parameter(path):
    fails = pytest.mark.xfail(strict=True, reason="open", raises=AssertionError)
    return pytest.param(path, id=name(path), marks=[fails] if name(path) in OPEN else [])


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return the path of a `paco` command that runs on the Python of the tests."""
    path = tmp_path_factory.mktemp("bin") / "paco"
    path.write_text(f"#!{sys.executable}\nimport sys\n\nfrom paco._cli import main\n\nsys.exit(main())\n", "utf-8")
    path.chmod(0o755)
    return path


def skip_if_it_cannot_run(path):
    """Skip a program that needs a package which is not installed."""
    if path.suffix == ".py":
        missing = [word for word in _IMPORT.findall(path.read_text("utf-8")) if find_spec(word) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.slow
@pytest.mark.realtime
@pytest.mark.posix
@pytest.mark.parametrize("path", [parameter(path) for path in PROGRAMS])
def test_what_failed_in_the_field(path, command, tmp_path):
    """Start a program in a session of its own, so that nothing that it leaves behind survives the test."""
    skip_if_it_cannot_run(path)
    files = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
    environ = {"PACO": str(command), "TMPDIR": str(tmp_path)}
    runner = [] if path.suffix == ".py" else ["-c", "import os, sys; os.execvp('bash', ['bash', sys.argv[1]])"]
    with popen(*runner, path, environ=environ, start_new_session=True, **files) as program:
        try:
            told = program.communicate(timeout=_HANGS)[0]
        except subprocess.TimeoutExpired:
            told = f"it did not end within {_HANGS} s"
        finally:
            try:
                os.killpg(program.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
    assert program.returncode == 0, told


def test_each_open_program_exists():
    names = {name(path) for path in PROGRAMS}
    assert names >= OPEN
