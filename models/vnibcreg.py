"""Self-supervised learning on pairs of channels: VNIbCReg and VIbCReg. [L22, V22, V21]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7. [V22] Lee et
al., VNIbCReg, arXiv 2204.02697. [V21] Lee & Aune, VIbCReg, arXiv 2109.00783.
"""

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor

from models.encoders import build_encoder
from models.evaluation import effective_rank
from models.heads import Discriminator, Projector
from models.losses import covariance_loss, invariance_loss, tnc_loss, variance_loss
from models.optimisers import adam_with_cosine
from preprocessing.data_module import data_module_of
from preprocessing.dataset import CROP_DRAWS, EventBatch
from preprocessing.spectrogram import LogSpectrogram
from preprocessing.views import VIEWS, WholeEvent, augment, build_changes, crop_columns
from utils.distributed import gather_batch, gather_by_event
from utils.names import PUBLISHED_STEM_STRIDE

log = logging.getLogger(__name__)
N_NEIGHBOURS = 5


class VNIbCReg(pl.LightningModule):
    """Self-supervised training of an encoder on unlabelled events. [L22, V22]

    The loss is lambda_ * invariance + mu * variance + nu * covariance + rho * TNC, on views of the
    spectrograms of two channels of an event. ``use_tnc=False`` with ``RandomCrop`` is VIbCReg;
    ``WholeEvent`` has no temporal term either and is not in the paper.
    Batches are ``EventBatch`` with two sensors per event.

    ``backbone_type`` is a key of ``ENCODER_SIZES``; ``proj_hid`` and ``proj_out`` are the widths of
    the projector. ``use_diag_loss`` is explained at ``tnc_loss``. ``augmentations`` are names from
    ``AUGMENTATIONS``, one of them a view. ``spectrogram`` holds the arguments of
    ``LogSpectrogram``. ``knn_period`` is the number of epochs between evaluations by nearest
    neighbours, -1 for none. The first checkpoints do not contain ``stem_stride``; they were made
    with the published one.
    """

    channel_of_view: Tensor

    def __init__(
        self,
        backbone_type: str,
        *,
        proj_hid: int,
        proj_out: int,
        lambda_: float,
        mu: float,
        nu: float,
        rho: float,
        use_diag_loss: bool,
        use_tnc: bool,
        learning_rate: float,
        weight_decay: float,
        augmentations: Sequence[str],
        spectrogram: dict[str, Any],
        knn_period: int,
        stem_stride: int = PUBLISHED_STEM_STRIDE,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = build_encoder(backbone_type, stem_stride=stem_stride)
        self.projector = Projector(self.encoder.out_size, proj_hid, proj_out)
        self.discriminator = Discriminator(self.encoder.out_size) if use_tnc else None
        self.spectrogram = LogSpectrogram(**spectrogram)
        self.view = next(VIEWS[name]() for name in augmentations if name in VIEWS)
        self.changes = build_changes(augmentations)
        self.register_buffer(
            "channel_of_view", torch.tensor(self.view.channel_of_view), persistent=False
        )
        self._held_out: list[Tensor] = []  # representations (B, D) of this epoch's held-out events

    def forward(self, waveforms: Tensor) -> Tensor:
        """Return representations (N, D) of uncropped waveforms (N, T)."""
        return self.encoder(self.spectrogram(waveforms).unsqueeze(1))

    def cut_views(self, waveforms: Tensor, draws: Tensor) -> Tensor:
        """Return views of the spectrograms of two channels: (B, 2, T) -> (B, V, H, W').

        ``draws`` are those of ``EventBatch``. V is 3 for ``NeighboringCrop``, else 2.
        """
        if isinstance(self.view, WholeEvent):
            views = self.spectrogram.resize(self.spectrogram.native(waveforms))
        else:
            _, width = self.spectrogram.image_shape(waveforms.shape[-1])
            columns = crop_columns(self.view.centres(draws[:, CROP_DRAWS]), width)
            views = self.spectrogram.crops(waveforms, self.channel_of_view, columns)
        return augment(views, self.changes, draws)

    def losses(self, views: Tensor) -> dict[str, Tensor]:
        """Return the loss and its terms for views (B, V, H, W')."""
        return self._losses(self._represent(views))

    def _represent(self, views: Tensor) -> list[Tensor]:
        """Return the representations (B, D) of each view of (B, V, H, W').

        Those of all processes are gathered: the loss is that of the full batch. Every view is a
        batch of its own for BatchNorm.
        """
        return [gather_batch(self.encoder(view.unsqueeze(1))) for view in views.unbind(1)]

    def _losses(self, representations: list[Tensor]) -> dict[str, Tensor]:
        y, y_l, *distant = representations
        z, z_l = self.projector(y), self.projector(y_l)
        p = self.hparams
        terms = {
            "invariance": invariance_loss(z, z_l),
            "variance": variance_loss(z, z_l),
            "covariance": covariance_loss(z, z_l),
        }
        loss = (
            p["lambda_"] * terms["invariance"]
            + p["mu"] * terms["variance"]
            + p["nu"] * terms["covariance"]
        )
        if self.discriminator is not None:
            terms["tnc"], parts = tnc_loss(
                self.discriminator, y, y_l, distant[0], p["use_diag_loss"]
            )
            terms |= parts
            loss = loss + p["rho"] * terms["tnc"]
        return {"loss": loss, **terms, "z_std": z.detach().float().std(0).mean()}

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        return self._step(batch, "train")[0]

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Log the loss of held-out events; keep the representations of their first view."""
        self._held_out.append(self._step(batch, "val")[1].float())

    def _step(self, batch: EventBatch, side: str) -> tuple[Tensor, Tensor]:
        """Log the terms of the loss; return the loss and the first view's representations."""
        representations = self._represent(self.cut_views(batch.waveforms, batch.draws))
        terms = self._losses(representations)
        for name, value in terms.items():
            self.log(
                f"{side}/{name}",
                value,
                on_step=False,
                on_epoch=True,
                sync_dist=True,
                batch_size=len(batch.events),
                prog_bar=name in ("loss", "z_std"),
            )
        return terms["loss"], representations[0]

    def on_fit_start(self) -> None:
        """Log a message if there are too few labels for val/knn_accuracy."""
        wanted = self.hparams["knn_period"] > 0
        if wanted and not self._has_labels() and self.trainer.is_global_zero:
            log.info(
                "val/knn_accuracy is left out: too few labelled events (it needs %d training "
                "events and one held-out event)",
                N_NEIGHBOURS,
            )

    def _has_labels(self) -> bool:
        """Return whether there are enough labelled events for the nearest-neighbour accuracy."""
        data = data_module_of(self.trainer)
        n_train, n_test = (len(data.labelled_events(training)) for training in (True, False))
        return n_train >= N_NEIGHBOURS and n_test > 0

    def on_validation_epoch_end(self) -> None:
        """Log how good the representations are, without labels and with them.

        The effective rank is logged in every epoch, the nearest-neighbour accuracy every
        ``knn_period`` epochs.
        """
        rank = effective_rank(torch.cat(self._held_out))
        self._held_out.clear()
        self.log("val/effective_rank", rank, prog_bar=True, rank_zero_only=True)
        period, epoch = self.hparams["knn_period"], self.current_epoch + 1
        due = period > 0 and (epoch % period == 0 or epoch == self.trainer.max_epochs)
        if due and self._has_labels():
            self._log_knn_accuracy()

    def _log_knn_accuracy(self) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        y, labels = self._represent_labelled(training=True)
        y_test, labels_test = self._represent_labelled(training=False)
        accuracy = KNeighborsClassifier(N_NEIGHBOURS).fit(y, labels).score(y_test, labels_test)
        self.log("val/knn_accuracy", float(accuracy), prog_bar=True, rank_zero_only=True)

    def _represent_labelled(self, training: bool) -> tuple[np.ndarray, np.ndarray]:
        """Return representations (N, D) and labels (N,) of labelled training or test events."""
        events, representations, labels = [], [], []
        for batch in data_module_of(self.trainer).labelled_batches(training, self.device):
            y = self.encoder(self.spectrogram.resize(self.spectrogram.native(batch.waveforms)))
            events.append(batch.events)
            representations.append(y.float())
            labels.append(batch.labels)
        _, all_representations, all_labels = gather_by_event(events, representations, labels)
        return all_representations, all_labels

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with a cosine schedule."""
        group = {"params": list(self.parameters()), "lr": self.hparams["learning_rate"]}
        return adam_with_cosine(
            [group], self.hparams["weight_decay"], self.trainer.estimated_stepping_batches
        )
