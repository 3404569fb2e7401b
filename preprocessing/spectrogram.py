"""Convert waveforms to images: the log spectrogram of [L22].

[L22] Lee, Aune, Langet, Eidsvik, Ensemble and self-supervised learning for improved classification
of seismic signals from the Åknes rockslope, Math. Geosci. 2022, doi 10.1007/s11004-022-10037-7.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from preprocessing.channels import LARGEST_SAMPLE

OVERLAP_FRACTION = 8  # segments share nperseg // 8 samples, SciPy's default
TUKEY_TAPER = 0.25  # SciPy's default window for a spectrogram
WAVEFORMS_PER_CHUNK_CPU = 32  # intermediate results of so many waveforms fit into CPU caches
HIGHPASS_ORDER = 4  # of the Butterworth filter, which is applied forwards and backwards


@dataclass(frozen=True)
class SpectrogramSettings:
    """The arguments of ``LogSpectrogram``, explained there.

    A checkpoint stores them, as a plain dict, under ``spectrogram``.
    """

    sampling_rate_hz: float
    nperseg: int
    log_scale: bool
    minmax_scale: bool
    resize_size: int | None
    highpass_hz: float | None
    amplitude_scale: float = 1.0


class LogSpectrogram(nn.Module):
    """Convert waveforms (…, T) in recorder units to images (…, H, W) in [0, 1]. [L22]

    Steps: power spectral density as ``scipy.signal.spectrogram(x, fs, nperseg=nperseg)`` with its
    defaults, ``log10(S + 1)``, min–max scaling per image, bilinear resizing to ``resize_size`` rows
    and proportional width. ``resize_size=None`` keeps the native size, 41 x 228 for 16 s at
    1000 Hz. Before that, waveforms are multiplied by ``amplitude_scale`` and, unless
    ``highpass_hz`` is None, go through ``high_pass``. Always float32. Raises ``ValueError`` for
    non-finite and for too short waveforms.
    """

    basis: Tensor

    def __init__(
        self,
        sampling_rate_hz: float = 1000,
        nperseg: int = 80,
        log_scale: bool = True,
        minmax_scale: bool = True,
        resize_size: int | None = 128,
        amplitude_scale: float = 1.0,
        highpass_hz: float | None = None,
    ):
        super().__init__()
        self.highpass_hz = highpass_hz
        self.sampling_rate_hz = float(sampling_rate_hz)
        self.nperseg, self.amplitude_scale = nperseg, amplitude_scale
        self.hop = nperseg - nperseg // OVERLAP_FRACTION
        self.log_scale, self.minmax_scale, self.resize_size = log_scale, minmax_scale, resize_size
        window = tukey_window(nperseg)
        one_sided = np.full(nperseg // 2 + 1, 2.0)
        one_sided[0] = 1.0
        if nperseg % 2 == 0:
            one_sided[-1] = 1.0
        scale = one_sided / (self.sampling_rate_hz * np.sum(window**2))
        # matrix that removes the mean of a segment, applies the window and the transform
        basis = np.sqrt(scale)[:, None] * np.fft.rfft(
            window[:, None] * (np.eye(nperseg) - 1 / nperseg), axis=0
        )
        basis = amplitude_scale * np.concatenate([basis.real, basis.imag])
        self.register_buffer("basis", torch.tensor(basis, dtype=torch.float32), persistent=False)

    def forward(self, waveforms: Tensor) -> Tensor:
        """Convert waveforms (…, T) to images (…, H, W)."""
        require_finite(waveforms)
        return self.resize(self.native(waveforms))

    @property
    def settings(self) -> SpectrogramSettings:
        """The arguments, with their defaults."""
        names = (field.name for field in fields(SpectrogramSettings))
        return SpectrogramSettings(**{name: getattr(self, name) for name in names})

    def native_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (rows, columns) of the spectrogram of ``n_samples`` before resizing."""
        if n_samples < self.nperseg:
            raise ValueError(
                f"{n_samples} samples are less than one segment of {self.nperseg} (dataset.nperseg)"
            )
        return self.nperseg // 2 + 1, (n_samples - self.nperseg) // self.hop + 1

    def image_shape(self, n_samples: int) -> tuple[int, int]:
        """Return (H, W) of the image of ``n_samples``."""
        rows, columns = self.native_shape(n_samples)
        if self.resize_size is None:
            return rows, columns
        return self.resize_size, int(columns * self.resize_size / rows)

    def native(self, waveforms: Tensor) -> Tensor:
        """Compute the scaled spectrograms (…, rows, columns) of (…, T) before resizing.

        Samples must be finite; this is not checked.
        """
        n_samples = waveforms.shape[-1]
        shape = *waveforms.shape[:-1], *self.native_shape(n_samples)
        return _in_chunks(
            self._native, WAVEFORMS_PER_CHUNK_CPU, waveforms.reshape(-1, n_samples)
        ).reshape(shape)

    def _native(self, waveforms: Tensor) -> Tensor:
        power = self._power(waveforms)
        return self._scale(power, *_extremes(power))

    def crops(self, waveforms: Tensor, channels: Tensor, columns: Tensor) -> Tensor:
        """Compute crops (B, V, H, W') of images without computing the whole images.

        ``waveforms`` is (B, C, T), ``channels`` (V,) the channel of each crop. ``columns``
        (B, V, W') are the image columns of each crop, contiguous and ascending. Samples must be
        finite; this is not checked.
        """
        n_rows, n_native = self.native_shape(waveforms.shape[-1])
        height, width = self.image_shape(waveforms.shape[-1])

        def crop(waveforms: Tensor, columns: Tensor) -> Tensor:
            power = self._power(waveforms)
            extremes = (extreme.index_select(1, channels) for extreme in _extremes(power))
            source, weights = columns, None
            if self.resize_size is not None:
                source, weights = _source_columns(columns, n_native, width)
            cropped = power.index_select(1, channels).gather(
                -1, source.unsqueeze(-2).expand(-1, -1, n_rows, -1)
            )
            cropped = self._scale(cropped, *extremes)
            return cropped if weights is None else _resize_columns(cropped, weights, height)

        events_per_chunk = max(1, WAVEFORMS_PER_CHUNK_CPU // waveforms.shape[1])
        return _in_chunks(crop, events_per_chunk, waveforms, columns)

    def filtered(self, waveforms: Tensor) -> Tensor:
        """Return the waveforms (…, T) after the high-pass, before ``amplitude_scale``."""
        if self.highpass_hz is None:
            return waveforms
        rows = waveforms.reshape(-1, waveforms.shape[-1])
        return _in_chunks(self._filtered, WAVEFORMS_PER_CHUNK_CPU, rows).reshape(waveforms.shape)

    def _filtered(self, waveforms: Tensor) -> Tensor:
        return high_pass(waveforms, self.sampling_rate_hz, self.highpass_hz)

    def _power(self, waveforms: Tensor) -> Tensor:
        """Compute the power spectral density (…, rows, columns) of (…, T)."""
        waveforms = self._filtered(waveforms)
        with torch.autocast(waveforms.device.type, enabled=False):
            segments = waveforms.float().unfold(-1, self.nperseg, self.hop)
            # The basis removes the mean of each segment. Subtracting the first sample before it
            # keeps float32 accurate for waveforms with a large offset.
            segments = segments - segments[..., :1]
            # For short segments a matrix product is faster than an FFT.
            real, imaginary = (self.basis @ segments.transpose(-1, -2)).chunk(2, dim=-2)
            return torch.addcmul(real.square(), imaginary, imaginary)

    def _scale(self, power: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Take the logarithm and scale to [0, 1]; modifies its arguments.

        ``low`` and ``high`` (…, 1, 1) are the minimum and maximum power of each whole image.
        """
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
    """Check waveforms (…, T) for samples that are NaN, infinite or larger than 1e15.

    Raises ``ValueError`` with event and channel of the first such sample.
    """
    finite = (waveforms.abs() <= LARGEST_SAMPLE).all(-1)
    if not finite.all():
        place = torch.nonzero(~finite)[0].tolist()
        names = (
            ("event", "channel")[2 - len(place) :] if len(place) <= 2 else ("index",) * len(place)
        )
        where = (
            ", ".join(f"{name} {number}" for name, number in zip(names, place)) or "the waveform"
        )
        raise ValueError(f"samples that are NaN, infinite or above {LARGEST_SAMPLE:g} in {where}")


def _min_max(image: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Scale images (…, H, W) to [0, 1]; a constant image becomes zeros."""
    span = high - low
    return (image - low).div_(torch.where(span > 0, span, 1))


def _extremes(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return minimum and maximum (…, 1, 1) of each image."""
    return image.amin((-2, -1), keepdim=True), image.amax((-2, -1), keepdim=True)


def _in_chunks(function: Callable[..., Tensor], n: int, *tensors: Tensor) -> Tensor:
    """Apply a function to chunks of n rows and concatenate the results; in one call on a GPU.

    During export it is one call, too: the number of chunks would be fixed in the exported graph.
    """
    if tensors[0].device.type != "cpu" or torch.compiler.is_exporting():
        return function(*tensors)
    chunks = [function(*chunk) for chunk in zip(*(tensor.split(n) for tensor in tensors))]
    return chunks[0] if len(chunks) == 1 else torch.cat(chunks)


def _source_columns(columns: Tensor, n_native: int, width: int) -> tuple[Tensor, Tensor]:
    """Find the native columns from which image columns (B, V, W') are interpolated.

    Returns their indices (B, V, C) and bilinear weights (B, V, C, W').
    """
    position = _source_position(columns, width, n_native)
    n_needed = min(n_native, int(columns.shape[-1] * n_native / width) + 3)
    first = position[..., :1].long().clamp(max=n_native - n_needed)
    needed = first + torch.arange(n_needed, device=columns.device)
    return needed, _bilinear(needed, position)


def _resize_columns(native: Tensor, weights: Tensor, height: int) -> Tensor:
    """Resize (B, V, rows, C) to (B, V, H, W'), bilinear; ``weights`` (B, V, C, W') of columns."""
    n_rows = native.shape[-2]
    every_row, rows = (torch.arange(n, device=native.device) for n in (n_rows, height))
    down = _bilinear(every_row, _source_position(rows, height, n_rows)).transpose(-1, -2)
    with torch.autocast(native.device.type, enabled=False):
        return down @ native @ weights


def _source_position(target: Tensor, n_target: int, n_source: int) -> Tensor:
    """Return the positions of target pixels in units of source pixels, pixel centres aligned."""
    return ((target + 0.5) * (n_source / n_target) - 0.5).clamp(0, n_source - 1)


def _bilinear(source: Tensor, position: Tensor) -> Tensor:
    """Return the weights (…, N, M) of source pixels (…, N) for linear interpolation at (…, M)."""
    return (1 - (source.unsqueeze(-1) - position.unsqueeze(-2)).abs()).clamp(min=0)


def tukey_window(n_samples: int) -> np.ndarray:
    """Return the periodic Tukey window (n_samples,) of ``scipy.signal.spectrogram``.

    Its first and last eighth are a cosine. [Harris, Proc. IEEE 66, 1978, eq. 38] Written here,
    because the import of ``scipy.signal`` takes as long as the classification of ten events.
    """
    phase = 2 * np.arange(n_samples) / (TUKEY_TAPER * n_samples)
    distance = np.minimum(phase, 2 / TUKEY_TAPER - phase)  # from the nearer end; 1: taper ends
    return np.where(distance < 1, 0.5 * (1 + np.cos(np.pi * (distance - 1))), 1.0)


def high_pass(waveforms: Tensor, sampling_rate_hz: float, corner_hz: float | None) -> Tensor:
    """Remove what lies below ``corner_hz`` from waveforms (…, T), float32; None changes nothing.

    The spectrum is multiplied by the power response of a Butterworth filter, 1 / (1 + (fc/f)^8).
    That is a filter of order 4 applied forwards and backwards: no delay, half the amplitude at the
    corner, and a precursor of about 1 / fc before an abrupt onset. Waveforms of at least two
    samples are continued at both ends by their point reflection, which keeps value and slope.
    """
    if corner_hz is None:
        return waveforms
    with torch.autocast(waveforms.device.type, enabled=False):
        n = waveforms.shape[-1]
        # a power of two: onnxruntime's transform of other lengths is wrong in the third digit
        half = 1 << (n - 2).bit_length()
        samples = waveforms.float() - waveforms[..., :1].float()  # float32 and large offsets
        samples = torch.cat([samples, _continuation(samples)[..., : half + 1 - n]], -1)
        # without the line between its ends, the waveform and its negative mirror are periodic
        ramp = torch.linspace(0, 1, half + 1, device=samples.device)
        samples = samples - ramp * samples[..., -1:]
        period = torch.cat([samples[..., :-1], -samples[..., 1:].flip(-1)], -1)
        frequency_hz = torch.arange(half + 1, device=samples.device) * (sampling_rate_hz / 2 / half)
        response = 1 / (1 + (corner_hz / frequency_hz) ** (2 * HIGHPASS_ORDER))  # 0 at 0 Hz
        filtered = torch.fft.irfft(torch.fft.rfft(period) * response, n=2 * half)
        return filtered[..., :n]


def _continuation(samples: Tensor) -> Tensor:
    """Return the point reflection of (…, T) about its last sample, (…, T - 1)."""
    return 2 * samples[..., -1:] - samples[..., :-1].flip(-1)
