import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.killing import members, start_as_from_a_terminal

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
from pathlib import Path
from training.children import start_script, stopped_with_this_process
from utils.cli import main, stop_at_signals

def run():
    stop_at_signals("the same command goes on")
    running = []
    with stopped_with_this_process(running):
        for name in ("a", "b"):
            log = Path(name + ".log")
            running.append(start_script(Path("child.py"), [name], log, 1, {forked}))
        while True:
            running[0].join(0.1)

if __name__ == "__main__":
    main(run)
"""
# what a script finds, and how it ends
FINDS = """
import atexit, os, signal, sys, threading
import torch
atexit.register(lambda: print("exit handlers run", flush=True))
sys.stdout.reconfigure(line_buffering=True)
print(sys.argv, __name__, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.pthread_sigmask(0, []))
print("message", file=sys.stderr)
raise SystemExit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("forked", [True, False])
def test_sigterm_stops_the_children_too(tmp_path, forked):
    """Only the parent gets the signal, as from ``kill`` or SLURM; the children save and end."""
    (tmp_path / "child.py").write_text(CHILD)
    parent = PARENT.replace("{forked}", str(forked))
    (tmp_path / "parent.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{parent}")
    with start_as_from_a_terminal(["parent.py"], tmp_path) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("*.runs"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _, messages = process.communicate(timeout=30)
        assert process.returncode == 143
        assert messages == "terminated: the same command goes on\n"
        assert len(list(tmp_path.glob("*.saved"))) == 2
        while members(process.pid):  # multiprocessing's resource tracker ends after its parent
            assert time.monotonic() < deadline
            time.sleep(0.05)


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize(("threads_of_user", "n_threads"), [(None, 3), ("2", 2)])
def test_a_script_runs_as_if_it_had_been_typed(tmp_path, forked, threads_of_user, n_threads):
    """It has its own arguments, signal handlers, threads, output and exit status."""
    found = run_child(tmp_path, FINDS, forked, threads_of_user)
    assert found == [
        "before",
        f"['child.py', '4', 'b'] __main__ {n_threads} {n_threads}",
        "True set()",
        "message",
        "exit handlers run",
        "status 4",
    ]


@pytest.mark.parametrize("forked", [True, False])
def test_an_error_in_a_script_is_in_its_log(tmp_path, forked):
    *log, status = run_child(tmp_path, "raise ValueError('too late')", forked)
    assert "ValueError: too late" in log and status == "status 1"


@pytest.mark.parametrize("forked", [True, False])
def test_a_signal_that_is_ignored_here_is_ignored_there(tmp_path, forked):
    """Ctrl-C in a shell does not stop what runs in its background."""
    script = "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
    before = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    assert run_child(tmp_path, script, forked)[1] == "False"
    assert run_child(tmp_path, script, forked, before=before)[1] == "True"


def run_child(
    folder: Path, script: str, forked: bool, threads: str | None = None, before: str = ""
) -> list[str]:
    """Return the lines of a script's log, and its exit status; PyTorch is imported before."""
    (folder / "child.py").write_text(script)
    (folder / "log").write_text("before\n")
    (folder / "parent.py").write_text(
        f"{before}import sys, torch\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from training.children import start_script\n"
        "if __name__ == '__main__':\n"
        f"    child = start_script(Path('child.py'), ['4', 'b'], Path('log'), 3, {forked})\n"
        "    child.join()\n"
        "    print('status', child.exitcode)\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    if threads:
        environment["OMP_NUM_THREADS"] = threads
    done = subprocess.run(
        [sys.executable, "parent.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert not done.stderr
    return (folder / "log").read_text().splitlines() + done.stdout.splitlines()
