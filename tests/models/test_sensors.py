import numpy as np
import pytest
import torch

from models.ensemble import USABLE_RATIO, least_samples, sensor_weights, signal_to_noise
from preprocessing.recordings import read_recording
from preprocessing.simulate.events import simulate_event


def test_ratio_is_the_loudest_half_second_over_the_median_before():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 3, 1600)).astype(np.float32)
    x[:, :, 400:480] *= 9
    for offset in (0, 1e4):
        found = signal_to_noise(torch.from_numpy(x + np.float32(offset)), 100, 3.0).numpy()
        for place in np.ndindex(2, 3):
            trace = x[place] - x[place][:200].mean()
            rms = np.array([np.sqrt(np.mean(trace[i : i + 50] ** 2)) for i in range(0, 1551, 25)])
            before, after = rms[:7], rms[7:]  # seven frames end within the first 200 samples
            assert found[place] == pytest.approx(
                after.max() / np.sort(before)[3], rel=0.01 if offset else 1e-4
            )


def test_constant_channels_have_no_signal_and_short_records_are_refused():
    x = torch.zeros(2, 1600)
    x[0, 500:] = 3
    assert signal_to_noise(x, 100, 3.0)[1] == 0 and signal_to_noise(x, 100, 3.0).isfinite().all()
    assert least_samples(100, 3.0) == 250
    signal_to_noise(torch.randn(250), 100, 3.0)
    with pytest.raises(ValueError, match="249 samples hold no event after 200 samples of noise"):
        signal_to_noise(torch.randn(249), 100, 3.0)


def test_the_broken_station_of_the_real_event_is_recognised(aknes_event):
    ratio = signal_to_noise(torch.from_numpy(read_recording(aknes_event).waveforms), 1000, 3.0)
    assert (ratio < USABLE_RATIO).nonzero().flatten().tolist() == [12, 13, 14]


def test_broken_stations_of_simulated_events_are_recognised():
    broken, good = [], []
    for number in range(12):
        event = simulate_event(0, "Rockfall", number)
        ratio = signal_to_noise(torch.from_numpy(event.waveforms), 1000, 3.0)
        station = np.arange(24) // 3 == int(event.truth["broken_station"])
        broken += ratio[station].tolist()
        good += ratio[~station].tolist()
    assert len(broken) >= 6 and max(broken) < USABLE_RATIO
    assert np.mean(np.array(good) >= USABLE_RATIO) > 0.75


def test_weights():
    ratio, mask = (
        torch.tensor([[1.0, 1.6, 5.0, 9.0], [1.0, 1.1, 1.2, 0.0]]),
        torch.tensor([[True] * 3 + [False]] * 2),
    )
    assert sensor_weights(ratio, mask, "all").tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    assert sensor_weights(ratio, mask, "usable").tolist() == [
        [0, 1, 1, 0],
        [1, 1, 1, 0],
    ]  # none usable: all that live
    expected = np.log([[1, 1.6, 5, 1], [1, 1.1, 1.2, 1]])
    np.testing.assert_allclose(sensor_weights(ratio, mask, "weighted").numpy(), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="found 'best', allowed are all, usable, weighted"):
        sensor_weights(ratio, mask, "best")


def test_a_sensor_that_was_off_before_the_event_decides_nothing():
    x = torch.randn(2, 1600)
    x[0, :300] = 0
    ratio = signal_to_noise(x, 100, 3.0)
    assert ratio[0] == 0 and sensor_weights(ratio, torch.tensor([True, True]), "weighted")[0] == 0
