"""From the configuration to the events of a training: archive, data module, class weights."""

import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities import rank_zero_only

from models.class_weights import balanced_class_weights
from models.encoders import EncoderOrigin
from models.ensemble import least_samples
from preprocessing.data_module import EventDataModule, too_few_events
from preprocessing.dataset import Sensors
from preprocessing.event_archive import ArchiveError, EventArchive
from preprocessing.levels import LEAST_SAMPLES
from preprocessing.sources import is_packed, open_source
from preprocessing.spectrogram import LogSpectrogram, SpectrogramSettings
from preprocessing.splits import Division, Split, groups_of_events, hold_out
from preprocessing.views import MIN_COLUMNS_TO_CROP, crop_columns
from training.devices import require_processes
from training.level_ranges import amplitude_scale, quiet_parts
from utils.config import ConfigError
from utils.dataset_sections import OWN_RECORDINGS, LabelledDataset
from utils.names import ALEXNET_MIN_PIXELS
from utils.schema import FinetuneConfig, OriginalConfig, RunConfig, SSLConfig

log = logging.getLogger(__name__)
RARE_AT_AKNES = ("Noise",)  # 8 of 1818 events; the paper gives them weight 0 [L22]
LEAST_PIXELS_IN_BF16 = 17  # a ResNet halves the image five times


def open_events(config: RunConfig) -> EventArchive:
    """Open the archive of ``config.dataset``; recordings are packed first, which takes long.

    Raises ``UserError`` for missing devices and an impossible batch size, before any data is read,
    and for images that are too small.
    """
    require_processes(config)
    require_possible_batch(config)
    archive = open_source(config.dataset)
    n_seconds, rate_hz = archive.n_samples / archive.sampling_rate_hz, archive.sampling_rate_hz
    log.info(
        "%d events of up to %d channels, %g s at %g Hz; classes: %s",
        len(archive),
        archive.live.shape[1],
        n_seconds,
        rate_hz,
        ", ".join(archive.class_names) or "none",
    )
    _require_long_events(config, archive)
    _require_large_images(config, archive)
    return archive


def _require_long_events(config: RunConfig, archive: EventArchive) -> None:
    """Raise ``ConfigError`` for events with too few samples, or too slow for the high-pass."""
    data = config.dataset
    if archive.n_samples < data.nperseg:
        raise ConfigError(
            f"dataset.nperseg: found {data.nperseg}; events have only {archive.n_samples} samples"
        )
    if isinstance(data, LabelledDataset):
        before_s, needed = data.pre_trigger_s, LEAST_SAMPLES
        if before_s is not None:
            needed = least_samples(archive.sampling_rate_hz, before_s)
        if archive.n_samples < needed:
            found = "null" if before_s is None else f"{before_s:g}"
            raise ConfigError(
                f"dataset.pre_trigger_s: found {found}; "
                f"events have {archive.n_samples} samples, noise and event need {needed}"
            )
    if data.highpass_hz is not None and data.highpass_hz >= archive.sampling_rate_hz / 2:
        raise ConfigError(
            f"dataset.highpass_hz: found {data.highpass_hz:g}; it must be below "
            f"{archive.sampling_rate_hz / 2:g}, half the sampling rate of the events"
        )


def _require_large_images(config: RunConfig, archive: EventArchive) -> None:
    """Raise ``ConfigError`` for images too small for crops, network or precision."""
    rows, columns = _image_shape(config, archive)
    least_rows = least_columns = 1
    if _crops(config):
        least_columns = MIN_COLUMNS_TO_CROP
    elif isinstance(config, OriginalConfig) and config.backbone_with_clf_type == "AlexNet":
        least_rows = least_columns = ALEXNET_MIN_PIXELS
    if rows < least_rows or columns < least_columns:
        raise ConfigError(
            f"dataset.resize_size: images have {rows} x {columns} pixels; at least "
            f"{least_rows} x {least_columns} are needed here. "
            "Raise resize_size, lower nperseg, or take longer events"
        )
    precision, reason = config.trainer_params.precision, against_bf16(config, archive)
    if reason and precision not in ("32-true", "auto"):
        raise ConfigError(
            f"trainer_params.precision: found {precision}; {reason}; "
            "use auto, 32-true, or larger images"
        )


def _image_shape(config: RunConfig, archive: EventArchive) -> tuple[int, int]:
    settings = _settings_without_scale(config, archive)
    return LogSpectrogram(**asdict(settings)).image_shape(archive.n_samples)


def _crops(config: RunConfig) -> bool:
    """Return whether the training sees crops of images."""
    return isinstance(config, SSLConfig) and "WholeEvent" not in config.augmentations


def against_bf16(config: RunConfig, archive: EventArchive) -> str:
    """Return the reason not to train in bf16, or an empty string.

    On the CPU, oneDNN's gradient of a strided 3 x 3 convolution contains uninitialised numbers if
    the image is one pixel wide there (found with torch 2.15); small images get so in a ResNet.
    """
    rows, columns = _image_shape(config, archive)
    seen = crop_columns(torch.full((1, 1), 0.5), columns).shape[-1] if _crops(config) else columns
    on_cpu = not config.trainer_params.gpus or torch.cuda.device_count() == 0
    if not on_cpu or min(rows, seen) >= LEAST_PIXELS_IN_BF16:
        return ""
    return (
        f"bf16 on a CPU gives wrong gradients for images of {rows} x {seen} pixels, "
        f"fewer than {LEAST_PIXELS_IN_BF16}"
    )


def division_of(config: RunConfig, archive: EventArchive) -> Division:
    """Return how ``config.dataset`` divides the events of the archive."""
    data = config.dataset
    division = Division(
        train_ratio=data.train_data_ratio,
        test_ratio=data.test_data_ratio,
        seed=data.train_test_split_rand_seed,
        strategy=data.split,
        groups=groups_of_events(archive, data.split, data.group_column, data.group_pattern),
    )
    if not isinstance(data, LabelledDataset):
        return division
    return replace(
        division, draw_seed=data.label_draw_seed, n_per_class=data.train_events_per_class
    )


def spectrogram_settings(config: RunConfig, archive: EventArchive) -> SpectrogramSettings:
    """Return how the waveforms of this archive become images."""
    scale = amplitude_scale(config, archive)
    return replace(_settings_without_scale(config, archive), amplitude_scale=scale)


def _settings_without_scale(config: RunConfig, archive: EventArchive) -> SpectrogramSettings:
    data = config.dataset
    return SpectrogramSettings(
        sampling_rate_hz=archive.sampling_rate_hz,
        nperseg=data.nperseg,
        log_scale=data.log_scale,
        minmax_scale=data.minmax_scale,
        resize_size=data.resize_size if data.resize else None,
        highpass_hz=data.highpass_hz,
    )


def serve_events(
    config: RunConfig,
    archive: EventArchive,
    split: Split,
    sensors_train: Sensors,
    sensors_test: Sensors = "all",
) -> EventDataModule:
    """Build the data module of a run.

    ``split`` holds the indices of training and test events. A classifier with
    ``calibration_ratio`` > 0 holds out training events for calibration.
    """
    data, calibration_events = config.dataset, None
    held_out = split[1]
    if isinstance(data, LabelledDataset):
        division = division_of(config, archive)
        train, calibration_events = hold_out(
            split[0], archive.labels, data.calibration_ratio, division
        )
        held_out = np.concatenate([calibration_events, held_out])
        split = train, split[1]
    return EventDataModule(
        archive,
        *split,
        class_names=archive.class_names,
        batch_size=data.batch_size,
        seed=config.seed,
        sensors_train=sensors_train,
        sensors_test=sensors_test,
        num_workers=data.num_workers,
        preload=data.preload,
        calibration_events=calibration_events,
        quiet_s=quiet_parts(config, archive, held_out),
    )


def class_weights(
    config: FinetuneConfig | OriginalConfig, data: EventDataModule
) -> list[float] | None:
    """Return class weights from the training events (K numbers), None without ``use_class_weight``.

    Raises ``ConfigError`` if the configuration names other classes than the data has, and if fewer
    than two have a weight.
    """
    params, names = config.exp_params, data.class_names
    if params.n_classes not in (None, len(names)):
        raise ConfigError(
            f"exp_params.n_classes: found {params.n_classes}; "
            f"the data has {len(names)}: {', '.join(names)}"
        )
    unknown = set(params.zero_weight_classes or ()) - set(names)
    if unknown:
        raise ConfigError(
            f"exp_params.zero_weight_classes: {', '.join(sorted(unknown))} "
            f"not among {', '.join(names)}"
        )
    if not params.use_class_weight:
        return None
    rare = params.zero_weight_classes
    if rare is None:
        rare = () if config.dataset.source in OWN_RECORDINGS else RARE_AT_AKNES
    without = [number for number, name in enumerate(names) if name in rare]
    weights = balanced_class_weights(data.labels[data.train_events], len(names), without)
    learned = [name for name, weight in zip(names, weights) if weight > 0]
    if len(learned) < 2:
        raise ConfigError(
            f"exp_params.zero_weight_classes: leaves {', '.join(learned) or 'no class'} to learn "
            f"from {len(data.train_events)} training events of {', '.join(names)}; a classifier "
            "needs at least two classes"
        )
    return weights


def compare_with_pretraining(origin: EncoderOrigin, data: EventDataModule) -> dict[str, Any]:
    """Return, for the summary, how many test events have trained the encoder; None if unknown.

    Warns if test events are among them, and says if their labels were taught.
    """
    if origin.seen_events is None:
        rank_zero_only(log.info)(
            "load_encoder.ckpt_fname: does not list the events that pretraining has seen"
        )
        return {"pretraining": {"n_test_events_seen": None}}
    identities = data.archive.identities[data.test_events]
    n_seen = int(np.isin(identities, origin.seen_events).sum())
    n_taught = int(np.isin(identities, origin.labelled_events).sum())
    if n_seen:
        how = f"{n_taught} of them with their labels" if n_taught else "without labels"
        rank_zero_only(log.warning)(
            "load_encoder.ckpt_fname: pretraining has seen %d of %d test events (%s), "
            "so accuracy on new events may be %slower. Pretrain with the same dataset.split, "
            "test_data_ratio and train_test_split_rand_seed, and exclude_test_events true",
            n_seen,
            len(identities),
            how,
            "much " * bool(n_taught),
        )
    return {
        "pretraining": {"n_test_events_seen": n_seen, "n_test_events_seen_with_labels": n_taught}
    }


def require_possible_batch(config: RunConfig) -> None:
    """Count the files of a folder of recordings; packing them may take many minutes.

    Raises ``UserError`` if pretraining has fewer training events than ``dataset.batch_size``. For
    packed archives and other sources the data module says so, when their events are known.
    Classifiers with fewer training events take all of them in one batch.
    """
    data = config.dataset
    if not isinstance(config, SSLConfig) or data.source != "folder" or data.root is None:
        return
    if is_packed(Path(data.root), data.source):
        return
    from preprocessing.recording_folder import list_recordings  # training alone needs no ObsPy

    try:
        n_events = len(list_recordings(data.root))
    except ArchiveError:  # raised again when the folder is opened
        return
    n_train = int(np.floor(data.train_data_ratio * n_events))
    if n_train < data.batch_size:
        raise too_few_events(data.batch_size, n_train)
