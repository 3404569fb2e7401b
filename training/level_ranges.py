"""Measure for a training, in the waveforms: amplitude factor, noise levels, onset of events."""

import logging
from typing import Any, NamedTuple

import numpy as np
import torch

from preprocessing.data_module import EventDataModule
from preprocessing.event_archive import EventArchive
from preprocessing.levels import COLUMNS, levels_of, measure
from preprocessing.spectrogram import high_pass
from utils.config import ConfigError
from utils.dataset_sections import LabelledDataset
from utils.schema import FinetuneConfig, OriginalConfig, RunConfig

log = logging.getLogger(__name__)
MAX_EVENTS = 500  # to measure where the metadata has no levels
# Power density of the noise at Åknes in squared recorder units per Hz, if it were white: an rms of
# 12 between 0 and 500 Hz (measured on 2007_034_45_117472).
NOISE_DENSITY = 12**2 / 500
RANGE = (0.01, 0.99)  # quantiles over the training events


class NoiseAndOnset(NamedTuple):
    """What a classifier has to know of the levels and the onsets of its training events.

    ``levels`` has the ranges of ``noise`` and ``signal``, two numbers in recorder units each or
    None, and ``rate_hz``, the lowest sampling rate at which the events were recorded.
    ``pre_trigger_s`` is the time from the start of an event's waveforms to its beginning. With
    ``quiet_noise``, noise is measured in the quiet part of each event, else before the trigger.
    """

    levels: dict[str, Any]
    pre_trigger_s: float
    quiet_noise: bool


def amplitude_scale(config: RunConfig, archive: EventArchive) -> float:
    """Return the factor for the waveforms of an archive; 1 unless ``dataset.amplitude`` is auto.

    It gives the median noise of all events the power density of the noise at Åknes, for which
    log10(S + 1) was made [L22]. Raises ``ConfigError`` if no event has any noise.
    """
    if config.dataset.amplitude == "counts":
        return 1.0
    noise = _measured(config, archive, _evenly_spread(np.arange(len(archive))))[:, 3]
    if not (noise > 0).any():
        raise ConfigError(
            "dataset.amplitude: found auto, but no noise can be measured in these events "
            "(too short?); set it to counts"
        )
    median = float(np.median(noise[noise > 0]))
    scale = float(np.sqrt(NOISE_DENSITY * archive.sampling_rate_hz / 2) / median)
    log.info(
        "Waveforms are multiplied by %.4g (dataset.amplitude auto): the median noise is %.4g",
        scale,
        median,
    )
    return scale


def noise_and_onset(
    config: FinetuneConfig | OriginalConfig, data: EventDataModule
) -> NoiseAndOnset:
    """Measure noise, signal and onset of the training events, or of 500 of them."""
    archive, events = data.archive, _evenly_spread(data.train_events)
    measured = _measured(config, archive, events)
    levels: dict[str, Any] = {"noise": _range(measured[:, 3]), "signal": _range(measured[:, 4])}
    rates = archive.metadata.get("source_rate_hz")
    rate_hz = archive.sampling_rate_hz
    if rates is not None:
        known = [float(rate) for rate in rates[data.train_events].tolist() if rate]
        rate_hz = min([*known, rate_hz])
    levels["rate_hz"] = rate_hz
    wanted_s = config.dataset.pre_trigger_s
    if wanted_s is not None:
        return NoiseAndOnset(levels, wanted_s, quiet_noise=False)
    onsets = measured[:, 0]
    median_s = float(np.nanmedian(onsets)) if np.isfinite(onsets).any() else 0.0
    log.info(
        "Training events begin %.3g s after the start of their windows (median; "
        "dataset.pre_trigger_s: null). Noise is taken from the quietest tenth of each event",
        median_s,
    )
    return NoiseAndOnset(levels, median_s, quiet_noise=True)


def quiet_parts(config: RunConfig, archive: EventArchive, events: np.ndarray) -> np.ndarray | None:
    """Return start and end (N, 2) of the quiet part of each event of the archive, in s.

    They are zero for all but ``events``. None if the noise is in the time before the trigger.
    """
    data = config.dataset
    if not isinstance(data, LabelledDataset) or data.pre_trigger_s is not None:
        return None
    parts = np.zeros((len(archive), 2))
    parts[events] = np.nan_to_num(_measured(config, archive, events)[:, 1:3])
    return parts


def _measured(config: RunConfig, archive: EventArchive, events: np.ndarray) -> np.ndarray:
    """Return the levels of events (N, 5), see ``levels_of``; with a high-pass those after it.

    An onset that the source of the events or the user has given stays as it is.
    """
    corner_hz, rate_hz = config.dataset.highpass_hz, archive.sampling_rate_hz
    known = levels_of(archive, events)
    if corner_hz is None:
        return known
    found = []
    for event, onset_s in zip(events.tolist(), known[:, 0]):
        recorded = archive.waveforms(event)
        filtered = high_pass(torch.from_numpy(recorded), rate_hz, corner_hz).numpy()
        levels = measure(filtered, rate_hz, recorded)
        in_waveforms_s = measure(recorded, rate_hz).onset_s
        if np.isfinite(onset_s) and not np.isclose(onset_s, in_waveforms_s, rtol=1e-5):
            levels = levels._replace(onset_s=onset_s)
        found.append(levels)
    return np.array(found, dtype=float).reshape(-1, len(COLUMNS))


def _range(values: np.ndarray) -> list[float] | None:
    """Return the range of positive values without their extremes, plain numbers."""
    positive = values[values > 0]
    return [float(q) for q in np.quantile(positive, RANGE)] if positive.size else None


def _evenly_spread(events: np.ndarray) -> np.ndarray:
    """Return at most ``MAX_EVENTS`` events, evenly spread."""
    return events[:: -(-len(events) // MAX_EVENTS)] if len(events) > MAX_EVENTS else events
