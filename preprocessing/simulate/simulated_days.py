"""Simulate continuous recordings with known events, for tests of detection and classification.

Writes miniSEED (24 channels, 1000 Hz, float32 in recorder units) in blocks of 16 s, so memory does
not grow with the duration, and a table ``*.events.csv`` of the events: start, class and amplitude.
"""

import argparse
import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
from scipy import fft

from preprocessing.simulate.network import Network, network_on
from preprocessing.simulate.noise import background
from preprocessing.simulate.ranges import (
    CLASS_COUNTS,
    CONTINUOUS,
    GRID,
    LINES_HZ,
    N_COMPONENTS,
    N_SAMPLES,
    SAMPLING_RATE_HZ,
    Draws,
    stream,
)
from preprocessing.simulate.simulated_archive import simulate_wave, year_of
from utils import cli
from utils.errors import UserError
from utils.progress import progress_bar

START = np.datetime64("2016-05-17T00:00:00", "ms")
LEAST_INTERVAL_S = 25.0  # the next event's record begins after the last one's end
FADE = N_SAMPLES // 16  # samples of the cross-fade between blocks of noise
CLASSES = tuple(name for name in CLASS_COUNTS if name != "Unlabeled")
RECORD_BYTES = 4096


@dataclass(frozen=True)
class KnownEvent:
    """First sample of an event's record, class, and log10 amplitude in recorder units."""

    first_sample: int
    category: str
    magnitude: float


def simulate_continuous(
    path: Path, seed: int, duration_s: float, events_per_hour: float
) -> list[KnownEvent]:
    """Write ``duration_s`` seconds of miniSEED and return the events in it.

    The same seed gives the same samples. Raises ``UserError`` for a bad seed, too short a
    duration and too many events per hour.
    """
    if duration_s < 2 * LEAST_INTERVAL_S or not 0 < events_per_hour <= 3600 / LEAST_INTERVAL_S:
        raise UserError(
            f"duration is {duration_s:g} s, events per hour {events_per_hour:g}; the duration must "
            f"be at least {2 * LEAST_INTERVAL_S:g} s, and the events per hour more than 0 and at "
            f"most {3600 / LEAST_INTERVAL_S:g}"
        )
    schedule = _schedule(seed, duration_s, events_per_hour)
    events: list[KnownEvent] = []
    n_blocks = int(np.ceil(duration_s * SAMPLING_RATE_HZ / N_SAMPLES))
    partial_path = path.with_name(f".{path.name}.partial")
    with open(partial_path, "wb") as file:
        blocks = _blocks(seed, schedule, n_blocks, events)
        for number, block in enumerate(
            progress_bar(blocks, total=n_blocks, desc="simulating", unit="block")
        ):
            start_ms = number * 1000 * N_SAMPLES // int(SAMPLING_RATE_HZ)
            _write(file, block, START + np.timedelta64(start_ms, "ms"))
    os.replace(partial_path, path)
    return events


def _blocks(
    seed: int, schedule: list[tuple[int, str]], n_blocks: int, events: list[KnownEvent]
) -> Iterator[np.ndarray]:
    """Yield blocks of 16 s (24, T) in recorder units; append each event to ``events``."""
    network = network_on(seed, year_of(START))
    weather, hum = Draws(stream(seed, CONTINUOUS))("weather"), _hum(network)
    # first sample and wave (24, samples) of events that have not ended
    active: list[tuple[int, np.ndarray]] = []
    for number, block in enumerate(_noise(seed, network, weather, n_blocks)):
        first_sample, end = number * N_SAMPLES, (number + 1) * N_SAMPLES
        while len(events) < len(schedule) and schedule[len(events)][0] < end:
            onset, category = schedule[len(events)]
            draw = Draws(stream(seed, CONTINUOUS, category, 2 + len(events)))
            wave, _, magnitude, shift = simulate_wave(draw, category, network, weather)
            events.append(KnownEvent(onset, category, magnitude))
            active.append((onset, wave[:, shift:]))
        block += hum
        for onset, wave in active:
            _add(block, wave, onset - first_sample)
        active = [(onset, wave) for onset, wave in active if onset + GRID > end]
        block[network.dead] = 0
        block += network.offset[:, None]
        yield block


def _schedule(seed: int, duration_s: float, per_hour: float) -> list[tuple[int, str]]:
    """Draw first sample and class of events at random times; records do not overlap."""
    rng = stream(seed, CONTINUOUS, number=1)
    schedule, time_s = [], LEAST_INTERVAL_S
    while time_s < duration_s - LEAST_INTERVAL_S:
        schedule.append((int(time_s * SAMPLING_RATE_HZ), str(rng.choice(CLASSES))))
        time_s += LEAST_INTERVAL_S + rng.exponential(3600 / per_hour - LEAST_INTERVAL_S + 1e-9)
    return schedule


def _hum(network: Network) -> np.ndarray:
    """Return 16 s of hum (24, T): a whole number of periods of every line."""
    spectrum = np.zeros((len(network.gain), N_SAMPLES // 2 + 1), np.complex64)
    bins = np.round(LINES_HZ * N_SAMPLES / SAMPLING_RATE_HZ).astype(int)
    spectrum[:, bins] = network.hum_rms * N_SAMPLES / np.sqrt(2) * np.exp(1j * network.hum_phase)
    return fft.irfft(spectrum, N_SAMPLES)


def _noise(seed: int, network: Network, weather: float, n_blocks: int) -> Iterator[np.ndarray]:
    """Yield blocks of 16 s (24, T); each begins with a cross-fade from the block before."""
    fade = np.linspace(0, np.pi / 2, FADE, dtype=np.float32)
    before = None
    for number in range(n_blocks):
        draw = Draws(stream(seed, CONTINUOUS, "Unlabeled", number))
        own = background(draw, network, weather, hum=False)
        block = own.copy()
        if before is not None:  # noise has a period of 16 s: it continues at its start
            block[:, :FADE] = np.cos(fade) * before[:, :FADE] + np.sin(fade) * own[:, :FADE]
        before = own
        yield block


def _add(block: np.ndarray, wave: np.ndarray, offset: int) -> None:
    """Add a wave that begins ``offset`` samples after the start of the block (or before it)."""
    part = wave[:, max(0, -offset) : max(0, N_SAMPLES - offset)]
    block[:, max(0, offset) : max(0, offset) + part.shape[1]] += part


def _write(file: BinaryIO, block: np.ndarray, start: np.datetime64) -> None:
    import obspy

    header = {
        "network": "XX",
        "sampling_rate": SAMPLING_RATE_HZ,
        "starttime": obspy.UTCDateTime(str(start)),
    }
    traces = [
        obspy.Trace(
            np.ascontiguousarray(row, np.float32),
            header
            | {
                "station": f"AK{1 + channel // N_COMPONENTS:02d}",
                "channel": "GP" + "ZNE"[channel % N_COMPONENTS],
            },
        )
        for channel, row in enumerate(block)
    ]
    obspy.Stream(traces).write(file, format="MSEED", reclen=RECORD_BYTES)


def write_truth(path: Path, events: list[KnownEvent]) -> Path:
    """Write start in UTC, class and amplitude of the events next to ``path``; return the table."""
    table = path.with_suffix(".events.csv")
    with open(table, "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["start_time", "class", "magnitude"])
        for event in events:
            rows.writerow(
                [
                    f"{START + np.timedelta64(event.first_sample, 'ms')}Z",
                    event.category,
                    round(event.magnitude, 3),
                ]
            )
    return table


def main(arguments: list[str] | None = None) -> None:
    """Run the command ``python -m preprocessing.simulate_continuous``."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.simulate_continuous", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.mseed", help="miniSEED file to write"
    )
    parser.add_argument("--hours", type=float, default=1.0, metavar="H", help="(default: 1)")
    parser.add_argument(
        "--events-per-hour", type=float, default=30.0, metavar="N", help="on average (default: 30)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="same seed, same recordings (default: 0)"
    )
    cli.main(partial(_simulate, parser.parse_args(arguments)))


def _simulate(options: argparse.Namespace) -> None:
    path = options.out
    if path.exists():
        raise UserError(f"{path}: exists; choose another name or remove it first")
    events = simulate_continuous(path, options.seed, 3600 * options.hours, options.events_per_hour)
    print(f"{path}: {len(events)} events, listed in {write_truth(path, events)}")
