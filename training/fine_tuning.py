"""From the configuration of finetune.py to its model."""

import logging
from dataclasses import asdict
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from models.encoders import EncoderOrigin, ResNetEncoder, build_encoder, load_encoder_weights
from models.event_classifier import EventClassifier
from models.linear_head import LinearProbe
from preprocessing.data_module import EventDataModule, Sensors
from training.data import class_weights, compare_with_pretraining, spectrogram_settings
from training.level_ranges import noise_and_onset
from utils.schema import FinetuneConfig

log = logging.getLogger(__name__)
# arguments of LogSpectrogram that should be the same in pretraining, and their keys in ``dataset``;
# amplitude_scale is not among them: it suits the units of each archive
SAME_IMAGES = {
    "sampling_rate_hz": "sampling_freq",
    "nperseg": "nperseg",
    "highpass_hz": "highpass_hz",
    "log_scale": "log_scale",
    "minmax_scale": "minmax_scale",
    "resize_size": "resize_size",
}


class PretrainedEncoder:
    """The weights that ``load_encoder`` names, and what their file says about their training.

    Loaded before events are packed, which takes long. Raises ``CheckpointError``.
    """

    def __init__(self, config: FinetuneConfig):
        source = config.load_encoder
        self.encoder: ResNetEncoder | None = None
        self.origin = EncoderOrigin([], [], None)
        if not source.from_scratch:
            self.encoder = build_encoder(source.backbone_type, stem_stride=source.stem_stride)
            self.origin = load_encoder_weights(self.encoder, source.ckpt_fname)

    def load_into(self, module: EventClassifier, data: EventDataModule) -> dict[str, Any]:
        """Copy the weights; return facts for the summary, see ``compare_with_pretraining``.

        Warns if pretraining had other images. ``data`` notes the events that trained the encoder.
        """
        if self.encoder is None:
            return {}
        compare_images(self.origin.spectrogram, module.hparams["spectrogram"])
        module.encoder.load_state_dict(self.encoder.state_dict())
        data.trained_before = self.origin.seen_events, self.origin.labelled_events
        return compare_with_pretraining(self.origin, data)


def compare_images(pretraining: dict[str, Any] | None, here: dict[str, Any]) -> None:
    """Warn if pretraining had other images than the classifier.

    ``pretraining`` and ``here`` (the classifier) are arguments of ``LogSpectrogram``.
    """
    if pretraining is None:
        return
    differences = [
        f"dataset.{key} was {pretraining[name]}, here it is {here.get(name)}"
        for name, key in SAME_IMAGES.items()
        if name in pretraining and pretraining[name] != here.get(name)
    ]
    if differences:
        rank_zero_only(log.warning)(
            "load_encoder.ckpt_fname: the encoder has learned from other images: %s. "
            "Set the same in both trainings",
            "; ".join(differences),
        )


def build_classifier(config: FinetuneConfig, data: EventDataModule) -> EventClassifier:
    """Build the classifier, with random weights, of the kind that the configuration asks for.

    Raises ``ConfigError``.
    """
    params, source = config.exp_params, config.load_encoder
    fitted = params.head == "logistic_regression"
    kind: type[EventClassifier] = LinearProbe if fitted else EventClassifier
    found = noise_and_onset(config, data)
    return kind(
        class_names=data.class_names,
        backbone_type=source.backbone_type,
        stem_stride=source.stem_stride,
        class_weights=class_weights(config, data),
        learning_rate=config.learning_rates,
        weight_decay=params.weight_decay,
        label_smoothing=params.label_smoothing,
        freeze_encoder=params.freeze_encoders or fitted,
        freeze_bn_stat_train=params.freeze_bn_stat_train,
        augmentations=config.augmentations,
        spectrogram=asdict(spectrogram_settings(config, data.archive)),
        n_samples=data.archive.n_samples,
        pre_trigger_s=found.pre_trigger_s,
        quiet_noise=found.quiet_noise,
        levels=found.levels,
    )


def sensors_used(config: FinetuneConfig) -> tuple[Sensors, Sensors]:
    """Return how many sensors of an event training and evaluation use."""
    data, fitted = config.dataset, config.exp_params.head == "logistic_regression"
    one_in_training = data.return_single_spectrogram_train and not fitted
    one_in_test = data.return_single_spectrogram_test
    return "one" if one_in_training else "all", "one" if one_in_test else "all"
