"""Run the cells of a grid that are not finished, side by side, with a progress bar."""

import os
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from pathlib import Path

from filelock import Timeout
from tqdm import tqdm

from training.children import (
    can_fork,
    prepare_for_forks,
    start_script,
    stopped_with_this_process,
)
from training.grid.cells import Budget, Cell
from training.runs import LOCK, METRICS, SUMMARY
from utils.errors import UserError
from utils.files import lock_of
from utils.progress import progress_bar

ROOT = Path(__file__).resolve().parents[2]
N_CORES = os.cpu_count() or 1
MAX_CELLS_ON_CPU = 4
SHOW_EVERY_S = 1.0
# how long runs of each kind take, about as in `make demo`
RELATIVE_DURATION = {"ssl": 16, "original": 9, "finetune": 4, "features": 1}
COMMANDS = {
    "ssl": ("sslearn.py", "--config_ssl"),
    "finetune": ("finetune.py", "--config_ft"),
    "features": ("training/feature_forest.py", "--config_ft"),
    "original": ("original_implementation/train.py", "--configs"),
}


def run_cells(cells: Sequence[Cell], gpus: Sequence[int], logs: Path) -> None:
    """Run the cells that are not finished: one at a time on each GPU, or a few on the CPU.

    A cell begins when the runs that it needs are finished. On the CPU, up to ``MAX_CELLS_ON_CPU``
    share the cores: a small training hardly uses more than one. ``logs`` is the folder for
    their output. If a cell fails, those that are running finish; then raises ``UserError`` with the
    end of its log. Ctrl-C or SIGTERM also stops the running trainings.
    """
    waiting = [cell for cell in cells if not cell.done]
    if not waiting:
        return
    logs.mkdir(parents=True, exist_ok=True)
    n_epochs = {cell: cell.n_epochs for cell in waiting}
    if not gpus and can_fork():
        prepare_for_forks()
    queue = _Queue(waiting, gpus, logs)
    with (
        progress_bar(total=100, desc="Training", unit="%") as bar,
        stopped_with_this_process(),
    ):
        while queue.goes_on:
            queue.begin_what_is_ready()
            queue.note_what_has_ended()
            _show_progress(bar, n_epochs)
    if queue.failure:
        raise queue.failure


class _Queue:
    """The cells that wait, the processes that run, and what has failed."""

    def __init__(self, cells: Sequence[Cell], gpus: Sequence[int], logs: Path):
        made = {cell.folder for cell in cells}
        needed = [folder for cell in cells for folder in cell.needs if folder not in made]
        assert all((folder / SUMMARY).is_file() for folder in needed), f"nothing makes {needed}"
        # encoders first: others need them. Then those with the most labels, which take longest:
        # no core waits for them at the end
        self.waiting = sorted(
            cells, key=lambda cell: (cell.kind == "ssl", cell.budget or Budget()), reverse=True
        )
        self.running: dict[BaseProcess, tuple[Cell, int | None]] = {}
        self.ended: dict[Cell, int] = {}  # exit status, until its folder is not in use
        self.free: list[int | None] = list(gpus) or [None] * min(N_CORES, MAX_CELLS_ON_CPU)
        self.logs = logs
        self.failure: UserError | None = None

    @property
    def goes_on(self) -> bool:
        """Whether a cell waits, runs, or has ended while another process uses its folder."""
        return bool(self.waiting or self.running or self.ended)

    def begin_what_is_ready(self) -> None:
        """Start cells whose needs are met, as far as cores or GPUs are free."""
        self.waiting = [cell for cell in self.waiting if not cell.done]  # by another grid
        ready = [cell for cell in self.waiting if cell.ready and not _is_in_use(cell)]
        ready = ready[: len(self.free)]
        side_by_side = len(self.running) + len(ready)
        for cell in ready:
            self.waiting.remove(cell)
            gpu = self.free.pop(0)
            process = _start(cell, gpu, _log_of(cell, self.logs), N_CORES // side_by_side)
            self.running[process] = cell, gpu

    def note_what_has_ended(self) -> None:
        """Wait until a process ends, but not longer than ``SHOW_EVERY_S``; note a failure."""
        if self.running:
            wait_for_any([process.sentinel for process in self.running], SHOW_EVERY_S)
        else:  # processes of another grid use the folders
            time.sleep(SHOW_EVERY_S)
        for process in [process for process in self.running if process.exitcode is not None]:
            cell, gpu = self.running.pop(process)
            self.free.append(gpu)
            self.ended[cell] = process.exitcode or 0
        for cell in [cell for cell in self.ended if not _is_in_use(cell)]:
            status = self.ended.pop(cell)
            if not cell.done:
                self.failure = self.failure or _failure(cell, status, self.logs)
                self.waiting.clear()


def _show_progress(bar: tqdm, n_epochs: Mapping[Cell, int]) -> None:
    """Show the share of the work that is done, and the names of the cells that are running."""
    duration = {cell: RELATIVE_DURATION[cell.kind] for cell in n_epochs}
    done = sum(duration[cell] * _share_done(cell, n) for cell, n in n_epochs.items())
    bar.n = round(100 * done / sum(duration.values()))
    bar.set_postfix_str(", ".join(c.run_name for c in n_epochs if c.begun and not c.done))


def _share_done(cell: Cell, n_epochs: int) -> float:
    """Return the share of a cell's epochs that are finished, which are rows of its metrics table.

    There may be more epochs than ``n_epochs``, see ``trainer_params.min_steps``.
    """
    if cell.done:
        return 1.0
    try:
        text = (cell.folder / METRICS).read_text(encoding="utf-8")
    except OSError:  # not yet there
        return 0.0
    finished = max(0, text.count("\n") - 1)
    return finished / max(n_epochs, finished + 1)


def _is_in_use(cell: Cell) -> bool:
    """Tell whether a process uses the run folder: a run outlives the grid that is killed."""
    if not cell.begun or cell.done:
        return False
    try:
        with lock_of(cell.folder / LOCK).acquire(blocking=False):
            return False
    except Timeout:
        return True


def _start(cell: Cell, gpu: int | None, log: Path, n_threads: int) -> BaseProcess:
    script, flag = COMMANDS[cell.kind]
    resume = ["--resume", str(cell.folder)] if cell.begun else []
    device = f"trainer_params.gpus=[{'' if gpu is None else gpu}]"
    arguments = [flag, cell.config, *resume, *cell.overrides, device]
    if gpu is None:
        return start_script(ROOT / script, arguments, log, n_threads, forked=can_fork())
    return start_script(ROOT / script, arguments, log, n_threads=None, forked=False)


def _log_of(cell: Cell, logs: Path) -> Path:
    return logs / f"{cell.run_name}.log"


def _failure(cell: Cell, status: int, logs: Path) -> UserError:
    path = _log_of(cell, logs)
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip()
    return UserError(
        f"{cell.run_name} ended with status {status}; its log {path} ends with:\n  "
        + "\n  ".join(text.splitlines()[-5:])
    )
