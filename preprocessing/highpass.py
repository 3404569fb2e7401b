"""A zero-phase high-pass of waveforms: broadband recordings are ruled by microseism and drift."""

import torch
from torch import Tensor

ORDER = 4  # of the Butterworth filter, which is applied forwards and backwards


def high_pass(waveforms: Tensor, sampling_rate_hz: float, corner_hz: float | None) -> Tensor:
    """Remove what lies below ``corner_hz`` from waveforms (…, T), float32; None changes nothing.

    The spectrum is multiplied by the power response of a Butterworth filter, 1 / (1 + (fc/f)^8).
    That is a filter of order 4 applied forwards and backwards: no delay, half the amplitude at the
    corner, and a precursor of about 1 / fc before an abrupt onset. Waveforms of at least two
    samples are continued at both ends by their point reflection, which keeps value and slope.
    """
    if corner_hz is None:
        return waveforms
    with torch.autocast(waveforms.device.type, enabled=False):
        n = waveforms.shape[-1]
        # a power of two: onnxruntime's transform of other lengths is wrong in the third digit
        half = 1 << (n - 2).bit_length()
        samples = waveforms.float() - waveforms[..., :1].float()  # float32 and large offsets
        samples = torch.cat([samples, _continuation(samples)[..., : half + 1 - n]], -1)
        # without the line between its ends, the waveform and its negative mirror are periodic
        ramp = torch.linspace(0, 1, half + 1, device=samples.device)
        samples = samples - ramp * samples[..., -1:]
        period = torch.cat([samples[..., :-1], -samples[..., 1:].flip(-1)], -1)
        frequency_hz = torch.arange(half + 1, device=samples.device) * (sampling_rate_hz / 2 / half)
        response = 1 / (1 + (corner_hz / frequency_hz) ** (2 * ORDER))  # 0 at 0 Hz
        filtered = torch.fft.irfft(torch.fft.rfft(period) * response, n=2 * half)
        return filtered[..., :n]


def _continuation(samples: Tensor) -> Tensor:
    """Return the point reflection of (…, T) about its last sample, (…, T - 1)."""
    return 2 * samples[..., -1:] - samples[..., :-1].flip(-1)
