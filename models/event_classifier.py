"""Classify single channels, predict with the ensemble of them. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.calibration import Calibration, calibrate, temper
from models.encoders import build_encoder
from models.ensemble import ENSEMBLES, Ensemble, ensemble_log_probs, sensor_weights, signal_to_noise
from models.evaluation import evaluate
from models.optimisers import adam_with_cosine
from preprocessing.spectrogram import LogSpectrogram, require_finite
from preprocessing.views import RandomAmplitudeJitter
from utils.distributed import gather_by_event, mean_over_processes
from utils.names import AKNES_PRE_TRIGGER_S, PUBLISHED_STEM_STRIDE

# bound the memory of evaluation, whatever the number of sensors; on a CPU, more gain nothing
IMAGES_PER_CHUNK, IMAGES_PER_CHUNK_CPU = 256, 64
JITTER_DRAW = 3


class Evaluation(NamedTuple):
    """Keep what held-out events were taken for."""

    events: Tensor  # (N,) places in the archive
    labels: Tensor  # (N,)
    logits: Tensor  # (N, S, K)
    mask: Tensor  # (N, S) living sensors
    ratio: Tensor  # (N, S) signal over noise

    def log_probs(self, ensemble: Ensemble = "all") -> Tensor:
        """Return the ensemble's log-probabilities (N, K)."""
        return ensemble_log_probs(self.logits, sensor_weights(self.ratio, self.mask, ensemble))


class Prediction(NamedTuple):
    """Keep what B events were taken for: by the ensemble, and by each of the S sensors (stacked: the one trace)."""

    log_probs: Tensor  # (B, K), calibrated if the classifier is
    sensor_log_probs: Tensor  # (B, S, K)
    weights: Tensor  # (B, S), 0 for sensors that took no part
    ratio: Tensor  # (B, S') signal over noise of every sensor that was recorded


class EventClassifier(pl.LightningModule):
    """Classify events from the single-channel predictions of one network.

    ``learning_rate`` is a number, or {encoder, clf}. ``class_weights`` has K numbers, a weight
    of 0 keeps a class out of the loss; None counts all classes alike. ``spectrogram`` holds the
    arguments of ``LogSpectrogram``. ``freeze_encoder`` is linear evaluation: the encoder stays
    in evaluation mode. ``freeze_bn_stat_train`` trains all weights but keeps BatchNorm on its
    running statistics. ``n_samples`` and ``pre_trigger_s`` describe the events of training;
    predict.py cuts windows like them.

    Arguments with a default are missing in the first checkpoints, which were made with these
    values and do not say how long their events were.
    """

    trace_kind = "single_channel"

    def __init__(
        self,
        class_names: Sequence[str],
        backbone_type: str,
        *,
        class_weights: Sequence[float] | None,
        learning_rate: float | Mapping[str, float],
        weight_decay: float,
        label_smoothing: float,
        freeze_encoder: bool,
        freeze_bn_stat_train: bool,
        augmentations: Sequence[str],
        spectrogram: dict,
        stem_stride: int = PUBLISHED_STEM_STRIDE,
        n_samples: int | None = None,
        pre_trigger_s: float = AKNES_PRE_TRIGGER_S,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.class_names = tuple(class_names)
        self.encoder, self.classifier = self.build_network(
            backbone_type, stem_stride, len(self.class_names)
        )
        self.spectrogram = LogSpectrogram(**spectrogram)
        self.jitter = RandomAmplitudeJitter() if "RandomAmplitudeJitter" in augmentations else None
        weights = (
            torch.ones(len(self.class_names))
            if class_weights is None
            else torch.tensor(class_weights).float()
        )
        self.register_buffer("class_weights", weights, persistent=False)
        self.encoder.requires_grad_(not freeze_encoder)
        self.evaluation: Evaluation | None = None
        self.calibrations: dict[
            str, Calibration
        ] = {}  # of each kind of ensemble; none if nothing was held out
        self._batches: list[Evaluation] = []
        self.train()  # Lightning keeps the modes that it finds

    @staticmethod
    def build_network(
        backbone_type: str, stem_stride: int, n_classes: int
    ) -> tuple[nn.Module, nn.Module]:
        """Build encoder (N, 1, H, W) -> (N, D) and linear classifier (N, D) -> (N, K)."""
        encoder = build_encoder(backbone_type, stem_stride=stem_stride)
        return encoder, nn.Linear(encoder.out_size, n_classes)

    def train(self, mode: bool = True) -> "EventClassifier":
        """Set training mode, but keep frozen parts in evaluation mode."""
        super().train(mode)
        if mode and self.hparams.freeze_encoder:
            self.encoder.eval()
        if mode and self.hparams.freeze_bn_stat_train:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map single-channel images (N, 1, H, W) to logits (N, K)."""
        return self.classifier(self.encoder(images))

    def traces(self, waveforms: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the traces (B, S', T) that are classified one by one, and which of them exist (B, S')."""
        return waveforms, mask

    def sensor_logits(self, waveforms: Tensor, mask: Tensor) -> Tensor:
        """Classify every existing trace of (B, S, T): logits (B, S, K) float32, zeros where ``mask`` (B, S) is False."""
        event, trace = _places(mask)
        living = waveforms[event, trace]
        n_images = IMAGES_PER_CHUNK_CPU if living.device.type == "cpu" else IMAGES_PER_CHUNK
        chunks = [self.forward(self.to_images(chunk)).float() for chunk in living.split(n_images)]
        logits = torch.zeros(*mask.shape, len(self.class_names), device=waveforms.device)
        logits[event, trace] = torch.cat(chunks)
        return logits

    def to_images(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (N, T) into images (N, 1, H, W)."""
        return self.spectrogram.resize(self.spectrogram.native(waveforms)).unsqueeze(1)

    def training_step(self, batch, batch_idx: int) -> Tensor:
        """Return the class-weighted cross-entropy of one batch, every living trace counting as a sample."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        event, trace = _places(mask)
        images, labels = self.to_images(waveforms[event, trace]), batch.labels[event]
        if self.jitter is not None:
            images = self.jitter(images, batch.draws[event, JITTER_DRAW, None])
        logits = self.forward(images)
        loss = weighted_cross_entropy(
            logits, labels, self.class_weights, self.hparams.label_smoothing
        )
        self._log("train", loss, logits, labels)
        return loss

    def validation_step(self, batch, batch_idx: int) -> None:
        """Monitor held-out events, on as many sensors as training uses."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        log_probs = ensemble_log_probs(self.sensor_logits(waveforms, mask), mask)
        self._log(
            "val",
            weighted_cross_entropy(log_probs, batch.labels, self.class_weights),
            log_probs,
            batch.labels,
        )

    def _log(self, side: str, loss: Tensor, scores: Tensor, labels: Tensor) -> None:
        accuracy = (scores.argmax(-1) == labels).float().mean()
        self.log_dict(
            {f"{side}/loss": loss, f"{side}/accuracy": accuracy},
            on_step=False,
            on_epoch=True,
            prog_bar=True,
            sync_dist=True,
            batch_size=len(labels),
        )

    def test_step(self, batch, batch_idx: int) -> None:
        """Collect the logits of all test and calibration events."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        logits = self.sensor_logits(waveforms, mask)
        ratio = self._signal_to_noise(waveforms)
        missing = (
            self.trainer.datamodule.archive.live.shape[1] - mask.shape[1]
        )  # batches differ in their sensors
        logits, mask, ratio = (
            F.pad(logits, (0, 0, 0, missing)),
            F.pad(mask, (0, missing)),
            F.pad(ratio, (0, missing)),
        )
        self._batches.append(Evaluation(batch.events, batch.labels, logits, mask, ratio))

    def on_test_epoch_end(self) -> None:
        """Gather the events of all processes, each once; calibrate; log the test metrics with and without the ensemble."""
        gathered = gather_by_event(*(list(column) for column in zip(*self._batches)))
        self._batches.clear()
        both = Evaluation(*map(torch.from_numpy, gathered))
        for_calibration = torch.isin(
            both.events, torch.from_numpy(self.trainer.datamodule.calibration_events)
        )
        self.evaluation = Evaluation(*(column[~for_calibration] for column in both))
        if for_calibration.any():
            held_out = Evaluation(*(column[for_calibration] for column in both))
            self.calibrations = {
                kind: calibrate(held_out.log_probs(kind), held_out.labels) for kind in ENSEMBLES
            }
        for kind, metrics in self.test_metrics().items():
            numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
            self.log_dict(
                {f"test/{kind}/{name}": value for name, value in numbers.items()},
                rank_zero_only=True,
            )

    def test_metrics(self) -> dict[str, dict]:
        """Score the evaluated test events: by the ensembles (if there are any), and every living trace by itself."""
        _, labels, logits, mask, _ = self.evaluation
        metrics = {}
        if mask.sum(1).max() > 1:
            names = {kind: f"ensemble_{kind}" for kind in ENSEMBLES} | {"all": "ensemble"}
            metrics = {
                name: evaluate(self.evaluation.log_probs(kind), labels)
                for kind, name in names.items()
            }
        trace_labels = labels[:, None].expand(mask.shape)[mask]
        return metrics | {
            self.trace_kind: evaluate(
                F.log_softmax(logits[mask], -1), trace_labels, n_events=len(labels)
            )
        }

    def predict_waveforms(self, waveforms: Tensor) -> Tensor:
        """Classify events (B, S, T) in recorder units: class probabilities (B, K) of the ensemble of living sensors.

        Raises ``ValueError`` naming event and channel for NaN or infinite samples.
        """
        return self.predict_events(waveforms).log_probs.exp()

    @torch.no_grad()
    def predict_events(
        self, waveforms: Tensor, ensemble: Ensemble = "all", mask: Tensor | None = None
    ) -> Prediction:
        """Classify events (B, S, T) in recorder units by the sensors that ``ensemble`` chooses among those in ``mask`` (B, S).

        Without a mask, every sensor that is not constant is there. Raises ``ValueError`` naming event and channel for NaN or
        infinite samples, and for events without room for noise.
        """
        require_finite(waveforms)
        was_training, _ = self.training, self.eval()
        try:
            ratio = self._signal_to_noise(waveforms)
            living = waveforms.amax(-1) > waveforms.amin(-1) if mask is None else mask
            ratio = torch.where(living, ratio, 0)
            weights = sensor_weights(ratio, living, ensemble)
            traces, mask = self.traces(waveforms, weights > 0)
            logits = self.sensor_logits(traces, mask)
            weights = weights if mask.shape == weights.shape else mask.float()
            log_probs = temper(ensemble_log_probs(logits, weights), self.temperature(ensemble))
            return Prediction(log_probs, F.log_softmax(logits, -1), weights, ratio)
        finally:
            self.train(was_training)

    def probabilities_of_all(self, waveforms: Tensor) -> Tensor:
        """Classify one event (S, T) by every channel that is not constant, without branches or checks: (K,), for export."""
        traces, mask = self.traces(waveforms[None], (waveforms.amax(-1) > waveforms.amin(-1))[None])
        logits = self.forward(self.to_images(traces[0])).float()
        return temper(ensemble_log_probs(logits[None], mask), self.temperature("all"))[0].exp()

    def temperature(self, ensemble: Ensemble) -> float:
        """Return the calibrated temperature; 1 without a calibration."""
        return self.calibrations[ensemble].temperature if self.calibrations else 1.0

    def _signal_to_noise(self, waveforms: Tensor) -> Tensor:
        return signal_to_noise(
            waveforms, self.spectrogram.sampling_rate_hz, self.hparams.pre_trigger_s
        )

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Take the calibration out of a checkpoint that has one."""
        found = checkpoint.get("calibrations", {})
        self.calibrations = {kind: Calibration(**found[kind]) for kind in ENSEMBLES if found}

    def configure_optimizers(self) -> dict:
        """Use Adam with a cosine schedule, with one learning rate each for encoder and classifier."""
        rate = self.hparams.learning_rate
        rates = rate if isinstance(rate, Mapping) else {"encoder": rate, "clf": rate}
        groups = [
            {"params": list(self.encoder.parameters()), "lr": rates["encoder"]},
            {"params": list(self.classifier.parameters()), "lr": rates["clf"]},
        ]
        return adam_with_cosine(
            groups, self.hparams.weight_decay, self.trainer.estimated_stepping_batches
        )


def _places(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return event and trace (N,) of what exists in (B, S). A GPU has to wait for that: once."""
    return mask.nonzero(as_tuple=True)


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor, label_smoothing: float = 0.0
) -> Tensor:
    """Return the class-weighted mean cross-entropy of logits (N, K), float32; 0 if every label has weight 0. [L22]

    Averaged over processes, it is the mean over the samples of all of them.
    """
    total = F.cross_entropy(
        logits.float(), labels, class_weights, reduction="sum", label_smoothing=label_smoothing
    )
    weight = mean_over_processes(class_weights[labels].sum())
    return total / weight.clamp(min=torch.finfo(torch.float32).tiny)


def balanced_class_weights(
    labels: Sequence[int], n_classes: int, without: Sequence[int] = ()
) -> list[float]:
    """Return the weight n / (K' n_c) of each class, counted on the training ``labels``. [L22]

    n and K' count without the classes in ``without``, which get 0, as do classes without events.
    """
    counts = torch.bincount(torch.as_tensor(labels), minlength=n_classes).double()
    counts[list(without)] = 0
    n_counted = int((counts > 0).sum())
    return [float(counts.sum() / (n_counted * n)) if n else 0.0 for n in counts]
