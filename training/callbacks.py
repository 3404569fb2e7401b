"""Lightning callbacks: seeding, check of the loss, checkpoints; messages when a run is stopped."""

import logging
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor

from training.about import about_training, events_checksum
from training.loggers import MetricsTable
from training.runs import LAST_CHECKPOINT, Run
from utils.errors import Interrupted, UserError
from utils.files import write_atomically

log = logging.getLogger(__name__)
SAVE_EVERY_S = 600.0
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


class EpochMemory(TorchCheckpointIO):
    """Keep a copy of the newest checkpoint in device memory, which is fast; write it on request."""

    newest: dict | None = None

    def save_checkpoint(
        self, checkpoint: dict, path: str | Path, storage_options: object = None
    ) -> None:
        """Keep a copy of ``checkpoint`` in memory; ``path`` is not used."""
        self.newest = None  # frees the memory of the old copy before the new one is made
        self.newest = _map_tensors(lambda tensor: tensor.detach().clone(), checkpoint)

    def write(self, path: Path) -> None:
        """Write the copy to ``path``."""
        save_atomically(self.newest, path)


def _map_tensors(change: Callable[[Tensor], Tensor], content):
    """Apply ``change`` to all tensors in nested dicts, lists and tuples."""
    if isinstance(content, Tensor):
        return change(content)
    if isinstance(content, dict):
        return type(content)((key, _map_tensors(change, value)) for key, value in content.items())
    if type(content) in (list, tuple):
        return type(content)(_map_tensors(change, value) for value in content)
    return content


def save_atomically(content: object, path: Path) -> None:
    """Write a checkpoint atomically, with all tensors on the CPU.

    Raises ``UserError`` naming the file if it cannot be written.
    """
    content = _map_tensors(Tensor.cpu, content)

    def write(partial: Path) -> None:
        try:
            with open(partial, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # PyTorch's message for a failed write
            raise OSError("only a part was written; is the disk full?") from error

    write_atomically(path, write)


class SaveCheckpoints(pl.Callback):
    """Save ``last.ckpt`` and ``encoder-ep_N.ckpt`` every ``period`` epochs and after the last one.

    ``last.ckpt`` holds all that is needed to resume. It is also saved ten minutes after the last
    save, and on any interruption that can be caught; then it holds the last finished epoch.

    ``encoder-ep_N.ckpt`` is a dict with ``epoch``, ``model_state_dict``, ``stem_stride`` and
    ``spectrogram``, the arguments of ``LogSpectrogram``. After pretraining both files also have
    ``seen_events``: identities of the training events, a sorted list of integers; held-out events
    are not among them. ``last.ckpt`` has ``events_checksum``, that of a classifier also ``about``,
    see ``training.about``.
    """

    def __init__(self, run: Run, period: int, memory: EpochMemory):
        self.run, self.period, self.memory = run, period, memory
        self.last_saved = time.monotonic()
        self.is_new = False
        self.seen: dict[str, list[int]] = {}  # for the encoder's files too
        self.about: dict[str, Any] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict
    ) -> None:
        """Add to the checkpoint the configuration, and which events it was trained on."""
        checkpoint |= {"config": self.run.plain_config} | self.seen | self.about

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the training events; remove rows of the metrics table that are computed again."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        self.about = {"events_checksum": events_checksum(data)}
        if self.run.config.kind == "ssl":
            self.seen = {"seen_events": sorted(data.archive.identities[data.train_events].tolist())}
        else:
            self.about["about"] = about_training(self.run, data)
        for logger in trainer.loggers:
            if isinstance(logger, MetricsTable):
                logger.forget_after(trainer.current_epoch)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Write the epoch's row of the metrics table, then checkpoints if they are due."""
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
        trainer.save_checkpoint("in memory")  # must be called in every process
        self.is_new = True
        regular = epoch % self.period == 0 or epoch == trainer.max_epochs
        # before last.ckpt, after which this epoch is not computed again
        if regular and trainer.is_global_zero:
            content = {
                "epoch": epoch,
                "model_state_dict": module.get_submodule("encoder").state_dict(),
                "stem_stride": module.hparams["stem_stride"],
                "spectrogram": module.hparams["spectrogram"],
            }
            folder = self.run.dir / LAST_CHECKPOINT.parent
            save_atomically(content | self.seen, folder / f"encoder-ep_{epoch}.ckpt")
        if regular or time.monotonic() - self.last_saved > SAVE_EVERY_S:
            self._write_last()

    def on_exception(
        self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Save the last finished epoch when the run is stopped."""
        try:
            self._write_last()
        except (UserError, RuntimeError) as error:  # must not hide the reason of the stop
            log.warning("%s", error)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Free the memory of the copy."""
        self.memory.newest, self.is_new = None, False

    def _write_last(self) -> None:
        # only the first of several processes has a copy
        if self.is_new and self.memory.newest is not None:
            self.is_new, self.last_saved = False, time.monotonic()
            self.memory.write(self.run.dir / LAST_CHECKPOINT)


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
