"""Measurements on simulated and recorded events, shared by the tests of the simulation."""

import numpy as np
from scipy.signal import spectrogram

from preprocessing.simulate.simulated_archive import SimulatedEvent

STATION = np.arange(24) // 3
PRE = slice(0, 2000)  # samples before the event, in the real record and in the simulated ones


def image_of(waveforms: np.ndarray) -> np.ndarray:
    """Log spectrograms of native size, retyped from method.md §2: (S, T) -> (S, 41, 228)."""
    image = np.log10(np.abs(spectrogram(waveforms.astype(float), fs=1000, nperseg=80)[2]) + 1)
    low, high = image.min(axis=(1, 2), keepdims=True), image.max(axis=(1, 2), keepdims=True)
    return (image - low) / np.where(high > low, high - low, 1)


def share_above(waveforms: np.ndarray, level: float) -> np.ndarray:
    return (image_of(waveforms) > level).mean(axis=(1, 2))


def broken_of(event: SimulatedEvent) -> np.ndarray:
    return event.truth["broken_station"] == STATION


def good_of(event: SimulatedEvent) -> np.ndarray:
    return ~broken_of(event) & (np.ptp(event.waveforms, axis=1) > 0)


def noise_of(waveforms: np.ndarray) -> np.ndarray:
    noise = waveforms[:, PRE].astype(float)
    return noise - noise.mean(axis=1, keepdims=True)


def rms_ratios(waveforms: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Return two signal-to-noise ratios of the rms: first 2 s after the P, and largest second.

    Both are medians over channels.
    """
    seconds = (
        (waveforms - waveforms[:, PRE].mean(axis=1, keepdims=True))[good]
        .reshape(good.sum(), 16, 1000)
        .std(axis=2)
    )
    noise = np.median(noise_of(waveforms)[good].std(axis=1))
    return float(np.median(seconds[:, 3:5].mean(axis=1)) / noise), float(
        np.median(seconds.max(axis=1)) / noise
    )
