"""What differs between Linux, macOS and Windows: locks, syncs, waits, signals, consoles, handles, and module files.

Each system is told by what its Python has (``fcntl``, ``msvcrt``), not by its name.
"""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from multiprocessing.connection import Connection
    from types import ModuleType


def _module(name: str) -> Any:
    """Return a module of the standard library, or ``None`` where this system has none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


_fcntl: Final = _module("fcntl")
_termios: Final = _module("termios")
_msvcrt: Final = _module("msvcrt")  # on Windows alone

#: Signals that reach every process of a terminal: Ctrl-C, Ctrl-Break of Windows, and the end of the terminal.
KEYS: Final[tuple[int, ...]] = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGBREAK", "SIGHUP") if hasattr(signal, name)
)
#: Signals that ask a process to end.
ENDINGS: Final = (*KEYS, signal.SIGTERM)
#: The first argument of prctl(2) for the signal that a process gets when its parent ends.
_PR_SET_PDEATHSIG: Final = 1
#: What ends the input at a terminal.
END_OF_INPUT: Final = "Ctrl-D" if _msvcrt is None else "Ctrl-Z and Enter"

#: The mode of a new file. Only its owner may read it: records, reports and traces contain items.
PRIVATE: Final = 0o600
#: Seconds from one try to the next where `select` cannot wait for a pipe.
_TRY_SECONDS: Final = 0.01
#: Seconds after which a wait for another thread must be repeated: on Windows, Ctrl-C does not interrupt it.
LONGEST_WAIT: Final = None if _msvcrt is None else 0.1
#: Windows locks bytes against reading too: this one is behind the end of any file.
_BEHIND: Final = 1 << 40
_ESCAPES: Final = 0x0004  # ENABLE_VIRTUAL_TERMINAL_PROCESSING


# ---- files


def locked(descriptor: int) -> bool:
    """Lock a regular file until its descriptor is closed; return false if another process has locked it."""
    if _fcntl is not None:
        try:
            # Not lockf: a process loses that lock as soon as it closes any descriptor of the file.
            _fcntl.flock(descriptor, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True
    if _msvcrt is None:  # neither: a sandbox in a browser has no second process
        return True
    here = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _BEHIND, os.SEEK_SET)
    try:
        _msvcrt.locking(descriptor, _msvcrt.LK_NBLCK, 1)
    except PermissionError:
        return False
    finally:
        os.lseek(descriptor, here, os.SEEK_SET)
    return True


def sync(descriptor: int) -> None:
    """Wait until what was written to a file survives a loss of power."""
    full: Any = getattr(_fcntl, "F_FULLFSYNC", None)
    if full is not None:  # macOS, whose fsync leaves it in the cache of the drive
        with suppress(OSError):  # a file system of another machine
            _fcntl.fcntl(descriptor, full)
            return
    getattr(os, "fdatasync", os.fsync)(descriptor)


def read(descriptor: int, size: int) -> bytes:
    """Read as `os.read` does; from a console of Windows as UTF-8, up to Ctrl-Z."""
    if _msvcrt is None or not os.isatty(descriptor):
        return os.read(descriptor, size)
    with open(descriptor, "rb", buffering=0, closefd=False) as console:
        return console.read(size) or b""


def write(descriptor: int, data: memoryview) -> int:
    """Write as `os.write` does; to a console of Windows as UTF-8."""
    if _msvcrt is None or not os.isatty(descriptor):
        return os.write(descriptor, data)
    with open(descriptor, "wb", buffering=0, closefd=False) as console:
        return console.write(data) or 0


def wait(descriptor: int, *, to_write: bool = False) -> None:
    """Wait until a non-blocking pipe is ready to read or write. Where `select` cannot check that, sleep for 10 ms."""
    try:
        select.select([] if to_write else [descriptor], [descriptor] if to_write else [], [])
    except (OSError, ValueError):  # Windows selects sockets alone, and nobody a descriptor above 1023
        time.sleep(_TRY_SECONDS)


def reader_has_gone(error: OSError) -> bool:
    """Tell whether an error means that nobody reads a pipe any more, for which Windows has two numbers."""
    return isinstance(error, BrokenPipeError) or (_msvcrt is not None and error.errno == errno.EINVAL)


# ---- terminals


def understands_escapes(stream: TextIO) -> bool:
    """Have a terminal understand escape sequences; return false if it is a console of Windows that cannot."""
    if _msvcrt is None:
        return True
    try:
        handle = _msvcrt.get_osfhandle(stream.fileno())
    except (AttributeError, OSError, ValueError):  # the terminal of another program
        return True
    import ctypes

    windows: Any = ctypes
    kernel, mode = windows.windll.kernel32, ctypes.c_uint32()
    if not kernel.GetConsoleMode(handle, ctypes.byref(mode)):
        return True
    return bool(kernel.SetConsoleMode(handle, mode.value | _ESCAPES))


def has_keys(descriptor: int) -> bool:
    """Return whether a descriptor is a terminal whose keys can be read one by one."""
    return _termios is not None and descriptor >= 0 and os.isatty(descriptor)


def in_foreground(terminal: int) -> bool:
    """Return whether this process may use a terminal. A job in the background would be stopped."""
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:  # the terminal is gone, or that of another session
        return False


def pass_keys_on(terminal: int) -> list[Any]:
    """Have a terminal pass on each key at once and not show it; return its mode before. Ctrl-C remains a signal."""
    mode: list[Any] = _termios.tcgetattr(terminal)
    set_mode(terminal, [*mode[:3], mode[3] & ~(_termios.ICANON | _termios.ECHO), *mode[4:]])
    return mode


def set_mode(terminal: int, mode: list[Any]) -> None:
    """Set the mode of a terminal, even if this process has just got into the background, which would stop it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        _termios.tcsetattr(terminal, _termios.TCSANOW, mode)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def command_line(words: Sequence[str]) -> str:
    """Return words as a line for the shell of this system."""
    return shlex.join(words) if _msvcrt is None else subprocess.list2cmdline(words)


# ---- processes


def handed_down(handle: int) -> dict[str, Any]:
    """Return the arguments of `subprocess.Popen` for a Python that inherits a handle of this one, with its number.

    On Windows they bypass the launcher of a virtual environment, which would start one more process (bpo-35797).
    """
    if _msvcrt is None:
        return {"pass_fds": [handle]}
    system: Any = os
    windows: Any = subprocess
    system.set_handle_inheritable(handle, True)
    return {
        "startupinfo": windows.STARTUPINFO(lpAttributeList={"handle_list": [handle]}),
        "executable": getattr(sys, "_base_executable", sys.executable),
        "env": {**os.environ, "__PYVENV_LAUNCHER__": sys.executable},
    }


def keep(handle: int) -> None:
    """Let no program that this process starts inherit a handle that was handed down to this process."""
    if _msvcrt is None:
        os.set_inheritable(handle, False)
    else:
        system: Any = os
        system.set_handle_inheritable(handle, False)


def shut(connection: Connection) -> None:
    """End a connection for both sides, even if other processes have inherited it. Windows ends it when it is closed."""
    if _msvcrt is None:
        with suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as end:
            end.shutdown(socket.SHUT_RDWR)


def hang_up(connection: Connection) -> None:
    """End a connection, and close it."""
    shut(connection)
    connection.close()


def signal_after_parent(number: int) -> None:
    """Have Linux send this process a signal whenever the thread that started it, or its successor, ends."""
    with suppress(AttributeError, ImportError):  # another system, or a Python without ctypes
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, number)


def kill_after(descriptor: int) -> None:
    """Have Linux kill this process when the other end of a pipe is closed, even while this process holds the GIL."""
    if hasattr(_fcntl, "F_SETSIG"):
        for command, value in (
            (_fcntl.F_SETSIG, signal.SIGKILL),
            (_fcntl.F_SETOWN, os.getpid()),
            (_fcntl.F_SETFL, _fcntl.fcntl(descriptor, _fcntl.F_GETFL) | os.O_ASYNC),
        ):
            _fcntl.fcntl(descriptor, command, value)


def how_ended(code: int) -> str:
    """Return in words how a process with this exit code has ended."""
    if code >= 0:
        return f"with exit code {code}"
    with suppress(ValueError):  # one of the real-time signals, which have no names
        return f"by {signal.Signals(-code).name}"
    return f"by signal {-code}"


def was_killed(code: int) -> bool:
    """Return whether SIGKILL ended a process; false on systems that do not report this."""
    return hasattr(signal, "SIGKILL") and code == -signal.SIGKILL


# ---- modules of files that were imported by their paths: Python would find another file by the name, or none

#: The path of the file of each of these modules, by the name of the module.
files: Final[dict[str, str]] = {}


class FileFinder:
    """Finds these modules for ``import``, and so for pickle."""

    @staticmethod
    def find_spec(name: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return how to load a module, or ``None`` if it is not one of these."""
        return importlib.util.spec_from_file_location(name, files[name]) if name in files else None


def import_file(name: str, path: str) -> ModuleType:
    """Import a file of Python source as a module of this name."""
    files[name] = path
    spec: Any = FileFinder.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_files(more: dict[str, str]) -> None:
    """Have these files found under these names, before all others."""
    files.update(more)
    sys.meta_path.insert(0, FileFinder)
