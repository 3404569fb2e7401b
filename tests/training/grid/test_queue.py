"""The scripts of the cells are replaced here; test_children.py and test_reproduce run real ones."""

import json
import os
import threading
import time

import pytest

from training.grid import queue as grid_run
from training.grid.cells import plan_cells
from training.grid.queue import run_cells
from utils.errors import UserError
from utils.files import lock_of


class ScriptInThread:
    """Looks like the process of a script, and calls ``run(command)``, which returns its status."""

    def __init__(self, run, command):
        self.exitcode = None
        self.sentinel, self._end = os.pipe()
        self._thread = threading.Thread(target=self._run, args=(run, command))
        self._thread.start()

    def _run(self, run, command):
        status = 1
        try:
            status = run(command)
        finally:
            self.exitcode = status
            os.close(self._end)

    def join(self):
        self._thread.join()


def instead_of_scripts(monkeypatch, run):
    """Let ``run(command)`` take the place of every script."""
    monkeypatch.setattr(grid_run, "SHOW_EVERY_S", 0.02)
    monkeypatch.setattr(grid_run, "prepare_for_forks", lambda: None)
    monkeypatch.setattr(
        grid_run,
        "start_script",
        lambda script, arguments, *rest, **options: ScriptInThread(run, [str(script), *arguments]),
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
    monkeypatch.setattr(grid_run, "can_fork", lambda: False)  # PyTorch has computed here
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
