import os
import signal
import subprocess
import sys
import time

from tests.conftest import ROOT
from tests.killing import members, start_as_from_a_terminal
from training.children import Children

# a grid of two cells: each says that it runs, saves its state when it is told to stop, and ends
CHILD = """
import pathlib, signal, sys, time
def stop(*_):
    pathlib.Path(sys.argv[1] + ".saved").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(sys.argv[1] + ".runs").touch()
time.sleep(60)
"""
PARENT = """
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from training.children import Children
from utils.cli import main, stop_at_signals

def run():
    children = Children()
    stop_at_signals("the same command goes on")
    with ThreadPoolExecutor(2) as pool, children.stopped_with_this_process():
        commands = [[sys.executable, "child.py", name] for name in ("a", "b")]
        running = [pool.submit(children.run, command) for command in commands]
        while wait(running, 0.1).not_done:
            pass

main(run)
"""


def test_sigterm_stops_the_children_too(tmp_path):
    """Only the parent gets the signal, as from ``kill`` or SLURM; the children save and end."""
    (tmp_path / "child.py").write_text(CHILD)
    (tmp_path / "parent.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{PARENT}")
    with start_as_from_a_terminal(["parent.py"], tmp_path) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("*.runs"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _, messages = process.communicate(timeout=30)
        assert process.returncode == 143
        assert messages == "terminated: the same command goes on\n"
        assert len(list(tmp_path.glob("*.saved"))) == 2 and not members(process.pid)


def test_nothing_is_started_after_the_stop():
    children = Children()
    assert children.run([sys.executable, "-c", "raise SystemExit(3)"]) == 3
    children.stop()
    assert children.run(["no such command"], stdout=subprocess.DEVNULL) == -signal.SIGTERM
