"""Waveforms to images: the log spectrogram of [L22], on whatever device the waveforms are.

[L22] Lee, Aune, Langet, Eidsvik, Ensemble and self-supervised learning for improved classification of seismic signals from
the Åknes rockslope, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.signal import get_window
from torch import Tensor, nn
from torch.nn import functional as F

from preprocessing.limits import LARGEST_SAMPLE

OVERLAP_FRACTION = 8  # segments share nperseg // 8 samples, SciPy's default
TUKEY_TAPER = 0.25  # SciPy's default window for a spectrogram
WAVEFORMS_PER_CHUNK_CPU = 32  # what is computed on the way to their images stays in a CPU's caches


class LogSpectrogram(nn.Module):
    """Turn waveforms (…, T) in recorder units into images (…, H, W) in [0, 1]. [L22]

    Power spectral density as ``scipy.signal.spectrogram(x, fs, nperseg=nperseg)`` with its defaults, ``log10(S + 1)``,
    min–max per image, bilinear resize to ``resize_size`` rows with the width in proportion. ``resize_size=None`` keeps the
    native size, 41 x 228 for 16 s at 1000 Hz. Always float32. Raises ``ValueError`` for non-finite or too short waveforms.
    """

    def __init__(
        self,
        sampling_rate_hz: float = 1000,
        nperseg: int = 80,
        log_scale: bool = True,
        minmax_scale: bool = True,
        resize_size: int | None = 128,
    ):
        super().__init__()
        self.sampling_rate_hz = float(sampling_rate_hz)
        self.nperseg = nperseg
        self.hop = nperseg - nperseg // OVERLAP_FRACTION
        self.log_scale, self.minmax_scale, self.resize_size = log_scale, minmax_scale, resize_size
        window = get_window(("tukey", TUKEY_TAPER), nperseg)
        one_sided = np.full(nperseg // 2 + 1, 2.0)
        one_sided[0] = 1.0
        if nperseg % 2 == 0:
            one_sided[-1] = 1.0
        scale = one_sided / (self.sampling_rate_hz * np.sum(window**2))
        # windowed Fourier coefficients of a segment without its mean
        basis = np.sqrt(scale)[:, None] * np.fft.rfft(
            window[:, None] * (np.eye(nperseg) - 1 / nperseg), axis=0
        )
        basis = np.concatenate([basis.real, basis.imag])
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (…, T) into images (…, H, W)."""
        require_finite(waveforms)
        return self.resize(self.native(waveforms))

    def native_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (rows, columns) of the spectrogram of ``n_samples`` before resizing."""
        if n_samples < self.nperseg:
            raise ValueError(
                f"{n_samples} samples do not hold one segment of {self.nperseg} (dataset.nperseg)"
            )
        return self.nperseg // 2 + 1, (n_samples - self.nperseg) // self.hop + 1

    def image_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (H, W) of the image of ``n_samples``."""
        rows, columns = self.native_shape(n_samples)
        return (
            (rows, columns)
            if self.resize_size is None
            else (self.resize_size, int(columns * self.resize_size / rows))
        )

    def native(self, waveforms: Tensor) -> Tensor:
        """Compute the scaled spectrogram (…, rows, columns) before resizing; samples must be finite."""
        n_samples = waveforms.shape[-1]
        shape = *waveforms.shape[:-1], *self.native_shape(n_samples)
        return _in_chunks(
            self._native, WAVEFORMS_PER_CHUNK_CPU, waveforms.reshape(-1, n_samples)
        ).reshape(shape)

    def _native(self, waveforms: Tensor) -> Tensor:
        power = self._power(waveforms)
        return self._scale(power, *_extremes(power))

    def crops(self, waveforms: Tensor, channels: Tensor, columns: Tensor) -> Tensor:
        """Compute only some columns of V images: (B, C, T), (V,) which channels, (B, V, W') which columns -> (B, V, H, W').

        ``columns`` are runs of neighbours in rising order. Samples must be finite.
        """
        n_rows, n_native = self.native_shape(waveforms.shape[-1])
        height, width = self.image_shape(waveforms.shape[-1])

        def cut(waveforms: Tensor, columns: Tensor) -> Tensor:
            power = self._power(waveforms)
            extremes = (extreme.index_select(1, channels) for extreme in _extremes(power))
            needed, across = (
                (columns, None)
                if self.resize_size is None
                else _needed_columns(columns, n_native, width)
            )
            wanted = power.index_select(1, channels).gather(
                -1, needed.unsqueeze(-2).expand(-1, -1, n_rows, -1)
            )
            wanted = self._scale(wanted, *extremes)
            return wanted if across is None else _resize_columns(wanted, across, height)

        return _in_chunks(
            cut, max(1, WAVEFORMS_PER_CHUNK_CPU // waveforms.shape[1]), waveforms, columns
        )

    def _power(self, waveforms: Tensor) -> Tensor:
        """Compute the power spectral density (…, rows, columns) of (…, T)."""
        with torch.autocast(waveforms.device.type, enabled=False):
            segments = waveforms.float().unfold(-1, self.nperseg, self.hop)
            # the basis takes off each segment's mean; taking off its first sample before keeps float32 exact for large offsets
            segments = segments - segments[..., :1]
            # a matrix product: at this size faster than an FFT, and its rows and columns are the image's
            real, imaginary = (self.basis @ segments.transpose(-1, -2)).chunk(2, dim=-2)
            return torch.addcmul(real.square(), imaginary, imaginary)

    def _scale(self, power: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Take logarithms, and scale to [0, 1] what has its least and greatest power ``low`` and ``high`` (…, 1, 1)."""
        if self.log_scale:
            power, low, high = (x.log1p_().div_(math.log(10)) for x in (power, low, high))
        return _min_max(power, low, high) if self.minmax_scale else power

    def resize(self, native: Tensor) -> Tensor:
        """Resize native images (…, rows, columns) to (…, H, W), bilinear, pixel centres aligned."""
        if self.resize_size is None:
            return native
        rows, columns = native.shape[-2:]
        size = (self.resize_size, int(columns * self.resize_size / rows))
        flat = native.reshape(-1, 1, rows, columns)
        return F.interpolate(flat, size, mode="bilinear", align_corners=False).reshape(
            *native.shape[:-2], *size
        )


def require_finite(waveforms: Tensor) -> None:
    """Raise ``ValueError`` naming event and channel if a sample of (…, T) is NaN, infinite or above 1e15."""
    finite = (waveforms.abs() <= LARGEST_SAMPLE).all(-1)
    if not finite.all():
        place = torch.nonzero(~finite)[0].tolist()
        names = (
            ("event", "channel")[2 - len(place) :] if len(place) <= 2 else ("index",) * len(place)
        )
        where = (
            ", ".join(f"{name} {number}" for name, number in zip(names, place)) or "the waveform"
        )
        raise ValueError(f"NaN, infinite or absurdly large samples in {where}")


def min_max(image: Tensor) -> Tensor:
    """Scale each image (…, H, W) to [0, 1]; a constant one becomes zeros."""
    return _min_max(image, *_extremes(image))


def _min_max(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    span = high - low
    return (image - low).div_(torch.where(span > 0, span, 1))


def _extremes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the least and the greatest pixel (…, 1, 1) of each image."""
    return image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)


def _in_chunks(function: Callable[..., Tensor], n: int, *tensors: Tensor) -> Tensor:
    """Apply a function to chunks of n along the first dimension, on a CPU, and join what it returns."""
    if (
        tensors[0].device.type != "cpu" or torch.compiler.is_exporting()
    ):  # an exported graph takes any number
        return function(*tensors)
    chunks = [function(*chunk) for chunk in zip(*(tensor.split(n) for tensor in tensors))]
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def _needed_columns(columns: Tensor, n_native: int, width: int) -> tuple[Tensor, Tensor]:
    """Return which native columns (B, V, C) these (B, V, W') of ``width`` are made of, and their weights (B, V, C, W')."""
    position = _source_position(columns, width, n_native)
    n_needed = min(n_native, int(columns.shape[-1] * n_native / width) + 3)
    first = position[..., :1].long().clamp(max=n_native - n_needed)
    needed = first + torch.arange(n_needed, device=columns.device)
    return needed, _bilinear(needed, position)


def _resize_columns(native: Tensor, across: Tensor, height: int) -> Tensor:
    """Resize (B, V, rows, C) to (B, V, H, W') with the weights ``across``, bilinear, pixel centres aligned."""
    n_rows = native.shape[-2]
    every_row, rows = (torch.arange(n, device=native.device) for n in (n_rows, height))
    down = _bilinear(every_row, _source_position(rows, height, n_rows)).transpose(-1, -2)
    with torch.autocast(native.device.type, enabled=False):
        return down @ native @ across


def _source_position(target: Tensor, n_target: int, n_source: int) -> Tensor:
    """Return where target pixels lie among source pixels, their centres aligned."""
    return ((target + 0.5) * (n_source / n_target) - 0.5).clamp(0, n_source - 1)


def _bilinear(source: Tensor, position: Tensor) -> Tensor:
    """Return the weight (…, N, M) of each source pixel (…, N) for what lies at positions (…, M) among them."""
    return (1 - (source.unsqueeze(-1) - position.unsqueeze(-2)).abs()).clamp(min=0)
