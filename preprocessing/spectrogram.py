"""Waveforms to images: the log spectrogram of [L22], on whatever device the waveforms are.

[L22] Lee, Aune, Langet, Eidsvik, Ensemble and self-supervised learning for improved classification of seismic signals from
the Åknes rockslope, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

import math

import numpy as np
import torch
from scipy.signal import get_window
from torch import Tensor, nn
from torch.nn import functional as F

from preprocessing.storage import LARGEST_SAMPLE

OVERLAP_FRACTION = 8  # segments share nperseg // 8 samples, SciPy's default
TUKEY_TAPER = 0.25  # SciPy's default window for a spectrogram
WAVEFORMS_PER_CHUNK_CPU = 64  # what is computed on the way to their images stays in a CPU's caches


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
        basis = np.sqrt(scale)[:, None] * np.fft.rfft(window[:, None] * (np.eye(nperseg) - 1 / nperseg), axis=0)
        basis = np.concatenate([basis.real, basis.imag])
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Turn waveforms (…, T) into images (…, H, W)."""
        require_finite(waveforms)
        return self.resize(self.native(waveforms))

    def native_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (rows, columns) of the spectrogram of ``n_samples`` before resizing."""
        if n_samples < self.nperseg:
            raise ValueError(f"{n_samples} samples do not hold one segment of {self.nperseg} (dataset.nperseg)")
        return self.nperseg // 2 + 1, (n_samples - self.nperseg) // self.hop + 1

    def image_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (H, W) of the image of ``n_samples``."""
        rows, columns = self.native_shape(n_samples)
        return (rows, columns) if self.resize_size is None else (self.resize_size, int(columns * self.resize_size / rows))

    def native(self, waveforms: Tensor) -> Tensor:
        """Compute the scaled spectrogram (…, rows, columns) before resizing; samples must be finite."""
        shape = self.native_shape(waveforms.shape[-1])
        if waveforms.device.type != "cpu" or torch.compiler.is_exporting():  # an exported graph takes any number of waveforms
            return self._native(waveforms)
        chunks = waveforms.reshape(-1, waveforms.shape[-1]).split(WAVEFORMS_PER_CHUNK_CPU)
        images = [self._native(chunk) for chunk in chunks]
        return (images[0] if len(images) == 1 else torch.cat(images)).reshape(*waveforms.shape[:-1], *shape)

    def _native(self, waveforms: Tensor) -> Tensor:
        """Turn (…, T) into (…, rows, columns)."""
        with torch.autocast(waveforms.device.type, enabled=False):
            segments = waveforms.float().unfold(-1, self.nperseg, self.hop)
            # the basis takes off each segment's mean; taking off its first sample before keeps float32 exact for large offsets
            segments = segments - segments[..., :1]
            # a matrix product: at this size faster than an FFT, and its rows and columns are the image's
            real, imaginary = (self.basis @ segments.transpose(-1, -2)).chunk(2, dim=-2)
            image = torch.addcmul(real.square(), imaginary, imaginary)
            if self.log_scale:
                image = image.log1p_().div_(math.log(10))
            return min_max(image) if self.minmax_scale else image

    def resize(self, native: Tensor) -> Tensor:
        """Resize native images (…, rows, columns) to (…, H, W), bilinear, pixel centres aligned."""
        if self.resize_size is None:
            return native
        rows, columns = native.shape[-2:]
        size = (self.resize_size, int(columns * self.resize_size / rows))
        flat = native.reshape(-1, 1, rows, columns)
        return F.interpolate(flat, size, mode="bilinear", align_corners=False).reshape(*native.shape[:-2], *size)

    def resize_columns(self, native: Tensor, columns: Tensor) -> Tensor:
        """Compute only the given columns of ``resize(native)``: (B, V, rows, C), (B, V, W') indices -> (B, V, H, W').

        ``columns`` are runs of neighbours in rising order.
        """
        n_rows, n_columns = native.shape[-2:]
        if self.resize_size is None:
            return _take_columns(native, columns)
        width = int(n_columns * self.resize_size / n_rows)
        position = _source_position(columns, width, n_columns)
        n_needed = min(n_columns, int(columns.shape[-1] * n_columns / width) + 3)
        first = position[..., :1].long().clamp(max=n_columns - n_needed)
        needed = first + torch.arange(n_needed, device=native.device)
        across = _bilinear(needed, position)
        every_row, rows = (torch.arange(n, device=native.device) for n in (n_rows, self.resize_size))
        down = _bilinear(every_row, _source_position(rows, self.resize_size, n_rows)).transpose(-1, -2)
        with torch.autocast(native.device.type, enabled=False):
            return down @ _take_columns(native, needed) @ across


def require_finite(waveforms: Tensor) -> None:
    """Raise ``ValueError`` naming event and channel if a sample of (…, T) is NaN, infinite or above 1e15."""
    finite = (waveforms.abs() <= LARGEST_SAMPLE).all(-1)
    if not finite.all():
        place = torch.nonzero(~finite)[0].tolist()
        names = ("event", "channel")[2 - len(place) :] if len(place) <= 2 else ("index",) * len(place)
        where = ", ".join(f"{name} {number}" for name, number in zip(names, place)) or "the waveform"
        raise ValueError(f"NaN, infinite or absurdly large samples in {where}")


def min_max(image: Tensor) -> Tensor:
    """Scale each image (…, H, W) to [0, 1]; a constant one becomes zeros."""
    low, high = image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)
    span = high - low
    return (image - low).div_(torch.where(span > 0, span, 1))


def _source_position(target: Tensor, n_target: int, n_source: int) -> Tensor:
    """Return where target pixels lie among source pixels, their centres aligned."""
    return ((target + 0.5) * (n_source / n_target) - 0.5).clamp(0, n_source - 1)


def _bilinear(source: Tensor, position: Tensor) -> Tensor:
    """Return the weight (…, N, M) of each source pixel (…, N) for what lies at positions (…, M) among them."""
    return (1 - (source.unsqueeze(-1) - position.unsqueeze(-2)).abs()).clamp(min=0)


def _take_columns(images: Tensor, columns: Tensor) -> Tensor:
    """Pick columns (B, V, W') from images (B, V, H, W)."""
    return images.gather(-1, columns.unsqueeze(-2).expand(*images.shape[:-1], -1))
