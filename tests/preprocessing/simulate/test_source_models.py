"""Simulated events: like the recorded one (method.md §8), each class like its description."""

import numpy as np
from scipy import fft
from scipy.signal import welch

from preprocessing.simulate import source_models as simulate_sources
from preprocessing.simulate.network import network_on
from preprocessing.simulate.ranges import GRID, Draws
from preprocessing.simulate.simulated_archive import simulate_event
from preprocessing.simulate.source_models import SOURCES
from tests.preprocessing.simulate.simulated import good_of, rms_ratios, share_above


def test_simulated_regional_events_enclose_the_recorded_one(pooled, real):
    good = ~np.isin(np.arange(24), (12, 13, 14))
    simulated = np.array([rms_ratios(e.waveforms, good_of(e)) for e in pooled])
    for name, found, values in zip(
        ("P coda", "largest second"), rms_ratios(real, good), simulated.T
    ):
        low, high = np.percentile(values, [2, 98])
        assert low < found < high, (
            f"{name}: {found:.1f} times the noise is recorded, {low:.1f} to {high:.1f} simulated"
        )


def test_images_are_as_bright_as_the_recorded_one(pooled, real):
    recorded = rms_ratios(real, ~np.isin(np.arange(24), (12, 13, 14)))[1]
    strong = [e for e in pooled if rms_ratios(e.waveforms, good_of(e))[1] > recorded / 4]
    assert len(strong) >= 4
    for level, low, high in (
        (0.1, 0.06, 0.20),
        (0.3, 0.02, 0.06),
    ):  # measured: 6-20 % and 3-5 % on most good channels
        medians = [np.median(share_above(e.waveforms[good_of(e)], level)) for e in strong]
        assert low < np.median(medians) < high


def test_images_of_every_class_are_neither_black_nor_white(of_each_class):
    for event in of_each_class:
        share = np.median(share_above(event.waveforms[good_of(event)], 0.1))
        assert 0.015 < share < 0.6, event.truth


def onsets_s(category: str, seed: int, number: int) -> np.ndarray:
    """Return when each channel reaches a tenth of its peak (noise-free waves)."""
    draw = Draws(np.random.default_rng(number))
    wave = np.abs(fft.irfft(SOURCES[category](category, draw, network_on(seed, 2018.0)), GRID))
    peak = wave.max(axis=1)
    used = peak > 0.01 * peak.max()
    return (wave[used] > 0.1 * peak[used, None]).argmax(axis=1) / 1000


def test_pulses_are_simultaneous_and_waves_from_the_slope_are_not():
    spikes = [np.ptp(onsets_s("Spike", 0, n)) for n in range(8)]
    quakes = [np.ptp(onsets_s("Slope_HF", 0, n)) for n in range(8)]
    assert max(spikes) < 0.003
    assert (
        0.03 < np.median(quakes) < 0.6
    )  # 290 m at 1.4 km/s are 0.2 s; what is picked may be the S


def test_distant_earthquakes_arrive_in_the_same_order_with_p_and_s(monkeypatch):
    starts, wave_train = [], simulate_sources._wave_train
    monkeypatch.setattr(
        simulate_sources, "_wave_train", lambda *a: starts.append(a[3]) or wave_train(*a)
    )
    for number in range(6):
        starts.clear()
        simulate_event(0, "Regional", number)
        p_s, s_s = starts[0], starts[-1]  # an S that comes after the record's end is not computed
        assert np.array_equal(np.argsort(p_s), np.argsort(s_s))
        assert 0.01 < np.ptp(p_s) < 0.1  # 290 m at 3.5 km/s are 0.08 s


def test_high_and_low_frequency_quakes_differ_but_overlap():
    def centroid_hz(category: str, number: int) -> float:
        event = simulate_event(7, category, number)
        loud = event.waveforms[good_of(event)][:, 2000:5000].astype(float)
        quiet = event.waveforms[good_of(event)][:, :2000].astype(float)
        frequency, signal = welch(loud, fs=1000, nperseg=500)
        excess = np.maximum(signal - welch(quiet, fs=1000, nperseg=500)[1], 0)[:, frequency < 95]
        excess = excess / excess.sum(axis=1, keepdims=True).clip(1e-12)
        return float(np.median(excess @ frequency[frequency < 95]))

    high, low = (np.array([centroid_hz(c, n) for n in range(25)]) for c in ("Slope_HF", "Slope_LF"))
    assert np.median(high) > 1.25 * np.median(low)
    assert np.percentile(high, 10) < np.percentile(low, 90)
