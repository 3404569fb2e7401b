"""Parameter ranges and constants of the simulation, and random draws from them.

Calibrated on the one recorded event at hand (measured); the rest is published or, mostly, assumed.
"""

from dataclasses import dataclass
from typing import NamedTuple, overload

import numpy as np

from preprocessing.simulate.spectra import BROKEN_RMS, HUM_RMS
from utils.errors import UserError


class Range(NamedTuple):
    """Limits and unit of a parameter, where they come from, and the distribution between them."""

    low: float
    high: float
    unit: str
    basis: str  # measured, published or assumed
    spread: str = "linear"  # uniform; "log": uniform in the logarithm


RANGES = {
    # network; properties of a station are drawn again when it is serviced
    "east_m": Range(0, 250, "m", "published"),
    "north_m": Range(0, 150, "m", "published"),
    "station_gain": Range(0.23, 4.0, "x median", "measured", "log"),
    "component_gain": Range(0.41, 2.45, "x station", "measured", "log"),  # up to 6x
    "site_hz": Range(6, 40, "Hz", "assumed", "log"),
    "site_amplification": Range(1, 4, "x", "assumed", "log"),
    "site_width": Range(0.2, 0.6, "x site_hz", "assumed", "log"),
    "site_kappa_s": Range(0.0005, 0.005, "s", "assumed", "log"),
    "service_year": Range(2007.5, 2020.5, "year", "assumed"),
    "service_visits": Range(4, 7, "visits", "assumed"),
    "service_probability": Range(0.25, 0.25, "per station and visit", "assumed"),
    "seasonal_gain": Range(0.0, 0.15, "ln", "assumed"),
    "first_break_years": Range(1.0, 3.5, "years", "assumed"),  # broken in February 2007: measured
    "second_break_year": Range(2012, 2021, "year", "assumed"),
    "second_break_years": Range(0.2, 2.0, "years", "assumed", "log"),
    "broken_level": Range(0.8, 1.25, "x rms 86, 724, 2047", "assumed", "log"),
    "dead_spells": Range(4, 9, "spells", "assumed"),
    "dead_year": Range(2007, 2021.5, "year", "assumed"),
    "dead_years": Range(0.05, 1.5, "years", "assumed", "log"),
    "offset": Range(-0.8, -0.1, "units", "measured"),
    # background noise; its PSD and power-line hum: spectra.py
    "weather": Range(-0.7, 0.7, "ln PSD", "assumed"),
    "later_weather": Range(-0.1, 1.3, "ln PSD", "assumed"),  # unlabelled events, 2021
    "hum_level": Range(0.85, 1.18, "x", "assumed", "log"),
    "noise_shared_by_all": Range(0.10, 0.45, "of the power", "measured"),
    "noise_shared_by_station": Range(0.15, 0.35, "of the power", "measured"),
    # trigger and amplitude
    "pre_trigger_s": Range(2.6, 3.0, "s", "measured"),
    "magnitude": Range(1.0, 3.5, "log10 units", "assumed"),  # on the tenth best channel
    "magnitude_decay": Range(0.5, 0.5, "mean above the lowest", "assumed"),  # b value 0.87
    # the slope
    "source_east_m": Range(-200, 450, "m", "assumed"),
    "source_north_m": Range(-200, 350, "m", "assumed"),
    "source_depth_m": Range(10, 80, "m", "assumed"),
    "p_velocity_m_s": Range(1400, 1700, "m/s", "published"),
    "p_to_s_velocity": Range(1.6, 2.2, "x", "assumed"),
    "p_to_s_amplitude": Range(0.1, 1.0, "x", "assumed", "log"),
    "geometric_exponent": Range(0.6, 1.2, "", "assumed"),
    "q": Range(12, 60, "", "assumed", "log"),
    "downhill_speed_m_s": Range(3, 15, "m/s", "assumed"),
    "aftershock_probability": Range(0.12, 0.12, "", "assumed"),
    "aftershock_delay_s": Range(0.5, 8, "s", "assumed"),
    "aftershock_size": Range(0.05, 0.4, "x", "assumed", "log"),
    "wave_shared_by_all": Range(0.3, 0.8, "of the power", "assumed"),
    # classes: described by Langet & Silverberg (2023), Provost et al. (2018); numbers assumed
    "Slope_HF.corner_hz": Range(12, 90, "Hz", "assumed", "log"),
    "Slope_HF.coda_s": Range(0.06, 0.6, "s", "assumed", "log"),
    "Slope_HF.coda_to_direct": Range(0.3, 3, "x", "assumed", "log"),
    "Slope_LF.corner_hz": Range(2.5, 22, "Hz", "assumed", "log"),
    "Slope_LF.coda_s": Range(0.12, 1.0, "s", "assumed", "log"),
    "Slope_LF.coda_to_direct": Range(0.3, 3, "x", "assumed", "log"),
    "Slope_Multi.corner_hz": Range(5, 80, "Hz", "assumed", "log"),
    "Slope_Multi.coda_s": Range(0.06, 0.8, "s", "assumed", "log"),
    "Slope_Multi.coda_to_direct": Range(0.3, 3, "x", "assumed", "log"),
    "Slope_Multi.quakes": Range(2, 7, "quakes", "assumed"),
    "Slope_Multi.interval_s": Range(0.4, 6, "s", "assumed", "log"),
    "Slope_Multi.relative_size": Range(0.15, 1.0, "x", "assumed", "log"),
    "Slope_Multi.same_place_probability": Range(0.6, 0.6, "", "assumed"),
    "Slope_Tremor.corner_hz": Range(4, 45, "Hz", "assumed", "log"),
    "Slope_Tremor.coda_s": Range(0.1, 0.8, "s", "assumed", "log"),
    "Slope_Tremor.coda_to_direct": Range(0.5, 3, "x", "assumed", "log"),
    "Slope_Tremor.duration_s": Range(2.5, 20, "s", "assumed", "log"),
    "Slope_Tremor.rise_s": Range(0.2, 3, "s", "assumed", "log"),
    "Slope_Tremor.wavering": Range(0.1, 1.0, "ln", "assumed"),
    "Rockfall.corner_hz": Range(8, 80, "Hz", "assumed", "log"),
    "Rockfall.coda_s": Range(0.1, 0.7, "s", "assumed", "log"),
    "Rockfall.coda_to_direct": Range(0.5, 3, "x", "assumed", "log"),
    "Rockfall.duration_s": Range(2, 18, "s", "assumed", "log"),
    "Rockfall.impacts": Range(6, 160, "impacts", "assumed"),
    "Rockfall.impact_spread": Range(0.4, 1.3, "ln", "assumed"),
    "Rockfall.rise_shape": Range(1.0, 2.5, "beta a", "assumed"),
    "Rockfall.decay_shape": Range(1.5, 4.0, "beta b", "assumed"),
    "Regional.distance_km": Range(8, 200, "km", "assumed", "log"),
    "Regional.s_minus_p_s_per_km": Range(0.115, 0.13, "s/km", "published"),
    "Regional.apparent_velocity_m_s": Range(3500, 9000, "m/s", "assumed", "log"),
    "Regional.corner_hz": Range(3, 20, "Hz", "assumed", "log"),
    "Regional.t_star_s": Range(0.012, 0.08, "s", "measured", "log"),  # 0.03 on the real event
    "Regional.p_to_s_amplitude": Range(0.06, 0.6, "x", "measured", "log"),  # 0.12 on the real event
    "Regional.coda_s": Range(0.8, 6, "s", "assumed", "log"),
    "Regional.coda_per_s_minus_p": Range(0.15, 1.0, "x", "assumed"),  # recorded P coda: slow decay
    "Regional.emergence_s": Range(0.03, 0.6, "s", "assumed", "log"),
    "Regional.impulse": Range(0, 4, "x wave train", "assumed"),
    "Spike.channels": Range(10, 24, "channels", "assumed"),  # fewer do not trigger
    "Spike.channel_spread": Range(0.3, 1.5, "ln", "assumed"),
    "Spike.crosstalk": Range(0.0005, 0.05, "x", "assumed", "log"),
    "Spike.pulses": Range(1, 3, "pulses", "assumed"),
    "Spike.interval_s": Range(0.05, 6, "s", "assumed", "log"),
    "Spike.relative_size": Range(0.1, 1.0, "x", "assumed", "log"),
    "Spike.decay_s": Range(0.002, 0.25, "s", "assumed", "log"),
    "Spike.ring_hz": Range(8, 300, "Hz", "assumed", "log"),
    "Spike.ringing_probability": Range(0.7, 0.7, "", "assumed"),
    "Noise.magnitude_decay": Range(0.1, 0.1, "mean above the lowest", "assumed"),  # hardly triggers
    "Noise.rise_s": Range(0.1, 0.8, "s", "assumed", "log"),
    "Noise.duration_s": Range(0.3, 6, "s", "assumed", "log"),
    "Noise.channel_part": Range(0.2, 1.0, "x", "assumed", "log"),
}

# events of the recorded archive
CLASS_COUNTS = {
    "Noise": 8,
    "Regional": 292,
    "Rockfall": 215,
    "Slope_HF": 448,
    "Slope_LF": 218,
    "Slope_Multi": 207,
    "Slope_Tremor": 212,
    "Spike": 218,
    "Unlabeled": 1611,
}
# assumed
UNLABELED_MIX = {
    "Noise": 0.06,
    "Regional": 0.12,
    "Rockfall": 0.16,
    "Slope_HF": 0.2,
    "Slope_LF": 0.13,
    "Slope_Multi": 0.1,
    "Slope_Tremor": 0.11,
    "Spike": 0.12,
}
# events of the recorded archive
LABELED_PER_YEAR = {
    2007: 229,
    2008: 144,
    2009: 93,
    2010: 198,
    2011: 533,
    2012: 63,
    2013: 76,
    2014: 78,
    2015: 102,
    2016: 139,
    2017: 51,
    2018: 61,
    2019: 15,
    2020: 36,
}

SAMPLING_RATE_HZ = 1000.0
N_STATIONS, N_COMPONENTS = 8, 3
N_CHANNELS = N_STATIONS * N_COMPONENTS
N_SAMPLES = 16_000
GRID = 24_000  # samples of a simulated wave: a record, its shift, and room for the last coda
ONSET_S = 3.0  # first arrival, from the start of the simulated wave
GRID_HZ = np.fft.rfftfreq(GRID, 1 / SAMPLING_RATE_HZ).astype(np.float32)
RECORD_HZ = np.fft.rfftfreq(N_SAMPLES, 1 / SAMPLING_RATE_HZ).astype(np.float32)
LINES_HZ = np.union1d(HUM_RMS[:, 0], BROKEN_RMS[:, 0])

GEOPHONE_HZ, GEOPHONE_DAMPING = 4.5, 0.6
ANTI_ALIAS_HZ, ANTI_ALIAS_ORDER = 416.66, 20  # corner published, order fitted to the real event
COMMON_NOISE_HZ = 40.0  # above it, noise is independent between channels
WEATHER_HZ = 80.0  # above it, weather hardly changes the noise; assumed
# weights of gain, channel and line in the standardised ln amplitude of a hum line; assumed
HUM_OF_GAIN, HUM_OF_CHANNEL, HUM_OF_LINE = 0.4, 0.6, 0.69
SLOPE_SCATTER, REGIONAL_SCATTER = (
    0.3,
    0.2,
)  # standard deviation of a station's ln amplitude; assumed
REGIONAL_P_CORNER = 1.3  # P corner frequency over that of S; assumed
REGIONAL_IMPULSE_S = 0.05  # decay time of an impulsive onset; assumed

STA_S, LTA_S = 0.5, 2.0  # assumed; they trigger 2.65 s into the recorded event
STA_LTA_THRESHOLD, TRIGGER_CHANNELS, COINCIDENCE_S = 4.0, 10, 1.0  # published
BLOCK = 50  # samples; the trigger is evaluated every 50 ms
LATEST_TRIGGER_S = 7.0  # a later one would leave less than a record of the simulated wave
N_DRAWS, GROWTH = 60, 1.25  # random amplitudes tried; then factor per step

UNLABELED_YEAR = 2021
# Assumed, so that about a third of the labelled events shares class and day with another event:
# 600 of 1818 in the recorded archive.
SWARM_SIZE, SWARM_PROBABILITY = 6, 0.32

NETWORK, PLAN, SWARM, EVENT, CONTINUOUS = range(5)  # purposes of random streams


def stream(
    seed: int, purpose: int, category: str = "Noise", number: int = 0
) -> np.random.Generator:
    """Return a random generator (Philox) that depends on the arguments alone.

    Raises ``UserError`` for a seed that is negative or not below 2**63.
    """
    if not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed}; it must be 0 or more, and less than 2**63")
    key = (purpose << 60) | (list(CLASS_COUNTS).index(category) << 48) | number
    return np.random.Generator(np.random.Philox(key=[seed, key]))


@dataclass(frozen=True)
class Draws:
    """Random values from ``RANGES``, drawn with one generator."""

    rng: np.random.Generator

    @overload
    def __call__(self, name: str) -> float: ...
    @overload
    def __call__(self, name: str, size: int | tuple[int, ...]) -> np.ndarray: ...
    def __call__(self, name: str, size: int | tuple[int, ...] | None = None) -> float | np.ndarray:
        """Draw the parameter ``name`` from its range: a number, or an array of shape ``size``."""
        row = RANGES[name]
        if row.spread == "log":
            return np.exp(self.rng.uniform(np.log(row.low), np.log(row.high), size))
        return self.rng.uniform(row.low, row.high, size)

    def count(self, name: str) -> int:
        """Draw an integer parameter; both limits are possible."""
        row = RANGES[name]
        return int(self.rng.integers(int(row.low), int(row.high) + 1))

    def happens(self, name: str) -> bool:
        """Return True with the probability that the parameter ``name`` gives."""
        return bool(self.rng.random() < self(name))
