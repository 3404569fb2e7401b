"""Training and evaluation of the classifier of single channels and events. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.nn import functional as F

from models.calibration import calibrate
from models.class_weights import weighted_cross_entropy
from models.ensemble import ENSEMBLES, Evaluation, ensemble_log_probs
from models.evaluation import evaluate
from models.event_network import EventNetwork, live_traces
from models.optimisers import adam_with_cosine
from preprocessing.data_module import data_module_of
from preprocessing.dataset import EventBatch
from preprocessing.views import augment, build_changes
from utils.distributed import gather_by_event
from utils.names import AKNES_PRE_TRIGGER_S, PUBLISHED_STEM_STRIDE

GOLDEN_RATIO = 0.6180339887  # its multiples modulo 1 are spread evenly over [0, 1)


class EventClassifier(EventNetwork, pl.LightningModule):
    """Train and evaluate an ``EventNetwork``: every live trace of an event is a sample. [L22]

    It *is* the network, with Lightning's hooks: so its weights have the network's names in every
    checkpoint. Arguments are those of ``EventNetwork`` and those of the training:
    ``learning_rate`` is a number, or {encoder, clf}. ``freeze_encoder`` is linear evaluation: only
    the classifier learns, the encoder stays in evaluation mode. ``freeze_bn_stat_train`` trains all
    weights, but BatchNorm uses its running statistics and does not update them. ``augmentations``
    are names from ``preprocessing.views``.
    """

    evaluation: Evaluation | None = None  # of the test events, after trainer.test

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
        spectrogram: dict[str, Any],
        stem_stride: int = PUBLISHED_STEM_STRIDE,
        n_samples: int | None = None,
        pre_trigger_s: float = AKNES_PRE_TRIGGER_S,
        quiet_noise: bool = False,
        levels: dict[str, Any] | None = None,
    ):
        super().__init__(
            class_names,
            backbone_type,
            class_weights=class_weights,
            spectrogram=spectrogram,
            stem_stride=stem_stride,
            n_samples=n_samples,
            pre_trigger_s=pre_trigger_s,
            quiet_noise=quiet_noise,
            levels=levels,
        )
        self.save_hyperparameters()
        self.changes = build_changes(augmentations)
        self.encoder.requires_grad_(not freeze_encoder)
        self.train()  # Lightning does not change the modes of the modules at the start

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

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Load the calibration, and what is known about the training, if the checkpoint has it."""
        self.set_facts(checkpoint)

    def training_step(self, batch: EventBatch, batch_idx: int) -> Tensor:
        """Return the class-weighted cross-entropy of one batch; every live trace is a sample."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        event, trace = live_traces(mask)
        images, labels = self.to_images(waveforms[event, trace]), batch.labels[event]
        images = augment(images, self.changes, draws_of_traces(batch, event, trace))
        logits = self.forward(images)
        smoothing = self.hparams["label_smoothing"]
        loss = weighted_cross_entropy(logits, labels, self.class_weights, smoothing)
        self._log("train", loss, logits, labels)
        return loss

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

    def on_test_epoch_start(self) -> None:
        """Begin to collect."""
        self._batches: list[Evaluation] = []

    def test_step(self, batch: EventBatch, batch_idx: int) -> None:
        """Collect the logits of test and calibration events."""
        waveforms, mask = self.traces(batch.waveforms, batch.mask)
        logits = self.sensor_logits(waveforms, mask)
        ratio = self.signal_to_noise(waveforms, batch.quiet_s)
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
                kind: calibrate(held_out.log_probs(kind), held_out.labels, self.learned_classes)
                for kind in ENSEMBLES
            }
        for kind, metrics in self.test_metrics().items():
            numbers = {name: value for name, value in metrics.items() if isinstance(value, float)}
            self.log_dict(
                {f"test/{kind}/{name}": value for name, value in numbers.items()},
                rank_zero_only=True,
            )

    def test_metrics(self) -> dict[str, dict[str, Any]]:
        """Return the metrics of the test events, for each kind of ensemble and for single traces.

        Without events of several live traces there are no ensembles. The traces of an event share
        the weight of one event, see ``evaluate``.
        """
        assert self.evaluation is not None, "call trainer.test first"
        _, labels, logits, mask, _ = self.evaluation
        metrics, learned = {}, self.learned_classes.tolist()
        if mask.sum(1).max() > 1:
            names = {kind: f"ensemble_{kind}" for kind in ENSEMBLES} | {"all": "ensemble"}
            metrics = {
                name: evaluate(self.evaluation.log_probs(kind), labels, learned=learned)
                for kind, name in names.items()
            }
        event, _ = live_traces(mask)
        of_traces = evaluate(F.log_softmax(logits[mask], -1), labels[event], event, learned)
        return metrics | {self.trace_kind: of_traces}

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


def draws_of_traces(batch: EventBatch, event: Tensor, number: Tensor) -> Tensor:
    """Return the random numbers (N, n) of N traces, for ``augment``.

    Each trace of an event gets others, by its ``number`` (N,); number 0 those of the event.
    """
    return (batch.draws[event] + GOLDEN_RATIO * number[:, None]) % 1
