"""The published method [L22], written plainly: the baseline of the benchmarks.

Items are made one at a time from raw files: ObsPy reads all channels, SciPy computes spectrograms,
the whole image is resized, then cropped. Sensors are evaluated one by one. Networks use float32 and
PyTorch's default memory layout; the covariance loss forms the (D, D) matrix of correlations.

[L22] Lee, Aune, Langet, Eidsvik, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.signal import spectrogram
from torch import Tensor, nn
from torch.nn import functional as F

SAMPLING_RATE_HZ, NPERSEG, ROWS = 1000, 80, 128
R, S = 0.1, 0.025  # relative to the image width: crop, largest distance of a neighbour


def read_channels(path: Path) -> list[np.ndarray]:
    """Read all channels (T,) of a recording with ObsPy."""
    import obspy

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [trace.data for trace in obspy.read(str(path))]


def image(samples: np.ndarray, rows: int | None = ROWS) -> Tensor:
    """Return the scaled log spectrogram (H, W) of one channel (T,)."""
    _, _, power = spectrogram(samples, fs=SAMPLING_RATE_HZ, nperseg=NPERSEG)
    scaled = np.log10(np.abs(power) + 1)
    span = scaled.max() - scaled.min()
    scaled = (scaled - scaled.min()) / (span if span > 0 else 1)
    native = torch.from_numpy(scaled).float()[None, None]
    if rows is None:
        return native[0, 0]
    height, width = native.shape[-2:]
    return F.interpolate(
        native, size=(rows, int(width * rows / height)), mode="bilinear", align_corners=False
    )[0, 0]


def ssl_item(path: Path, rng: np.random.Generator) -> Tensor:
    """Return the three crops (3, H, W') of one event for pretraining."""
    channels = read_channels(path)
    first, second = (image(channels[rng.integers(len(channels))]) for _ in range(2))
    u = rng.uniform(R + S, 1 - R - S)
    u_l = _redraw(lambda: rng.normal(u, S / 2), lambda v: abs(v - u) < S)
    u_k = _redraw(lambda: rng.uniform(R + S, 1 - R - S), lambda v: abs(v - u) > S + R)
    return torch.stack([_crop(first, u), _crop(second, u_l), _crop(second, u_k)])


def _redraw(draw: Callable[[], float], accept: Callable[[float], bool]) -> float:
    value = draw()
    while not accept(value):
        value = draw()
    return value


def _crop(whole: Tensor, u: float) -> Tensor:
    width = whole.shape[-1]
    half, middle = int(R * width) // 2, int(u * width)
    return whole[:, middle - half : middle + half]


def supervised_item(path: Path, rng: np.random.Generator) -> Tensor:
    """Return the image (H, W) of a random channel of an event."""
    channels = read_channels(path)
    return image(channels[rng.integers(len(channels))])


@torch.no_grad()
def ensemble_probabilities(path: Path, network: nn.Module) -> Tensor:
    """Return the class probabilities (K,) of one event, computed sensor by sensor."""
    log_probs = [
        F.log_softmax(network(image(samples)[None, None]), dim=-1)[0]
        for samples in read_channels(path)
    ]
    return F.softmax(torch.stack(log_probs).mean(0), dim=-1)


def covariance_loss(z_a: Tensor, z_b: Tensor) -> Tensor:
    """Return the mean squared off-diagonal correlation of ``z_a`` and ``z_b`` (B, D)."""
    return _off_diagonal(z_a) + _off_diagonal(z_b)


def _off_diagonal(z: Tensor) -> Tensor:
    z = F.normalize(z - z.mean(0), dim=0)
    correlations = z.T @ z
    correlations = correlations - torch.diag(torch.diagonal(correlations))
    return correlations.square().sum() / z.shape[1] ** 2
