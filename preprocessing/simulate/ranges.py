"""Every number that the simulation rests on, and the random draws from them.

Calibrated on the one real event at hand (measured); the rest is published or, mostly, assumed.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from utils.errors import UserError


class Range(NamedTuple):
    """One row of the table: limits, unit, where they come from, and how values are spread between them."""

    low: float
    high: float
    unit: str
    basis: str  # measured, published or assumed
    spread: str = "linear"  # or log


# fmt: off
RANGES: dict[str, Range] = {name: Range(*row) for name, row in {
    # network; one row per property, redrawn when a station is serviced
    "east_m":                        (0, 250, "m", "published"),
    "north_m":                       (0, 150, "m", "published"),
    "station_gain":                  (0.23, 4.0, "x median", "measured", "log"),
    "component_gain":                (0.41, 2.45, "x station", "measured", "log"),  # up to 6x between components
    "site_hz":                       (6, 40, "Hz", "assumed", "log"),
    "site_amplification":            (1, 4, "x", "assumed", "log"),
    "site_width":                    (0.2, 0.6, "x site_hz", "assumed", "log"),
    "site_kappa_s":                  (0.0005, 0.005, "s", "assumed", "log"),
    "service_year":                  (2007.5, 2020.5, "year", "assumed"),
    "service_visits":                (4, 7, "visits", "assumed"),
    "service_probability":           (0.25, 0.25, "per station and visit", "assumed"),
    "seasonal_gain":                 (0.0, 0.15, "ln", "assumed"),
    "first_break_years":             (1.0, 3.5, "years", "assumed"),  # broken in February 2007: measured
    "second_break_year":             (2012, 2021, "year", "assumed"),
    "second_break_years":            (0.2, 2.0, "years", "assumed", "log"),
    "broken_level":                  (0.8, 1.25, "x rms 86, 724, 2047", "assumed", "log"),
    "dead_spells":                   (4, 9, "spells", "assumed"),
    "dead_year":                     (2007, 2021.5, "year", "assumed"),
    "dead_years":                    (0.05, 1.5, "years", "assumed", "log"),
    "offset":                        (-0.8, -0.1, "units", "measured"),
    # background noise; its PSD and the hum lines are in the tables below
    "weather":                       (-0.7, 0.7, "ln PSD", "assumed"),
    "later_weather":                 (-0.1, 1.3, "ln PSD", "assumed"),  # 2021, the unlabelled events
    "hum_level":                     (0.85, 1.18, "x", "assumed", "log"),
    "noise_shared_by_all":           (0.10, 0.45, "of the power", "measured"),
    "noise_shared_by_station":       (0.15, 0.35, "of the power", "measured"),
    # trigger and size
    "pre_trigger_s":                 (2.6, 3.0, "s", "measured"),
    "magnitude":                     (1.0, 3.5, "log10 units", "assumed"),  # on the tenth best channel
    "magnitude_decay":               (0.5, 0.5, "mean above the lowest", "assumed"),  # Gutenberg-Richter with b = 0.87
    # the slope
    "source_east_m":                 (-200, 450, "m", "assumed"),
    "source_north_m":                (-200, 350, "m", "assumed"),
    "source_depth_m":                (10, 80, "m", "assumed"),
    "p_velocity_m_s":                (1400, 1700, "m/s", "published"),
    "p_to_s_velocity":               (1.6, 2.2, "x", "assumed"),
    "p_to_s_amplitude":              (0.1, 1.0, "x", "assumed", "log"),
    "geometric_exponent":            (0.6, 1.2, "", "assumed"),
    "q":                             (12, 60, "", "assumed", "log"),
    "downhill_speed_m_s":            (3, 15, "m/s", "assumed"),
    "aftershock_probability":        (0.12, 0.12, "", "assumed"),
    "aftershock_delay_s":            (0.5, 8, "s", "assumed"),
    "aftershock_size":               (0.05, 0.4, "x", "assumed", "log"),
    "wave_shared_by_all":            (0.3, 0.8, "of the power", "assumed"),
    # classes: published in words (Langet & Silverberg 2023; Provost et al. 2018), in numbers assumed
    "Slope_HF.corner_hz":            (12, 90, "Hz", "assumed", "log"),
    "Slope_HF.coda_s":               (0.06, 0.6, "s", "assumed", "log"),
    "Slope_HF.coda_to_direct":       (0.3, 3, "x", "assumed", "log"),
    "Slope_LF.corner_hz":            (2.5, 22, "Hz", "assumed", "log"),
    "Slope_LF.coda_s":               (0.12, 1.0, "s", "assumed", "log"),
    "Slope_LF.coda_to_direct":       (0.3, 3, "x", "assumed", "log"),
    "Slope_Multi.corner_hz":         (5, 80, "Hz", "assumed", "log"),
    "Slope_Multi.coda_s":            (0.06, 0.8, "s", "assumed", "log"),
    "Slope_Multi.coda_to_direct":    (0.3, 3, "x", "assumed", "log"),
    "Slope_Multi.quakes":            (2, 7, "quakes", "assumed"),
    "Slope_Multi.interval_s":        (0.4, 6, "s", "assumed", "log"),
    "Slope_Multi.relative_size":     (0.15, 1.0, "x", "assumed", "log"),
    "Slope_Multi.same_place_probability": (0.6, 0.6, "", "assumed"),
    "Slope_Tremor.corner_hz":        (4, 45, "Hz", "assumed", "log"),
    "Slope_Tremor.coda_s":           (0.1, 0.8, "s", "assumed", "log"),
    "Slope_Tremor.coda_to_direct":   (0.5, 3, "x", "assumed", "log"),
    "Slope_Tremor.duration_s":       (2.5, 20, "s", "assumed", "log"),
    "Slope_Tremor.rise_s":           (0.2, 3, "s", "assumed", "log"),
    "Slope_Tremor.wavering":         (0.1, 1.0, "ln", "assumed"),
    "Rockfall.corner_hz":            (8, 80, "Hz", "assumed", "log"),
    "Rockfall.coda_s":               (0.1, 0.7, "s", "assumed", "log"),
    "Rockfall.coda_to_direct":       (0.5, 3, "x", "assumed", "log"),
    "Rockfall.duration_s":           (2, 18, "s", "assumed", "log"),
    "Rockfall.impacts":              (6, 160, "impacts", "assumed"),
    "Rockfall.impact_spread":        (0.4, 1.3, "ln", "assumed"),
    "Rockfall.rise_shape":           (1.0, 2.5, "beta a", "assumed"),
    "Rockfall.decay_shape":          (1.5, 4.0, "beta b", "assumed"),
    "Regional.distance_km":          (8, 200, "km", "assumed", "log"),
    "Regional.s_minus_p_s_per_km":   (0.115, 0.13, "s/km", "published"),
    "Regional.apparent_velocity_m_s": (3500, 9000, "m/s", "assumed", "log"),
    "Regional.corner_hz":            (3, 20, "Hz", "assumed", "log"),
    "Regional.t_star_s":             (0.012, 0.08, "s", "measured", "log"),  # 0.03 on the real event
    "Regional.p_to_s_amplitude":     (0.06, 0.6, "x", "measured", "log"),  # 0.12 on the real event
    "Regional.coda_s":               (0.8, 6, "s", "assumed", "log"),
    "Regional.coda_per_s_minus_p":   (0.15, 1.0, "x", "assumed"),  # the real P coda hardly decays in 9 s
    "Regional.emergence_s":          (0.03, 0.6, "s", "assumed", "log"),
    "Regional.impulse":              (0, 4, "x wave train", "assumed"),
    "Spike.channels":                (10, 24, "channels", "assumed"),  # fewer do not trigger
    "Spike.channel_spread":          (0.3, 1.5, "ln", "assumed"),
    "Spike.crosstalk":               (0.0005, 0.05, "x", "assumed", "log"),
    "Spike.pulses":                  (1, 3, "pulses", "assumed"),
    "Spike.interval_s":              (0.05, 6, "s", "assumed", "log"),
    "Spike.relative_size":           (0.1, 1.0, "x", "assumed", "log"),
    "Spike.decay_s":                 (0.002, 0.25, "s", "assumed", "log"),
    "Spike.ring_hz":                 (8, 300, "Hz", "assumed", "log"),
    "Spike.ringing_probability":     (0.7, 0.7, "", "assumed"),
    "Noise.magnitude_decay":         (0.1, 0.1, "mean above the lowest", "assumed"),  # just enough to trigger
    "Noise.rise_s":                  (0.1, 0.8, "s", "assumed", "log"),
    "Noise.duration_s":              (0.3, 6, "s", "assumed", "log"),
    "Noise.channel_part":            (0.2, 1.0, "x", "assumed", "log"),
}.items()}

# Hz; PSD at the 10th, 50th, 90th percentile over channels, units^2/Hz; weight of the station's gain. All measured; where
# two nodes hold up a band, a little above its measured percentiles, which then come out as measured.
NOISE_PSD = np.array([
    (1.0, 0.04, 0.065, 0.5, 0.8),    (2.0, 0.04, 0.14, 1.8, 0.8),      (4.0, 0.13, 0.55, 5.3, 0.8),
    (6.0, 0.55, 1.45, 4.3, 0.85),    (9.5, 0.55, 1.55, 4.8, 0.85),     (11.5, 0.6, 2.2, 13.5, 0.85),
    (15.5, 0.6, 2.2, 13.5, 0.85),    (24.5, 0.065, 0.18, 1.7, 0.75),   (40., 0.055, 0.145, 0.88, 0.6),
    (64., 0.058, 0.09, 0.70, 0.5),   (124., 0.054, 0.067, 0.24, 0.5),  (230., 0.040, 0.051, 0.095, 0.5),
    (350., 0.046, 0.057, 0.107, 0.5), (440., 0.046, 0.054, 0.080, 0.5),
])
# Hz; rms at the 10th, 50th, 90th percentile over channels, units. The strong four measured; the others too, less surely.
HUM_RMS = np.array([
    (100, 0.8, 2.2, 10), (200, 1.6, 5, 12), (300, 0.5, 1.7, 5.1), (400, 0.3, 1.2, 2.5), (50, 0.4, 1.1, 2.0),
    (150, 0.4, 0.9, 1.6), (250, 0.5, 1.0, 1.9), (350, 0.25, 0.6, 0.9), (60, 0.3, 0.7, 2.5), (120, 0.2, 0.5, 2.0),
])
# The broken station, its three components: Hz and PSD between its lines; Hz and rms of its lines. All measured.
BROKEN_PSD = np.array([
    (1.0, 21, 9700, 1840), (3.5, 11, 6800, 1010), (12, 2.5, 1000, 230), (30, 3.1, 1000, 720), (60, 3.6, 640, 1700),
    (110, 1.9, 125, 1070), (230, 0.8, 10, 330), (340, 0.44, 1.9, 132), (440, 0.3, 0.9, 75),
])
BROKEN_RMS = np.array([
    (5, 4.3, 93, 36), (19.97, 9.8, 203, 131), (39.94, 13, 217, 243), (59.91, 16, 208, 335), (79.88, 13, 145, 305),
    (100, 53, 505, 1323), (119.8, 11, 89, 279), (139.8, 9, 64, 233), (159.8, 8, 49, 202), (179.7, 4.5, 24, 112),
    (200, 48, 230, 1187), (220, 1.7, 6.6, 38), (300, 29, 84, 637), (320, 2.5, 6.5, 52), (400, 5.6, 11, 108),
])

CLASS_COUNTS = {"Noise": 8, "Regional": 292, "Rockfall": 215, "Slope_HF": 448, "Slope_LF": 218, "Slope_Multi": 207,
                "Slope_Tremor": 212, "Spike": 218, "Unlabeled": 1611}  # the real archive
UNLABELED_MIX = {"Noise": 0.06, "Regional": 0.12, "Rockfall": 0.16, "Slope_HF": 0.2, "Slope_LF": 0.13,
                 "Slope_Multi": 0.1, "Slope_Tremor": 0.11, "Spike": 0.12}  # assumed
LABELED_PER_YEAR = {2007: 229, 2008: 144, 2009: 93, 2010: 198, 2011: 533, 2012: 63, 2013: 76, 2014: 78, 2015: 102,
                    2016: 139, 2017: 51, 2018: 61, 2019: 15, 2020: 36}  # the real archive
# fmt: on

SAMPLING_RATE_HZ = 1000.0
N_STATIONS, N_COMPONENTS = 8, 3
N_CHANNELS = N_STATIONS * N_COMPONENTS
N_SAMPLES = 16_000
GRID = 24_000  # samples on which waves are built: a record, the shift it is cut with, and room for the last coda
ONSET_S = 3.0  # first arrival on that grid
GRID_HZ = np.fft.rfftfreq(GRID, 1 / SAMPLING_RATE_HZ).astype(np.float32)
RECORD_HZ = np.fft.rfftfreq(N_SAMPLES, 1 / SAMPLING_RATE_HZ).astype(np.float32)
LINES_HZ = np.union1d(HUM_RMS[:, 0], BROKEN_RMS[:, 0])

GEOPHONE_HZ, GEOPHONE_DAMPING = 4.5, 0.6
ANTI_ALIAS_HZ, ANTI_ALIAS_ORDER = 416.66, 20  # corner published, order fitted to the real event
COMMON_NOISE_HZ = 40.0  # above it, background noise is independent from channel to channel
WEATHER_HZ = 80.0  # above it, the weather is hardly heard; assumed
HUM_OF_GAIN, HUM_OF_CHANNEL, HUM_OF_LINE = (
    0.4,
    0.6,
    0.69,
)  # what makes a line strong in a channel; assumed
SLOPE_SCATTER, REGIONAL_SCATTER = 0.3, 0.2  # of a station's amplitude, ln; assumed
REGIONAL_P_CORNER = 1.3  # x that of the S; assumed
REGIONAL_IMPULSE_S = 0.05  # decay of a sharp onset; assumed

STA_S, LTA_S = 0.5, 2.0  # assumed; on the real event they trigger 2.65 s into the record
STA_LTA_THRESHOLD, TRIGGER_CHANNELS, COINCIDENCE_S = 4.0, 10, 1.0  # published
BLOCK = 50  # samples; the trigger is evaluated every 50 ms
LATEST_TRIGGER_S = 7.0  # on the grid: a later one would cut the record's end off
N_DRAWS, GROWTH = 60, 1.25  # magnitudes tried before the event is made larger step by step

UNLABELED_YEAR = 2021
# Assumed, so that about a third of the labelled events shares class and day with another: 600 of the real 1818.
SWARM_SIZE, SWARM_PROBABILITY = 6, 0.32

NETWORK, PLAN, SWARM, EVENT, CONTINUOUS = range(5)  # what a stream of random numbers is for


def stream(
    seed: int, purpose: int, category: str = "Noise", number: int = 0
) -> np.random.Generator:
    """Return random numbers that depend on nothing but the arguments. Raises ``UserError`` for a bad seed."""
    if not 0 <= seed < 2**63:
        raise UserError(f"seed is {seed}; it must be 0 or more, and less than 2**63")
    key = (purpose << 60) | (list(CLASS_COUNTS).index(category) << 48) | number
    return np.random.Generator(np.random.Philox(key=[seed, key]))


@dataclass(frozen=True)
class Draws:
    """Draw values from the table of ranges with one random generator."""

    rng: np.random.Generator

    def __call__(self, name: str, size: int | tuple[int, ...] | None = None) -> float | np.ndarray:
        """Draw ``name`` uniformly, or log-uniformly, between its limits."""
        row = RANGES[name]
        if row.spread == "log":
            return np.exp(self.rng.uniform(np.log(row.low), np.log(row.high), size))
        return self.rng.uniform(row.low, row.high, size)

    def count(self, name: str) -> int:
        """Draw a whole number, limits included."""
        row = RANGES[name]
        return int(self.rng.integers(int(row.low), int(row.high) + 1))

    def happens(self, name: str) -> bool:
        """Decide with the probability ``name``."""
        return bool(self.rng.random() < self(name))
