"""Run the cells of a grid that are not finished, side by side, with a progress bar."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path

from tqdm import tqdm

from training.children import Children
from training.grid import Budget, Cell
from training.runs import LOCK, METRICS
from utils.errors import UserError
from utils.files import LockHeld, take_lock
from utils.progress import progress_bar

ROOT = Path(__file__).resolve().parent.parent
MAX_CELLS_ON_CPU = 4
SHOW_EVERY_S = 1.0
COMMANDS = {
    "ssl": (str(ROOT / "sslearn.py"), "--config_ssl"),
    "finetune": (str(ROOT / "finetune.py"), "--config_ft"),
    "features": ("-m", "training.feature_forest", "--config_ft"),
    "original": (str(ROOT / "original_implementation/train.py"), "--configs"),
}


def run_cells(cells: Sequence[Cell], gpus: Sequence[int], logs: Path) -> None:
    """Run the cells that are not finished: one at a time on each GPU, or a few on the CPU.

    A cell begins when the runs that it needs are finished. On the CPU, up to ``MAX_CELLS_ON_CPU``
    share the cores: a small training hardly uses more than one. ``logs`` is the folder for
    their output. Raises ``UserError`` with the end of the log of the first cell that failed. Ctrl-C
    or SIGTERM also stops the running trainings.
    """
    waiting = [cell for cell in cells if not cell.done]
    if not waiting:
        return
    # encoders first: others need them. Then those with the most labels, which take longest:
    # no core waits for them at the end
    waiting.sort(key=lambda cell: (cell.kind == "ssl", cell.budget or Budget()), reverse=True)
    logs.mkdir(parents=True, exist_ok=True)
    n_cores = os.cpu_count() or 1
    free: list[int | None] = list(gpus) or [None] * min(n_cores, MAX_CELLS_ON_CPU)
    n_epochs, children = {cell: cell.n_epochs for cell in waiting}, Children()
    running: dict[Future, int | None] = {}
    with (
        ThreadPoolExecutor(len(free)) as pool,
        progress_bar(total=sum(n_epochs.values()), desc="Training", unit="epoch") as bar,
        children.stopped_with_this_process(),
    ):
        while waiting or running:
            ready = [cell for cell in waiting if cell.ready]
            assert ready or running, f"no cell makes what {waiting[0].run_name} needs"
            side_by_side = min(len(free) + len(running), len(ready) + len(running))
            threads = None if gpus else n_cores // side_by_side
            while ready and free:
                cell, gpu = ready.pop(0), free.pop(0)
                waiting.remove(cell)
                running[pool.submit(_run_cell, cell, gpu, logs, threads, children)] = gpu
            finished, _ = wait(running, SHOW_EVERY_S, return_when=FIRST_COMPLETED)
            for future in finished:
                free.append(running.pop(future))
                future.result()
            _show_progress(bar, n_epochs)


def _show_progress(bar: tqdm, n_epochs: Mapping[Cell, int]) -> None:
    """Show the finished epochs of all cells, and the names of those that are running.

    A cell may have more epochs than its configuration says, see ``trainer_params.min_steps``.
    """
    finished = {cell: _epochs_done(cell) for cell in n_epochs}
    all_epochs = {cell: max(n, finished[cell]) for cell, n in n_epochs.items()}
    bar.total = sum(all_epochs.values())
    bar.n = sum(all_epochs[cell] if cell.done else finished[cell] for cell in n_epochs)
    bar.set_postfix_str(", ".join(c.run_name for c in n_epochs if c.begun and not c.done))


def _epochs_done(cell: Cell) -> int:
    """Return the number of rows in the metrics table of a run."""
    try:
        return (cell.folder / METRICS).read_text(encoding="utf-8").count("\n") - 1
    except OSError:  # not yet there
        return 0


def _wait_for_another_grid(cell: Cell, children: Children) -> None:
    """Wait until no process uses the run folder: a run outlives the grid that is killed."""
    while cell.begun and not children.stopped.is_set():
        try:
            take_lock(cell.folder / LOCK, wait=False).close()
            return
        except LockHeld:
            children.stopped.wait(SHOW_EVERY_S)


def _environment(threads: int | None) -> dict[str, str]:
    """Return the environment of a cell; ``threads`` holds unless the user has set a number."""
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))  # for ``python -m``
    own = {} if threads is None else {"OMP_NUM_THREADS": str(threads)}
    return own | os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def _run_cell(
    cell: Cell, gpu: int | None, logs: Path, threads: int | None, children: Children
) -> None:
    _wait_for_another_grid(cell, children)
    if cell.done:
        return
    resume = ["--resume", str(cell.folder)] if cell.begun else []
    command = [sys.executable, *COMMANDS[cell.kind], cell.config, *resume, *cell.overrides]
    command.append(f"trainer_params.gpus=[{'' if gpu is None else gpu}]")
    path = logs / f"{cell.run_name}.log"
    with open(path, "a", encoding="utf-8") as file:
        status = children.run(
            command,
            env=_environment(threads),
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    if status:  # refused, if a run that a killed grid left behind has begun in the folder first
        _wait_for_another_grid(cell, children)
    if not cell.done and not children.stopped.is_set():
        lines = (
            path.read_text(encoding="utf-8", errors="replace")
            .replace("\r", "\n")
            .strip()
            .splitlines()
        )
        raise UserError(
            f"{cell.run_name} ended with status {status}; its log {path} ends with:\n  "
            + "\n  ".join(lines[-5:])
        )
