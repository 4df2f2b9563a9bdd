"""A process is told from all others that had its id: after its end, after a reboot, and when the clock jumps."""

import os
import subprocess
import sys
import time
from dataclasses import replace

import psutil
import pytest

from analysis.jobs import processes


def test_this_process_is_alive_and_the_same_each_time():
    me = processes.current()
    assert me.pid == os.getpid()
    assert me.is_alive()
    assert processes.current() == me
    # independently: psutil counts from the epoch, the kernel from boot
    assert me.started + psutil.boot_time() == pytest.approx(psutil.Process().create_time(), abs=1.5) or not me.boot


def test_a_process_that_ends_is_dead_even_as_a_zombie():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    found = processes.find(child.pid)
    assert found is not None
    assert found.is_alive()
    child.kill()
    deadline = time.monotonic() + 10
    while found.is_alive() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not found.is_alive()  # nobody has waited for it yet
    child.wait()
    assert processes.find(child.pid) is None


@pytest.mark.parametrize("change", [{"started": 1.0}, {"boot": "another"}, {"host": "elsewhere"}, {"pid": 2**22 + 1}])
def test_the_same_id_at_another_time_or_place_is_another_process(change: dict):
    assert not replace(processes.current(), **change).is_alive()


@pytest.mark.parametrize("jump", [-1e8, 1e8])
def test_the_clock_may_jump(monkeypatch: pytest.MonkeyPatch, jump: float):
    me, now = processes.current(), time.time()
    monkeypatch.setattr(time, "time", lambda: now + jump)
    monkeypatch.setattr(psutil, "boot_time", lambda: now + jump)
    assert processes.current() == me
    assert me.is_alive()


def test_a_process_stays_itself_over_exec():
    text = (
        "import os, sys\nfrom analysis.jobs import processes\nme = processes.current()\nprint(me.started, me.pid, flush=True)\n"
        "if len(sys.argv) < 2: os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], 'again'])"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True, timeout=60)
    first, second = done.stdout.split("\n")[:2]
    assert first == second
