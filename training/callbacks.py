"""What happens beside the training: seeds, the watch over the loss, checkpoints, and stopping."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from training.loggers import MetricsTable
from training.runs import LAST_CHECKPOINT, Run
from utils.errors import Interrupted, UserError
from utils.files import write_atomically

log = logging.getLogger(__name__)
SAVE_EVERY_S = 600.0
LOSSES_PER_LOOK = 64
MAX_NAMES = 8


class SeedEveryStep(pl.Callback):
    """Make dropout a function of (seed, step), so that a resumed run needs no generator state.

    All processes draw the same: the temporal term's network sees the whole batch in each of them.
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
    """Stop training when a loss is NaN or infinite, and say where.

    Losses are looked at many at a time, because a GPU has to wait for it, and before an epoch is
    validated.
    """

    def __init__(self):
        self.waiting: list[tuple[int, Tensor, Tensor]] = []

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs, batch, batch_idx: int
    ) -> None:
        """Remember the loss; look at all of them now and then."""
        self.waiting.append((batch_idx, outputs["loss"], batch.events))
        if len(self.waiting) == LOSSES_PER_LOOK or trainer.is_last_batch:
            waiting, self.waiting = self.waiting, []
            losses = torch.stack([loss for _, loss, _ in waiting]).cpu().tolist()
            for (step, _, events), loss in zip(waiting, losses):
                if not math.isfinite(loss):
                    self._stop(trainer, step, events, loss)

    def _stop(self, trainer: pl.Trainer, batch_idx: int, events: Tensor, loss: float) -> None:
        names = trainer.datamodule.archive.names[events.cpu().numpy()].tolist()
        more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
        place = f"epoch {trainer.current_epoch + 1}, step {batch_idx + 1}"
        raise UserError(
            f"{place}: the loss is {loss}; events: "
            f"{', '.join(names[:MAX_NAMES])}{more}. Try a lower LR, gradient_clip_val, or precision 32-true. "
            "What was learned until the epoch before is kept in last.ckpt, if there was one"
        )


class EpochMemory(TorchCheckpointIO):
    """Keep a copy of the newest checkpoint, on the device, where it costs next to no time; write it to a file when asked."""

    newest: dict | None = None

    def save_checkpoint(
        self, checkpoint: dict, path: str | Path, storage_options: object = None
    ) -> None:
        """Copy ``checkpoint``; ``path`` is not used."""
        self.newest = None  # before the copy: there is never more than one
        self.newest = _of_tensors(lambda tensor: tensor.detach().clone(), checkpoint)

    def write(self, path: Path) -> None:
        """Write the copy."""
        save_atomically(self.newest, path)


def _of_tensors(change: Callable[[Tensor], Tensor], content):
    """Change the tensors in dicts and lists."""
    if isinstance(content, Tensor):
        return change(content)
    if isinstance(content, dict):
        return type(content)((key, _of_tensors(change, value)) for key, value in content.items())
    if type(content) in (list, tuple):
        return type(content)(_of_tensors(change, value) for value in content)
    return content


def save_atomically(content: object, path: Path) -> None:
    """Write a checkpoint whole or not at all; its tensors are those of a CPU, to open anywhere.

    Raises ``UserError`` naming the file where the system refuses.
    """
    content = _of_tensors(Tensor.cpu, content)

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
    """Save ``last.ckpt``, which resumes, and ``encoder-ep_N.ckpt`` = {epoch, model_state_dict, stem_stride}, every few epochs and at the end.

    Those of a pretraining also have ``seen_events``: the identities of the events that trained the
    encoder, as a sorted list of integers. Held-out events, which only monitor, are not among them.

    ``last.ckpt`` is also saved when ten minutes have passed since, and when the run is stopped by whatever leaves it the time:
    then it holds the last epoch that was finished.
    """

    def __init__(self, run: Run, period: int, memory: EpochMemory):
        self.run, self.period, self.memory = run, period, memory
        self.last_saved = time.monotonic()
        self.is_new = False
        self.seen: dict[str, list[int]] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict
    ) -> None:
        """Put the resolved configuration, and what pretraining has seen, into every checkpoint."""
        checkpoint |= {"config": self.run.plain_config} | self.seen

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the events; let the metrics table go on from the epoch that a resumed run begins with."""
        if self.run.config.kind == "ssl":
            data = trainer.datamodule
            self.seen = {"seen_events": sorted(data.archive.identities[data.train_events].tolist())}
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.forget_after(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the epoch's row, so that no checkpoint is ahead of the table; then save if it is time."""
        epoch = trainer.current_epoch + 1
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if name.startswith("train/")
        }
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.log_metrics(metrics | {"epoch": trainer.current_epoch})
                logger.save()
        if self.period < 1:
            return
        trainer.save_checkpoint("in memory")  # every process takes part
        self.is_new = True
        regular = epoch % self.period == 0 or epoch == trainer.max_epochs
        if (
            regular and trainer.is_global_zero
        ):  # before last.ckpt, after which this epoch is never computed again
            content = {
                "epoch": epoch,
                "model_state_dict": module.encoder.state_dict(),
                "stem_stride": module.hparams.stem_stride,
            }
            save_atomically(
                content | self.seen,
                self.run.dir / LAST_CHECKPOINT.parent / f"encoder-ep_{epoch}.ckpt",
            )
        if regular or time.monotonic() - self.last_saved > SAVE_EVERY_S:
            self._write_last()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save what was learned before the run was stopped."""
        try:
            self._write_last()
        except (UserError, RuntimeError) as error:  # must not hide why the run was stopped
            log.warning("%s", error)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Free the memory."""
        self.memory.newest, self.is_new = None, False

    def _write_last(self) -> None:
        if (
            self.is_new and self.memory.newest is not None
        ):  # only the first of several processes has it
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
        raise Interrupted(
            f"{reason}: go on by the same command with --resume {run.dir}", status
        ) from None
