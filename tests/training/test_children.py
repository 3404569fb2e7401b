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
for _ in range(600):  # Python handles a signal that comes as a sleep begins only at its end
    time.sleep(0.1)
"""
PARENT = """
import os, signal, sys, time
from pathlib import Path
from training.children import start_script, stopped_with_this_process
from utils.cli import main, stop_at_signals

def run():
    stop_at_signals("the same command goes on")
    with stopped_with_this_process():
        for name in ("a", "b"):
            {at_start}
            start_script(Path("child.py"), [name], Path(name + ".log"), 1, {forked})
        time.sleep(60)

if __name__ == "__main__":
    main(run)
"""
# what a script finds, and how it ends
FINDS = """
import atexit, multiprocessing, os, signal, sys
import torch
atexit.register(lambda: print("exit handlers run"))
print(sys.argv, __name__, torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"))
print(signal.getsignal(signal.SIGTERM) is signal.SIG_DFL, signal.pthread_sigmask(0, []))
print(multiprocessing.get_start_method() == multiprocessing.get_all_start_methods()[0])
print("message", file=sys.stderr)
raise SystemExit(int(sys.argv[1]))
"""


@pytest.mark.parametrize("forked", [True, False])
def test_sigterm_stops_the_children_too(tmp_path, forked):
    """Only the parent gets the signal, as from ``kill`` or SLURM; the children save and end."""
    with parent(tmp_path, forked) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("*.runs"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _all_end(process)
    assert len(list(tmp_path.glob("*.saved"))) == 2


def test_a_child_that_starts_while_the_signal_comes_is_stopped_too(tmp_path):
    signal_itself = "os.register_at_fork(before=lambda: os.kill(os.getpid(), signal.SIGTERM))"
    with parent(tmp_path, True, f"if name == 'b': {signal_itself}") as process:
        _all_end(process)
    assert not (tmp_path / "b.runs").exists() or (tmp_path / "b.saved").exists()


def parent(folder: Path, forked: bool, at_start: str = ""):
    """Start a grid of two cells; ``at_start`` is run before each of them begins."""
    text = PARENT.replace("{forked}", str(forked)).replace("{at_start}", at_start)
    (folder / "child.py").write_text(CHILD)
    (folder / "parent.py").write_text(f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{text}")
    return start_as_from_a_terminal(["parent.py"], folder)


def _all_end(process: subprocess.Popen) -> None:
    """Wait for the end of all processes after a signal; the children would sleep for a minute."""
    deadline = time.monotonic() + 30
    _, messages = process.communicate(timeout=30)
    assert process.returncode == 143 and messages == "terminated: the same command goes on\n"
    while members(process.pid):  # multiprocessing's resource tracker ends after its parent
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("forked", [True, False])
@pytest.mark.parametrize(("threads_of_user", "n_threads"), [(None, 1), ("2", 2)])
def test_a_script_runs_as_if_it_had_been_typed(tmp_path, forked, threads_of_user, n_threads):
    """It has its own arguments, signal handlers, threads, output and exit status."""
    found = run_child(tmp_path, FINDS, forked, threads_of_user)
    assert found == [
        "before",
        f"['child.py', '4', 'b'] __main__ {n_threads} {n_threads}",
        "True set()",
        "True",
        "message",
        "exit handlers run",
        "status 4",
    ]


@pytest.mark.parametrize("forked", [True, False])
def test_an_error_in_a_script_is_in_its_log(tmp_path, forked):
    script = (
        "import sys\nsys.excepthook = lambda *found: print(found)\nraise ValueError('too late')\n"
    )
    _, found, status = run_child(tmp_path, script, forked)
    assert (
        found.startswith("(<class 'ValueError'>, ValueError('too late')") and status == "status 1"
    )


@pytest.mark.parametrize("forked", [True, False])
def test_a_signal_that_is_ignored_here_is_ignored_there(tmp_path, forked):
    """Ctrl-C in a shell does not stop what runs in its background."""
    script = "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
    for handler, ignored in (("default_int_handler", "False"), ("SIG_IGN", "True")):
        before = f"import signal\nsignal.signal(signal.SIGINT, signal.{handler})\n"
        assert run_child(tmp_path, script, forked, before=before)[1] == ignored


def run_child(
    folder: Path, script: str, forked: bool, threads: str | None = None, before: str = ""
) -> list[str]:
    """Return the lines of a script's log, and its exit status.

    ``before`` is run before the script starts; a fork has PyTorch from there.
    """
    (folder / "child.py").write_text(script)
    (folder / "log").write_text("before\n")
    (folder / "parent.py").write_text(
        f"{before}import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from training.children import start_script\n"
        "if __name__ == '__main__':\n"
        "    import torch\n"
        f"    child = start_script(Path('child.py'), ['4', 'b'], Path('log'), 1, {forked})\n"
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
