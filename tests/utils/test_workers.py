"""Signals to whole process groups, as terminals and schedulers send them."""

import os
import signal
import time

import pytest

from tests.conftest import ROOT
from tests.killed_commands import members, start_as_from_a_terminal, wait_for_the_end

SCRIPT = """
import os, sys, time
sys.path.insert(0, {root!r})
from utils.parallel import map_in_order
from utils.cli import main

def work(number):
    if number == {fatal}:
        os._exit(3)
    time.sleep(1000 if number == {fatal} - 1 else 0.05)

if __name__ == "__main__":
    main(lambda: list(map_in_order(work, range(4000), n_workers=2)))
"""


@pytest.fixture
def started(tmp_path):
    """Start a command with two working processes.

    At ``fatal`` one ends itself, the other sleeps.
    """

    def start(fatal: int = -10):
        (tmp_path / "script.py").write_text(SCRIPT.format(root=str(ROOT), fatal=fatal))
        return start_as_from_a_terminal([str(tmp_path / "script.py")], tmp_path)

    return start


@pytest.mark.parametrize("after_s", [0.0, 0.1, 0.3, 3.0])
def test_ctrl_c_to_all_processes_gives_one_word(started, after_s):
    """From the moment that the first working process begins."""
    with started() as running:
        while len(members(running.pid)) < 3:  # the command, Python's tracker, a working process
            time.sleep(0.01)
        time.sleep(after_s)
        os.killpg(running.pid, signal.SIGINT)
        _, message = running.communicate(timeout=60)
    assert (running.returncode, message) == (130, "interrupted\n")
    wait_for_the_end(running.pid)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_working_processes_end_with_a_command_that_could_not_end_them(started, number):
    with started() as running:
        while len(members(running.pid)) < 3:
            time.sleep(0.01)
        os.kill(running.pid, number)
        assert running.wait(timeout=60) == -number
        wait_for_the_end(running.pid)


def test_a_working_process_that_dies_does_not_leave_the_command_waiting_for_the_others(started):
    """Python ends them by SIGTERM then, which they leave to their parent."""
    with started(fatal=50) as running:
        _, message = running.communicate(timeout=60)
    assert running.returncode == 1 and "BrokenProcessPool" in message
    wait_for_the_end(running.pid)


KILLED_AT_START = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from torch.utils.data import DataLoader
from utils.workers import {context}

def kill_main(worker):
    main = int(os.environ["MAIN"])
    if worker == 0:
        os.kill(main, signal.SIGKILL)
    while os.getppid() == main:
        time.sleep(0.01)

if __name__ == "__main__":
    os.environ["MAIN"] = str(os.getpid())
    loader = DataLoader(
        range(9), num_workers=2, worker_init_fn=kill_main, multiprocessing_context={context}()
    )
    list(loader)
"""


@pytest.mark.parametrize("context", ["ForkedWorkers", "SpawnedWorkers"])
def test_loader_processes_end_if_the_command_is_killed_before_they_know_it(tmp_path, context):
    """PyTorch's workers take whatever parent they find when they begin for the main process."""
    (tmp_path / "script.py").write_text(KILLED_AT_START.format(root=str(ROOT), context=context))
    with start_as_from_a_terminal([str(tmp_path / "script.py")], tmp_path) as running:
        assert running.wait(timeout=60) == -signal.SIGKILL
        wait_for_the_end(running.pid, at_most_s=30)


INTERRUPTED_START = """
import multiprocessing.util, os, signal, sys, threading, time
from multiprocessing import resource_tracker
sys.path.insert(0, {root!r})
from utils.cli import main
from utils.parallel import map_in_order
from utils.workers import SpawnedWorker

def run():
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
    resource_tracker.ensure_running()
    spawn = multiprocessing.util.spawnv_passfds

    def spawn_and_interrupt(*arguments):  # the other thread takes the signal: this one blocks it
        process = spawn(*arguments)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        return process

    multiprocessing.util.spawnv_passfds = spawn_and_interrupt
{work}

if __name__ == "__main__":
    main(run)
"""


JOINED = """
    worker = SpawnedWorker(target=print, args=("worker ran",))
    try:
        worker.start()
    finally:
        worker.join()
"""
MAPPED = """
    print("worker ran")
    list(map_in_order(abs, range(100), n_workers=2))
"""


@pytest.mark.parametrize("work", [JOINED, MAPPED])
def test_a_signal_while_a_worker_starts_waits_until_the_worker_has_what_it_needs(tmp_path, work):
    (tmp_path / "script.py").write_text(INTERRUPTED_START.format(root=str(ROOT), work=work))
    with start_as_from_a_terminal([str(tmp_path / "script.py")], tmp_path) as running:
        output = running.communicate(timeout=60)
    assert running.returncode == 130
    assert sorted("".join(filter(None, output)).splitlines()) == ["interrupted", "worker ran"]
