"""Figure of simulated events, one per class, below a recorded one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from preprocessing.drawing import draw_spectrogram, draw_waveforms
from preprocessing.recordings import read_recording
from preprocessing.simulate.ranges import SAMPLING_RATE_HZ
from preprocessing.simulate.simulated_archive import SimulatedEvent, simulate_event
from preprocessing.simulate.source_models import SOURCES
from preprocessing.spectrogram import LogSpectrogram
from utils.errors import UserError
from utils.figures import picture


def draw_gallery(path: Path, seed: int, real: Path | None = None) -> None:
    """Draw one event of medium amplitude per class into a PNG file, below the recording ``real``.

    Raises ``UserError`` for another file type and for a recording that cannot be read.
    """
    if path.suffix.lower() != ".png":
        raise UserError(f"{path}: the gallery is a PNG image; give it a name that ends in .png")
    rows = [] if real is None else [(f"recorded: {real.stem}", *_recorded(real))]
    for category in sorted(SOURCES):
        event = _typical(seed, category)
        rows.append((f"simulated: {category}", event.waveforms, SAMPLING_RATE_HZ))
    with picture(path, (15, 2.1 * len(rows))) as figure:
        axes = figure.subplots(len(rows), 3, sharex=True, width_ratios=(1.3, 1, 1), squeeze=False)
        for row, (title, waveforms, rate_hz) in zip(axes, rows):
            image = _draw_row(row, title, waveforms, rate_hz)
        for axis in axes[-1]:
            axis.set_xlabel("time in the record (s)")
        figure.colorbar(
            image,
            ax=axes[:, 1:],
            label="log10(PSD + 1), scaled to [0, 1] per channel",
            shrink=0.3,
            aspect=40,
        )


def _recorded(path: Path) -> tuple[np.ndarray, float]:
    recording = read_recording(path)
    return recording.waveforms, recording.sampling_rate_hz


def _typical(seed: int, category: str, n_candidates: int = 9) -> SimulatedEvent:
    """Return the event of median amplitude among ``n_candidates``."""
    events = [simulate_event(seed, category, number) for number in range(n_candidates)]
    return sorted(events, key=lambda event: event.truth["magnitude"])[n_candidates // 2]


def _draw_row(row: np.ndarray, title: str, waveforms: np.ndarray, rate_hz: float) -> Any:
    """Draw four channels by falling signal-to-noise ratio, and spectrograms of the first two.

    Returns one of the two images, for the colour bar.
    """
    centred = waveforms - waveforms.mean(axis=1, keepdims=True)
    # the first two seconds are noise
    snr = np.abs(centred).max(axis=1) / (centred[:, : int(2 * rate_hz)].std(axis=1) + 1e-9)
    ranked = np.argsort(-snr)[[0, len(waveforms) // 3, 2 * len(waveforms) // 3, -1]]
    draw_waveforms(row[0], centred[ranked], rate_hz, [f"ch {channel}" for channel in ranked])
    beside = row[0].get_yaxis_transform()
    for line, peak in enumerate(np.abs(centred[ranked]).max(axis=1)):
        row[0].text(1.01, line, f"{peak:.0f}", transform=beside, va="center", fontsize=7)
    row[0].set_title(f"{title}   (right: peak, recorder units)", loc="left", fontsize=9)
    images = LogSpectrogram(rate_hz, resize_size=None)(torch.from_numpy(waveforms[ranked])).numpy()
    for axis, channel, pixels in zip(row[1:], ranked, images):
        extent = (0.0, waveforms.shape[1] / rate_hz, 0.0, rate_hz / 2)
        image = draw_spectrogram(axis, pixels, extent)
        axis.set_title(f"ch {channel}", loc="left", fontsize=8)
        axis.set_ylabel("frequency (Hz)", fontsize=8)
    return image
