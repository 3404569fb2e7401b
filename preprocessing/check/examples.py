"""The page of examples: some events of each class, waveform above spectrogram."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from preprocessing.check.advice import common_rate_hz
from preprocessing.check.measure import MeasuredEvent, outcome
from preprocessing.drawing import draw_spectrogram, envelope
from preprocessing.spectrogram import LogSpectrogram
from utils.figures import picture

PER_CLASS = 3
MAX_CLASSES = 10


class Example(NamedTuple):
    """One channel of an event: samples (T,) and where they come from."""

    title: str
    samples: np.ndarray
    rate_hz: float


def choose_examples(events: Sequence[MeasuredEvent]) -> dict[str, list[int]]:
    """Return the indices of some usable events of each class, spread over its list."""
    rate_hz = common_rate_hz(events)
    chosen: dict[str, list[int]] = {}
    for name in sorted({event.category for event in events}):
        usable = [
            index
            for index, event in enumerate(events)
            if event.category == name and not outcome(event, rate_hz).problem
        ]
        if usable:
            places = np.linspace(0, len(usable) - 1, 2 * PER_CLASS + 1)[1::2].round().astype(int)
            chosen[name] = [usable[place] for place in np.unique(places)]
    return dict(list(chosen.items())[:MAX_CLASSES])


def clear_channel(event: MeasuredEvent) -> str:
    """Return the name of a channel that shows the event clearly.

    Three quarters of the living channels have a lower ratio of peak to noise. The channel with the
    highest ratio is not taken, because its peak is often a glitch.
    """
    living = [channel for channel in event.channels if not channel.is_dead]
    living.sort(key=lambda channel: channel.peak / channel.noise if channel.noise > 0 else 0)
    return living[3 * (len(living) - 1) // 4].span.name


def draw_examples(
    examples: dict[str, list[Example]], nperseg: int, highpass_hz: float | None, path: Path
) -> Path:
    """Draw the examples, a row of panels per class, each with time and frequency axes."""

    with picture(path, (14, 0.6 + 2.3 * len(examples))) as figure:
        rows = figure.subplots(len(examples), PER_CLASS, squeeze=False)
        for row, (name, of_class) in zip(rows, examples.items()):
            row[0].set_ylabel(f"{name.replace('_', ' ')}\nfrequency (Hz)", fontsize=9)
            for axes in row[len(of_class) :]:
                axes.set_axis_off()
            for axes, example in zip(row, of_class):
                image = _draw_example(axes, example, nperseg, highpass_hz)
        for axes in rows[-1]:
            axes.set_xlabel("time (s)")
        figure.colorbar(image, ax=rows, label="scaled log density", shrink=0.5, aspect=40)
    return path


def _draw_example(axes: Any, example: Example, nperseg: int, highpass_hz: float | None) -> Any:
    """Draw the spectrogram, and the waveform in a strip above it; returns the image.

    With ``highpass_hz`` both are filtered.
    """
    samples, rate_hz = example.samples, example.rate_hz
    duration_s, nyquist_hz = samples.size / rate_hz, rate_hz / 2
    spectrogram = LogSpectrogram(
        rate_hz, min(nperseg, samples.size), resize_size=None, highpass_hz=highpass_hz
    )
    waveforms = torch.from_numpy(samples)[None]
    image = spectrogram(waveforms)[0].numpy()
    samples = spectrogram.filtered(waveforms)[0].numpy()
    drawn = draw_spectrogram(axes, image, (0, duration_s, 0, nyquist_hz))
    _, low, high = envelope(samples - np.median(samples))
    scale = 0.2 * nyquist_hz / max(np.abs([low, high]).max(), 1e-30)
    time_s = (np.arange(low.size) + 0.5) * duration_s / low.size
    centre = 1.25 * nyquist_hz
    axes.fill_between(time_s, centre + scale * low, centre + scale * high, color="black", lw=0.3)
    axes.set(xlim=(0, duration_s), ylim=(0, 1.5 * nyquist_hz))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= nyquist_hz])
    axes.set_title(example.title, fontsize=8, parse_math=False)
    axes.tick_params(labelsize=7)
    return drawn
