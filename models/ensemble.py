"""Ensemble prediction: average what one network says of each sensor. [L22]"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

FRAME_S = 0.5
NOISE_SHARE = 2 / 3  # of the pre-trigger time; a first arrival may come before the network triggers
# Broken stations reach 1.3 at most (recorded: channels 12-14 of 2007_034_45_117472; simulated: 171 channels, at most 1.17).
USABLE_RATIO = 1.5
Ensemble = Literal["all", "usable", "weighted"]
ENSEMBLES: tuple[Ensemble, ...] = ("all", "usable", "weighted")


def ensemble_log_probs(logits: Tensor, weights: Tensor | None = None) -> Tensor:
    """Average log-probabilities over sensors and renormalise: (B, S, K) -> (B, K) float32. [L22]

    ``weights`` (B, S) says what each sensor counts: a mask, True where it takes part, or numbers >= 0. An event without any
    gets the uniform distribution.
    """
    log_probs = F.log_softmax(logits.float(), dim=-1)
    if weights is None:
        return F.log_softmax(log_probs.mean(1), dim=-1)
    weights = weights.float()[..., None]
    # where, not multiplication: a masked sensor's logits may be anything, NaN included
    total = torch.where(weights > 0, log_probs * weights, 0).sum(1)
    return F.log_softmax(total / weights.sum(1).clamp(min=torch.finfo(torch.float32).tiny), dim=-1)


def least_samples(sampling_rate_hz: float, pre_trigger_s: float) -> int:
    """Return how many samples a record needs to have room for noise and event."""
    frame, n_noise = _lengths(sampling_rate_hz, pre_trigger_s)
    return n_noise + frame


def _lengths(sampling_rate_hz: float, pre_trigger_s: float) -> tuple[int, int]:
    frame = max(2, round(FRAME_S * sampling_rate_hz))
    return frame, max(frame, round(NOISE_SHARE * pre_trigger_s * sampling_rate_hz))


def signal_to_noise(waveforms: Tensor, sampling_rate_hz: float, pre_trigger_s: float) -> Tensor:
    """Return the largest rms of half a second over the median one before the event: (…, T) -> (…), float32.

    Noise is what the first two thirds of the pre-trigger time hold. A channel without any has 0, and so has a constant one. Records too short for noise and
    event raise ``ValueError``.
    """
    frame, n_noise = _lengths(sampling_rate_hz, pre_trigger_s)
    hop = frame // 2
    if waveforms.shape[-1] < n_noise + frame:
        raise ValueError(
            f"{waveforms.shape[-1]} samples hold no event after {n_noise} samples of noise"
        )
    centred = waveforms.float() - waveforms[..., :n_noise].float().mean(-1, keepdim=True)
    rms = centred.unfold(-1, frame, hop).square().mean(-1).sqrt()
    n_frames = (n_noise - frame) // hop + 1
    noise, event = rms[..., :n_frames].median(-1).values, rms[..., n_frames:].amax(-1)
    ratio = event / noise.clamp(min=torch.finfo(torch.float32).tiny)
    # without any noise a sensor was off; a constant one rounds to above none
    silent = (noise == 0) | (waveforms.amax(-1) == waveforms.amin(-1))
    return torch.where(silent, 0, ratio)


def sensor_weights(ratio: Tensor, mask: Tensor, ensemble: Ensemble) -> Tensor:
    """Return what each sensor counts in the ensemble, from its signal-to-noise ratio: (…, S), (…, S) bool -> (…, S).

    ``all``: every living sensor counts 1. ``usable``: those above ``USABLE_RATIO`` count 1. ``weighted``: ln of the ratio. An
    event that no sensor shows is left to all living ones.
    """
    if ensemble not in ENSEMBLES:
        raise ValueError(f"ensemble: found {ensemble!r}, allowed are {', '.join(ENSEMBLES)}")
    living = mask.float()
    if ensemble == "all":
        return living
    weights = (ratio >= USABLE_RATIO).float() if ensemble == "usable" else ratio.clamp(min=1).log()
    weights = weights * living
    return torch.where(weights.sum(-1, keepdim=True) > 0, weights, living)
