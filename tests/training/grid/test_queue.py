"""Most scripts of cells are replaced here; tests/commands/test_reproduce.py runs real ones."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.killed_commands import members, start_as_from_a_terminal
from training.grid import queue as grid_run
from training.grid.cells import plan_cells
from training.grid.queue import run_cells
from utils.errors import UserError
from utils.files import lock_of

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
from types import SimpleNamespace
from training.grid import queue
from utils.cli import main, stop_at_signals

class Cell:
    kind, budget, needs, config, overrides = "child", None, (), None, ()
    begun = done = False
    ready = True
    n_epochs = 1

    def __init__(self, name):
        self.run_name, self.folder = name, Path(name)

def start(cell, gpu, log, n_threads):
    process = queue.start_script(Path("child.py"), [cell.run_name], log, n_threads)
    {at_start}
    return process

def run():
    stop_at_signals("the same command goes on")
    queue.N_CORES, queue._start, queue.RELATIVE_DURATION = 2, start, {"child": 1}
    queue.run_cells([Cell("a"), Cell("b")], [], Path("."))

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


class ScriptInThread:
    """Looks like the process of a script, and calls ``run(command)``, which returns its status."""

    def __init__(self, run, command):
        self._status = None
        threading.Thread(target=self._run, args=(run, command)).start()

    def _run(self, run, command):
        status = 1
        try:
            status = run(command)
        finally:
            self._status = status

    def poll(self):
        return self._status


def instead_of_scripts(monkeypatch, run):
    """Let ``run(command)`` take the place of every script."""
    monkeypatch.setattr(grid_run, "LOOK_EVERY_S", 0.02)
    monkeypatch.setattr(
        grid_run,
        "start_script",
        lambda script, arguments, *rest: ScriptInThread(run, [str(script), *arguments]),
    )


def begun_in_turn(monkeypatch, cells):
    """Let cells take no time, one after the other; return a list of those that have begun."""
    by_name, begun = {cell.run_name: cell for cell in cells}, []

    def finish(command):
        name = next(a for a in command if a.startswith("run_name=")).split("=")[1]
        begun.append(by_name[name])
        by_name[name].folder.mkdir(parents=True)
        (by_name[name].folder / "summary.json").write_text("{}")
        return 0

    instead_of_scripts(monkeypatch, finish)
    monkeypatch.setattr(grid_run, "N_CORES", 1)
    return begun


def test_cells_with_the_most_labels_begin_first(grid, tmp_path, monkeypatch):
    _, compared = plan_cells(grid("methods=[scratch]", "seeds=[0]", "events_per_class=[5,10]"))
    begun = begun_in_turn(monkeypatch, compared)
    run_cells(compared, [], tmp_path / "logs")
    assert [cell.budget.title for cell in begun] == ["80 %", "5 %", "10 per class", "5 per class"]


def test_only_what_needs_an_encoder_waits_for_it(grid, tmp_path, monkeypatch):
    pretraining, compared = plan_cells(grid("methods=[scratch,linear]", "seeds=[3]"))
    begun = begun_in_turn(monkeypatch, [*compared, *pretraining])
    run_cells([*compared, *pretraining], [], tmp_path / "logs")
    names = [cell.run_name for cell in begun]
    assert names[:3] == ["g-pretrain-seed3", "g-scratch-80pct-seed3", "g-linear-80pct-seed3"]
    with pytest.raises(AssertionError, match="nothing makes .*g-pretrain-seed3"):
        (pretraining[0].folder / "summary.json").unlink()
        (compared[1].folder / "summary.json").unlink()
        run_cells(compared, [], tmp_path / "logs")


def test_a_failed_cell_shows_the_end_of_its_log(grid, tmp_path, monkeypatch):
    _, compared = plan_cells(
        grid(
            "methods=[scratch]",
            "seeds=[3]",
            "label_fractions=[0.8]",
            "overrides={all: [dataset.n_simulated=null, dataset.source=folder, "
            "dataset.root=/nowhere]}",
        )
    )
    with pytest.raises(
        UserError, match=r"(?s)g-scratch-80pct-seed3 ended with status 2.*/nowhere: no such folder"
    ):
        run_cells(compared, [], tmp_path / "logs")


def test_finished_cells_are_not_trained_again_and_begun_ones_resume(grid, tmp_path, monkeypatch):
    pretraining, _ = plan_cells(grid("methods=[finetuned]"))
    commands = []

    def train(command):
        commands.append(command)
        folder = (
            tmp_path
            / "runs"
            / "ssl"
            / next(a for a in command if a.startswith("run_name=")).split("=")[1]
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "summary.json").write_text(json.dumps({}))
        return 0

    instead_of_scripts(monkeypatch, train)
    pretraining[0].folder.mkdir(parents=True)
    (pretraining[0].folder / "config.yaml").write_text("{}")  # begun, not finished
    pretraining[1].folder.mkdir(parents=True)  # killed before it began
    run_cells(pretraining, [0, 1], tmp_path / "logs")
    assert len(commands) == 2
    by_name = {
        cell.run_name: next(c for c in commands if f"run_name={cell.run_name}" in c)
        for cell in pretraining
    }
    assert (
        "--resume" in by_name["g-pretrain-seed3"] and "--resume" not in by_name["g-pretrain-seed4"]
    )
    assert {command[-1] for command in commands} == {
        "trainer_params.gpus=[0]",
        "trainer_params.gpus=[1]",
    }
    run_cells(pretraining, [], tmp_path / "logs")
    assert len(commands) == 2


def begin_elsewhere(cell):
    """Begin the run of a cell as another process would; it ends after half a second."""
    cell.folder.mkdir(parents=True)
    (cell.folder / "config.yaml").write_text("{}")
    lock = lock_of(cell.folder / ".lock")
    lock.acquire()

    def finish():
        (cell.folder / "summary.json").write_text("{}")
        lock.release()

    threading.Timer(0.5, finish).start()


def test_a_run_that_a_killed_grid_left_behind_may_begin_first(grid, tmp_path, monkeypatch):
    """The grid's own run is refused then; the grid waits for the other."""
    _, (cell, *_) = plan_cells(grid("methods=[scratch]"))

    def refused(command):
        begin_elsewhere(cell)
        return 2

    instead_of_scripts(monkeypatch, refused)
    run_cells([cell], [], tmp_path / "logs")
    assert cell.done


def test_a_cell_that_another_process_runs_is_waited_for(grid, tmp_path, monkeypatch):
    """A killed grid leaves its runs behind; the next one begins none of them a second time."""
    _, (cell, *_) = plan_cells(grid("methods=[scratch]"))
    begun = []
    instead_of_scripts(monkeypatch, begun.append)
    begin_elsewhere(cell)
    run_cells([cell], [], tmp_path / "logs")
    assert cell.done and not begun


def test_after_a_failure_the_others_finish_and_none_begins(grid, tmp_path, monkeypatch):
    _, cells = plan_cells(grid("methods=[scratch]"))
    monkeypatch.setattr(grid_run, "N_CORES", 2)
    begun = []

    def run(command):
        name = next(a for a in command if a.startswith("run_name=")).split("=")[1]
        begun.append(name)
        if name == "g-scratch-80pct-seed3":
            log = tmp_path / "logs" / f"{name}.log"
            log.write_text("an old line\n" + "\n".join(f"line {k}" for k in range(5)))
            return 7
        time.sleep(0.3)
        (tmp_path / "runs" / "finetune" / name).mkdir(parents=True)
        (tmp_path / "runs" / "finetune" / name / "summary.json").write_text("{}")
        return 0

    instead_of_scripts(monkeypatch, run)
    with pytest.raises(
        UserError, match=r"status 7; its log .* ends with:\n  line 0(\n.*){4}$"
    ) as raised:
        run_cells(cells, [], tmp_path / "logs")
    assert str(raised.value).startswith("g-scratch-80pct-seed3 ended") and len(begun) == 2 < len(
        cells
    )
    assert sum(cell.done for cell in cells) == 1


@pytest.mark.parametrize(("n_epochs", "percent"), [(4, 17), (47, 65)])  # more by min_steps
def test_the_progress_is_the_share_of_the_work(n_epochs, percent, grid, tmp_path, monkeypatch):
    """Of 16 parts for a pretraining of 16 epochs, and 4 for each of two classifiers."""
    pretraining, compared = plan_cells(grid("methods=[finetuned]", "seeds=[3]"))
    cells, shown = {cell.run_name: cell for cell in (*pretraining, *compared)}, []

    def train(command):
        cell = cells[next(a for a in command if a.startswith("run_name=")).split("=")[1]]
        cell.folder.mkdir(parents=True)
        (cell.folder / "config.yaml").write_text("{}")
        if cell.kind == "ssl":
            (cell.folder / "metrics.csv").write_text("epoch\n" + "0\n" * n_epochs)
        time.sleep(0.2)
        (cell.folder / "summary.json").write_text("{}")
        return 0

    show = grid_run._show_progress

    def note(bar, epochs_of_cells):
        show(bar, epochs_of_cells)
        shown.append((bar.n, bar.total, bar.postfix))

    instead_of_scripts(monkeypatch, train)
    monkeypatch.setattr(grid_run, "_show_progress", note)
    run_cells([*pretraining, *compared], [], tmp_path / "logs")
    assert (percent, 100, pretraining[0].run_name) in shown and shown[-1] == (100, 100, "")


def test_sigterm_stops_the_children_too(tmp_path):
    """Only the parent gets the signal, as from ``kill`` or SLURM; the children save and end."""
    with parent(tmp_path) as process:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("*.runs"))) < 2:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        os.kill(process.pid, signal.SIGTERM)
        _all_end(process)
    assert len(list(tmp_path.glob("*.saved"))) == 2


def test_a_child_that_starts_while_the_signal_comes_is_stopped_too(tmp_path):
    signal_itself = "cell.run_name == 'b' and os.kill(os.getpid(), signal.SIGTERM)"
    with parent(tmp_path, signal_itself) as process:
        _all_end(process)
    assert not (tmp_path / "b.runs").exists() or (tmp_path / "b.saved").exists()


def parent(folder: Path, at_start: str = ""):
    """Start a grid of two cells; ``at_start`` is run when each of them has begun."""
    text = PARENT.replace("{at_start}", at_start)
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


@pytest.mark.parametrize(("threads_of_user", "n_threads"), [(None, 1), ("2", 2)])
def test_a_script_runs_as_if_it_had_been_typed(tmp_path, threads_of_user, n_threads):
    """It has its own arguments, signal handlers, threads, output and exit status."""
    found = run_child(tmp_path, FINDS, threads_of_user)
    assert found == [
        "before",
        f"['child.py', '4', 'b'] __main__ {n_threads} {n_threads}",
        "True set()",
        "True",
        "message",
        "exit handlers run",
        "status 4",
    ]


def test_an_error_in_a_script_is_in_its_log(tmp_path):
    script = (
        "import sys\nsys.excepthook = lambda *found: print(found)\nraise ValueError('too late')\n"
    )
    _, found, status = run_child(tmp_path, script)
    assert (
        found.startswith("(<class 'ValueError'>, ValueError('too late')") and status == "status 1"
    )


def test_a_signal_that_is_ignored_here_is_ignored_there(tmp_path):
    """Ctrl-C in a shell does not stop what runs in its background."""
    script = "import signal\nprint(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)\n"
    for handler, ignored in (("default_int_handler", "False"), ("SIG_IGN", "True")):
        before = f"import signal\nsignal.signal(signal.SIGINT, signal.{handler})\n"
        assert run_child(tmp_path, script, before=before)[1] == ignored


def run_child(folder: Path, script: str, threads: str | None = None, before: str = "") -> list[str]:
    """Return the lines of a script's log, and its exit status; ``before`` is run before it."""
    (folder / "child.py").write_text(script)
    (folder / "log").write_text("before\n")
    (folder / "parent.py").write_text(
        f"{before}import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "from training.grid.queue import start_script\n"
        "child = start_script(Path('child.py'), ['4', 'b'], Path('log'), 1)\n"
        "print('status', child.wait())\n"
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
