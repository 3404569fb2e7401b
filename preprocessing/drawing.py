"""Draw waveforms and spectrograms: the same in every picture that shows them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

MAX_PIECES = 700  # of a waveform, each drawn from its least to its largest sample


def envelope(
    waveforms: np.ndarray, n_pieces: int = MAX_PIECES
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the first sample, and least and largest value, of at most ``n_pieces`` pieces.

    ``waveforms`` is (…, T); the three arrays are (P,), (…, P) and (…, P).
    """
    edges = np.unique(np.linspace(0, waveforms.shape[-1], n_pieces + 1).astype(int))[:-1]
    low, high = (
        extreme.reduceat(waveforms, edges, axis=-1) for extreme in (np.minimum, np.maximum)
    )
    return edges, low, high


def draw_waveforms(axes: Any, waveforms: np.ndarray, rate_hz: float, names: Sequence[str]) -> None:
    """Draw waveforms (S, T) below each other, each to its own peak, with their names."""
    n, n_samples = waveforms.shape
    peaks = np.maximum(np.abs(waveforms).max(axis=1, keepdims=True), 1e-30)
    lines = np.arange(n)[:, None] - waveforms / (2.2 * peaks)
    edges, low, high = envelope(lines)
    # one line for all: NaN lifts the pen between the channels
    drawn = np.full((n, 2 * edges.size + 1), np.nan)
    drawn[:, :-1] = np.stack([low, high], axis=-1).reshape(n, -1)
    time_s = np.append(np.repeat(edges / rate_hz, 2), np.nan)
    axes.plot(np.tile(time_s, n), drawn.ravel(), lw=0.5, color="black")
    axes.set(xlim=(0, n_samples / rate_hz), ylim=(n - 0.5, -0.5))
    axes.set_yticks(range(n), names, fontsize=7, parse_math=False)


def draw_spectrogram(
    axes: Any, image: np.ndarray, extent: tuple[float, float, float, float]
) -> Any:
    """Draw an image (H, W) with values in [0, 1], its lowest frequency first; return the picture.

    ``extent`` is left and right in s, then the values of the vertical axis below and above it.
    """
    style = {"origin": "lower", "aspect": "auto", "cmap": "magma", "interpolation": "nearest"}
    return axes.imshow(image, vmin=0, vmax=1, extent=extent, **style)
