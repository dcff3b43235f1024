"""Small programs, each of one fault that was met in the field. They exit with 0 if paco does what is right.

Each begins with the situation and with what is right in it.
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

#: Programs that take more than a second or judge times. They run with PACO_TEST_FIELD=all; other tests say the same.
LONG = frozenset(
    {
        "anyio_scope_around_slow_cleanup.py",
        "dask_dead.sh",
        "first_twenty.sh",
        "journal_of_a_busy_loop_killed.py",
        "output_replaced.sh",
        "report_slot.sh",
        "result_beyond_memory.py",
        "sighup.sh",
        "slow_items.sh",
        "stopped_worker_and_timeout.py",
        "task_left.sh",
        "terminal_ascii.py",
        "terminal_unread.py",
        "thread_left.sh",
        "thread_limit.sh",
        "virtual_loop_and_endless_callbacks.py",
        "worker_survives_killed_program.py",
    }
)

#: The seconds after which a program hangs. The slowest one takes a minute under load.
_HANGS = 200
_IMPORT = re.compile(r"^ *(?:import|from) (\w+)", re.MULTILINE)


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return the path of a `paco` command that runs on the Python of the tests."""
    path = tmp_path_factory.mktemp("bin") / "paco"
    path.write_text(f"#!{sys.executable}\nimport sys\n\nfrom paco._cli import main\n\nsys.exit(main())\n", "utf-8")
    path.chmod(0o755)
    return path


def skip_if_it_cannot_run(path):
    """Skip a program that takes long, or that needs a package which is not installed."""
    if path.name in LONG and os.environ.get("PACO_TEST_FIELD") != "all":
        pytest.skip("runs with PACO_TEST_FIELD=all")
    if path.suffix == ".py":
        missing = [word for word in _IMPORT.findall(path.read_text("utf-8")) if find_spec(word) is None]
        if missing:
            pytest.skip(f"needs {', '.join(missing)}")


@pytest.mark.slow
@pytest.mark.realtime
@pytest.mark.posix
@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.relative_to(FOLDER).as_posix())
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
