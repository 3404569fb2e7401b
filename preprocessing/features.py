"""Hand-made features of single channels: the control that every learned encoder has to beat.

The features are those of the classifiers of landslide monitoring: duration, shape of the envelope,
shape of the spectrum. Hibert et al., JGR Earth Surface 2014, doi 10.1002/2013JF002970; Provost,
Hibert, Malet, GRL 2017, doi 10.1002/2016GL070709. Which of them are used, and the bands, are ours.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

ENVELOPE_FRAME_S = 0.1
ENVELOPE_SHARE = 0.2  # of its maximum: where the event begins and ends
N_BANDS = 8
LOWEST_BAND = 1 / 500  # of the sampling rate: 2 Hz at 1000 Hz
NAMES = (
    "duration_s",
    "rise_s",
    "rise_share",
    "log_peak_to_background",
    "log_amplitude",
    "log_rms",
    "envelope_kurtosis",
    "envelope_skewness",
    "envelope_mean_to_max",
    "waveform_kurtosis",
    "centroid_hz",
    "width_hz",
    "spectral_entropy",
    "peak_hz",
    *(f"log_energy_band_{number}" for number in range(N_BANDS)),
)


def hand_made_features(waveforms: Tensor, sampling_rate_hz: float) -> Tensor:
    """Return the features ``NAMES`` (N, 22) of channels (N, T) in recorder units, float32.

    A constant channel has finite features, too. Raises ``ValueError`` for channels shorter than
    eight frames of the envelope.
    """
    x = waveforms.double()
    x = x - x.mean(-1, keepdim=True)
    features = torch.cat(
        [
            _envelope_features(x, sampling_rate_hz),
            _spectrum_features(x, sampling_rate_hz),
        ],
        dim=1,
    )
    return features.float()


def _envelope_features(x: Tensor, rate_hz: float) -> Tensor:
    """Return the first ten features (N, 10) of centred channels (N, T).

    The background is the tenth percentile of the envelope. It is not the noise of
    ``preprocessing.levels``, which needs the other channels of the event to find its quiet part:
    these features describe each channel by itself.
    """
    frame = max(2, round(ENVELOPE_FRAME_S * rate_hz))
    if x.shape[-1] < 8 * frame:
        raise ValueError(f"{x.shape[-1]} samples are too few; at least {8 * frame} are needed")
    envelope = x.unfold(-1, frame, frame).square().mean(-1).sqrt()
    peak, place = envelope.max(-1)
    above = envelope >= ENVELOPE_SHARE * peak[:, None]
    frames = torch.arange(envelope.shape[1], device=x.device)
    first = torch.where(above, frames, envelope.shape[1]).amin(-1).clamp(max=envelope.shape[1] - 1)
    last = torch.where(above, frames, 0).amax(-1)
    frame_s = frame / rate_hz
    duration, rise = (last - first + 1) * frame_s, (place - first) * frame_s
    background = envelope.quantile(0.1, dim=-1)
    return torch.stack(
        [
            duration,
            rise,
            rise / duration,
            _log(peak) - _log(background),
            _log(x.abs().amax(-1)),
            _log(x.square().mean(-1).sqrt()),
            _moment(envelope, 4),
            _moment(envelope, 3),
            envelope.mean(-1) / peak.clamp(min=1e-12),
            _moment(x, 4),
        ],
        dim=1,
    )


def _spectrum_features(x: Tensor, rate_hz: float) -> Tensor:
    """Return the features of the power spectrum (N, 12) of centred channels (N, T)."""
    power = torch.fft.rfft(x).abs().square()
    hz = torch.fft.rfftfreq(x.shape[-1], 1 / rate_hz, dtype=x.dtype, device=x.device)
    edges = torch.logspace(
        math.log10(LOWEST_BAND * rate_hz),
        math.log10(rate_hz / 2),
        N_BANDS + 1,
        dtype=x.dtype,
        device=x.device,
    )
    band = torch.bucketize(hz, edges[1:-1], right=True)
    used = hz >= edges[0]
    members = F.one_hot(band, N_BANDS).to(x.dtype) * used[:, None]
    total = (power * used).sum(-1, keepdim=True).clamp(min=1e-12)
    share = power * used / total
    centroid = (share * hz).sum(-1)
    width = (share * (hz - centroid[:, None]).square()).sum(-1).sqrt()
    smooth = F.avg_pool1d(share[:, None], 9, stride=1, padding=4)[:, 0]
    entropy = torch.special.entr(share).sum(-1) / math.log(len(hz))
    bands = _log(share @ members)
    return torch.cat(
        [torch.stack([centroid, width, entropy, hz[smooth.argmax(-1)]], dim=1), bands], dim=1
    )


def _log(x: Tensor) -> Tensor:
    return x.clamp(min=1e-12).log10()


def _moment(x: Tensor, order: int) -> Tensor:
    """Return the standardised moment (N,): skewness for order 3, kurtosis for 4; 0 if constant."""
    centred = x - x.mean(-1, keepdim=True)
    scale = centred.square().mean(-1).sqrt()
    return torch.where(scale > 0, (centred**order).mean(-1) / scale.clamp(min=1e-12) ** order, 0)
