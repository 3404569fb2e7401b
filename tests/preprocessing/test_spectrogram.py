import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.signal import butter, sosfiltfilt, spectrogram

from original_implementation.stacked_trace_classifier import StackedTraceClassifier
from preprocessing.dataset import N_DRAWS, N_SENSOR_DRAWS, EventBatch
from preprocessing.recordings import read_recording
from preprocessing.spectrogram import LogSpectrogram, high_pass, require_finite
from tests.modules import CLASSIFIER, SMALL_IMAGES, small_classifier, small_pretraining

FILTERED = SMALL_IMAGES | {"highpass_hz": 2.0}


def oracle(
    x: np.ndarray, fs: float = 1000, nperseg: int = 80, height: int | None = 128
) -> np.ndarray:
    """The chain of [L22], retyped with SciPy in float64 for one channel."""
    _, _, s = spectrogram(x.astype(np.float64), fs=fs, nperseg=nperseg)
    image = np.log10(np.abs(s) + 1)
    span = np.ptp(image)
    image = (image - image.min()) / span if span > 0 else np.zeros_like(image)
    if height is None:
        return image
    rows, columns = image.shape
    width = int(columns * height / rows)
    r = (np.arange(height) + 0.5) * rows / height - 0.5
    c = (np.arange(width) + 0.5) * columns / width - 0.5
    return map_coordinates(image, np.meshgrid(r, c, indexing="ij"), order=1, mode="nearest")


@pytest.mark.parametrize("n_samples", [80, 1000, 16000, 16001])
@pytest.mark.parametrize("height", [None, 128, 64])
def test_random_waveforms_against_scipy(n_samples, height):
    x = np.random.default_rng(n_samples).normal(size=(2, 3, n_samples)) * 60 + 500
    images = LogSpectrogram(resize_size=height)(torch.tensor(x, dtype=torch.float32))
    expected = np.stack(
        [[oracle(x.astype(np.float32)[b, s], height=height) for s in range(3)] for b in range(2)]
    )
    assert images.dtype == torch.float32 and images.shape == expected.shape
    assert np.abs(images.numpy() - expected).max() < 1e-4


def test_real_event_against_scipy(aknes_event):
    x = read_recording(aknes_event).waveforms
    images = LogSpectrogram()(torch.from_numpy(x))
    assert images.shape == (24, 128, 711)
    assert np.abs(images.numpy() - np.stack([oracle(channel) for channel in x])).max() < 1e-4


@pytest.mark.parametrize(("fs", "nperseg"), [(100, 80), (250, 61), (1000, 128)])
def test_other_rates_and_segments(fs, nperseg):
    x = np.random.default_rng(0).normal(size=5000) * 20
    image = LogSpectrogram(sampling_rate_hz=fs, nperseg=nperseg)(
        torch.tensor(x, dtype=torch.float32)
    )
    assert np.abs(image.numpy() - oracle(x.astype(np.float32), fs, nperseg)).max() < 1e-4


def test_switches():
    x = torch.randn(1600) * 50
    _, _, s = spectrogram(x.double().numpy(), fs=1000, nperseg=80)
    plain = LogSpectrogram(log_scale=False, minmax_scale=False, resize_size=None)(x)
    np.testing.assert_allclose(plain, s, rtol=1e-3, atol=1e-4)
    logarithm = LogSpectrogram(minmax_scale=False, resize_size=None)(x)
    np.testing.assert_allclose(logarithm, np.log10(s + 1), atol=1e-4)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(300, 4000), st.sampled_from([None, 32, 128]))
def test_only_the_wanted_columns_equal_those_of_the_whole_image(seed, n_samples, height):
    generator = torch.Generator().manual_seed(seed)
    transform = LogSpectrogram(resize_size=height)
    waveforms, channels = (
        torch.randn(40, 2, n_samples, generator=generator) * 40,
        (1, 0, 1),
    )  # three chunks
    whole = transform(waveforms)
    n = min(11, whole.shape[-1])
    columns = torch.randint(
        0, whole.shape[-1] - n + 1, (40, 3, 1), generator=generator
    ) + torch.arange(n)
    expected = torch.stack(
        [
            torch.stack([whole[b, c][:, columns[b, v]] for v, c in enumerate(channels)])
            for b in range(40)
        ]
    )
    crops = transform.crops(waveforms, torch.tensor(channels), columns)
    torch.testing.assert_close(crops, expected, atol=4e-6, rtol=0)
    assert crops.min() > -1e-6 and crops.max() < 1 + 1e-6  # weights are rounded


@pytest.mark.parametrize(
    "switches",
    [{"log_scale": False}, {"minmax_scale": False}, {"log_scale": False, "minmax_scale": False}],
)
def test_switches_hold_for_crops(switches):
    transform = LogSpectrogram(resize_size=None, **switches)
    waveforms = torch.randn(2, 1, 1600) * 50
    waveforms[1] = 7.0  # constant
    columns = torch.arange(3, 9).expand(2, 1, -1)
    torch.testing.assert_close(
        transform.crops(waveforms, torch.tensor([0]), columns), transform(waveforms)[..., 3:9]
    )


@pytest.mark.parametrize("value", [0.0, 1000.3, -7e6, 3e8])
def test_constant_channels_give_zeros(value):
    image = LogSpectrogram()(torch.full((2, 1600), value))
    assert torch.equal(image, torch.zeros_like(image))


def test_many_waveforms_are_computed_in_chunks_and_stay_in_order():
    x = torch.randn(9, 23, 800) * 50  # 207 waveforms: six chunks of 32, and a rest
    native = LogSpectrogram().native(x)
    torch.testing.assert_close(
        native,
        torch.stack([torch.stack([LogSpectrogram().native(row) for row in event]) for event in x]),
    )


def test_float32_survives_autocast_and_large_offsets():
    x = torch.randn(3200) * 10
    transform = LogSpectrogram()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = transform(x)
    assert mixed.dtype == torch.float32
    torch.testing.assert_close(mixed, transform(x))
    event, columns = (x[None, None], torch.tensor([0])), torch.arange(20, 40).reshape(1, 1, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        crops = transform.crops(*event, columns)
    assert crops.dtype == torch.float32
    torch.testing.assert_close(crops, transform.crops(*event, columns))
    offset = (x.double() + 2e4).float()
    assert np.abs(transform(offset).numpy() - oracle(offset.numpy())).max() < 1e-4


@pytest.mark.parametrize(
    ("shape", "place", "where"),
    [
        ((2, 3, 400), (1, 2, 5), "event 1, channel 2"),
        ((3, 400), (2, 0), "channel 2"),
        ((400,), (9,), "the waveform"),
    ],
)
def test_non_finite_samples_are_named(shape, place, where):
    x = torch.zeros(shape)
    x[place] = float("nan")
    with pytest.raises(ValueError, match=where):
        LogSpectrogram()(x)
    x[place] = -1e25
    with pytest.raises(ValueError, match=where):
        require_finite(x)


def test_too_short_waveforms_are_refused():
    with pytest.raises(ValueError, match="79 samples"):
        LogSpectrogram()(torch.zeros(79))
    assert LogSpectrogram().image_shape(16000) == (128, 711)
    assert LogSpectrogram(resize_size=None).image_shape(16000) == (41, 228)


def test_images_are_scaled_one_by_one():
    x = torch.randn(800) * 50
    images = LogSpectrogram(resize_size=None)(torch.stack([x, 100 * x, torch.full((800,), 4.0)]))
    assert images.amin((-2, -1)).tolist() == [0.0, 0.0, 0.0]
    assert images.amax((-2, -1)).tolist() == [1.0, 1.0, 0.0]


def test_drifts_and_long_periods_cost_no_precision():
    noise = np.random.default_rng(0).normal(0, 12, 16000)
    time_s = np.arange(16000) / 1000
    for slow in (np.linspace(0, 1e6, 16000), 1e5 * np.sin(time_s)):
        x = (noise + slow).astype(np.float32)
        assert np.abs(LogSpectrogram()(torch.from_numpy(x)).numpy() - oracle(x)).max() < 1e-4


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
        found = [model.predict_events(x, "usable") for x in (quiet, loud)]
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
