"""Ensemble prediction: average the predictions of one network over the sensors of an event. [L22]

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from preprocessing.levels import frame_length

FRAME_S = 0.5  # window of the rms
NOISE_SHARE = 2 / 3  # of the pre-trigger time: first arrivals may come before the trigger
# Channels of broken stations have at most 1.3. Recorded: channels 12-14 of 2007_034_45_117472.
# Simulated: 171 channels, at most 1.17.
USABLE_RATIO = 1.5
Ensemble = Literal["all", "usable"]
ENSEMBLES: tuple[Ensemble, ...] = ("all", "usable")


def ensemble_log_probs(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average log-probabilities over sensors and renormalise: (B, S, K) -> (B, K) float32. [L22]

    ``weights`` (B, S) are numbers >= 0 or a bool mask; None gives all sensors the same weight. An
    event whose weights are all 0 gets the uniform distribution.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    if weights is None:
        return F.log_softmax(log_probs.mean(1), dim=-1)
    weights = weights.float()[..., None]
    # torch.where, because logits of a sensor with weight 0 may be NaN
    total = torch.where(weights > 0, log_probs * weights, 0).sum(1)
    return F.log_softmax(total / weights.sum(1).clamp(min=torch.finfo(torch.float32).tiny), dim=-1)


def least_samples(sampling_rate_hz: float, pre_trigger_s: float) -> int:
    """Return the least number of samples that ``signal_to_pre_trigger_noise`` needs."""
    frame, n_noise = _lengths(sampling_rate_hz, pre_trigger_s)
    return n_noise + frame


def _lengths(sampling_rate_hz: float, pre_trigger_s: float) -> tuple[int, int]:
    """Return the samples of a frame and of the noise before the event."""
    frame = max(2, round(FRAME_S * sampling_rate_hz))
    return frame, max(frame, round(NOISE_SHARE * pre_trigger_s * sampling_rate_hz))


def signal_to_pre_trigger_noise(
    waveforms: Tensor, sampling_rate_hz: float, pre_trigger_s: float
) -> Tensor:
    """Return the signal-to-noise ratio of each channel, with noise from before the trigger.

    ``waveforms`` is (…, T), the result (…), float32. The rms is taken in frames of half a second.
    Signal is the largest rms after the noise window, noise the median rms within it; the noise
    window is the first two thirds of the pre-trigger time. The ratio is 0 for constant channels and
    for channels that are zero in the noise window. This noise is not that of
    ``preprocessing.levels``: where the trigger is known, as at Åknes, nothing has to be searched.
    Raises ``ValueError`` for fewer than ``least_samples`` samples.
    """
    frame, n_noise = _lengths(sampling_rate_hz, pre_trigger_s)
    hop = frame // 2
    if waveforms.shape[-1] < n_noise + frame:
        raise ValueError(
            f"{waveforms.shape[-1]} samples are too few for an event after {n_noise} samples of "
            f"noise; at least {n_noise + frame} are needed"
        )
    centred = waveforms.float() - waveforms[..., :n_noise].float().mean(-1, keepdim=True)
    rms = centred.unfold(-1, frame, hop).square().mean(-1).sqrt()
    n_frames = (n_noise - frame) // hop + 1
    noise, event = rms[..., :n_frames].median(-1).values, rms[..., n_frames:].amax(-1)
    ratio = event / noise.clamp(min=torch.finfo(torch.float32).tiny)
    # no noise: the sensor was off; the rms of a constant channel may round to above 0
    silent = (noise == 0) | (waveforms.amax(-1) == waveforms.amin(-1))
    return torch.where(silent, 0, ratio)


def signal_to_quiet_noise(waveforms: Tensor, sampling_rate_hz: float, quiet_s: Tensor) -> Tensor:
    """Return the signal-to-noise ratio of each channel, with noise from the event's quiet part.

    ``waveforms`` is (B, S, T), ``quiet_s`` (B, 2) start and end of the quiet parts in s, as
    measured by ``preprocessing.levels``; the result is (B, S), float32. Signal is the largest rms
    of a frame about its own mean, noise the median rms of the quiet frames, as there, but for each
    channel and on the device. The ratio is 0 for channels without a signal there, and for events
    whose quiet part is not known (zeros).
    """
    frame = frame_length(waveforms.shape[-1], sampling_rate_hz)
    n_frames = waveforms.shape[-1] // frame
    frames = waveforms[..., : n_frames * frame].float().unflatten(-1, (n_frames, frame))
    rms = (frames - frames[..., :1]).std(-1, correction=0)
    middle_s = (torch.arange(n_frames, device=waveforms.device) + 0.5) * frame / sampling_rate_hz
    start_s, end_s = quiet_s[:, None, :1], quiet_s[:, None, 1:]
    is_noise = (middle_s >= start_s) & (middle_s < end_s) & (rms > 0)
    noise = torch.where(is_noise, rms, torch.nan).nanmedian(-1).values
    return (rms.amax(-1) / noise).nan_to_num(nan=0.0)


def sensor_weights(ratio: Tensor, mask: Tensor, ensemble: Ensemble) -> Tensor:
    """Return the weights (…, S) of sensors in the ensemble.

    ``ratio`` (…, S) is the signal-to-noise ratio, ``mask`` (…, S) is True for live sensors.
    ``all``: weight 1 for every live sensor. ``usable``: weight 1 for a ratio of at least
    ``USABLE_RATIO``, else 0; if all weights of an event are 0, every live sensor gets
    1. Raises ``ValueError`` for an unknown ``ensemble``.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"ensemble: found {ensemble!r}, allowed are {', '.join(ENSEMBLES)}")
    live = mask.float()
    if ensemble == "all":
        return live
    weights = (ratio >= USABLE_RATIO).float() * live
    return torch.where(weights.sum(-1, keepdim=True) > 0, weights, live)


class Evaluation(NamedTuple):
    """Model outputs for held-out events."""

    events: Tensor  # (N,) indices into the archive
    labels: Tensor  # (N,)
    logits: Tensor  # (N, S, K)
    mask: Tensor  # (N, S) True for live sensors
    ratio: Tensor  # (N, S) signal-to-noise ratio

    def log_probs(self, ensemble: Ensemble = "all") -> Tensor:
        """Return the ensemble's log-probabilities (N, K)."""
        return ensemble_log_probs(self.logits, sensor_weights(self.ratio, self.mask, ensemble))


class Prediction(NamedTuple):
    """Model outputs for B events: of the ensemble and of each of the S traces.

    Traces are the sensors; for a stacked-trace classifier, S is 1.
    """

    log_probs: Tensor  # (B, K) of the ensemble, at the calibrated temperature
    sensor_log_probs: Tensor  # (B, S, K)
    weights: Tensor  # (B, S), 0 for sensors left out of the ensemble
    ratio: Tensor  # (B, S') signal-to-noise ratio of all S' sensors
