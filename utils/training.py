"""Lightning's Trainer as every training here uses it: loggers, checkpoints, devices, progress."""

import csv
import logging
import netrc
import os
import time
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from utils.errors import Interrupted, UserError
from utils.runs import LAST_CHECKPOINT, Run, write_atomically

log = logging.getLogger(__name__)
WANDB_TIMEOUT_S = 30
SAVE_EVERY_S = 600.0
N_LOSSES_WAITING = 8
MAX_NAMES = 8


class MetricsTable(Logger):
    """Keep ``metrics.csv``: one row per epoch, rewritten whole, so that a kill never leaves half a row."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, float]] = {}
        if path.is_file():
            try:
                with open(path, newline="", encoding="utf-8") as file:
                    self.rows = {int(row["epoch"]): {k: v for k, v in row.items() if v != ""} for row in csv.DictReader(file)}
            except (ValueError, KeyError, TypeError, csv.Error) as error:
                raise UserError(f"{path}: damaged ({error}); restore it from a copy, or delete it to go on without it") from error

    name = version = None

    @rank_zero_only
    def log_hyperparams(self, params, *args, **kwargs) -> None:
        """Leave hyper-parameters to config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add an epoch's metrics to its row; the final test belongs to summary.json."""
        row = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        epoch = int(row.pop("epoch", -1))
        if row and epoch >= 0:
            self.rows.setdefault(epoch, {"epoch": epoch}).update(row)

    @rank_zero_only
    def save(self) -> None:
        """Write the table."""
        columns = dict.fromkeys(["epoch", *(name for row in self.rows.values() for name in row)])

        def write(path: Path) -> None:
            with open(path, "w", newline="", encoding="utf-8") as file:
                table = csv.DictWriter(file, list(columns))
                table.writeheader()
                table.writerows(self.rows[epoch] for epoch in sorted(self.rows))

        write_atomically(self.path, write)

    def forget_after(self, epoch: int) -> None:
        """Drop the rows of epochs that a resumed run computes again."""
        self.rows = {number: row for number, row in self.rows.items() if number < epoch}


class SeedEveryStep(pl.Callback):
    """Make dropout a function of (seed, step), so that a resumed run needs no generator state.

    All processes draw the same: the temporal term's network sees the whole batch in each of them.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, batch_idx: int) -> None:
        """Seed PyTorch's generators for this step."""
        key = np.random.SeedSequence([self.seed, trainer.global_step])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))


class StopAtNonFiniteLoss(pl.Callback):
    """Stop training when a loss is NaN or infinite, and say where.

    Losses are looked at a few steps later, so that a GPU need not wait, and before the epoch counts as finished.
    """

    def __init__(self):
        self.waiting: deque[tuple[int, Tensor, Tensor]] = deque()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int) -> None:
        """Remember the loss; look at an earlier one."""
        self.waiting.append((batch_idx, outputs["loss"], batch.events))
        if len(self.waiting) > N_LOSSES_WAITING:
            self._look(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Look at the rest."""
        while self.waiting:
            self._look(trainer)

    def _look(self, trainer: pl.Trainer) -> None:
        batch_idx, loss, events = self.waiting.popleft()
        if torch.isfinite(loss):
            return
        names = trainer.datamodule.archive.names[events.cpu().numpy()].tolist()
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        raise UserError(f"epoch {trainer.current_epoch + 1}, step {batch_idx + 1}: the loss is {loss.item()}; events: "
                        f"{', '.join(names[:MAX_NAMES])}{more}. Try a lower LR, gradient_clip_val, or precision 32-true. "
                        "What was learned until the epoch before is kept in last.ckpt, if there was one")  # fmt: skip


class EpochMemory(TorchCheckpointIO):
    """Keep a copy of the newest checkpoint, on the device, where it costs next to no time; write it to a file when asked."""

    newest: dict | None = None

    def save_checkpoint(self, checkpoint: dict, path: str | Path, storage_options: object = None) -> None:
        """Copy ``checkpoint``; ``path`` is not used."""
        self.newest = None  # before the copy: there is never more than one
        self.newest = _copied(checkpoint)

    def write(self, path: Path) -> None:
        """Write the copy."""
        save_atomically(self.newest, path)


def _copied(content):
    """Copy the tensors in dicts and lists."""
    if isinstance(content, Tensor):
        return content.detach().clone()
    if isinstance(content, dict):
        return type(content)((key, _copied(value)) for key, value in content.items())
    if type(content) in (list, tuple):
        return type(content)(map(_copied, content))
    return content


def save_atomically(content: object, path: Path) -> None:
    """Write a checkpoint whole or not at all; raises ``UserError`` naming the file where the system refuses."""

    def write(partial: Path) -> None:
        try:
            with open(partial, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # how PyTorch's writer puts it
            raise OSError("the system took only a part of it; is the disk full?") from error

    write_atomically(path, write)


class SaveCheckpoints(pl.Callback):
    """Save ``last.ckpt``, which resumes, and ``encoder-ep_N.ckpt`` = {epoch, model_state_dict}, every few epochs and at the end.

    ``last.ckpt`` is also saved when ten minutes have passed since, and when the run is stopped by whatever leaves it the time:
    then it holds the last epoch that was finished.
    """

    def __init__(self, run: Run, period: int, memory: EpochMemory):
        self.run, self.period, self.memory = run, period, memory
        self.last_saved = time.monotonic()
        self.is_new = False

    def on_save_checkpoint(self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict) -> None:
        """Put the resolved configuration into every checkpoint."""
        checkpoint["config"] = self.run.plain_config

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Let the metrics table go on from the epoch that a resumed run begins with."""
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.forget_after(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the epoch's row, so that no checkpoint is ahead of the table; then save if it is time."""
        epoch = trainer.current_epoch + 1
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items() if name.startswith("train/")}
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch})
                logger.save()
        if self.period < 1:
            return
        trainer.save_checkpoint("in memory")  # every process takes part
        self.is_new = True
        regular = epoch % self.period == 0 or epoch == trainer.max_epochs
        if regular or time.monotonic() - self.last_saved > SAVE_EVERY_S:
            self._write_last()
        if regular and trainer.is_global_zero:
            content = {"epoch": epoch, "model_state_dict": module.encoder.state_dict()}
            save_atomically(content, self.run.dir / LAST_CHECKPOINT.parent / f"encoder-ep_{epoch}.ckpt")

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        """Save what was learned before the run was stopped."""
        self._write_last()

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Free the memory."""
        self.memory.newest, self.is_new = None, False

    def _write_last(self) -> None:
        if self.is_new and self.memory.newest is not None:  # only the first of several processes has it
            self.is_new, self.last_saved = False, time.monotonic()
            self.memory.write(self.run.dir / LAST_CHECKPOINT)


@contextmanager
def stoppable(run: Run) -> Iterator[None]:
    """Turn Lightning's ways to stop for Ctrl-C and SIGTERM into ``Interrupted``, which says how to go on."""
    try:
        yield
    except SystemExit as stop:
        terminated = isinstance(stop, SIGTERMException)
        reason, status = ("terminated", 143) if terminated else ("interrupted", 130)
        raise Interrupted(f"{reason}: go on by the same command with --resume {run.dir}", status) from None


def build_trainer(run: Run) -> pl.Trainer:
    """Build the Trainer of a run; says so once when it falls back to the CPU."""
    config, params = run.config, run.config.trainer_params
    _quiet()
    accelerator, devices = _devices(params.gpus)
    n_processes = params.num_nodes * (len(devices) if isinstance(devices, list) else devices)
    if config.dataset.batch_size % n_processes:
        raise UserError(
            f"dataset.batch_size: {config.dataset.batch_size} events cannot be shared evenly by {n_processes} processes"
        )
    memory, period = EpochMemory(), config.exp_params.model_save_ep_period
    return pl.Trainer(
        accelerator=accelerator,
        devices=devices,
        num_nodes=params.num_nodes,
        strategy=params.strategy,
        precision=params.precision,
        max_epochs=params.max_epochs,
        gradient_clip_val=config.exp_params.gradient_clip_val or None,
        use_distributed_sampler=False,  # EpochBatches shares out every batch itself
        logger=_loggers(run),
        # in this order: an epoch with a loss that is not finite is never saved
        callbacks=[SeedEveryStep(config.seed), StopAtNonFiniteLoss(), SaveCheckpoints(run, period, memory)],
        plugins=[memory],
        default_root_dir=run.dir,
        enable_checkpointing=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
    )


def _devices(gpus: tuple[int, ...]) -> tuple[str, list[int] | int]:
    n_gpus = torch.cuda.device_count()
    if not gpus or n_gpus == 0:
        if gpus:
            log.info("trainer_params.gpus asks for %s, but there is no GPU: training on the CPU", list(gpus))
        return "cpu", 1
    if max(gpus) >= n_gpus:
        raise UserError(f"trainer_params.gpus: found {list(gpus)}, but this machine has GPUs 0 to {n_gpus - 1}")
    return "gpu", list(gpus)


def _loggers(run: Run) -> list[Logger]:
    loggers: list[Logger] = [MetricsTable(run.dir / "metrics.csv")]
    if "tensorboard" in run.config.logger:
        from pytorch_lightning.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(run.dir, name="", version="tensorboard"))
    if "wandb" in run.config.logger:
        loggers.append(_wandb_logger(run))
    return loggers


def _wandb_logger(run: Run) -> Logger:
    """Log to wandb online if the user is logged in and it answers, else offline; never ask."""
    import wandb
    from pytorch_lightning.loggers import WandbLogger

    common = {"project": "aknes-ssl", "name": run.dir.name, "save_dir": run.dir, "group": run.config.kind}
    logger, why = None, "not logged in"
    if os.environ.get("WANDB_MODE") != "offline" and _logged_in_to_wandb():
        logger = WandbLogger(**common, settings=wandb.Settings(init_timeout=WANDB_TIMEOUT_S))
        try:
            _ = logger.experiment  # connects
        except wandb.errors.Error as error:
            logger, why = None, str(error).splitlines()[0]
    if logger is None:
        log.info("wandb: %s, so it runs offline; `wandb sync %s` uploads later", why, run.dir / "wandb" / "offline-run-*")
        logger = WandbLogger(**common, offline=True, settings=wandb.Settings(mode="offline"))
    logger.log_hyperparams(run.plain_config)
    return logger


def _logged_in_to_wandb() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def log_pictures(trainer: pl.Trainer, paths: list[Path]) -> None:
    """Give the run's pictures to the loggers that show pictures."""
    for logger in trainer.loggers:
        if type(logger).__name__ == "WandbLogger":
            for path in paths:
                logger.log_image(path.stem, [str(path)])


def _quiet() -> None:
    """Silence what Lightning says of every run and a user can do nothing about."""
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*you have set wandb.*|.*tensorboard.*removed as a dependency.*")
    warnings.filterwarnings("ignore", message=".*in eval mode at the start of training.*")  # frozen on purpose
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*The `srun` command is available.*")
