"""Classification of single channels and of events, as the ensemble of their channels. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Callable, Mapping, Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from models.calibration import Calibration, calibrate, temper
from models.class_weights import weighted_cross_entropy
from models.encoders import build_encoder
from models.ensemble import (
    ENSEMBLES,
    Ensemble,
    ensemble_log_probs,
    least_samples,
    sensor_weights,
    signal_to_noise,
    signal_to_quiet,
)
from models.evaluation import evaluate
from models.optimisers import adam_with_cosine
from models.outputs import Evaluation, Prediction
from preprocessing.data_module import data_module_of
from preprocessing.dataset import EventBatch
from preprocessing.levels import least_measurable, measure
from preprocessing.spectrogram import LogSpectrogram, require_finite
from preprocessing.views import augment, build_changes
from utils.distributed import gather_by_event
from utils.names import AKNES_PRE_TRIGGER_S, PUBLISHED_STEM_STRIDE

# images per pass in evaluation, to limit memory; on a CPU, larger chunks are not faster
IMAGES_PER_CHUNK, IMAGES_PER_CHUNK_CPU = 256, 64
GOLDEN_RATIO = 0.6180339887  # its multiples modulo 1 are spread evenly over [0, 1)


class EventClassifier(pl.LightningModule):
    """Classifier of events: the ensemble of one network's single-channel predictions. [L22]

    ``class_names`` has K names, ``backbone_type`` is a key of ``ENCODER_SIZES``. ``class_weights``
    has K numbers: a class with weight 0 is left out of the loss; None gives all classes the same
    weight. ``learning_rate`` is a number, or {encoder, clf}. ``spectrogram`` holds the arguments of
    ``LogSpectrogram``. ``freeze_encoder`` is linear evaluation: only the classifier learns, the
    encoder stays in evaluation mode. ``freeze_bn_stat_train`` trains all weights, but BatchNorm
    uses its running statistics and does not update them. ``n_samples`` and ``pre_trigger_s`` (s)
    are the length of the training events and their time before the trigger; predict.py cuts windows
    with the same values. ``quiet_noise`` takes the noise of an event not from the time before the
    trigger but from its quiet part, see ``preprocessing.levels``. ``levels`` has the ranges of
    noise and signal of the training events, see ``training.levels``; None: not known.

    The first checkpoints do not contain the arguments that have a default here. They were made with
    these values, and the length of their events is unknown.
    """

    class_weights: Tensor
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
        quiet_noise: bool = False,
        levels: dict | None = None,
    ):
        super().__init__()
        self.save_hyperparameters()
        self.class_names = tuple(class_names)
        self.encoder, self.classifier = self.build_network(
            backbone_type, stem_stride, len(self.class_names)
        )
        self.spectrogram = LogSpectrogram(**spectrogram)
        self.changes = build_changes(augmentations)
        weights = (
            torch.ones(len(self.class_names))
            if class_weights is None
            else torch.tensor(class_weights).float()
        )
        self.register_buffer("class_weights", weights, persistent=False)
        self.encoder.requires_grad_(not freeze_encoder)
        self.evaluation: Evaluation | None = None
        # one per kind of ensemble; empty without calibration events
        self.calibrations: dict[str, Calibration] = {}
        self.about: dict = {}  # what the checkpoint says about its training; empty in old ones
        self._batches: list[Evaluation] = []
        self.train()  # Lightning does not change the modes of the modules at the start

    @staticmethod
    def build_network(
        backbone_type: str, stem_stride: int, n_classes: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return an encoder (N, 1, H, W) -> (N, D) and a linear classifier (N, D) -> (N, K)."""
        encoder = build_encoder(backbone_type, stem_stride=stem_stride)
        return encoder, nn.Linear(encoder.out_size, n_classes)

    def train(self, mode: bool = True) -> "EventClassifier":
        """Set the training mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        if mode and self.hparams["freeze_encoder"]:
            self.encoder.eval()
        if mode and self.hparams["freeze_bn_stat_train"]:
            for module in self.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def forward(self, images: Tensor) -> Tensor:
        """Map single-channel images (N, 1, H, W) to logits (N, K)."""
        return self.classifier(self.encoder(images))

    def traces(self, waveforms: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the traces (B, S', T) to classify one by one, and their mask (B, S').

        Here these are the sensors of ``waveforms`` (B, S, T), with ``mask`` (B, S).
        """
        return waveforms, mask

    def sensor_logits(self, waveforms: Tensor, mask: Tensor) -> Tensor:
        """Classify the traces (B, S, T): logits (B, S, K) float32, zero where ``mask`` is False."""
        return self.of_traces(self.forward, waveforms, mask)

    def of_traces(
        self, network: Callable[[Tensor], Tensor], waveforms: Tensor, mask: Tensor
    ) -> Tensor:
        """Apply a network (N, 1, H, W) -> (N, F) to the images of the traces (B, S, T).

        Returns (B, S, F) float32, zero where ``mask`` (B, S) is False.
        """
        event, trace = _indices(mask)
        chunks = waveforms[event, trace].split(images_per_chunk(waveforms.device))
        values = torch.cat([network(self.to_images(chunk)).float() for chunk in chunks])
        outputs = torch.zeros(*mask.shape, values.shape[1], device=waveforms.device)
        outputs[event, trace] = values
        return outputs

    def to_images(self, waveforms: Tensor) -> Tensor:
        """Compute the images (N, 1, H, W) of waveforms (N, T)."""
        return self.spectrogram.resize(self.spectrogram.native(waveforms)).unsqueeze(1)

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        """Return the class-weighted cross-entropy of one batch; every live trace is a sample."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        event, trace = _indices(mask)
        images, targets = self.to_images(waveforms[event, trace]), self.targets_of(batch)[event]
        images = augment(images, self.changes, draws_of_traces(batch, event, trace))
        logits = self.forward(images)
        smoothing = self.hparams["label_smoothing"]
        loss = weighted_cross_entropy(logits, targets, self.class_weights, smoothing)
        self._log("train", loss, logits, targets if targets.ndim == 1 else targets.argmax(-1))
        return loss

    def targets_of(self, batch: EventBatch) -> Tensor:
        """Return what training teaches: class numbers (B,), or probabilities (B, K)."""
        return batch.labels

    def validation_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Log loss and accuracy of the test events' ensembles; nothing is chosen by them."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        log_probs = ensemble_log_probs(self.sensor_logits(waveforms, mask), mask)
        loss = weighted_cross_entropy(log_probs, batch.labels, self.class_weights)
        self._log("val", loss, log_probs, batch.labels)

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

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect the logits of test and calibration events."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        logits = self.sensor_logits(waveforms, mask)
        ratio = self._signal_to_noise(waveforms, batch.quiet_s)
        # batches differ in their number of sensors
        missing = data_module_of(self.trainer).n_sensors - mask.shape[1]
        logits = F.pad(logits, (0, 0, 0, missing))
        mask, ratio = F.pad(mask, (0, missing)), F.pad(ratio, (0, missing))
        self._batches.append(Evaluation(batch.events, batch.labels, logits, mask, ratio))

    def on_test_epoch_end(self) -> None:
        """Gather the events of all processes, calibrate, and log the test metrics."""
        gathered = gather_by_event(*(list(column) for column in zip(*self._batches)))
        self._batches.clear()
        everything = Evaluation(*map(torch.from_numpy, gathered))
        calibration_events = torch.from_numpy(data_module_of(self.trainer).calibration_events)
        for_calibration = torch.isin(everything.events, calibration_events)
        self.evaluation = Evaluation(*(column[~for_calibration] for column in everything))
        if for_calibration.any():
            held_out = Evaluation(*(column[for_calibration] for column in everything))
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
        """Return the metrics of the test events, for each kind of ensemble and for single traces.

        Without events of several live traces there are no ensembles. The traces of an event share
        the weight of one event, see ``evaluate``.
        """
        assert self.evaluation is not None, "call trainer.test first"
        _, labels, logits, mask, _ = self.evaluation
        metrics = {}
        if mask.sum(1).max() > 1:
            names = {kind: f"ensemble_{kind}" for kind in ENSEMBLES} | {"all": "ensemble"}
            metrics = {
                name: evaluate(self.evaluation.log_probs(kind), labels)
                for kind, name in names.items()
            }
        event, _ = _indices(mask)
        of_traces = evaluate(F.log_softmax(logits[mask], -1), labels[event], event)
        return metrics | {self.trace_kind: of_traces}

    def predict_waveforms(self, waveforms: Tensor) -> Tensor:
        """Return class probabilities (B, K) of events (B, S, T) in recorder units.

        They are those of the ensemble of all live sensors, see ``predict_events``, which also lists
        the errors.
        """
        return self.predict_events(waveforms).log_probs.exp()

    @torch.no_grad()
    def predict_events(
        self,
        waveforms: Tensor,
        ensemble: Ensemble = "all",
        mask: Tensor | None = None,
        quiet_s: Tensor | None = None,
    ) -> Prediction:
        """Classify events (B, S, T) in recorder units.

        ``ensemble`` sets the weights of the sensors, see ``sensor_weights``. ``mask`` (B, S) is
        True for live sensors; None takes every channel that is not constant. ``quiet_s`` (B, 2) is
        the quiet part of each event, for ``quiet_noise``; None measures it. Raises ``ValueError``
        with event and channel for NaN or infinite samples, and for events that are too short for
        ``signal_to_noise``.
        """
        require_finite(waveforms)
        was_training, _ = self.training, self.eval()
        try:
            ratio = self._signal_to_noise(waveforms, quiet_s)
            live = waveforms.amax(-1) > waveforms.amin(-1) if mask is None else mask
            ratio = torch.where(live, ratio, 0)
            weights = sensor_weights(ratio, live, ensemble)
            traces, mask = self.traces(waveforms, weights > 0)
            logits = self.sensor_logits(traces, mask)
            weights = weights if mask.shape == weights.shape else mask.float()
            log_probs = temper(ensemble_log_probs(logits, weights), self.temperature(ensemble))
            return Prediction(log_probs, F.log_softmax(logits, -1), weights, ratio)
        finally:
            self.train(was_training)

    def probabilities_of_all(self, waveforms: Tensor) -> Tensor:
        """Return class probabilities (K,) of one event (S, T), for export.

        The ensemble is that of all channels that are not constant. There are no branches that
        depend on data, and no checks.
        """
        traces, mask = self.traces(waveforms[None], (waveforms.amax(-1) > waveforms.amin(-1))[None])
        logits = self.forward(self.to_images(traces[0])).float()
        return temper(ensemble_log_probs(logits[None], mask), self.temperature("all"))[0].exp()

    def temperature(self, ensemble: Ensemble) -> float:
        """Return the calibrated temperature; 1 without a calibration."""
        return self.calibrations[ensemble].temperature if self.calibrations else 1.0

    @property
    def least_samples(self) -> int:
        """The least number of samples of an event that can be classified."""
        rate_hz = self.spectrogram.sampling_rate_hz
        if self.hparams["quiet_noise"]:
            return least_measurable(self.hparams["n_samples"], rate_hz)
        return least_samples(rate_hz, self.hparams["pre_trigger_s"])

    def _signal_to_noise(self, waveforms: Tensor, quiet_s: Tensor | None) -> Tensor:
        rate_hz = self.spectrogram.sampling_rate_hz
        waveforms = self.spectrogram.filtered(waveforms)
        if not self.hparams["quiet_noise"]:
            return signal_to_noise(waveforms, rate_hz, self.hparams["pre_trigger_s"])
        if quiet_s is None:
            measured = [measure(event, rate_hz)[1:3] for event in waveforms.cpu().numpy()]
            quiet_s = torch.tensor(measured, dtype=torch.float32)
        return signal_to_quiet(waveforms, rate_hz, quiet_s.to(waveforms.device))

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        """Load the calibration, and what is known about the training, if the checkpoint has it."""
        self.about = checkpoint.get("about", {})
        found = checkpoint.get("calibrations", {})
        self.calibrations = {kind: Calibration(**found[kind]) for kind in ENSEMBLES if found}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return Adam with a cosine schedule; encoder and classifier have their own rates."""
        rate = self.hparams["learning_rate"]
        rates = rate if isinstance(rate, Mapping) else {"encoder": rate, "clf": rate}
        groups = [
            {"params": list(self.encoder.parameters()), "lr": rates["encoder"]},
            {"params": list(self.classifier.parameters()), "lr": rates["clf"]},
        ]
        return adam_with_cosine(
            groups, self.hparams["weight_decay"], self.trainer.estimated_stepping_batches
        )


def images_per_chunk(device: torch.device) -> int:
    """Return how many images go through a network at once in evaluation."""
    return IMAGES_PER_CHUNK_CPU if device.type == "cpu" else IMAGES_PER_CHUNK


def draws_of_traces(batch: EventBatch, event: Tensor, number: Tensor) -> Tensor:
    """Return the random numbers (N, n) of N traces, for ``augment``.

    Each trace of an event gets others, by its ``number`` (N,); number 0 those of the event.
    """
    return (batch.draws[event] + GOLDEN_RATIO * number[:, None]) % 1


def _indices(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the event and trace numbers (N,) that are True in (B, S); synchronises a GPU once."""
    event, trace = mask.nonzero(as_tuple=True)
    return event, trace
