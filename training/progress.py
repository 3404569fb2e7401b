"""The progress of a training in log files: one line per minute instead of a progress bar."""

import logging
import time

import pytorch_lightning as pl

from utils.progress import LINE_EVERY_S

log = logging.getLogger(__name__)


class ProgressLines(pl.Callback):
    """Log epoch, step and loss of a training once a minute, for log files."""

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Begin to count the time."""
        self.started = self.written = time.monotonic()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        """Log a line if it is time for one."""
        now = time.monotonic()
        if now - self.written < LINE_EVERY_S or not trainer.is_global_zero:
            return
        self.written = now
        log.info(
            "Epoch %d of %s, step %d of %s, loss %.4g, after %.0f min",
            trainer.current_epoch + 1,
            trainer.max_epochs,
            batch_idx + 1,
            trainer.num_training_batches,
            float(outputs["loss"]),
            (now - self.started) / 60,
        )
