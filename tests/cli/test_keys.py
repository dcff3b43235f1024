"""KeyReader that steer a run, and the mode of the terminal that they are read from."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import subprocess
import sys
import termios
import threading
from types import SimpleNamespace

import pytest

import paco
from paco._base import system
from paco._cli.keys import KeyReader, Steering
from paco._cli.options import parse_map
from paco._cli.pace import pace_of
from tests.patience import until, wait_until
from tests.programs import SOURCE

pytestmark = [pytest.mark.realtime, pytest.mark.posix]

# ---- what keys do


def steered(*words):
    """Return what keys steer, and a list that gets what they say."""
    said = []
    options = parse_map(["jobs:f", "in.txt", *words])
    pace = pace_of(options, Exception, steered=True)
    steering = Steering(pace, said.append, lambda word: said.append(f"[{word}]"), lambda: said.append("drain"))
    return pace, steering, said


async def test_keys_that_come_in_the_background_are_left_to_the_program_in_the_foreground(monkeypatch):
    pressed = []
    reading, writing = os.pipe()
    monkeypatch.setattr(system, "in_foreground", lambda _: False)
    os.write(writing, b"q")
    KeyReader(reading, pressed.append)._receive()
    os.close(writing)
    assert (pressed, os.read(reading, 9)) == ([], b"q")
    os.close(reading)


def test_keys_change_the_number_of_items_in_flight_by_a_tenth():
    pace, steering, said = steered("--limit", "20")
    for key in "++=-":
        steering.press(key)
    assert said == ["limit 22", "limit 24", "limit 26", "limit 23"]
    assert pace.limit.most == 23


def test_the_limit_is_never_less_than_1():
    _, steering, said = steered("--limit", "2")
    for key in "---+":
        steering.press(key)
    assert said == ["limit 1", "limit 1", "limit 1", "limit 2"]


@pytest.mark.parametrize("limit", ["0", "auto"])
def test_where_no_number_is_given_there_is_none_to_change(limit):
    _, steering, said = steered("--limit", limit)
    steering.press("+")
    assert said == ["there is no limit to change: --limit is auto or 0"]


def test_a_key_pauses_the_starts_and_lets_them_go_on():
    pace, steering, said = steered("--rate", "5/s")
    for key in "pp":
        steering.press(key)
    pace.gate.close()
    steering.press("p")  # the run is ending
    assert said == ["[paused]", "[]"]


def test_other_keys():
    _, steering, said = steered()
    for key in "qx?\x1b":
        steering.press(key)
    assert said[0] == "drain"
    assert said[1].startswith("keys: p pause")
    assert len(said[1]) < 80
    assert len(said) == 2


def test_without_keys_a_number_stays_a_number():
    assert pace_of(parse_map(["jobs:f"]), Exception).limit == 32


# ---- the terminal


@pytest.fixture
def terminal(monkeypatch):
    """Return both ends of a terminal in whose foreground this process is."""
    master, slave = pty.openpty()
    monkeypatch.setattr(system, "in_foreground", lambda _: True)
    yield master, slave
    for descriptor in (master, slave):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def is_raw(slave):
    return not termios.tcgetattr(slave)[3] & termios.ICANON


def reading(slave, work):
    """Read keys while an async function runs, and return what was pressed."""
    pressed = []

    async def main():
        keys = KeyReader(slave, pressed.append)
        with keys.read():
            await work(keys, pressed)
        return pressed

    return asyncio.run(main())


def test_keys_are_read_one_by_one_and_the_mode_is_restored(terminal, monkeypatch):
    master, slave = terminal
    monkeypatch.setattr("paco._cli.keys._EVERY", 0.01)
    before = termios.tcgetattr(slave)

    async def work(keys, pressed):
        assert is_raw(slave)
        assert termios.tcgetattr(slave)[3] & termios.ISIG  # Ctrl-C remains a signal
        os.write(master, "p+é".encode())
        await until(lambda: len(pressed) >= 3)
        await asyncio.sleep(0.05)
        assert is_raw(slave)

    assert reading(slave, work)[:2] == ["p", "+"]
    assert termios.tcgetattr(slave) == before


def test_the_mode_is_restored_whatever_ends_the_block(terminal):
    _, slave = terminal

    async def work(keys, pressed):
        raise SystemExit(1)

    with pytest.raises(SystemExit):
        reading(slave, work)
    assert not is_raw(slave)
    assert signal.getsignal(signal.SIGTSTP) is signal.SIG_DFL


def test_in_the_background_nothing_is_read_and_nothing_is_changed(terminal, monkeypatch):
    master, slave = terminal
    monkeypatch.setattr("paco._cli.keys._EVERY", 0.01)
    here = [False]
    monkeypatch.setattr(system, "in_foreground", lambda _: here[0])

    async def work(keys, pressed):
        os.write(master, b"a\n")
        await asyncio.sleep(0.05)
        assert not is_raw(slave)
        here[0] = True
        await until(lambda: is_raw(slave))
        await until(lambda: "a" in pressed)
        here[0] = False
        os.write(master, b"b")
        await asyncio.sleep(0.05)
        assert is_raw(slave)  # the mode is that of another program now
        here[0] = True
        await until(lambda: "b" in pressed)

    reading(slave, work)


def test_a_terminal_that_goes_away_does_no_harm(terminal):
    master, slave = terminal

    async def work(keys, pressed):
        os.close(master)
        await until(lambda: keys._mode is None)
        keys.restore()

    assert reading(slave, work) == []


def test_a_terminal_that_is_gone_before_does_no_harm(terminal):
    _, slave = terminal
    os.close(slave)

    async def work(keys, pressed):
        assert keys._mode is None

    assert reading(slave, work) == []


def test_ctrl_z_and_ctrl_backslash_restore_the_mode_first(terminal, monkeypatch):
    _, slave = terminal
    sent = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number, is_raw(slave))))
    monkeypatch.setattr("paco._cli.keys._EVERY", 0.01)

    async def work(keys, pressed):
        signal.raise_signal(signal.SIGTSTP)
        await until(lambda: is_raw(slave))
        signal.raise_signal(signal.SIGQUIT)

    reading(slave, work)
    assert sent == [(os.getpid(), signal.SIGSTOP, False), (os.getpid(), signal.SIGQUIT, False)]


def test_outside_the_main_thread_keys_are_read_without_signals(terminal):
    _, slave = terminal

    async def work(keys, pressed):
        assert is_raw(slave)

    thread = threading.Thread(target=reading, args=(slave, work))
    thread.start()
    thread.join()
    assert not is_raw(slave)


def test_the_mode_is_restored_after_the_loop_was_closed(terminal):
    _, slave = terminal

    async def main():
        keys = KeyReader(slave, print)
        keys._follow()
        return keys

    keys = asyncio.run(main())
    assert is_raw(slave)
    keys.restore()
    assert not is_raw(slave)


def test_what_is_no_terminal_has_no_keys():
    out, into = os.pipe()
    with os.fdopen(out), os.fdopen(into, "w"):
        assert not system.has_keys(out)
        assert not system.in_foreground(out)
    assert not system.has_keys(-1)


# ---- the command in a terminal of its own

JOBS = """
import asyncio, os, sys

async def nap(item):
    await asyncio.sleep(0.02)

async def hangs(item):
    print("hangs", flush=True)
    await asyncio.sleep(3600)
"""


class Session:
    """The command, as the foreground process of a terminal."""

    def __init__(self, folder, *words):
        self.master, slave = pty.openpty()
        self.slave = slave
        self.text = ""
        environ = {**os.environ, "PYTHONPATH": SOURCE, "TERM": "xterm"}
        environ.pop("CI", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "paco", "map", *words],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=folder,
            env=environ,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - no other way to get a terminal
        )
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        with contextlib.suppress(OSError):
            while data := os.read(self.master, 4096):
                self.text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "\n", data.decode(errors="replace"))

    def press(self, keys, then):
        os.write(self.master, keys.encode())
        wait_until(lambda: re.search(then, self.text))

    def close(self):
        code = self.process.wait()
        assert not is_raw(self.slave)
        assert termios.tcgetattr(self.slave)[3] & termios.ECHO
        os.close(self.slave)
        return code


@pytest.fixture
def session(tmp_path):
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(100_000)))
    sessions = []

    def start(*words):
        sessions.append(Session(tmp_path, *words))
        return sessions[-1]

    yield start
    for one in sessions:
        one.process.kill()
        one.process.wait()
        os.close(one.master)


def test_keys_steer_a_run_in_a_terminal(session, tmp_path):
    one = session("jobs:nap", "in.txt", "-l", "10", "-o", "out.jsonl")
    wait_until(lambda: is_raw(one.slave))
    one.press("+", "limit 11")
    one.press("p", r"paused\n?\s*nap|paused  nap|paused")
    one.press("?", "keys: p pause")
    one.press("p", "in flight 11/11")
    one.press("q", "draining")
    assert one.close() == 1
    assert "the key q ended the run before all items had started" in one.text
    assert "--resume" in one.text


def test_a_paused_run_can_be_ended(session):
    one = session("jobs:nap", "in.txt", "-o", "out.jsonl")
    wait_until(lambda: is_raw(one.slave))
    one.press("p", "paused")
    one.press("\x03", "draining|no item is running")
    assert one.close() == 130


def test_the_mode_is_restored_if_the_third_ctrl_c_leaves_at_once(session):
    one = session("jobs:hangs", "in.txt", "-l", "1", "-o", "out.jsonl")
    wait_until(lambda: "hangs" in one.text)
    for _ in range(3):
        os.write(one.master, b"\x03")
        threading.Event().wait(0.2)
    assert one.close() == 130


def test_nothing_is_read_from_a_terminal_that_is_the_input(session):
    one = session("jobs:nap", "-", "-o", "out.jsonl")
    wait_until(lambda: "reading items from the terminal" in one.text)
    os.write(one.master, b"q\n+\n\x04")
    assert one.close() == 0
    assert "2 items   2 ok" in one.text


def test_without_repainted_lines_no_key_is_read(session):
    one = session("jobs:nap", "in.txt", "--head", "100", "--progress", "plain", "-o", "out.jsonl")
    os.write(one.master, b"q")
    assert one.close() == 0
    assert "100 items   100 ok" in one.text


@pytest.fixture
def steer(run, folder, terminal, monkeypatch):
    """Return a function that runs the command in this process with a function of an item and the terminal."""
    master, slave = terminal

    def steer(press, *words):
        async def item(number):
            await press(master, slave, number)

        monkeypatch.setitem(sys.modules, "given", SimpleNamespace(item=item))
        with os.fdopen(os.dup(slave)) as stdin:
            monkeypatch.setattr(sys, "stdin", stdin)
            return run("given:item", "in.txt", "--progress", "bar", "-o", "out.jsonl", "--limit", 1, *words)

    return steer


FILES = {"in.txt": "".join(f"{number}\n" for number in range(100))}


def test_the_key_q_drains_the_run(steer):
    async def press(master, slave, number):
        assert is_raw(slave)
        os.write(master, b"+qq")
        await asyncio.sleep(0.05)

    code, _, err = steer(press)
    assert code == 1
    assert "limit 2\n" in err
    assert err.count("draining") == 1
    assert "paco: the key q ended the run before all items had started" in err


def test_a_run_that_q_ends_at_its_last_item_is_complete(steer):
    async def press(master, slave, number):
        os.write(master, b"q" if number == "99" else b"")
        await asyncio.sleep(0.05 if number == "99" else 0)

    code, _, err = steer(press)
    assert (code, "the key q" in err) == (0, False)


def test_the_third_signal_restores_the_mode_before_the_process_leaves(steer, monkeypatch, terminal):
    left = []

    def leave(code):
        left.append((code, is_raw(terminal[1])))

    monkeypatch.setattr(os, "_exit", leave)

    async def press(master, slave, number):
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)

    steer(press)
    assert left == [(130, False)]


def test_a_gate_is_part_of_a_steered_limit():
    pace, _, _ = steered("--limit", "3", "--rate", "10/s")
    assert isinstance(pace.gate, paco.Gate)
    assert pace.limit.most == 3
