"""Simulate an archive of Åknes-like events that anyone can train on without the 5 GB of the real one.

An event is a pure function of (seed, category, number within the category): the same in an archive of ten events or of ten
thousand, written by one process or by eight. Samples are raw recorder units, as in the real recordings.

    python -m preprocessing.simulate.events --out DIR --events N --seed S
    python -m preprocessing.simulate.events --gallery FILE.png [--real FILE.dat]

The numbers are in ``simulate_ranges``, the stations in ``simulate_network``, what they record in ``simulate_noise`` and
``simulate_sources``, and what makes it an event in ``simulate_trigger``.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from scipy import fft
from tqdm import tqdm

from preprocessing.event_archive import ArchiveWriter
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
from preprocessing.simulate.sources import SOURCES
from preprocessing.simulate.trigger import scale_until_triggered
from utils.errors import UserError
from utils.parallel import map_in_order

# no wave is due before the onset: what is found there came round from the end of the grid
NOT_WRAPPED = np.clip(
    (np.arange(GRID, dtype=np.float32) / SAMPLING_RATE_HZ - ONSET_S + 0.5) / 0.3, 0, 1
)


@dataclass(frozen=True)
class SimulatedEvent:
    """Hold the waveforms (24, 16000) float32 in recorder units, the start in UTC (ISO 8601), and what is true of the event."""

    waveforms: np.ndarray
    start_time: str
    truth: dict[str, str | int | float]


def simulate_event(seed: int, category: str, number: int) -> SimulatedEvent:
    """Simulate event ``number`` of a category; the result depends on nothing else."""
    start = _start_time(seed, category, number)
    draw = Draws(stream(seed, EVENT, category, number))
    source_class = category
    if category == "Unlabeled":
        source_class = str(draw.rng.choice(list(UNLABELED_MIX), p=list(UNLABELED_MIX.values())))
    network = network_on(seed, year_of(start))
    weather = draw("later_weather" if category == "Unlabeled" else "weather")
    wave, noise, magnitude, shift = simulate_wave(draw, source_class, network, weather)
    waveforms = wave[:, shift : shift + N_SAMPLES]
    waveforms += np.roll(noise, -shift, axis=1)  # the noise repeats itself after 16 s: no seam
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
    """Simulate what a source sends to the stations, and noise (24, 16000) in which the network triggers on it.

    Returns wave (24, GRID), noise, log10 amplitude and the sample of the wave at which the record begins.
    """
    noise = background(draw, network, weather)
    noise[network.broken] *= draw("broken_level")
    noise[network.dead] = 0
    wave = fft.irfft(SOURCES[source_class](source_class, draw, network), GRID)
    wave = np.roll(
        wave, int(draw.rng.integers(BLOCK)), axis=1
    )  # records begin at whole blocks, events need not
    wave *= NOT_WRAPPED
    wave[network.dead] = 0
    magnitude, shift = scale_until_triggered(draw, source_class, wave, noise)
    return wave, noise, magnitude, shift


def _start_time(seed: int, category: str, number: int) -> np.datetime64:
    """Draw when an event starts; some events of a class fall on a common day."""
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
    """Return a date in years, e.g. 2007.25."""
    year = time.astype("datetime64[Y]")
    return 1970 + year.astype(int) + (time - year) / np.timedelta64(366, "D")


def plan_events(
    n_events: int | None, seed: int, class_counts: Mapping[str, int] | None = None
) -> list[tuple[str, int]]:
    """Return (category, number within it) of each event.

    With ``class_counts`` the archive is sorted by class, as the real one is; otherwise the category of event i is drawn from
    the real archive's proportions, whatever ``n_events``. Raises ``UserError`` for a bad seed, an unknown class and counts
    that are negative or do not add up.
    """
    rng = stream(seed, PLAN)  # refuses a bad seed, whether or not it is needed here
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
            raise UserError(f"class {name} is to have {count} events; it must be 0 or more")
    total = sum(class_counts.values())
    if total < 1 or n_events not in (None, total):
        raise UserError(
            f"the class counts add up to {total} events, but {n_events or 'at least one'} was asked for"
        )


def simulate_archive(
    archive_dir: str | Path,
    n_events: int | None,
    seed: int,
    class_counts: Mapping[str, int] | None = None,
    n_workers: int | None = None,
    progress: bool = True,
) -> int:
    """Write a normal event archive of simulated events and return how many it holds.

    ``n_workers`` processes (all cores if None) work at once; their number does not change a sample. They are spawned, so a
    script that calls this needs its ``if __name__ == "__main__"``. Raises ``UserError`` for a bad seed, count or class, and
    for a directory that already holds something.
    """
    archive_dir = Path(archive_dir)
    plan = plan_events(n_events, seed, class_counts)
    if archive_dir.exists() and (not archive_dir.is_dir() or any(archive_dir.iterdir())):
        raise UserError(
            f"{archive_dir}: already exists and is not an empty directory; choose another or remove it first"
        )
    events = zip(plan, map_in_order(partial(_simulate, seed=seed), plan, n_workers))
    with ArchiveWriter(archive_dir, sampling_rate_hz=SAMPLING_RATE_HZ) as writer:
        for (category, number), event in tqdm(
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
