import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates
from scipy.signal import spectrogram

from preprocessing.recordings import read_recording
from preprocessing.spectrogram import LogSpectrogram, require_finite


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
