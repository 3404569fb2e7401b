"""Simulate continuous recordings with known events in them, for trying out what watches a slope.

    python -m preprocessing.simulate.continuous --out day.mseed --hours 1 --events-per-hour 30 --seed 1

Writes miniSEED (24 channels, 1000 Hz, float32 in recorder units) block by block, so a whole day needs no more memory than a
minute, and beside it ``day.events.csv`` with start and class of what happened.
"""

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import fft
from tqdm import tqdm

from preprocessing.simulate.events import simulate_wave, year_of
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
from utils.errors import UserError

START = np.datetime64("2016-05-17T00:00:00", "ms")
LEAST_INTERVAL_S = 25.0  # the next event's record begins after the last one's end
FADE = N_SAMPLES // 16  # samples in which one stretch of noise goes over into the next
CLASSES = tuple(name for name in CLASS_COUNTS if name != "Unlabeled")
RECORD_BYTES = 4096


@dataclass(frozen=True)
class KnownEvent:
    """Say when the record of an event begins, in samples from the start, and what it is."""

    first_sample: int
    category: str
    magnitude: float


def simulate_continuous(
    path: Path, seed: int, duration_s: float, events_per_hour: float
) -> list[KnownEvent]:
    """Write ``duration_s`` seconds of miniSEED with events in them; return the events. The same seed gives the same samples."""
    if duration_s < 2 * LEAST_INTERVAL_S or not 0 < events_per_hour <= 3600 / LEAST_INTERVAL_S:
        raise UserError(
            f"{duration_s:g} s with {events_per_hour:g} events an hour: at least {2 * LEAST_INTERVAL_S:g} s are needed, "
            f"and at most {3600 / LEAST_INTERVAL_S:g} events an hour"
        )
    network = network_on(seed, year_of(START))
    draw = Draws(stream(seed, CONTINUOUS))
    weather, hum = draw("weather"), _hum(network)
    schedule = _schedule(seed, duration_s, events_per_hour)
    events: list[KnownEvent] = []
    sounding: list[
        tuple[int, np.ndarray]
    ] = []  # first sample and wave (24, samples) of what is not over yet
    n_blocks = int(np.ceil(duration_s * SAMPLING_RATE_HZ / N_SAMPLES))
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "wb") as file:
        blocks = tqdm(
            _noise(seed, network, weather, n_blocks),
            total=n_blocks,
            desc="simulating",
            unit="block",
        )
        for number, block in enumerate(blocks):
            first_sample = number * N_SAMPLES
            while (
                len(events) < len(schedule) and schedule[len(events)][0] < first_sample + N_SAMPLES
            ):
                onset, category = schedule[len(events)]
                event_draw = Draws(stream(seed, CONTINUOUS, category, 2 + len(events)))
                wave, _, magnitude, shift = simulate_wave(event_draw, category, network, weather)
                events.append(KnownEvent(onset, category, magnitude))
                sounding.append((onset, wave[:, shift:]))
            block += hum
            for onset, wave in sounding:
                _add(block, wave, onset - first_sample)
            sounding = [
                (onset, wave) for onset, wave in sounding if onset + GRID > first_sample + N_SAMPLES
            ]
            block[network.dead] = 0
            block += network.offset[:, None]
            _write(
                file,
                block,
                START + np.timedelta64(number * 1000 * N_SAMPLES // int(SAMPLING_RATE_HZ), "ms"),
            )
    os.replace(partial, path)
    return events


def _schedule(seed: int, duration_s: float, per_hour: float) -> list[tuple[int, str]]:
    """Draw first sample and class, all classes alike, of events at random times that do not overlap."""
    rng = stream(seed, CONTINUOUS, number=1)
    schedule, time_s = [], LEAST_INTERVAL_S
    while time_s < duration_s - LEAST_INTERVAL_S:
        schedule.append((int(time_s * SAMPLING_RATE_HZ), str(rng.choice(CLASSES))))
        time_s += LEAST_INTERVAL_S + rng.exponential(3600 / per_hour - LEAST_INTERVAL_S + 1e-9)
    return schedule


def _hum(network: Network) -> np.ndarray:
    """Return the hum of 16 s (24, T), which holds a whole number of periods of every line."""
    spectrum = np.zeros((len(network.gain), N_SAMPLES // 2 + 1), np.complex64)
    bins = np.round(LINES_HZ * N_SAMPLES / SAMPLING_RATE_HZ).astype(int)
    spectrum[:, bins] = network.hum_rms * N_SAMPLES / np.sqrt(2) * np.exp(1j * network.hum_phase)
    return fft.irfft(spectrum, N_SAMPLES)


def _noise(seed: int, network: Network, weather: float, n_blocks: int) -> Iterator[np.ndarray]:
    """Yield blocks of 16 s (24, T); each begins as the continuation of the one before and fades into its own noise."""
    fade = np.linspace(0, np.pi / 2, FADE, dtype=np.float32)
    before = None
    for number in range(n_blocks):
        draw = Draws(stream(seed, CONTINUOUS, "Unlabeled", number))
        own = background(draw, network, weather, hum=False)
        block = own.copy()
        if before is not None:  # a stretch of noise repeats itself after 16 s
            block[:, :FADE] = np.cos(fade) * before[:, :FADE] + np.sin(fade) * own[:, :FADE]
        before = own
        yield block


def _add(block: np.ndarray, wave: np.ndarray, offset: int) -> None:
    """Add a wave that begins ``offset`` samples after the block, or before it."""
    part = wave[:, max(0, -offset) : max(0, N_SAMPLES - offset)]
    block[:, max(0, offset) : max(0, offset) + part.shape[1]] += part


def _write(file, block: np.ndarray, start: np.datetime64) -> None:
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
    """Write start in UTC, class and size of the events beside the recordings."""
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


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m preprocessing.simulate.continuous", description=__doc__.partition("\n")[0]
    )
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FILE.mseed", help="what to write"
    )
    parser.add_argument("--hours", type=float, default=1.0, metavar="H", help="(default: 1)")
    parser.add_argument(
        "--events-per-hour", type=float, default=30.0, metavar="N", help="on average (default: 30)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="S", help="same seed, same recordings (default: 0)"
    )
    options = parser.parse_args(arguments)
    try:
        if options.out.exists():
            raise UserError(f"{options.out}: exists; choose another name or remove it first")
        events = simulate_continuous(
            options.out, options.seed, 3600 * options.hours, options.events_per_hour
        )
        sys.stdout.write(
            f"{options.out}: {len(events)} events, listed in {write_truth(options.out, events)}\n"
        )
    except (UserError, OSError) as error:
        sys.stderr.write(f"{parser.prog}: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
