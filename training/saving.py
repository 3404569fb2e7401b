"""What a checkpoint says about its training, and writing it: safely, on time, and when stopped."""

import hashlib
import logging
import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from models.event_classifier import EventClassifier
from preprocessing.data_module import EventDataModule
from training.loggers import MetricsTable
from training.runs import LAST_CHECKPOINT, Run, package_versions
from utils.errors import UserError
from utils.files import atomic

log = logging.getLogger(__name__)
SAVE_EVERY_S = 600.0


def about_training(run: Run, data: EventDataModule) -> dict[str, Any]:
    """Return what is known of a classifier's training when it starts, in types that JSON has."""
    archive, labels = data.archive, data.archive.labels
    n_sensors = archive.live.sum(1)[data.train_events]
    days = sorted(day for day in archive.days[data.train_events].tolist() if day)
    return {
        "run": run.dir.name,
        "source": run.config.dataset.source,
        "archive": str(archive.archive_dir),
        "fingerprint": archive.fingerprint,
        "n_train": len(data.train_events),
        "n_calibration": len(data.calibration_events),
        "n_test": len(data.test_events),
        "n_train_of_class": dict(sorted(Counter(labels[data.train_events].tolist()).items())),
        "days": [days[0], days[-1]] if days else [],
        "sensors": [int(n_sensors.min()), int(n_sensors.max())],
        "versions": package_versions(),
    }


def events_checksum(data: EventDataModule) -> str:
    """Return a checksum of the events that train, calibrate and test, in order, and their labels.

    It does not depend on the archive that the recordings are packed into.
    """
    whole, identities = hashlib.sha256(repr(data.class_names).encode()), data.archive.identities
    for events in (data.train_events, data.calibration_events, data.test_events):
        whole.update(repr(len(events)).encode())
        whole.update(identities[events].tobytes() + data.labels[events].tobytes())
    return whole.hexdigest()


def events_that_train(data: EventDataModule, taught: bool) -> dict[str, list[int]]:
    """Return the identities of all events that have trained the weights, sorted, for checkpoints.

    ``seen_events``: with labels or without, in this training or one before it; left out if the
    weights come from a file that does not list them. ``labelled_events``, if there are any: those
    whose labels were taught, in this training (``taught``) or before.
    """
    seen, labelled = data.trained_before
    own = data.archive.identities
    now = set(own[data.train_events].tolist())
    if taught:  # calibration events choose temperature and threshold by their labels
        now |= set(own[data.calibration_events].tolist())
    found = {} if seen is None else {"seen_events": sorted({*seen, *now})}
    all_labelled = sorted({*labelled, *(now if taught else ())})
    return found | ({"labelled_events": all_labelled} if all_labelled else {})


def require_same_events(content: dict[str, Any], data: EventDataModule, path: Path) -> None:
    """Raise ``UserError`` if the checkpoint at ``path`` was trained on other events than these.

    What were training events could be test events now. Checkpoints of earlier versions do not say.
    """
    if content.get("events_checksum") not in (None, events_checksum(data)):
        raise UserError(
            f"{path}: the events or their labels have changed since this run began, and with them "
            "its division into training and test events. Begin a new run without --resume, or "
            "bring the former events back"
        )


def now_utc() -> str:
    """Return the date and time, UTC, in ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plain_metrics(module: EventClassifier) -> dict[str, dict[str, Any]]:
    """Return the numbers of the test events' metrics, and the recall of each class."""
    return {
        kind: {name: value for name, value in metrics.items() if np.isscalar(value)}
        | {"recall": dict(zip(module.class_names, metrics["recall"]))}
        for kind, metrics in module.test_metrics().items()
    }


class EpochMemory(TorchCheckpointIO):
    """Lightning's access to checkpoints: those of a training stay in memory, no file is read twice.

    ``newest`` is a copy of the newest checkpoint on the device, which is fast; ``write`` writes it.
    """

    def __init__(self, run: Run):
        super().__init__()
        self.run = run
        self.newest: dict[str, Any] | None = None

    def load_checkpoint(self, path: object, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the checkpoint that the run has read from ``path``, and free its memory."""
        content, self.run.checkpoint = self.run.checkpoint, None
        assert content is not None, f"{path} has not been read, or is used already"
        return content

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Keep a copy of ``checkpoint`` in memory; ``path`` is not used."""
        self.newest = None  # frees the memory of the old copy before the new one is made
        self.newest = _map_tensors(lambda tensor: tensor.detach().clone(), checkpoint)

    def write(self, path: Path) -> None:
        """Write the copy to ``path``."""
        save_atomically(self.newest, path)


def _map_tensors(change: Callable[[Tensor], Tensor], content: Any) -> Any:
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
    with atomic(path) as partial:
        try:
            with open(partial, "wb") as file:
                torch.save(content, file)
                file.flush()
                os.fsync(file.fileno())
        except RuntimeError as error:  # PyTorch's message for a failed write
            raise OSError("only a part was written; is the disk full?") from error


class SaveCheckpoints(pl.Callback):
    """Save ``last.ckpt`` and ``encoder-ep_N.ckpt`` every ``period`` epochs and after the last one.

    ``last.ckpt`` holds all that is needed to resume. It is also saved ten minutes after the last
    save, and on any interruption that can be caught; then it holds the last finished epoch.

    ``encoder-ep_N.ckpt`` is a dict with ``epoch``, ``model_state_dict``, ``stem_stride`` and
    ``spectrogram``, the arguments of ``LogSpectrogram``. Both files also have what
    ``events_that_train`` returns. ``last.ckpt`` has ``events_checksum``, that of a classifier also
    ``about``.
    """

    def __init__(self, run: Run, period: int, memory: EpochMemory):
        self.run, self.period, self.memory = run, period, memory
        self.last_saved = time.monotonic()
        self.is_new = False
        self.seen: dict[str, list[int]] = {}  # for the encoder's files too
        self.about: dict[str, Any] = {}

    def on_save_checkpoint(
        self, trainer: pl.Trainer, module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add to the checkpoint the configuration, and which events it was trained on."""
        checkpoint |= {"config": self.run.plain_config} | self.seen | self.about

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the training events; remove rows of the metrics table that are computed again."""
        data: Any = trainer.datamodule  # type: ignore[attr-defined]  # set by Lightning
        self.about = {"events_checksum": events_checksum(data)}
        self.seen = events_that_train(data, taught=self.run.config.kind != "ssl")
        if self.run.config.kind != "ssl":
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
