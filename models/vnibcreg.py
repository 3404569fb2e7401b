"""Self-supervised learning on pairs of channels: VNIbCReg, and VIbCReg without its temporal term. [L22, V22, V21]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7. [V22] Lee et al., arXiv 2204.02697.
[V21] Lee & Aune, arXiv 2109.00783.
"""

import logging
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from torch import Tensor

from models.encoders import build_encoder
from models.heads import Discriminator, Projector
from models.losses import covariance_loss, invariance_loss, tnc_loss, variance_loss
from models.optimisers import adam_with_cosine
from preprocessing.spectrogram import LogSpectrogram
from preprocessing.views import (
    AUGMENTATIONS,
    NeighboringCrop,
    RandomAmplitudeJitter,
    RandomCrop,
    crop_columns,
)
from utils.distributed import gather_batch, gather_by_event
from utils.names import PUBLISHED_STEM_STRIDE

log = logging.getLogger(__name__)
N_CROP_DRAWS = 3  # of a batch's draws, the first three place crops and the rest scale them
N_NEIGHBOURS = 5


class VNIbCReg(pl.LightningModule):
    """Learn an encoder from unlabelled events.

    L = lambda_ * invariance + mu * variance + nu * covariance + rho * TNC on crops of the spectrograms of two channels of an
    event. ``use_tnc=False`` with ``RandomCrop`` is VIbCReg. Batches are ``EventBatch`` with two sensors per event.

    ``spectrogram`` holds the arguments of ``LogSpectrogram``. ``knn_period`` is the number of
    epochs between nearest-neighbour checks, -1 for none. ``stem_stride`` is missing in the first
    checkpoints, which were made with the published one.
    """

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
        spectrogram: dict,
        knn_period: int,
        stem_stride: int = PUBLISHED_STEM_STRIDE,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.encoder = build_encoder(backbone_type, stem_stride=stem_stride)
        self.projector = Projector(self.encoder.out_size, proj_hid, proj_out)
        self.discriminator = Discriminator(self.encoder.out_size) if use_tnc else None
        self.spectrogram = LogSpectrogram(**spectrogram)
        views = [AUGMENTATIONS[name]() for name in augmentations]
        self.crop = next(view for view in views if isinstance(view, NeighboringCrop | RandomCrop))
        self.register_buffer(
            "channel_of_view", torch.tensor(self.crop.channel_of_view), persistent=False
        )
        self.jitter = next(
            (view for view in views if isinstance(view, RandomAmplitudeJitter)), None
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """Represent whole waveforms (N, T) as (N, D)."""
        return self.encoder(self.spectrogram(waveforms).unsqueeze(1))

    def cut_views(self, waveforms: Tensor, draws: Tensor) -> Tensor:
        """Cut crops from the images of two channels: (B, 2, T), (B, 6) -> (B, V, H, W'), V = 2 or 3 views."""
        _, width = self.spectrogram.image_shape(waveforms.shape[-1])
        columns = crop_columns(self.crop.centres(draws[:, :N_CROP_DRAWS]), width)
        crops = self.spectrogram.crops(waveforms, self.channel_of_view, columns)
        return (
            crops
            if self.jitter is None
            else self.jitter(crops, draws[:, N_CROP_DRAWS:][:, : crops.shape[1]])
        )

    def losses(self, crops: Tensor) -> dict[str, Tensor]:
        """Compute the loss of the batch of all processes from this one's views (B, V, H, W'), one encoder pass per view."""
        y, y_l, *distant = (
            gather_batch(self.encoder(view.unsqueeze(1))) for view in crops.unbind(1)
        )
        z, z_l = self.projector(y), self.projector(y_l)
        p = self.hparams
        terms = {
            "invariance": invariance_loss(z, z_l),
            "variance": variance_loss(z, z_l),
            "covariance": covariance_loss(z, z_l),
        }
        loss = (
            p.lambda_ * terms["invariance"] + p.mu * terms["variance"] + p.nu * terms["covariance"]
        )
        if self.discriminator is not None:
            terms["tnc"], parts = tnc_loss(self.discriminator, y, y_l, distant[0], p.use_diag_loss)
            terms |= parts
            loss = loss + p.rho * terms["tnc"]
        return {"loss": loss, **terms, "z_std": z.detach().float().std(0).mean()}

    def training_step(self, batch, batch_idx: int) -> Tensor:
        """Return the loss of one batch."""
        return self._step(batch, "train")

    def validation_step(self, batch, batch_idx: int) -> None:
        """Monitor the loss on held-out events."""
        self._step(batch, "val")

    def _step(self, batch, side: str) -> Tensor:
        terms = self.losses(self.cut_views(batch.waveforms, batch.draws))
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
        return terms["loss"]

    def on_fit_start(self) -> None:
        """Say if there are too few labels for the accuracy of neighbours."""
        if self.hparams.knn_period > 0 and not self._has_labels() and self.trainer.is_global_zero:
            log.info(
                "Too few labelled events to tell classes by neighbours: val/knn_accuracy is left out"
            )

    def _has_labels(self) -> bool:
        """Tell whether training events can be neighbours, and held-out ones have a class to be told."""
        data = self.trainer.datamodule
        n_train, n_test = (
            (data.labels[side] >= 0).sum() for side in (data.train_events, data.test_events)
        )
        return n_train >= N_NEIGHBOURS and n_test > 0

    def on_validation_epoch_end(self) -> None:
        """Monitor how well neighbours among training events tell the class of held-out ones."""
        period, epoch = self.hparams.knn_period, self.current_epoch + 1
        if (
            period > 0
            and self._has_labels()
            and (epoch % period == 0 or epoch == self.trainer.max_epochs)
        ):
            self._log_knn_accuracy()

    def _log_knn_accuracy(self) -> None:
        from sklearn.neighbors import KNeighborsClassifier

        y, labels = self._represent_labelled(training=True)
        y_test, labels_test = self._represent_labelled(training=False)
        accuracy = KNeighborsClassifier(N_NEIGHBOURS).fit(y, labels).score(y_test, labels_test)
        self.log("val/knn_accuracy", float(accuracy), prog_bar=True, rank_zero_only=True)

    def _represent_labelled(self, training: bool):
        """Represent one fixed channel of each labelled event of one side: (N, D) and labels (N,)."""
        data, events, representations, labels = self.trainer.datamodule, [], [], []
        for batch in data.labelled_dataloader(training):
            batch = data.on_after_batch_transfer(
                data.transfer_batch_to_device(batch, self.device, 0), 0
            )
            y = self.encoder(self.spectrogram.resize(self.spectrogram.native(batch.waveforms)))
            (
                events.append(batch.events),
                representations.append(y.float()),
                labels.append(batch.labels),
            )
        _, y, labels = gather_by_event(events, representations, labels)
        return y, labels

    def configure_optimizers(self) -> dict:
        """Use Adam with a cosine schedule."""
        group = {"params": list(self.parameters()), "lr": self.hparams.learning_rate}
        return adam_with_cosine(
            [group], self.hparams.weight_decay, self.trainer.estimated_stepping_batches
        )
