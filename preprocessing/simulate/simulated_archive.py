"""Simulated events like those of Åknes, and archives of them.

An event depends on (seed, category, number within the category) alone, not on the number of events
or processes. Samples are in recorder units, as in the recordings. Parameters are in ``ranges`` and
``spectra``, stations in ``network``, background noise in ``noise``, source models in ``sources``,
amplitudes in ``trigger``.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from scipy import fft

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.simulate.network import Network, network_on
from preprocessing.simulate.noise import background
from preprocessing.simulate.ranges import (
    BLOCK,
    CLASS_COUNTS,
    EVENT,
    GRID,
    LABELED_PER_YEAR,
    N_SAMPLES,
    ONSET_S,
    PLAN,
    SAMPLING_RATE_HZ,
    SWARM,
    SWARM_PROBABILITY,
    SWARM_SIZE,
    UNLABELED_MIX,
    UNLABELED_YEAR,
    Draws,
    stream,
)
from preprocessing.simulate.recorder import scale_until_triggered
from preprocessing.simulate.source_models import SOURCES
from utils.errors import UserError
from utils.parallel import map_in_order
from utils.progress import progress_bar

# taper (GRID,) before the onset: waves there have wrapped around from the end
ONSET_TAPER = np.clip(
    (np.arange(GRID, dtype=np.float32) / SAMPLING_RATE_HZ - ONSET_S + 0.5) / 0.3, 0, 1
)


@dataclass(frozen=True)
class SimulatedEvent:
    """Waveforms (24, 16000) float32 in recorder units, start in UTC (ISO 8601), true parameters."""

    waveforms: np.ndarray
    start_time: str
    truth: dict[str, Any]


def simulate_event(seed: int, category: str, number: int) -> SimulatedEvent:
    """Simulate event ``number`` of a category; the same arguments give the same event."""
    start = _start_time(seed, category, number)
    draw = Draws(stream(seed, EVENT, category, number))
    source_class = category
    if category == "Unlabeled":
        source_class = str(draw.rng.choice(list(UNLABELED_MIX), p=list(UNLABELED_MIX.values())))
    network = network_on(seed, year_of(start))
    weather = draw("later_weather" if category == "Unlabeled" else "weather")
    wave, noise, magnitude, shift = simulate_wave(draw, source_class, network, weather)
    waveforms = wave[:, shift : shift + N_SAMPLES]
    waveforms += np.roll(noise, -shift, axis=1)  # the noise has a period of 16 s
    waveforms += network.offset[:, None]
    truth = {
        "source_class": source_class,
        "magnitude": round(magnitude, 3),
        "broken_station": network.broken_station,
        "n_dead_channels": int(network.dead.sum()),
    }
    return SimulatedEvent(np.ascontiguousarray(waveforms, np.float32), f"{start}Z", truth)


def simulate_wave(
    draw: Draws, source_class: str, network: Network, weather: float
) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Simulate the wave of a source at the stations, and noise in which the network triggers on it.

    Returns wave (24, GRID), noise (24, 16000), log10 amplitude, and the first sample of the record
    in the wave.
    """
    noise = background(draw, network, weather)
    noise[network.broken] *= draw("broken_level")
    noise[network.dead] = 0
    wave = fft.irfft(SOURCES[source_class](source_class, draw, network), GRID)
    # records begin at a whole block, events at any sample
    wave = np.roll(wave, int(draw.rng.integers(BLOCK)), axis=1)
    wave *= ONSET_TAPER
    wave[network.dead] = 0
    magnitude, shift = scale_until_triggered(draw, source_class, wave, noise)
    return wave, noise, magnitude, shift


def _start_time(seed: int, category: str, number: int) -> np.datetime64:
    """Draw the start time of an event; some events of a class fall on a common day."""
    own = stream(seed, SWARM, category, 2 * number)
    joins, second = own.random() < SWARM_PROBABILITY, own.uniform(0, 86_400)
    day = stream(seed, SWARM, category, 2 * (number // SWARM_SIZE) + 1) if joins else own
    year = UNLABELED_YEAR
    if category != "Unlabeled":
        n_events = np.array(list(LABELED_PER_YEAR.values()))
        year = int(day.choice(list(LABELED_PER_YEAR), p=n_events / n_events.sum()))
    date = np.datetime64(f"{year}-01-01", "us") + np.timedelta64(int(day.integers(365)), "D")
    return date + np.timedelta64(int(second * 1e6), "us")


def year_of(time: np.datetime64) -> float:
    """Return a date in years, for example 2007.25."""
    year = time.astype("datetime64[Y]")
    return 1970 + year.astype(int) + (time - year) / np.timedelta64(366, "D")


def plan_events(
    n_events: int | None, seed: int, class_counts: Mapping[str, int] | None = None
) -> list[tuple[str, int]]:
    """Return (category, number within it) of each event.

    With ``class_counts`` the events are sorted by class, as in the recorded archive. Otherwise each
    category is drawn with the class proportions of the recorded archive, and a longer plan begins
    with the shorter one. Raises ``UserError`` for a bad seed, an unknown class, and counts that are
    negative or do not add up to ``n_events``.
    """
    rng = stream(seed, PLAN)  # raises for a bad seed
    if class_counts is None:
        if n_events is None or n_events < 1:
            raise UserError(f"number of events is {n_events}; it must be 1 or more")
        bounds = np.cumsum(list(CLASS_COUNTS.values())) / sum(CLASS_COUNTS.values())
        drawn = np.searchsorted(bounds, rng.random(n_events), side="right")
        categories = [list(CLASS_COUNTS)[k] for k in drawn]
    else:
        _check_counts(n_events, class_counts)
        categories = [name for name in sorted(class_counts) for _ in range(class_counts[name])]
    seen: Counter[str] = Counter()
    plan = []
    for category in categories:
        plan.append((category, seen[category]))
        seen[category] += 1
    return plan


def _check_counts(n_events: int | None, class_counts: Mapping[str, int]) -> None:
    for name, count in class_counts.items():
        if name not in CLASS_COUNTS:
            raise UserError(f"unknown class {name!r}; the classes are {', '.join(CLASS_COUNTS)}")
        if count < 0:
            raise UserError(f"class {name}: number of events is {count}; it must be 0 or more")
    total = sum(class_counts.values())
    if total < 1 or n_events not in (None, total):
        raise UserError(
            f"the class counts add up to {total} events; expected {n_events or 'at least one'}"
        )


def simulate_archive(
    archive_dir: str | Path,
    n_events: int | None,
    seed: int,
    class_counts: Mapping[str, int] | None = None,
    n_workers: int | None = None,
    progress: bool = True,
) -> int:
    """Write an event archive of simulated events; return the number of events.

    ``n_workers`` is the number of processes (default: one per core); it does not change the events.
    Processes are spawned: a script that calls this needs ``if __name__ == "__main__"``. Raises
    ``UserError`` for a bad seed, count or class, and for a directory that is not empty.
    """
    archive_dir = Path(archive_dir)
    plan = plan_events(n_events, seed, class_counts)
    if archive_dir.exists() and (not archive_dir.is_dir() or any(archive_dir.iterdir())):
        raise UserError(
            f"{archive_dir}: already exists and is not an empty directory; "
            "choose another or remove it first"
        )
    simulate: Callable[[tuple[str, int]], SimulatedEvent] = partial(_simulate, seed=seed)
    events = zip(plan, map_in_order(simulate, plan, n_workers))
    with ArchiveWriter(archive_dir, sampling_rate_hz=SAMPLING_RATE_HZ) as writer:
        for (category, number), event in progress_bar(
            events, total=len(plan), desc="simulating", unit="event", disable=not progress
        ):
            day = np.datetime64(event.start_time[:-1], "D")
            day_of_year = (day - day.astype("datetime64[Y]")).astype(int) + 1
            name = f"{event.start_time[:4]}_{day_of_year:03d}_{category}_{number:05d}"
            writer.add(
                name, event.waveforms, category=category, start_time=event.start_time, **event.truth
            )
    return len(plan)


def _simulate(event: tuple[str, int], seed: int) -> SimulatedEvent:
    return simulate_event(seed, *event)
