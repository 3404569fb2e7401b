"""Share of the pretraining time that is spent outside the network."""

import time
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from torch import Tensor

from benchmarks.network_rows import CPU, precisions
from benchmarks.networks import build_pretraining
from benchmarks.table import Row
from benchmarks.timing import seconds_of
from benchmarks.trainer import quiet_trainer
from benchmarks.work import Work
from models.vnibcreg import VNIbCReg
from preprocessing.data_module import EventDataModule


class _Timed(VNIbCReg):
    """VNIbCReg that sums the time in the network: forward, losses, backward, optimiser step."""

    network_s = closure_s = 0.0

    def losses(self, crops: Tensor) -> dict[str, Tensor]:
        result = {}
        elapsed_s = seconds_of(lambda: result.update(super(_Timed, self).losses(crops)))
        self.network_s += elapsed_s
        return result

    def backward(self, loss: Tensor, *arguments, **options) -> None:
        elapsed_s = seconds_of(lambda: super(_Timed, self).backward(loss, *arguments, **options))
        self.network_s += elapsed_s

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure=None) -> None:
        inside = []

        def closure():
            results = []
            inside.append(seconds_of(lambda: results.append(optimizer_closure())))
            return results[0]

        elapsed_s = seconds_of(
            lambda: super(_Timed, self).optimizer_step(epoch, batch_idx, optimizer, closure),
        )
        self.network_s += elapsed_s - sum(inside)


def share_row(work: Work, folder: Path) -> Row:
    """Measure the time share of input, crops, logging and Lightning in a pretraining epoch."""
    size, precision, events = work.size, precisions()[-1], np.arange(len(work.archive))
    model = build_pretraining(size.ssl_backbone, size.projector, kind=_Timed)
    data = EventDataModule(
        work.archive,
        events,
        events[:2],
        class_names=work.archive.class_names,
        batch_size=size.ssl_batch,
        sensors_train="pair",
        preload="ram",
    )
    spent = {}

    class Epoch(pl.Callback):
        def on_train_epoch_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            assert isinstance(module, _Timed)
            spent["start"], module.network_s = time.perf_counter(), 0.0

        def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
            spent["epoch"] = time.perf_counter() - spent["start"]
            assert isinstance(module, _Timed)
            spent["network"] = module.network_s

    trainer = quiet_trainer(
        2,
        CPU,
        precision,
        limit_val_batches=0,
        callbacks=[Epoch()],
        default_root_dir=folder,
    )
    trainer.fit(model, datamodule=data)
    share = 100 * (1 - spent["network"] / spent["epoch"])
    what = f"share of an SSL epoch outside the network, {precision}, preload: ram"
    return Row(what, "", f"{spent['epoch']:.3g} s an epoch", f"{share:.2g} %", "≤ 5 %", share <= 5)
