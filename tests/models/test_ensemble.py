import numpy as np
import pytest
import torch

from models.ensemble import (
    USABLE_RATIO,
    ensemble_log_probs,
    least_samples,
    sensor_weights,
    signal_to_pre_trigger_noise,
    signal_to_quiet_noise,
)
from preprocessing.levels import measure
from preprocessing.recordings import read_recording
from preprocessing.simulate.simulated_archive import simulate_event


def oracle(logits: np.ndarray) -> np.ndarray:
    """Mean log-softmax over the sensors of one event (S, K), renormalised."""
    log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    mean = np.exp(log_probs.mean(0))
    return np.log(mean / mean.sum())


@pytest.mark.parametrize("n_sensors", [1, 3, 24])
def test_mean_log_probability_renormalised(n_sensors):
    logits = torch.randn(5, n_sensors, 8) * 3
    result = ensemble_log_probs(logits)
    expected = np.stack([oracle(event) for event in logits.double().numpy()])
    np.testing.assert_allclose(result.numpy(), expected, atol=1e-5)
    torch.testing.assert_close(result.exp().sum(-1), torch.ones(5))


def test_masked_sensors_have_no_effect_even_if_nan():
    logits = torch.randn(4, 6, 3)
    mask = torch.rand(4, 6) > 0.4
    mask[:, 0] = True
    spoiled = logits.masked_fill(~mask[..., None], float("nan"))
    expected = np.stack([oracle(event[live].double().numpy()) for event, live in zip(logits, mask)])
    np.testing.assert_allclose(ensemble_log_probs(spoiled, mask).numpy(), expected, atol=1e-5)


def test_order_of_sensors_does_not_matter_and_dead_events_are_uniform():
    logits = torch.randn(2, 5, 4)
    torch.testing.assert_close(ensemble_log_probs(logits.flip(1)), ensemble_log_probs(logits))
    none = ensemble_log_probs(logits, torch.zeros(2, 5, dtype=torch.bool))
    torch.testing.assert_close(none.exp(), torch.full((2, 4), 0.25))
    assert ensemble_log_probs(logits.bfloat16()).dtype == torch.float32


def test_weights_of_sensors():
    logits, weights = torch.randn(2, 4, 3), torch.tensor([[1.0, 0.0, 2.5, 0.5], [0, 0, 0, 3]])
    logits[0, 1] = torch.nan  # weight 0
    found = ensemble_log_probs(logits, weights)
    log_p = logits.double().log_softmax(-1)
    for b in range(2):
        mean = sum(float(w) * log_p[b, s] for s, w in enumerate(weights[b]) if w > 0) / float(
            weights[b].sum()
        )
        torch.testing.assert_close(found[b].double(), mean.log_softmax(0), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ensemble_log_probs(logits[1:], 7 * weights[1:]), found[1:])


def test_ratio_is_the_loudest_half_second_over_the_median_before():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (2, 3, 1600)).astype(np.float32)
    x[:, :, 400:480] *= 9
    for offset in (0, 1e4):
        waveforms = torch.from_numpy(x + np.float32(offset))
        found = signal_to_pre_trigger_noise(waveforms, 100, 3.0).numpy()
        for place in np.ndindex(2, 3):
            trace = x[place] - x[place][:200].mean()
            rms = np.array([np.sqrt(np.mean(trace[i : i + 50] ** 2)) for i in range(0, 1551, 25)])
            before, after = rms[:7], rms[7:]  # seven frames end within the first 200 samples
            assert found[place] == pytest.approx(
                after.max() / np.sort(before)[3], rel=0.01 if offset else 1e-4
            )


def test_constant_channels_have_ratio_0_and_short_records_are_refused():
    x = torch.zeros(2, 1600)
    x[0, 500:] = 3
    ratio = signal_to_pre_trigger_noise(x, 100, 3.0)
    assert ratio[1] == 0 and ratio.isfinite().all()
    assert least_samples(100, 3.0) == 250
    signal_to_pre_trigger_noise(torch.randn(250), 100, 3.0)
    with pytest.raises(
        ValueError,
        match="249 samples are too few for an event after 200 samples of noise; at least 250",
    ):
        signal_to_pre_trigger_noise(torch.randn(249), 100, 3.0)


def test_the_broken_station_of_the_real_event_is_recognised(aknes_event):
    waveforms = torch.from_numpy(read_recording(aknes_event).waveforms)
    ratio = signal_to_pre_trigger_noise(waveforms, 1000, 3.0)
    assert (ratio < USABLE_RATIO).nonzero().flatten().tolist() == [12, 13, 14]


def test_broken_stations_of_simulated_events_are_recognised():
    broken, good = [], []
    for number in range(12):
        event = simulate_event(0, "Rockfall", number)
        ratio = signal_to_pre_trigger_noise(torch.from_numpy(event.waveforms), 1000, 3.0)
        station = np.arange(24) // 3 == int(event.truth["broken_station"])
        broken += ratio[station].tolist()
        good += ratio[~station].tolist()
    assert len(broken) >= 6 and max(broken) < USABLE_RATIO
    assert np.mean(np.array(good) >= USABLE_RATIO) > 0.75


def test_weights_of_each_kind_of_ensemble():
    ratio = torch.tensor([[1.0, 1.6, 5.0, 9.0], [1.0, 1.1, 1.2, 0.0]])
    mask = torch.tensor([[True] * 3 + [False]] * 2)
    assert sensor_weights(ratio, mask, "all").tolist() == [[1, 1, 1, 0], [1, 1, 1, 0]]
    # second event: no sensor is usable, so all live ones count
    assert sensor_weights(ratio, mask, "usable").tolist() == [[0, 1, 1, 0], [1, 1, 1, 0]]
    with pytest.raises(ValueError, match="found 'best', allowed are all, usable"):
        sensor_weights(ratio, mask, "best")


def test_a_sensor_that_was_off_before_the_event_has_no_weight():
    x = torch.randn(2, 1600)
    x[0, :300] = 0
    x[1, 400:500] *= 20  # the other sensor sees the event
    ratio = signal_to_pre_trigger_noise(x, 100, 3.0)
    assert ratio[0] == 0 and sensor_weights(ratio, torch.tensor([True, True]), "usable")[0] == 0


def test_noise_of_the_quiet_part_wherever_it_is():
    """An event that begins at 2 s; noise before it, and more of it after 20 s."""
    rng = np.random.default_rng(0)
    time_s = np.arange(6000) / 100
    burst = np.where(time_s < 2, 0, np.exp(-(time_s - 2) / 3)) * np.sin(2 * np.pi * 9 * time_s)
    waveforms = rng.normal(0, 3, (1, 4, 6000)) + 90 * burst + 5e4
    waveforms[0, 1] = 5e4 + rng.normal(0, 3, 6000)  # records no event
    waveforms[0, 2] = 5.0  # dead
    waveforms = torch.from_numpy(waveforms).float()
    quiet_s = torch.tensor([measure(waveforms[0].numpy(), 100.0)[1:3]])
    ratio = signal_to_quiet_noise(waveforms, 100.0, quiet_s)[0]
    assert ratio[0] == pytest.approx(90 / np.sqrt(2) / 3, rel=0.15) and ratio[2] == 0
    assert 1 < ratio[1] < USABLE_RATIO
    torch.testing.assert_close(
        signal_to_quiet_noise(1e-7 * (waveforms - 5e4), 100.0, quiet_s)[0][:2],
        ratio[:2],
        rtol=1e-2,
        atol=0,
    )
    assert not signal_to_quiet_noise(waveforms, 100.0, torch.zeros(1, 2)).any()
