"""Source models, one per class.

Waves are computed in the frequency domain, on a time axis longer than a record, so that they do not
wrap around:

    wave (24, F) = source time function (F) x source, geophone and recorder (F)
                   x path and site (8, F) x pulses and coda (24, F)

The argument ``kind`` of a model is the prefix of its parameters in ``ranges.RANGES``.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import fft

from preprocessing.simulate.network import INSTRUMENT, RECORDER, Network
from preprocessing.simulate.noise import background
from preprocessing.simulate.ranges import (
    GRID,
    GRID_HZ,
    N_CHANNELS,
    N_COMPONENTS,
    N_SAMPLES,
    N_STATIONS,
    ONSET_S,
    REGIONAL_IMPULSE_S,
    REGIONAL_P_CORNER,
    REGIONAL_SCATTER,
    SAMPLING_RATE_HZ,
    SLOPE_SCATTER,
    Draws,
)

TIME_S = np.arange(GRID) / SAMPLING_RATE_HZ


def _source_spectrum(corner_hz: float) -> np.ndarray:
    """Return the causal omega-square velocity spectrum (F,) for a corner frequency."""
    ratio = GRID_HZ / np.float32(corner_hz)
    return (1j * ratio / (1 + 1j * ratio) ** 2).astype(np.complex64)


class Rays(NamedTuple):
    """Arrival times (s, from the start of the wave) and relative amplitudes at the stations."""

    p_s: np.ndarray  # (8,)
    s_s: np.ndarray  # (8,)
    amplitude: np.ndarray  # (8,)
    distance_m: np.ndarray  # (8,)
    towards: np.ndarray  # (8, 3) unit vectors from the source
    q: float
    s_velocity_m_s: float


def place_source(draw: Draws) -> np.ndarray:
    """Draw a source position (east, north, up) in metres, inside or outside the network."""
    return np.array([draw("source_east_m"), draw("source_north_m"), -draw("source_depth_m")])


def _slope_rays(draw: Draws, network: Network, position_m: np.ndarray, onset_s: float) -> Rays:
    vector_m = np.column_stack([network.position_m, np.zeros(N_STATIONS)]) - position_m
    distance_m = np.sqrt((vector_m**2).sum(axis=1))
    v_p = draw("p_velocity_m_s")
    v_s = v_p / draw("p_to_s_velocity")
    p_s = onset_s + (distance_m - distance_m.min()) / v_p
    amplitude = (distance_m / 100) ** -draw("geometric_exponent") * np.exp(
        SLOPE_SCATTER * draw.rng.standard_normal(N_STATIONS)
    )
    towards = vector_m / distance_m[:, None]
    return Rays(
        p_s, p_s + distance_m * (1 / v_s - 1 / v_p), amplitude, distance_m, towards, draw("q"), v_s
    )


def _pulses_and_coda(draw: Draws, network: Network, rays: Rays, kind: str) -> np.ndarray:
    """Return P, S and coda (8, 3, GRID) of an impulse at the source, before attenuation."""
    rng, station = draw.rng, np.arange(N_STATIONS)
    length = 4 * int(draw(f"{kind}.coda_s") * SAMPLING_RATE_HZ)
    decay = np.exp(-np.arange(length, dtype=np.float32) * (4 / length))
    wave = np.zeros((N_STATIONS, N_COMPONENTS, GRID + length), np.float32)
    first, second = (
        np.clip(time * SAMPLING_RATE_HZ, 0, GRID).astype(int) for time in (rays.p_s, rays.s_s)
    )
    shear = np.cross(rays.towards, rng.standard_normal((N_STATIONS, 3)) + 1e-3)
    shear /= np.sqrt((shear**2).sum(axis=1, keepdims=True))
    p_part, coda_part = draw("p_to_s_amplitude"), draw(f"{kind}.coda_to_direct")
    scattered = rng.standard_normal((2, N_STATIONS, N_COMPONENTS, length), dtype=np.float32) * decay
    # amplitude of the coda relative to the direct pulse
    scattered *= np.float32(coda_part / np.sqrt(length / 8))
    columns = np.arange(length)
    for start, size, direction, coda in (
        (first, p_part, rays.towards, scattered[0]),
        (second, 1.0, shear, scattered[1]),
    ):
        where = (start[:, None] + columns)[:, None]
        wave[station[:, None, None], np.arange(N_COMPONENTS)[:, None], where] += size * coda
        wave[station, :, start] += size * np.einsum("sij,sj->si", network.rotation, direction)
    wave *= rays.amplitude[:, None, None]
    return wave[..., :GRID]


def slope_wave(
    draw: Draws,
    network: Network,
    kind: str,
    position_m: np.ndarray,
    onset_s: float = ONSET_S,
    time_function: np.ndarray | None = None,
    corner_hz: float | None = None,
) -> np.ndarray:
    """Return the spectrum (24, F) of waves from one source on the slope.

    ``time_function`` (GRID,) is the source time function from ``onset_s`` on (default: an impulse).
    """
    rays = _slope_rays(draw, network, position_m, onset_s)
    source = _source_spectrum(corner_hz or draw(f"{kind}.corner_hz")) * INSTRUMENT
    if time_function is not None:
        source = source * fft.rfft(time_function.astype(np.float32))
    t_star = (rays.distance_m / rays.s_velocity_m_s / rays.q).astype(np.float32)
    response = network.site * np.exp(-np.pi * t_star[:, None] * GRID_HZ) * source
    spectrum = fft.rfft(_pulses_and_coda(draw, network, rays, kind))
    spectrum *= response[:, None]
    return spectrum.reshape(N_CHANNELS, -1) * network.gain[:, None]


def one_quake(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return a slope quake (24, F), sometimes with an aftershock too weak for a second event."""
    position_m = place_source(draw)
    wave = slope_wave(draw, network, kind, position_m)
    if draw.happens("aftershock_probability"):
        later = slope_wave(draw, network, kind, position_m, ONSET_S + draw("aftershock_delay_s"))
        wave += later * (draw("aftershock_size") * _rms(wave) / _rms(later))
    return wave


def several_quakes(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return several slope quakes (24, F), from one source position or from several."""
    position_m, same_place = place_source(draw), draw.happens(f"{kind}.same_place_probability")
    wave: np.ndarray = np.zeros((N_CHANNELS, GRID_HZ.size), np.complex64)
    onset_s = ONSET_S
    for _ in range(draw.count(f"{kind}.quakes")):
        each = slope_wave(
            draw, network, kind, position_m if same_place else place_source(draw), onset_s
        )
        wave = wave + each * (draw(f"{kind}.relative_size") / _rms(each))
        onset_s += draw(f"{kind}.interval_s")
        if onset_s > ONSET_S + N_SAMPLES / SAMPLING_RATE_HZ:
            break
    return wave


def tremor(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return a tremor (24, F): amplitude rises, fluctuates and decays, without clear phases."""
    rng = draw.rng
    duration_s, rise_s = draw(f"{kind}.duration_s"), draw(f"{kind}.rise_s")
    swell = np.clip(TIME_S / rise_s, 0, 1) / (
        1 + np.exp(np.clip((TIME_S - duration_s) / (0.15 * duration_s), -50, 50))
    )
    knots = np.exp(draw(f"{kind}.wavering") * rng.standard_normal(64))
    knots_s = np.linspace(0, GRID / SAMPLING_RATE_HZ, len(knots))
    steady = rng.standard_normal(GRID, dtype=np.float32) * np.interp(TIME_S, knots_s, knots)
    steady[TIME_S > GRID / SAMPLING_RATE_HZ - ONSET_S - 0.5] = 0  # it would wrap around
    return slope_wave(draw, network, kind, place_source(draw), time_function=steady * swell)


def rockfall(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return a rockfall (24, F): overlapping impacts of blocks that move down the slope."""
    rng, position_m = draw.rng, place_source(draw) * (1, 1, 0)
    downhill = np.array([draw("downhill_speed_m_s"), 0, 0])
    duration_s, n_impacts = draw(f"{kind}.duration_s"), draw.count(f"{kind}.impacts")
    delay_s = (
        np.sort(rng.beta(draw(f"{kind}.rise_shape"), draw(f"{kind}.decay_shape"), n_impacts))
        * duration_s
    )
    size = np.exp(draw(f"{kind}.impact_spread") * rng.standard_normal(n_impacts)) * rng.choice(
        (-1, 1), n_impacts
    )
    size *= (delay_s / duration_s + 0.02) ** 0.5 * (1 - delay_s / duration_s)
    corner_hz = draw(f"{kind}.corner_hz")
    wave: np.ndarray = np.zeros((N_CHANNELS, GRID_HZ.size), np.complex64)
    sample = np.minimum(delay_s * SAMPLING_RATE_HZ, GRID - ONSET_S * SAMPLING_RATE_HZ - 500).astype(
        int
    )
    for leg in range(3):
        part = slice(leg * n_impacts // 3, (leg + 1) * n_impacts // 3)
        train = np.bincount(sample[part], size[part], GRID)
        where = position_m + downhill * delay_s[part].mean()
        wave = wave + slope_wave(draw, network, kind, where, ONSET_S, train, corner_hz)
    return wave


def regional(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return P and S (24, F) of a distant earthquake as plane waves with one slowness."""
    azimuth, distance_km = draw.rng.uniform(0, 2 * np.pi), draw(f"{kind}.distance_km")
    slowness = np.array([np.sin(azimuth), np.cos(azimuth)]) / draw(f"{kind}.apparent_velocity_m_s")
    delay_s = network.position_m @ slowness
    delay_s = delay_s - delay_s.min()
    s_minus_p_s = distance_km * draw(f"{kind}.s_minus_p_s_per_km")
    corner_hz, t_star = draw(f"{kind}.corner_hz"), draw(f"{kind}.t_star_s")
    p_size = draw(f"{kind}.p_to_s_amplitude")
    coda_s = draw(f"{kind}.coda_s") + draw(f"{kind}.coda_per_s_minus_p") * s_minus_p_s
    wave: np.ndarray = np.zeros((N_STATIONS, N_COMPONENTS, GRID_HZ.size), np.complex64)
    for after_s, size, corner in (
        (0.0, p_size, REGIONAL_P_CORNER * corner_hz),
        (s_minus_p_s, 1.0, corner_hz),
    ):
        if ONSET_S + after_s + delay_s.max() < GRID / SAMPLING_RATE_HZ - 0.5:
            shape = size * _source_spectrum(corner) * INSTRUMENT * np.exp(-np.pi * t_star * GRID_HZ)
            train = _wave_train(kind, draw, network, delay_s + ONSET_S + after_s, coda_s)
            wave = (
                wave
                + fft.rfft(train).reshape(N_STATIONS, N_COMPONENTS, -1)
                * (shape * network.site)[:, None]
            )
    scatter = np.exp(REGIONAL_SCATTER * draw.rng.standard_normal((N_STATIONS, 1, 1)))
    return (wave * scatter).reshape(N_CHANNELS, -1) * network.gain[:, None]


def _wave_train(
    kind: str, draw: Draws, network: Network, start_s: np.ndarray, coda_s: float
) -> np.ndarray:
    """Return a wave train (8, 3, GRID), partly coherent between stations.

    It begins at the times ``start_s`` (8,) and decays with the time ``coda_s``.
    """
    rng, start = draw.rng, (start_s * SAMPLING_RATE_HZ).astype(int)
    length = GRID - start.min()
    time_s = np.arange(length, dtype=np.float32) / SAMPLING_RATE_HZ
    envelope = np.exp(-time_s / coda_s) * (1.05 - np.exp(-time_s / draw(f"{kind}.emergence_s")))
    # an impulsive onset before the emergent wave train
    envelope += draw(f"{kind}.impulse") * np.exp(-time_s / REGIONAL_IMPULSE_S)
    envelope /= np.sqrt((envelope**2).sum())
    alike = draw("wave_shared_by_all")
    common = np.einsum(
        "sij,jt->sit", network.rotation, rng.standard_normal((3, length), dtype=np.float32)
    )
    own = rng.standard_normal((N_STATIONS, N_COMPONENTS, length), dtype=np.float32)
    train = (np.sqrt(alike) * common + np.sqrt(1 - alike) * own) * envelope
    wave = np.zeros((N_STATIONS, N_COMPONENTS, GRID), np.float32)
    for station, first in enumerate(start):
        wave[station, :, first:] = train[station, :, : GRID - first]
    return wave


def spike(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return electrical pulses (24, F), simultaneous on all channels that have them.

    They have the response of the recorder but not of the geophone.
    """
    rng = draw.rng
    ring_hz, decay_s = draw(f"{kind}.ring_hz"), draw(f"{kind}.decay_s")
    shape, after_s = np.zeros(GRID), 0.0
    for _ in range(draw.count(f"{kind}.pulses")):
        t = np.maximum(TIME_S - ONSET_S - after_s, 0)
        ringing = (
            np.cos(2 * np.pi * ring_hz * t) if draw.happens(f"{kind}.ringing_probability") else 1.0
        )
        shape = shape + draw(f"{kind}.relative_size") * (t > 0) * np.exp(-t / decay_s) * ringing
        after_s += draw(f"{kind}.interval_s")
    working = np.flatnonzero(~network.dead & ~network.broken)
    hit = rng.choice(working, min(draw.count(f"{kind}.channels"), working.size), replace=False)
    size = draw(f"{kind}.crosstalk", N_CHANNELS)
    size[hit] = np.exp(draw(f"{kind}.channel_spread") * rng.standard_normal(hit.size))
    size *= rng.choice((-1, 1), N_CHANNELS)
    return size[:, None].astype(np.float32) * (fft.rfft(shape.astype(np.float32)) * RECORDER)


def gust(kind: str, draw: Draws, network: Network) -> np.ndarray:
    """Return a gust (24, F): a rise of the background noise that causes a false trigger."""
    time_s = TIME_S - ONSET_S
    rise_s, duration_s = draw(f"{kind}.rise_s"), draw(f"{kind}.duration_s")
    swell = np.clip(time_s / rise_s, 0, 1) * np.exp(-np.maximum(time_s - rise_s, 0) / duration_s)
    rustle = background(draw, network, draw("weather"), hum=False)
    rustle[network.gain == 0] = 0
    rustle = np.concatenate([rustle, rustle[:, : GRID - N_SAMPLES]], axis=1)
    return fft.rfft(
        (rustle * swell * draw(f"{kind}.channel_part", (N_CHANNELS, 1))).astype(np.float32)
    )


def _rms(spectrum: np.ndarray) -> float:
    """Return the rms of a wave over all channels, times a constant."""
    return float(np.sqrt((np.abs(spectrum[:, ::8]) ** 2).mean())) + 1e-30


Source = Callable[[str, Draws, Network], np.ndarray]
SOURCES: dict[str, Source] = {
    "Noise": gust,
    "Regional": regional,
    "Rockfall": rockfall,
    "Slope_HF": one_quake,
    "Slope_LF": one_quake,
    "Slope_Multi": several_quakes,
    "Slope_Tremor": tremor,
    "Spike": spike,
}
