"""Lightning callbacks: seeding, check of the loss, checkpoints; messages when a run is stopped."""

import logging
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from training.runs import Run
from utils.errors import Interrupted, UserError
from utils.progress import LINE_EVERY_S

log = logging.getLogger(__name__)
LOSSES_PER_CHECK = 8
MAX_NAMES = 8  # event names in a message


class SeedEveryStep(pl.Callback):
    """Seed dropout with (seed, step), so that a resumed run draws the same numbers.

    All processes draw the same numbers: each computes the temporal loss of the whole batch.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def on_train_batch_start(
        self, trainer: pl.Trainer, module: pl.LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Seed PyTorch's generators for this step."""
        key = np.random.SeedSequence([self.seed, trainer.global_step])
        torch.manual_seed(int(key.generate_state(1, np.uint64)[0]))


class StopAtNonFiniteLoss(pl.Callback):
    """Raise ``UserError`` when a loss is NaN or infinite; the message names step and events.

    Losses are checked in groups, because each check makes the CPU wait for the GPU, and always at
    the last batch of an epoch.
    """

    def __init__(self):
        self.waiting: list[tuple[int, Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        """Collect the loss; check the collected ones from time to time."""
        self.waiting.append((batch_idx, outputs["loss"], batch.events))
        if len(self.waiting) == LOSSES_PER_CHECK or trainer.is_last_batch:
            waiting, self.waiting = self.waiting, []
            losses = torch.stack([loss for _, loss, _ in waiting]).cpu().tolist()
            for (step, _, events), loss in zip(waiting, losses):
                if not math.isfinite(loss):
                    self._stop(trainer, step, events, loss)

    def _stop(self, trainer: pl.Trainer, batch_idx: int, events: Tensor, loss: float) -> None:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        names = data.event_names(events)
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        place = f"epoch {trainer.current_epoch + 1}, step {batch_idx + 1}"
        raise UserError(
            f"{place}: the loss is {loss}; events: {', '.join(names[:MAX_NAMES])}{more}. "
            "Try a lower LR, gradient_clip_val, or precision 32-true. "
            "last.ckpt, if there is one, holds the state after the epoch before"
        )


@contextmanager
def stoppable(run: Run) -> Iterator[None]:
    """Raise ``Interrupted``, which says how to resume, if Ctrl-C or SIGTERM stops Lightning."""
    try:
        yield
    except SystemExit as stop:
        terminated = isinstance(stop, SIGTERMException)
        reason, status = ("terminated", 143) if terminated else ("interrupted", 130)
        raise Interrupted(
            f"{reason}: go on by the same command with --resume {run.dir}", status
        ) from None


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
