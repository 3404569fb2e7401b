"""How large an event is: its peak amplitude and its duration."""

import numpy as np

from models.ensemble import FRAME_S, USABLE_RATIO


def peak_and_duration(
    waveforms: np.ndarray, best: int, sampling_rate_hz: float, noise_s: tuple[float, float]
) -> tuple[float, float]:
    """Return peak amplitude, in units of the recorder, and duration in s, of an event (S, T).

    The waveforms are not filtered, even if the model has a high-pass.

    The peak is the largest distance from the noise's mean on any channel. The duration is measured
    on channel ``best``, from the first to the last half second, outside of the noise, whose rms is
    at least ``USABLE_RATIO`` times that of the noise; 0 if there is none. ``noise_s`` are start and
    end of the noise.
    """
    frame = max(2, round(FRAME_S * sampling_rate_hz))
    first = round(noise_s[0] * sampling_rate_hz)
    last = max(first + frame, round(noise_s[1] * sampling_rate_hz))
    centred = waveforms - waveforms[:, first:last].mean(axis=1, keepdims=True, dtype=np.float64)
    starts = np.arange(0, waveforms.shape[1] - frame + 1, frame // 2)
    energy = np.concatenate([[0.0], np.square(centred[best]).cumsum()])
    rms = np.sqrt(np.maximum(energy[starts + frame] - energy[starts], 0) / frame)
    is_noise = (starts >= first) & (starts + frame <= last)
    threshold = USABLE_RATIO * np.median(rms[is_noise]) if is_noise.any() else np.inf
    loud = starts[(rms >= threshold) & (rms > 0) & ~is_noise]
    duration_s = float(loud[-1] + frame - loud[0]) / sampling_rate_hz if loud.size else 0.0
    return float(np.abs(centred).max()), duration_s
