"""State of the eight stations on a date: gain, site response, noise, service visits, failures.

It depends on the seed and the date alone.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from preprocessing.simulate.ranges import (
    ANTI_ALIAS_HZ,
    ANTI_ALIAS_ORDER,
    GEOPHONE_DAMPING,
    GEOPHONE_HZ,
    GRID_HZ,
    HUM_OF_CHANNEL,
    HUM_OF_GAIN,
    HUM_OF_LINE,
    LINES_HZ,
    N_CHANNELS,
    N_COMPONENTS,
    N_STATIONS,
    NETWORK,
    RANGES,
    RECORD_HZ,
    UNLABELED_YEAR,
    Draws,
    stream,
)
from preprocessing.simulate.spectra import BROKEN_PSD, BROKEN_RMS, HUM_RMS, NOISE_PSD


@dataclass(frozen=True)
class Network:
    """State of the stations on one date; channels are numbered station by station."""

    position_m: np.ndarray  # (8, 2) east, north
    rotation: np.ndarray  # (8, 3, 3) orientation of the three components
    gain: np.ndarray  # (24,) with sign
    site: np.ndarray  # (8, F) site amplification
    noise_amplitude: np.ndarray  # (24, F_record) square root of the PSD, units / sqrt(Hz)
    hum_rms: np.ndarray  # (24, L) of the lines LINES_HZ
    hum_phase: np.ndarray  # (24, L)
    offset: np.ndarray  # (24,)
    dead: np.ndarray  # (24,) bool
    broken_station: int  # -1 for none

    @property
    def broken(self) -> np.ndarray:
        """Mask (24,) of the channels of the broken station."""
        return np.arange(N_CHANNELS) // N_COMPONENTS == self.broken_station


def _anti_alias(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the amplitude response of the recorder's anti-alias filter."""
    return (1 / np.sqrt(1 + (frequency_hz / ANTI_ALIAS_HZ) ** (2 * ANTI_ALIAS_ORDER))).astype(
        np.float32
    )


def _geophone(frequency_hz: np.ndarray) -> np.ndarray:
    """Return the complex velocity response of a geophone."""
    ratio = frequency_hz / GEOPHONE_HZ
    return (-(ratio**2) / (1 - ratio**2 + 2j * GEOPHONE_DAMPING * ratio)).astype(np.complex64)


RECORDER = _anti_alias(GRID_HZ)
INSTRUMENT = _geophone(GRID_HZ) * RECORDER


def _install(draw: Draws) -> dict[str, np.ndarray]:
    """Draw eight newly installed stations; the first axis of every array is the station."""
    channels = (N_STATIONS, N_COMPONENTS)
    low, high, *_ = RANGES["station_gain"]
    # one station per eighth of the range: the recorded eight span all of it
    share = (draw.rng.permutation(N_STATIONS) + draw.rng.uniform(size=N_STATIONS)) / N_STATIONS
    station_gain = low * (high / low) ** share
    return {
        "gain": station_gain[:, None] * draw("component_gain", channels),
        "polarity": draw.rng.choice((-1.0, 1.0), channels),
        "noise": draw.rng.standard_normal((*channels, 2)),
        "hum": draw.rng.standard_normal((*channels, 1 + len(HUM_RMS))),
        "hum_phase": draw.rng.uniform(0, 2 * np.pi, (*channels, len(LINES_HZ))),
        "rotation": np.linalg.qr(draw.rng.standard_normal((N_STATIONS, 3, 3)))[0],
        "site": np.column_stack(
            [draw(f"site_{k}", N_STATIONS) for k in ("hz", "amplification", "width", "kappa_s")]
        ),
        "offset": draw("offset", channels),
        "season": draw.rng.uniform(0, 2 * np.pi, (N_STATIONS, 1)),
    }


class _History(NamedTuple):
    position_m: np.ndarray  # (8, 2)
    visits: list[float]  # years of service visits
    eras: list[dict[str, np.ndarray]]  # before, between and after the visits
    breaks: list[tuple[int, float, float]]  # station, from, until
    dead: list[tuple[int, float, float]]  # channel, from, until


@lru_cache(maxsize=8)
def _history(seed: int) -> _History:
    """Draw service visits, failures and station properties from 2007 to 2021."""
    draw = Draws(stream(seed, NETWORK))
    cells = np.column_stack([np.arange(N_STATIONS) % 4 / 4, np.arange(N_STATIONS) // 4 / 2])
    extent_m = RANGES["east_m"].high, RANGES["north_m"].high
    position_m = (cells + draw.rng.uniform(0, 1, (N_STATIONS, 2)) / (4, 2)) * extent_m
    eras = [_install(draw)]
    visits = [*sorted(draw("service_year", draw.count("service_visits"))), float(UNLABELED_YEAR)]
    for year in visits:
        serviced = draw.rng.random(N_STATIONS) < draw("service_probability")
        serviced[draw.rng.integers(N_STATIONS)] |= year == UNLABELED_YEAR
        new = _install(draw)
        eras.append({name: _replace(old, new[name], serviced) for name, old in eras[-1].items()})
    first, second = draw.rng.choice(N_STATIONS, 2, replace=False)
    later = draw("second_break_year")
    breaks = [
        (int(first), 2007.0, 2007.0 + draw("first_break_years")),
        (int(second), later, later + draw("second_break_years")),
    ]
    starts = draw("dead_year", draw.count("dead_spells"))
    dead = [
        (int(draw.rng.integers(N_CHANNELS)), start, start + draw("dead_years")) for start in starts
    ]
    return _History(position_m, visits, eras, breaks, dead)


def _replace(old: np.ndarray, new: np.ndarray, stations: np.ndarray) -> np.ndarray:
    """Return ``old`` with the rows of the serviced ``stations`` (8,) bool from ``new``."""
    return np.where(stations.reshape(-1, *[1] * (old.ndim - 1)), new, old)


def network_on(seed: int, year: float) -> Network:
    """Return the state of the stations at a date given in years, for example 2007.25."""
    history = _history(seed)
    era = int(np.searchsorted(history.visits, year, side="right"))
    broken = next((station for station, start, end in history.breaks if start <= year < end), -1)
    network = _network(seed, era, broken)
    season = RANGES["seasonal_gain"].high * np.sin(
        2 * np.pi * year + history.eras[era]["season"]
    ).repeat(N_COMPONENTS)
    dead = np.zeros(N_CHANNELS, bool)
    dead[[channel for channel, start, end in history.dead if start <= year < end]] = True
    return replace(network, gain=(network.gain * np.exp(season)).astype(np.float32), dead=dead)


@lru_cache(maxsize=16)
def _network(seed: int, era: int, broken: int) -> Network:
    history = _history(seed)
    state = history.eras[era]
    gain = (state["gain"] * state["polarity"]).reshape(-1)
    site_hz, amplification, width, kappa_s = state["site"].T[..., None]
    resonance = 1 + (amplification - 1) / (1 + ((GRID_HZ - site_hz) / (width * site_hz)) ** 2)
    amplitude, hum_rms = _noise_amplitude(state, gain), _hum_rms(state, gain)
    if broken >= 0:
        own = slice(broken * N_COMPONENTS, (broken + 1) * N_COMPONENTS)
        amplitude[own] = np.sqrt(_log_interp(BROKEN_PSD[:, 0], BROKEN_PSD[:, 1:].T))
        hum_rms[own] = 0
        hum_rms[own, np.searchsorted(LINES_HZ, BROKEN_RMS[:, 0])] = BROKEN_RMS[:, 1:].T
        gain[own] = 0  # a broken station records no event
    return Network(
        position_m=history.position_m,
        rotation=state["rotation"].astype(np.float32),
        gain=gain,
        site=(resonance * np.exp(-np.pi * kappa_s * GRID_HZ)).astype(np.float32),
        noise_amplitude=(amplitude * _anti_alias(RECORD_HZ)).astype(np.float32),
        hum_rms=hum_rms,
        hum_phase=state["hum_phase"].reshape(N_CHANNELS, -1),
        offset=state["offset"].reshape(-1),
        dead=np.zeros(N_CHANNELS, bool),
        broken_station=broken,
    )


def _gain_quantile(gain: np.ndarray) -> np.ndarray:
    """Return the standardised logarithm of the gains (24, 1)."""
    rows = RANGES["station_gain"], RANGES["component_gain"]
    spread = np.sqrt(sum(np.log(row.high / row.low) ** 2 for row in rows) / 12)
    return np.log(np.abs(gain))[:, None] / spread


def _at_quantile(percentiles: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Return the values (24, R) at ``z`` standard deviations of a skewed log-normal distribution.

    ``percentiles`` (R, 3) are its 10th, 50th and 90th percentile.
    """
    low, middle, high = np.log(percentiles).T
    return np.exp(middle + z / 1.2816 * np.where(z > 0, high - middle, middle - low))


def _log_interp(node_hz: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Interpolate (R, nodes) to the frequencies of a record, linearly in log-log."""
    log_hz = np.log(np.maximum(RECORD_HZ, RECORD_HZ[1]))
    return np.exp(np.stack([np.interp(log_hz, np.log(node_hz), row) for row in np.log(value)]))


def _noise_amplitude(state: dict[str, np.ndarray], gain: np.ndarray) -> np.ndarray:
    """Return the square root of the noise PSD (24, F_record): partly by gain, partly random."""
    # the random part changes smoothly from low to high frequencies
    angle = np.linspace(0, np.pi / 2, len(NOISE_PSD))
    own = state["noise"].reshape(N_CHANNELS, 2) @ np.stack([np.cos(angle), np.sin(angle)])
    weight = NOISE_PSD[:, 4]
    z = weight * _gain_quantile(gain) + np.sqrt(1 - weight**2) * own
    return np.sqrt(_log_interp(NOISE_PSD[:, 0], _at_quantile(NOISE_PSD[:, 1:4], z)))


def _hum_rms(state: dict[str, np.ndarray], gain: np.ndarray) -> np.ndarray:
    """Return the rms of the hum lines (24, L), correlated between the lines of a channel."""
    z = state["hum"].reshape(N_CHANNELS, -1)
    z = HUM_OF_GAIN * _gain_quantile(gain) + HUM_OF_CHANNEL * z[:, :1] + HUM_OF_LINE * z[:, 1:]
    rms = np.zeros((N_CHANNELS, len(LINES_HZ)))
    rms[:, np.searchsorted(LINES_HZ, HUM_RMS[:, 0])] = _at_quantile(HUM_RMS[:, 1:4], z)
    return rms
