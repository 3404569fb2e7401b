"""Lightning's Trainer as every training here uses it: loggers, checkpoints, devices, progress."""

import csv
import logging
import netrc
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlparse

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from utils.errors import UserError
from utils.runs import LAST_CHECKPOINT, Run, write_atomically

log = logging.getLogger(__name__)
WANDB_TIMEOUT_S = 30


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


class SaveCheckpoints(pl.Callback):
    """Save ``last.ckpt``, which resumes, and ``encoder-ep_N.ckpt`` = {epoch, model_state_dict}, every few epochs and at the end."""

    def __init__(self, run: Run, period: int):
        self.run, self.period = run, period

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
        if self.period > 0 and (epoch % self.period == 0 or epoch == trainer.max_epochs):
            self._save(trainer, module, epoch)

    def _save(self, trainer: pl.Trainer, module: pl.LightningModule, epoch: int) -> None:
        folder = self.run.dir / LAST_CHECKPOINT.parent
        folder.mkdir(exist_ok=True)
        partial = folder / ".last.ckpt.partial"
        trainer.save_checkpoint(partial)  # every process takes part
        if not trainer.is_global_zero:
            return
        os.replace(partial, self.run.dir / LAST_CHECKPOINT)
        content = {"epoch": epoch, "model_state_dict": module.encoder.state_dict()}
        write_atomically(folder / f"encoder-ep_{epoch}.ckpt", lambda path: torch.save(content, path))


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
        callbacks=[SeedEveryStep(config.seed), SaveCheckpoints(run, config.exp_params.model_save_ep_period)],
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
