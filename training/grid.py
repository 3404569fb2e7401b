"""The paper's grid of trainings: plan its cells, run those that are not finished.

A cell is one run of an entry script with the arguments a user would type; it is finished when its
summary.json exists.
"""

import itertools
import logging
import queue
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from tqdm import tqdm

from training.runs import CONFIG, LOCK, RUNS_DIR, SUMMARY, require_same_config
from utils.config import ConfigError, Section, load_config
from utils.config_types import FilePath, Index, Name, Override, Seed, Share, key
from utils.errors import UserError
from utils.files import locked
from utils.schema import FinetuneConfig, OriginalConfig, RunConfig, SSLConfig

log = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parent.parent
FEW_LABELS = 0.1  # up to here, fine-tuning keeps BatchNorm's statistics [L22]
CONFIGS: dict[str, type[RunConfig]] = {
    "ssl": SSLConfig,
    "finetune": FinetuneConfig,
    "original": OriginalConfig,
}
SCRIPTS = {
    "ssl": ("sslearn.py", "--config_ssl"),
    "finetune": ("finetune.py", "--config_ft"),
    "original": ("original_implementation/train.py", "--configs"),
}

Method = Literal["original", "scratch", "linear", "finetuned"]


class CellOverrides(Section):
    """Overrides ``key.path=value`` for all runs, a label fraction, a kind of run, or a method."""

    all: tuple[Override, ...] = key((), "For every training.")
    label_fractions: dict[Share, tuple[Override, ...]] = key(
        {}, "For the classifiers of one label fraction, for example `{0.8: [exp_params.LR=1e-4]}`."
    )
    ssl: tuple[Override, ...] = key((), "For the pretrainings.")
    original: tuple[Override, ...] = key((), "For the previous study's classifiers.")
    scratch: tuple[Override, ...] = key((), "For classifiers from scratch.")
    linear: tuple[Override, ...] = key((), "For linear evaluation.")
    finetuned: tuple[Override, ...] = key((), "For fine-tuned classifiers.")


class ReproduceConfig(Section):
    """Configuration of a grid: methods x label fractions x seeds."""

    name: Name = key("paper", "First part of the runs' names, and the folder under runs/reproduce.")
    config_ssl: FilePath = key("configs/ssl.yaml", "Configuration that pretrainings start from.")
    config_ft: FilePath = key("configs/finetune.yaml", "Configuration that classifiers start from.")
    config_original: FilePath = key(
        "original_implementation/config.yaml",
        "Configuration that the previous study's classifiers start from.",
    )
    methods: Annotated[tuple[Method, ...], Field(min_length=1)] = key(
        ("original", "scratch", "linear", "finetuned"),
        "What is compared: the previous study, training from scratch, linear evaluation, "
        "fine-tuning (with `freeze_bn_stat_train` up to 10 % of the labels).",
    )
    label_fractions: Annotated[tuple[Share, ...], Field(min_length=1)] = key(
        (0.05, 0.1, 0.8), "Values of `dataset.train_data_ratio`."
    )
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = key(
        (0, 1, 2, 3, 4), "Values of `seed` and of `dataset.train_test_split_rand_seed`."
    )
    gpus: tuple[Index, ...] = key((0,), "GPUs; one training runs on each at a time. `[]`: the CPU.")
    overrides: CellOverrides = key(CellOverrides(), "Changes of the configurations above.")

    def contradictions(self) -> list[str]:
        """Return one message for each group of keys that contradict each other."""
        lists = {
            "methods": self.methods,
            "label_fractions": self.label_fractions,
            "seeds": self.seeds,
            "gpus": self.gpus,
        }
        found = [
            f"{key}: contains duplicates"
            for key, values in lists.items()
            if len(set(values)) < len(values)
        ]
        strangers = self.overrides.label_fractions.keys() - set(self.label_fractions)
        found += [
            f"overrides.label_fractions: found {fraction}; not among label_fractions"
            for fraction in sorted(strangers)
        ]
        return found


@dataclass(frozen=True)
class Cell:
    """One run of the grid."""

    method: str  # pretrain, original, scratch, linear, finetuned
    seed: int
    fraction: float  # of the labels; 0 for pretraining
    kind: str  # of run: ssl, finetune, original
    config: str
    overrides: tuple[str, ...]
    run_name: str

    @property
    def folder(self) -> Path:
        """The run folder."""
        return RUNS_DIR / self.kind / self.run_name

    @property
    def begun(self) -> bool:
        """Whether the run has started."""
        return (self.folder / CONFIG).is_file()

    @property
    def done(self) -> bool:
        """Whether the run is finished."""
        return (self.folder / SUMMARY).is_file()


def plan_cells(grid: ReproduceConfig) -> tuple[list[Cell], list[Cell]]:
    """Return the pretraining cells and the cells that are compared.

    Raises ``ConfigError`` for a configuration that is not valid, or has changed since its run
    began.
    """
    pretraining = {}
    if {"linear", "finetuned"} & set(grid.methods):
        pretraining = {seed: _pretraining_cell(grid, seed) for seed in grid.seeds}
    places = itertools.product(grid.seeds, grid.label_fractions, grid.methods)
    compared = [
        _cell(grid, method, fraction, seed, pretraining) for seed, fraction, method in places
    ]
    for cell in (*pretraining.values(), *compared):
        config = load_config(cell.config, CONFIGS[cell.kind], cell.overrides)
        if cell.kind == "ssl" and config.exp_params.model_save_ep_period < 1:
            raise ConfigError(
                f"{grid.config_ssl}: exp_params.model_save_ep_period must not be -1: "
                "the grid needs the encoder"
            )
        if cell.begun:
            require_same_config(cell.folder, config, "choose another name, or delete the folder")
    return list(pretraining.values()), compared


def _common(grid: ReproduceConfig, seed: int, run_name: str) -> tuple[str, ...]:
    return (
        *grid.overrides.all,
        f"seed={seed}",
        f"dataset.train_test_split_rand_seed={seed}",
        f"run_name={run_name}",
    )


def _pretraining_cell(grid: ReproduceConfig, seed: int) -> Cell:
    name = f"{grid.name}-pretrain-seed{seed}"
    overrides = (*_common(grid, seed, name), *grid.overrides.ssl)
    return Cell("pretrain", seed, 0.0, "ssl", grid.config_ssl, overrides, name)


def _cell(
    grid: ReproduceConfig, method: str, fraction: float, seed: int, pretraining: dict[int, Cell]
) -> Cell:
    """Return the cell of a method; ``pretraining`` maps seeds to their pretraining cells."""
    name = f"{grid.name}-{method}-{100 * fraction:g}pct-seed{seed}"
    kind, config, own = "finetune", grid.config_ft, ["load_encoder.ckpt_fname=none"]
    if method == "original":
        kind, config, own = "original", grid.config_original, []
    elif method != "scratch":
        own = [*_from_pretrained(pretraining[seed])]
    if method == "finetuned" and fraction <= FEW_LABELS:
        own.append("exp_params.freeze_bn_stat_train=true")
    if method == "linear":
        own.append("exp_params.freeze_encoders=true")
    own.append(f"dataset.train_data_ratio={fraction}")
    own += grid.overrides.label_fractions.get(fraction, ())
    own += getattr(grid.overrides, method)
    return Cell(method, seed, fraction, kind, config, (*_common(grid, seed, name), *own), name)


def _from_pretrained(cell: Cell) -> tuple[str, ...]:
    """Return overrides that load the encoder of a pretraining."""
    config = load_config(cell.config, SSLConfig, cell.overrides)
    encoder = cell.folder / "checkpoints" / f"encoder-ep_{config.trainer_params.max_epochs}.ckpt"
    network = (
        f"load_encoder.{key}={getattr(config.model_params, key)}"
        for key in ("backbone_type", "stem_stride")
    )
    return f"load_encoder.ckpt_fname={encoder}", *network


def run_cells(cells: Sequence[Cell], gpus: Sequence[int], logs: Path) -> None:
    """Run the cells that are not finished, one at a time on each GPU, or one at a time on the CPU.

    ``logs`` is the folder for their output. Raises ``UserError`` with the end of the log of the
    first cell that failed.
    """
    waiting = [cell for cell in cells if not cell.done]
    logs.mkdir(parents=True, exist_ok=True)
    free: queue.Queue[int | None] = queue.Queue()
    for gpu in gpus or (None,):
        free.put(gpu)
    with (
        ThreadPoolExecutor(max(1, len(gpus))) as pool,
        tqdm(total=len(cells), initial=len(cells) - len(waiting), desc="Cells", unit="cell") as bar,
    ):
        try:
            for cell in pool.map(partial(_run_cell, free=free, logs=logs), waiting):
                bar.set_postfix_str(cell.run_name)
                bar.update()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _wait_for_another_grid(cell: Cell) -> None:
    """Wait until no process uses the run folder: a run outlives the grid that is killed."""
    if cell.begun:
        with locked(cell.folder / LOCK):
            pass


def _run_cell(cell: Cell, free: queue.Queue, logs: Path) -> Cell:
    _wait_for_another_grid(cell)
    if cell.done:
        return cell
    script, flag = SCRIPTS[cell.kind]
    gpu = free.get()
    resume = ["--resume", str(cell.folder)] if cell.begun else []
    command = [sys.executable, str(ROOT / script), flag, cell.config, *resume, *cell.overrides]
    command.append(f"trainer_params.gpus=[{'' if gpu is None else gpu}]")
    path = logs / f"{cell.run_name}.log"
    try:
        with open(path, "a", encoding="utf-8") as file:
            status = subprocess.run(
                command,
                stdout=file,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                check=False,
            ).returncode
    finally:
        free.put(gpu)
    if status:  # refused, if a run that a killed grid left behind has begun in the folder first
        _wait_for_another_grid(cell)
    if not cell.done:
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
    return cell
