"""Lightning callbacks: seeding, a stop when the loss diverges, progress in log files."""

import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Iterator, Sequence
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
RECENT_LOSSES = 200
# no loss of a training that works: a class that is certain and wrong costs 100 at e^-100
SUSPECT_LOSS, ABSURD_LOSS, ABSURD_FACTOR = 100.0, 1e6, 100.0
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


class StopAtDivergence(pl.Callback):
    """Raise ``UserError`` when a training or validation loss shows that the training has diverged.

    See ``why_diverged``. The message names step and events. Training losses are checked in groups,
    because each check makes the CPU wait for the GPU, and always at the last batch of an epoch.
    """

    def __init__(self) -> None:
        self.waiting: list[tuple[int, Tensor, Tensor]] = []
        self.recent: deque[float] = deque(maxlen=RECENT_LOSSES)

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Collect the loss; check the collected ones from time to time."""
        self.waiting.append((batch_idx, outputs["loss"], batch.events))
        if len(self.waiting) == LOSSES_PER_CHECK or trainer.is_last_batch:
            waiting, self.waiting = self.waiting, []
            losses = torch.stack([loss for _, loss, _ in waiting]).cpu().tolist()
            for (step, _, events), loss in zip(waiting, losses):
                if reason := why_diverged(loss, self.recent):
                    raise self._diverged(trainer, f", step {step + 1}", reason, events)
                self.recent.append(loss)

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Check the loss of the held-out events, before anything is computed of their outputs."""
        loss = trainer.callback_metrics.get("val/loss")
        reason = "" if loss is None else why_diverged(float(loss))
        if reason:
            raise self._diverged(trainer, ", held-out events", reason)

    def _diverged(
        self, trainer: pl.Trainer, place: str, reason: str, events: Tensor | None = None
    ) -> UserError:
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        names = [] if events is None else data.event_names(events)
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        of_events = f"; events: {', '.join(names[:MAX_NAMES])}{more}" if names else ""
        return UserError(
            f"epoch {trainer.current_epoch + 1}{place}: the loss is {reason}{of_events}. "
            "Try a lower LR, gradient_clip_val, or precision 32-true. "
            "last.ckpt, if there is one, holds the state after the epoch before"
        )


def why_diverged(loss: float, recent: Sequence[float] = ()) -> str:
    """Return what a loss says of a training that has diverged, or an empty string.

    It has if the loss is not finite, above ``ABSURD_LOSS``, or above ``SUSPECT_LOSS`` and
    ``ABSURD_FACTOR`` times the median of the ``recent`` ones.
    """
    if not math.isfinite(loss) or abs(loss) > ABSURD_LOSS:
        return f"{loss:.3g}"
    if recent and loss > max(SUSPECT_LOSS, ABSURD_FACTOR * statistics.median(recent)):
        return f"{loss:.3g}, its recent median {statistics.median(recent):.3g}"
    return ""


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
        self,
        trainer: pl.Trainer,
        module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
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
