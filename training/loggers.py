"""Loggers of a run: metrics.csv, TensorBoard, Weights & Biases."""

import csv
import logging
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytorch_lightning as pl
from pytorch_lightning.loggers import Logger, TensorBoardLogger, WandbLogger
from pytorch_lightning.utilities import rank_zero_only

from training.runs import METRICS, Run
from utils.errors import UserError
from utils.files import atomic

log = logging.getLogger(__name__)
WANDB_TIMEOUT_S = 30


class MetricsTable(Logger):
    """Logger that writes ``metrics.csv`` with one row per epoch.

    The file is replaced atomically, so that a killed run leaves no partial row. Raises
    ``UserError`` if an existing file is damaged.
    """

    def __init__(self, path: Path):
        super().__init__()
        self.path = path
        self.rows: dict[int, dict[str, Any]] = {}
        if path.is_file():
            try:
                with open(path, newline="", encoding="utf-8") as file:
                    self.rows = {
                        int(row["epoch"]): {k: v for k, v in row.items() if v != ""}
                        for row in csv.DictReader(file)
                    }
            except (ValueError, KeyError, TypeError, csv.Error) as error:
                raise UserError(
                    f"{path}: damaged ({error}); "
                    "restore it from a copy, or delete it to continue without it"
                ) from error

    name = version = None

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Do nothing: hyperparameters are in config.yaml."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add metrics to the row of their epoch, except test metrics, which summary.json has."""
        row = {name: value for name, value in metrics.items() if not name.startswith("test/")}
        epoch = int(row.pop("epoch", -1))
        if row and epoch >= 0:
            self.rows.setdefault(epoch, {"epoch": epoch}).update(row)

    @rank_zero_only
    def save(self) -> None:
        """Write the table."""
        columns = dict.fromkeys(["epoch", *(name for row in self.rows.values() for name in row)])
        with (
            atomic(self.path) as partial,
            open(partial, "w", newline="", encoding="utf-8") as file,
        ):
            table = csv.DictWriter(file, list(columns))
            table.writeheader()
            table.writerows(self.rows[epoch] for epoch in sorted(self.rows))

    def forget_after(self, epoch: int) -> None:
        """Remove the rows from ``epoch`` on, which a resumed run computes again."""
        self.rows = {number: row for number, row in self.rows.items() if number < epoch}


def build_loggers(run: Run) -> list[Logger]:
    """Build the loggers of a run: metrics.csv and those of the configuration."""
    loggers: list[Logger] = [MetricsTable(run.dir / METRICS)]
    if "tensorboard" in run.config.logger:
        loggers.append(TensorBoardLogger(run.dir, name="", version="tensorboard"))
    if "wandb" in run.config.logger:
        loggers.append(_wandb_logger(run))
    return loggers


def _wandb_logger(run: Run) -> Logger:
    """Build the wandb logger: online if logged in and the server answers, else offline."""
    import wandb

    common: dict[str, Any] = {
        "project": "aknes-ssl",
        "name": run.dir.name,
        "save_dir": run.dir,
        "group": run.config.kind,
    }
    logger, why = None, "not logged in"
    if os.environ.get("WANDB_MODE") != "offline" and _logged_in_to_wandb():
        logger = WandbLogger(**common, settings=wandb.Settings(init_timeout=WANDB_TIMEOUT_S))
        try:
            _ = logger.experiment  # opens the connection
        except wandb.errors.Error as error:
            logger, why = None, str(error).splitlines()[0]
    if logger is None:
        log.info(
            "wandb: %s, so it runs offline; `wandb sync %s` uploads later",
            why,
            run.dir / "wandb" / "offline-run-*",
        )
        logger = WandbLogger(**common, offline=True, settings=wandb.Settings(mode="offline"))
    logger.log_hyperparams(run.plain_config)
    return logger


def _logged_in_to_wandb() -> bool:
    if os.environ.get("WANDB_API_KEY"):
        return True
    host = urlparse(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")).hostname or ""
    try:
        return netrc.netrc().authenticators(host) is not None
    except (OSError, netrc.NetrcParseError):
        return False


def log_pictures(trainer: pl.Trainer, paths: list[Path]) -> None:
    """Log PNG files to wandb, if it is used."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            for path in paths:
                logger.log_image(path.stem, [str(path)])
