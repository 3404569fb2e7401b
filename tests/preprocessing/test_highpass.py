import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfiltfilt

from original_implementation.stacking import StackedTraceClassifier
from preprocessing.dataset import EventBatch
from preprocessing.draws import N_DRAWS, N_SENSOR_DRAWS
from preprocessing.highpass import high_pass
from tests.modules import CLASSIFIER, SMALL_IMAGES, small_classifier, small_pretraining

FILTERED = SMALL_IMAGES | {"highpass_hz": 2.0}


def filtered(samples: np.ndarray, rate_hz: float, corner_hz: float) -> np.ndarray:
    return high_pass(torch.from_numpy(samples).float(), rate_hz, corner_hz).numpy()


@pytest.mark.parametrize(("n_samples", "rate_hz"), [(4096, 100.0), (6001, 250.0), (16000, 1000.0)])
def test_against_the_filter_of_scipy_forwards_and_backwards(n_samples, rate_hz):
    corner_hz = 0.01 * rate_hz
    time_s = np.arange(n_samples) / rate_hz
    samples = np.random.default_rng(0).normal(0, 5, (2, 3, n_samples)) + 3000 + 50 * time_s
    samples += 400 * np.sin(2 * np.pi * corner_hz / 5 * time_s)
    expected = sosfiltfilt(butter(4, corner_hz, "highpass", fs=rate_hz, output="sos"), samples)
    inside = slice(n_samples // 8, -n_samples // 8)  # continued in another way at the ends
    difference = (filtered(samples, rate_hz, corner_hz) - expected)[..., inside]
    assert np.abs(difference).max() < 0.05 and expected[..., inside].std() > 4


@pytest.mark.parametrize(("ratio", "gain"), [(0.25, 4**-8), (1, 0.5), (2, 1 / (1 + 2**-8)), (5, 1)])
def test_gain_and_phase_at_a_frequency(ratio, gain):
    time_s = np.arange(8192) / 100
    wave = np.sin(2 * np.pi * 2 * ratio * time_s + 0.3)
    inside = slice(2000, -2000)
    np.testing.assert_allclose(
        filtered(wave, 100.0, 2.0)[inside], gain * wave[inside], atol=2e-4 * max(gain, 0.05)
    )


@pytest.mark.parametrize("n_samples", [2, 3, 1000])
def test_offset_and_trend_leave_nothing(n_samples):
    line = 1e6 + 300.0 * np.arange(n_samples)
    assert np.abs(filtered(line[None], 100.0, 1.0)).max() <= 1e-6 * line.max()
    assert not filtered(np.full((2, n_samples), 7e5), 100.0, 1.0).any()


def test_none_changes_nothing():
    waveforms = torch.randn(2, 50)
    assert high_pass(waveforms, 100.0, None) is waveforms


def events_with_and_without_microseism() -> tuple[torch.Tensor, torch.Tensor]:
    time_s, rng = np.arange(3000) / 100, np.random.default_rng(1)
    events = rng.normal(0, 3, (2, 3, 3000))
    events[..., 1000:1600] += 60 * np.sin(2 * np.pi * 12 * time_s[:600])
    phases = rng.uniform(0, 6, (2, 3, 1))
    microseism = rng.uniform(100, 400, (2, 3, 1)) * np.sin(2 * np.pi * 0.2 * time_s + phases)
    return torch.from_numpy(events).float(), torch.from_numpy(events + microseism + 5000).float()


def stacked_classifier(**changes) -> StackedTraceClassifier:
    torch.manual_seed(0)
    return StackedTraceClassifier(["a", "b", "c"], "ResNet18", **(CLASSIFIER | changes))


@pytest.mark.parametrize("build", [small_classifier, stacked_classifier])
def test_microseism_changes_nothing_that_a_classifier_says(build):
    quiet, loud = events_with_and_without_microseism()
    for quiet_noise in (False, True):
        model = build(spectrogram=FILTERED, quiet_noise=quiet_noise, n_samples=3000).eval()
        found = [model.predict_events(x, "weighted") for x in (quiet, loud)]
        for one, other in zip(*found):
            torch.testing.assert_close(one, other, rtol=0.02, atol=0.01)
        assert (found[0].ratio > 5).all()
    plain = build().eval()
    assert ((plain.predict_events(loud).ratio / found[0].ratio - 1).abs() > 0.2).any()


def test_microseism_changes_nothing_that_pretraining_sees():
    quiet, loud = events_with_and_without_microseism()
    draws = torch.rand(2, N_DRAWS - N_SENSOR_DRAWS)

    def views(waveforms, **changes):
        return small_pretraining(**changes).cut_views(waveforms[:, :2], draws)

    torch.testing.assert_close(
        views(quiet, spectrogram=FILTERED), views(loud, spectrogram=FILTERED), rtol=0, atol=0.02
    )
    assert (views(quiet) - views(loud)).abs().max() > 0.2


def test_it_is_in_the_checkpoint_and_in_training():
    quiet, loud = events_with_and_without_microseism()
    model = small_classifier(spectrogram=FILTERED)
    assert model.hparams["spectrogram"]["highpass_hz"] == 2.0
    model.log_dict = lambda *_, **__: None
    losses = [
        model.training_step(
            EventBatch(
                waveforms,
                torch.ones(2, 3, dtype=torch.bool),
                torch.arange(3).repeat(2, 1),
                torch.tensor([0, 1]),
                torch.arange(2),
                torch.zeros(2, N_DRAWS - N_SENSOR_DRAWS),
            ),
            0,
        )
        for waveforms in (quiet, loud)
    ]
    torch.testing.assert_close(*losses, rtol=0.02, atol=0.01)


@pytest.mark.slow  # the export takes ten seconds
def test_the_exported_graph_has_it(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    from prediction.export import export_onnx

    model = small_classifier(spectrogram=FILTERED, n_samples=3000).eval()
    export_onnx(model, tmp_path / "model.onnx", "all")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    _, loud = events_with_and_without_microseism()
    expected = model.predict_waveforms(loud)
    for event, probabilities in zip(loud, expected):
        (found,) = session.run(None, {"waveforms": event.numpy()})
        np.testing.assert_allclose(found, probabilities.numpy(), atol=1e-4)
    without = small_classifier(n_samples=3000).eval().predict_waveforms(loud)
    assert (without - expected).abs().max() > 1e-3
