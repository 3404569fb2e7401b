import numpy as np
import pytest
import torch
from scipy import stats

from preprocessing.features import NAMES, hand_made_features

RATE_HZ = 200.0


@pytest.fixture(scope="module")
def channels():
    """Two channels of 10 s: a 20 Hz burst that rises for 1 s and decays, and noise."""
    rng = np.random.default_rng(0)
    time_s = np.arange(2000) / RATE_HZ
    envelope = np.interp(time_s, [3, 4, 7], [0, 1, 0])
    burst = 1000 * envelope * np.sin(2 * np.pi * 20 * time_s) + rng.normal(size=2000)
    return np.stack([burst, rng.normal(size=2000)]) + 500


def features_of(channels):
    return dict(zip(NAMES, hand_made_features(torch.from_numpy(channels), RATE_HZ).T))


def test_names_and_shape(channels):
    assert hand_made_features(torch.from_numpy(channels), RATE_HZ).shape == (2, len(NAMES))
    assert len(set(NAMES)) == len(NAMES)


def test_a_burst_has_its_duration_rise_and_frequency(channels):
    found = {name: values[0].item() for name, values in features_of(channels).items()}
    assert found["duration_s"] == pytest.approx(3.2, abs=0.25)  # 20 % of the peak: 3.2 s to 6.4 s
    assert found["rise_s"] == pytest.approx(0.8, abs=0.2)
    assert found["rise_share"] == pytest.approx(found["rise_s"] / found["duration_s"], rel=1e-5)
    assert found["centroid_hz"] == pytest.approx(20, abs=0.5)
    assert found["peak_hz"] == pytest.approx(20, abs=0.5)
    assert found["width_hz"] < 3
    assert found["log_amplitude"] == pytest.approx(3, abs=0.03)
    assert found["log_peak_to_background"] > 2.5
    noise = {name: values[1].item() for name, values in features_of(channels).items()}
    assert noise["spectral_entropy"] > 0.85 > found["spectral_entropy"]
    assert noise["width_hz"] == pytest.approx(99 / np.sqrt(12), rel=0.1)  # flat from 0.4 to 100 Hz


def test_moments_and_rms_against_scipy(channels):
    found = features_of(channels)
    centred = channels - channels.mean(1, keepdims=True)
    frames = np.sqrt((centred.reshape(2, -1, 20) ** 2).mean(-1))  # 0.1 s
    expected = {
        "waveform_kurtosis": stats.kurtosis(centred, axis=1, fisher=False),
        "envelope_kurtosis": stats.kurtosis(frames, axis=1, fisher=False),
        "envelope_skewness": stats.skew(frames, axis=1),
        "envelope_mean_to_max": frames.mean(1) / frames.max(1),
        "log_rms": np.log10(centred.std(1)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4)


def test_band_energies_are_shares_of_the_whole(channels):
    found = features_of(channels)
    shares = sum(10 ** found[f"log_energy_band_{number}"] for number in range(8))
    np.testing.assert_allclose(shares.numpy(), 1, rtol=1e-4)
    edges = np.logspace(np.log10(0.4), 2, 9)
    power = abs(np.fft.rfft(channels[1] - channels[1].mean())) ** 2
    hz = np.fft.rfftfreq(2000, 1 / RATE_HZ)
    inside = (hz >= edges[3]) & (hz < edges[4])
    share = power[inside].sum() / power[hz >= edges[0]].sum()
    assert 10 ** found["log_energy_band_3"][1].item() == pytest.approx(share, rel=1e-4)


def test_constant_channels_are_finite_and_short_ones_refused():
    assert hand_made_features(torch.full((2, 400), 7.0), RATE_HZ).isfinite().all()
    with pytest.raises(ValueError, match="159 samples are too few; at least 160"):
        hand_made_features(torch.zeros(1, 159), RATE_HZ)
