import numpy as np
import pytest

from models.ensemble import USABLE_RATIO
from prediction.size import peak_and_duration


def test_peak_and_duration_of_a_burst():
    rng, rate_hz = np.random.default_rng(0), 100.0
    time_s = np.arange(1600) / rate_hz
    waveforms = (1000 + rng.normal(0, 1, (3, 1600))).astype(np.float32)
    on = (time_s >= 4) & (time_s < 9)
    waveforms[:, on] += 20 * np.sin(2 * np.pi * 10 * time_s[on])
    waveforms[2, 500] -= 300
    peak, duration_s = peak_and_duration(waveforms, 0, rate_hz, (0.0, 2.0))
    assert peak == pytest.approx(300, abs=25) and duration_s == pytest.approx(5.25, abs=0.51)
    quiet = peak_and_duration(waveforms[:, 900:], 0, rate_hz, (0.0, 2.0))
    assert quiet[1] == 0 and quiet[0] < 6


def test_the_zero_line_is_the_noises_mean():
    waveforms = np.full((1, 1600), 50.0, np.float32)
    waveforms[:, 800:] = 90
    assert peak_and_duration(waveforms, 0, 100.0, (0.0, 2.0))[0] == 40


@pytest.mark.parametrize("seed", range(8))
def test_the_duration_is_of_frames_that_overlap_by_half(seed):
    rng, rate_hz, frame = np.random.default_rng(seed), 100.0, 50
    waveform = rng.normal(0, 1, 1600)
    first = rng.integers(400, 700)
    waveform[first : first + rng.integers(60, 600)] *= 12
    centred = waveform - waveform[:200].mean()
    rms = {k: np.sqrt((centred[k : k + frame] ** 2).mean()) for k in range(0, 1551, frame // 2)}
    noise = np.median([rms[k] for k in rms if k + frame <= 200])
    loud = [k for k in rms if k + frame > 200 and rms[k] >= USABLE_RATIO * noise]
    _, duration_s = peak_and_duration(waveform[None], 0, rate_hz, (0.0, 2.0))
    assert duration_s == pytest.approx((loud[-1] + frame - loud[0]) / rate_hz)
