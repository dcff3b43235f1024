"""Make Python look like Python on Windows: remove what Windows lacks and add what it has, for `test_systems.py`.

This is not Windows. It proves that paco uses nothing that Windows lacks, and uses correctly what only Windows has.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.process  # noqa: F401 - the standard library checks the system on import
import ctypes
import errno
import fcntl
import multiprocessing.connection
import os
import select
import shutil  # noqa: F401 - the same
import signal
import socket
import subprocess
import sys
import tempfile  # noqa: F401 - the same
import threading
import types

MODULES = ["fcntl", "grp", "pty", "pwd", "readline", "resource", "termios", "tty", "uvloop"]
FUNCTIONS = [
    *("fchmod", "fdatasync", "fork", "forkpty", "geteuid", "getpgid", "getpgrp", "getuid", "killpg", "mkfifo"),
    *("register_at_fork", "sched_getaffinity", "setsid", "uname", "O_NONBLOCK"),
]
SIGNALS = ["SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGQUIT", "SIGTSTP", "SIGUSR1", "SIGUSR2"]
#: The number of the signal of Ctrl-Break in these tests.
BREAK = signal.SIGUSR1


class Loop(asyncio.SelectorEventLoop):
    """An event loop with only the methods of `asyncio.ProactorEventLoop`, woken by signals like that one."""

    def __init__(self):
        super().__init__()
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(self._csock.fileno())

    def close(self):
        if threading.current_thread() is threading.main_thread():
            signal.set_wakeup_fd(-1)
        super().close()

    def _refuse(self, *_):
        raise NotImplementedError

    add_signal_handler = remove_signal_handler = add_reader = remove_reader = add_writer = remove_writer = _refuse


class Popen(subprocess.Popen):
    """A `subprocess.Popen` that passes on only the handles of a `STARTUPINFO`."""

    def __init__(self, args, *more, startupinfo=None, executable=None, **options):
        wrong = {"pass_fds", "preexec_fn", "start_new_session", "process_group"} & {*options}
        if wrong:
            raise ValueError(f"{wrong} is not supported on Windows platforms")
        handles = [] if startupinfo is None else startupinfo.lpAttributeList["handle_list"]
        assert all(map(os.get_inheritable, handles))
        if executable is not None:  # ignored: that interpreter would not find its packages here
            assert (executable, options["env"].pop("__PYVENV_LAUNCHER__")) == (sys._base_executable, sys.executable)
        super().__init__(args, *more, pass_fds=handles, **options)

    def kill(self):
        if self.poll() is None:
            os.kill(self.pid, 9)


class STARTUPINFO:
    def __init__(self, *, lpAttributeList):  # noqa: N803 - its name on Windows
        self.lpAttributeList = lpAttributeList


def locking(descriptor, mode, size):
    """Lock bytes from the position on, so that no other process can read or write them."""
    assert (mode, size) == (msvcrt.LK_NBLCK, 1)
    assert os.lseek(descriptor, 0, os.SEEK_CUR) > os.fstat(descriptor).st_size
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PermissionError(errno.EACCES, "Permission denied") from None


msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_NBLCK = 2
msvcrt.locking = locking
msvcrt.get_osfhandle = lambda descriptor: os.fstat(descriptor) and descriptor


class Kernel:
    """A console that supports escape sequences."""

    @staticmethod
    def GetConsoleMode(handle, mode):  # noqa: N802 - its name on Windows
        return os.isatty(handle)

    @staticmethod
    def SetConsoleMode(handle, mode):  # noqa: N802 - its name on Windows
        return os.isatty(handle)


def pretend():
    real_select, real_write = select.select, os.write

    def select_sockets(*lists):
        if not all(isinstance(one, socket.socket) for wanted in lists[:3] for one in wanted):
            raise OSError(10038, "An operation was attempted on something that is not a socket")
        return real_select(*lists)

    def write(descriptor, data):
        try:
            return real_write(descriptor, data)
        except BrokenPipeError:
            raise OSError(errno.EINVAL, "Invalid argument") from None

    sys.modules.update(dict.fromkeys(MODULES), msvcrt=msvcrt)
    for name in FUNCTIONS:
        delattr(os, name)
    for name in SIGNALS:
        delattr(signal, name)
    signal.SIGBREAK = BREAK
    select.select, os.write = select_sockets, write
    os.set_handle_inheritable = os.set_inheritable
    subprocess.Popen, subprocess.STARTUPINFO = Popen, STARTUPINFO
    ctypes.windll = types.SimpleNamespace(kernel32=Kernel)
    asyncio.events.new_event_loop = Loop
    multiprocessing.set_start_method("spawn")
