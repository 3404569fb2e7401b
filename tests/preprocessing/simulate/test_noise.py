"""Simulated background noise: like the noise before the recorded event (method.md §8)."""

import numpy as np
import pytest
from scipy.signal import coherence, welch

from preprocessing.simulate.simulated_archive import simulate_event
from tests.preprocessing.simulate.simulated import STATION, good_of, noise_of

# method.md §8: Hz, and the 10th, 50th, 90th percentile of the PSD over the good channels
MEASURED_PSD = {
    (3, 5): (0.11, 0.51, 5.1),
    (6, 9): (0.41, 1.26, 4.0),
    (11, 16): (0.41, 1.83, 11.8),
    (20, 30): (0.06, 0.18, 1.6),
    (35, 45): (0.05, 0.14, 0.84),
    (55, 75): (0.055, 0.09, 0.68),
    (110, 140): (0.051, 0.066, 0.23),
    (220, 240): (0.036, 0.048, 0.09),
    (320, 380): (0.043, 0.054, 0.10),
    (410, 430): (0.017, 0.021, 0.027),
}
MEASURED_HUM = {100: (0.8, 2.2, 10), 200: (1.6, 5, 12), 300: (0.5, 1.7, 5.1), 400: (0.3, 1.2, 2.5)}


@pytest.fixture(scope="module")
def quiet_before():
    """Events whose first two seconds are noise: no weak P comes long before the S that triggers."""
    return [simulate_event(seed, "Slope_HF", number) for seed in range(12) for number in range(4)]


def test_noise_spectrum_follows_the_measured_percentiles(quiet_before):
    frequency, psd = welch(
        np.concatenate([noise_of(e.waveforms)[good_of(e)] for e in quiet_before]),
        fs=1000,
        nperseg=1000,
    )
    for (low, high), measured in MEASURED_PSD.items():
        band = np.median(psd[:, (frequency >= low) & (frequency <= high)], axis=1)
        ratio = np.percentile(band, [10, 50, 90]) / measured
        assert 1 / 1.3 < ratio[1] < 1.3, (
            f"{low}-{high} Hz: median is {ratio[1]:.2f} of the measured one"
        )
        assert ((ratio > 1 / 1.6) & (ratio < 1.6)).all(), (
            f"{low}-{high} Hz: percentiles are {ratio} of the measured ones"
        )


def test_hum_has_the_measured_strength(quiet_before):
    noise = np.concatenate([noise_of(e.waveforms)[good_of(e), :2000] for e in quiet_before])
    window, time_s = np.hanning(2000), np.arange(2000) / 1000
    for line_hz, measured in MEASURED_HUM.items():
        rms = (
            np.abs(noise * window @ np.exp(-2j * np.pi * line_hz * time_s))
            / window.sum()
            * np.sqrt(2)
        )
        ratio = np.percentile(rms, [10, 50, 90]) / measured
        assert ((ratio > 1 / 1.6) & (ratio < 1.6)).all(), (
            f"{line_hz} Hz: percentiles are {ratio} of the measured ones"
        )


def test_noise_rms_is_that_of_the_recorded_event(quiet_before):
    medians = [np.median(noise_of(e.waveforms)[good_of(e)].std(axis=1)) for e in quiet_before]
    assert min(medians) > 5 and max(medians) < 25
    assert np.percentile(medians, 5) < 12 < np.percentile(medians, 95)  # measured: 12


def coherences(waveforms: np.ndarray, good: np.ndarray) -> tuple[float, float]:
    """Return the mean coherence at 5-20 Hz within a station and between stations."""
    i, j = np.triu_indices(good.sum(), 1)
    noise, station = noise_of(waveforms)[good], STATION[good]
    frequency, value = coherence(noise[i], noise[j], fs=1000, nperseg=400)
    value = value[:, (frequency >= 5) & (frequency <= 20)].mean(axis=1)
    together = station[i] == station[j]
    return value[together].mean(), value[~together].mean()


def test_noise_is_more_coherent_within_a_station_than_between_stations(quiet_before):
    within, between = np.mean(
        [coherences(e.waveforms, good_of(e)) for e in quiet_before[::6]], axis=0
    )
    # measured with some estimator: 0.38 and 0.17; this one gives 0.11 for independent channels
    assert 0.25 < within < 0.45 and 0.13 < between < 0.25
