"""Run the cells of a grid that are not finished, side by side, with a progress bar."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout
from tqdm import tqdm

from training.grid.cells import Budget, Cell
from training.runs import LOCK, METRICS, SUMMARY
from utils.errors import Interrupted, UserError
from utils.files import lock_of
from utils.progress import progress_bar
from utils.workers import signals_deferred

ROOT = Path(__file__).resolve().parents[2]
N_CORES = os.cpu_count() or 1
MAX_CELLS_ON_CPU = 4
LOOK_EVERY_S = 0.2
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
    queue = _Queue(waiting, gpus, logs)
    with progress_bar(total=100, desc="Training", unit="%") as bar:
        try:
            while queue.goes_on:
                queue.begin_what_is_ready()
                queue.note_what_has_ended()
                _show_progress(bar, n_epochs)
                time.sleep(LOOK_EVERY_S)
        except (Interrupted, KeyboardInterrupt):
            queue.stop()
            raise
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
        self.running: dict[subprocess.Popen[bytes], tuple[Cell, int | None]] = {}
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
            with signals_deferred():  # or a training that has just begun would not be stopped
                process = _start(cell, gpu, _log_of(cell, self.logs), N_CORES // side_by_side)
                self.running[process] = cell, gpu

    def note_what_has_ended(self) -> None:
        """Look which processes have ended; note the first failure."""
        for process, (cell, gpu) in list(self.running.items()):
            status = process.poll()
            if status is not None:
                del self.running[process]
                self.free.append(gpu)
                self.ended[cell] = status
        for cell in [cell for cell in self.ended if not _is_in_use(cell)]:
            status = self.ended.pop(cell)
            if not cell.done:
                self.failure = self.failure or _failure(cell, status, self.logs)
                self.waiting.clear()

    def stop(self) -> None:
        """Send SIGTERM to the running trainings, which then save their state; wait for them."""
        for process in self.running:
            process.terminate()
        for process in self.running:
            process.wait()


def _show_progress(bar: "tqdm[Any]", n_epochs: Mapping[Cell, int]) -> None:
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


def _start(cell: Cell, gpu: int | None, log: Path, n_threads: int) -> "subprocess.Popen[bytes]":
    script, flag = COMMANDS[cell.kind]
    resume = ["--resume", str(cell.folder)] if cell.begun else []
    device = f"trainer_params.gpus=[{'' if gpu is None else gpu}]"
    arguments = [flag, cell.config, *resume, *cell.overrides, device]
    return start_script(ROOT / script, arguments, log, n_threads if gpu is None else None)


def start_script(
    script: Path, arguments: Sequence[str], log: Path, n_threads: int | None
) -> "subprocess.Popen[bytes]":
    """Start a Python script; its output is added to ``log``.

    ``n_threads`` holds unless the user has set a number. Ctrl-C in the terminal reaches this
    process only, which stops the script.
    """
    threads = {} if n_threads is None else {"OMP_NUM_THREADS": str(n_threads)}
    with open(log, "ab") as file:
        return subprocess.Popen(
            [sys.executable, str(script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=threads | dict(os.environ),
            start_new_session=True,
        )


def _log_of(cell: Cell, logs: Path) -> Path:
    return logs / f"{cell.run_name}.log"


def _failure(cell: Cell, status: int, logs: Path) -> UserError:
    path = _log_of(cell, logs)
    text = path.read_text(encoding="utf-8", errors="replace").replace("\r", "\n").strip()
    return UserError(
        f"{cell.run_name} ended with status {status}; its log {path} ends with:\n  "
        + "\n  ".join(text.splitlines()[-5:])
    )
