"""The network that predicts: single channels, and events as the ensemble of their channels. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from models.calibration import Calibration, temper
from models.encoders import build_encoder
from models.ensemble import (
    ENSEMBLES,
    Ensemble,
    Prediction,
    ensemble_log_probs,
    least_samples,
    sensor_weights,
    signal_to_pre_trigger_noise,
    signal_to_quiet_noise,
)
from preprocessing.levels import least_measurable, measure
from preprocessing.spectrogram import LogSpectrogram, require_finite
from utils.checkpoints import require_finite_weights
from utils.names import AKNES_PRE_TRIGGER_S, PUBLISHED_STEM_STRIDE

# arguments of ``EventClassifier`` that only concern its training
TRAINING_PARAMETERS = {
    "learning_rate",
    "weight_decay",
    "label_smoothing",
    "freeze_encoder",
    "freeze_bn_stat_train",
    "augmentations",
}
# images per pass in evaluation, to limit memory; on a CPU, larger chunks are not faster
IMAGES_PER_CHUNK, IMAGES_PER_CHUNK_CPU = 256, 64


class EventNetwork(nn.Module):
    """Network and prediction: the ensemble of one network's single-channel predictions. [L22]

    ``EventClassifier`` trains it. It holds all that a prediction needs, and imports nothing that
    only a training needs.

    ``class_names`` has K names, ``backbone_type`` is a key of ``ENCODER_SIZES``. ``class_weights``
    has K numbers: a class with weight 0 is left out of the loss, and never predicted; None gives
    all classes the same weight. ``spectrogram`` holds the arguments of ``LogSpectrogram``.
    ``n_samples`` and ``pre_trigger_s`` (s) are the length of the training events and their time
    before the trigger; predict.py cuts windows with the same values. ``quiet_noise`` takes the
    noise of an event not from the time before the trigger but from its quiet part, see
    ``preprocessing.levels``. ``levels`` has the ranges of noise and signal of the training events,
    see ``training.level_ranges``; None: not known.

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
        spectrogram: dict[str, Any],
        stem_stride: int = PUBLISHED_STEM_STRIDE,
        n_samples: int | None = None,
        pre_trigger_s: float = AKNES_PRE_TRIGGER_S,
        quiet_noise: bool = False,
        levels: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.class_names = tuple(class_names)
        self.backbone_type, self.stem_stride = backbone_type, stem_stride
        self.n_samples = n_samples or 0  # 0: unknown, in the first checkpoints
        self.pre_trigger_s = pre_trigger_s
        self.quiet_noise, self.levels = quiet_noise, levels
        self.encoder, self.classifier = self.build_network(
            backbone_type, stem_stride, len(self.class_names)
        )
        self.spectrogram = LogSpectrogram(**spectrogram)
        weights = (
            torch.ones(len(self.class_names))
            if class_weights is None
            else torch.tensor(class_weights).float()
        )
        self.register_buffer("class_weights", weights, persistent=False)
        # one per kind of ensemble; empty without calibration events
        self.calibrations: dict[str, Calibration] = {}
        self.about: dict[
            str, Any
        ] = {}  # what the checkpoint says about its training; empty in old ones

    @classmethod
    def from_checkpoint(cls, checkpoint: dict[str, Any], path: Path) -> "EventNetwork":
        """Build the network of a checkpoint of a training, with its weights and calibration.

        ``checkpoint`` has ``hyper_parameters``, ``state_dict`` and, after a test, ``calibrations``;
        it was read from ``path``. Raises ``CheckpointError`` for weights that are not finite.
        """
        parameters = checkpoint["hyper_parameters"]
        known = {name: parameters[name] for name in parameters if name not in TRAINING_PARAMETERS}
        network = cls(**known)
        network.load_state_dict(checkpoint["state_dict"])
        require_finite_weights(path, network.state_dict())
        network.set_facts(checkpoint)
        return network.eval()

    def set_facts(self, checkpoint: dict[str, Any]) -> None:
        """Take calibration, and what is known about the training, if the checkpoint has them."""
        self.about = checkpoint.get("about", {})
        found = checkpoint.get("calibrations", {})
        self.calibrations = {kind: Calibration(**found[kind]) for kind in ENSEMBLES if found}

    @staticmethod
    def build_network(
        backbone_type: str, stem_stride: int, n_classes: int
    ) -> tuple[nn.Module, nn.Module]:
        """Return an encoder (N, 1, H, W) -> (N, D) and a linear classifier (N, D) -> (N, K)."""
        encoder = build_encoder(backbone_type, stem_stride=stem_stride)
        return encoder, nn.Linear(encoder.out_size, n_classes)

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
        return self.map_traces(self.forward, waveforms, mask)

    def map_traces(
        self, network: Callable[[Tensor], Tensor], waveforms: Tensor, mask: Tensor
    ) -> Tensor:
        """Apply a network (N, 1, H, W) -> (N, F) to the images of the traces (B, S, T).

        Returns (B, S, F) float32, zero where ``mask`` (B, S) is False.
        """
        event, trace = live_traces(mask)
        chunks = waveforms[event, trace].split(images_per_chunk(waveforms.device))
        values = torch.cat([network(self.to_images(chunk)).float() for chunk in chunks])
        outputs = torch.zeros(*mask.shape, values.shape[1], device=waveforms.device)
        outputs[event, trace] = values
        return outputs

    def to_images(self, waveforms: Tensor) -> Tensor:
        """Compute the images (N, 1, H, W) of waveforms (N, T)."""
        return self.spectrogram.resize(self.spectrogram.native(waveforms)).unsqueeze(1)

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
            ratio = self.signal_to_noise(waveforms, quiet_s)
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

        The ensemble is that of all channels that are not constant. Without checks and without
        branches that depend on data, which ONNX cannot contain.
        """
        traces, mask = self.traces(waveforms[None], (waveforms.amax(-1) > waveforms.amin(-1))[None])
        logits = self.forward(self.to_images(traces[0])).float()
        return temper(ensemble_log_probs(logits[None], mask), self.temperature("all"))[0].exp()

    def temperature(self, ensemble: Ensemble) -> float:
        """Return the calibrated temperature; 1 without a calibration."""
        return self.calibrations[ensemble].temperature if self.calibrations else 1.0

    @property
    def learned_classes(self) -> Tensor:
        """Which classes have a weight in the loss: (K,) bool, on the CPU."""
        return self.class_weights.cpu() > 0

    @property
    def least_samples(self) -> int:
        """The least number of samples of an event that can be classified."""
        rate_hz = self.spectrogram.sampling_rate_hz
        if self.quiet_noise:
            return least_measurable(self.n_samples, rate_hz)
        return least_samples(rate_hz, self.pre_trigger_s)

    def signal_to_noise(self, waveforms: Tensor, quiet_s: Tensor | None) -> Tensor:
        """Return the signal-to-noise ratio (B, S) of the sensors of events (B, S, T).

        ``quiet_s`` as in ``predict_events``.
        """
        rate_hz = self.spectrogram.sampling_rate_hz
        filtered = self.spectrogram.filtered(waveforms)
        if not self.quiet_noise:
            return signal_to_pre_trigger_noise(filtered, rate_hz, self.pre_trigger_s)
        if quiet_s is None:
            pairs = zip(filtered.cpu().numpy(), waveforms.cpu().numpy())
            measured = [measure(event, rate_hz, recorded)[1:3] for event, recorded in pairs]
            quiet_s = torch.tensor(measured, dtype=torch.float32)
        return signal_to_quiet_noise(filtered, rate_hz, quiet_s.to(waveforms.device))


def images_per_chunk(device: torch.device) -> int:
    """Return how many images go through a network at once in evaluation."""
    return IMAGES_PER_CHUNK_CPU if device.type == "cpu" else IMAGES_PER_CHUNK


def live_traces(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return event and trace numbers (N,) of the True places of a mask (B, S).

    The CPU waits for a GPU here.
    """
    event, trace = mask.nonzero(as_tuple=True)
    return event, trace
