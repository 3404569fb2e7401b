"""Background noise: coloured, partly coherent between channels, with power-line hum."""

import numpy as np
from scipy import fft

from preprocessing.simulate.network import Network
from preprocessing.simulate.ranges import (
    COMMON_NOISE_HZ,
    LINES_HZ,
    N_CHANNELS,
    N_COMPONENTS,
    N_SAMPLES,
    N_STATIONS,
    RECORD_HZ,
    SAMPLING_RATE_HZ,
    WEATHER_HZ,
    Draws,
)


def background(draw: Draws, network: Network, level: float, hum: bool = True) -> np.ndarray:
    """Return coloured noise (24, 16000) in recorder units, with power-line hum if ``hum``.

    ``level`` is added to the ln PSD below ``WEATHER_HZ``.
    """
    rng = draw.rng
    spectrum = rng.standard_normal((N_CHANNELS, RECORD_HZ.size * 2), dtype=np.float32).view(
        np.complex64
    )
    _share_low_frequencies(draw, network, spectrum)
    weather = np.exp(0.5 * level / (1 + (RECORD_HZ / WEATHER_HZ) ** 2))
    # PSD * N * rate / 4: the PSD is one-sided, and real and imaginary part have half of the power
    spectrum *= network.noise_amplitude * (
        weather * np.float32(np.sqrt(N_SAMPLES * SAMPLING_RATE_HZ / 4))
    )
    if hum:
        bins = np.round(LINES_HZ * N_SAMPLES / SAMPLING_RATE_HZ).astype(int)
        phase = network.hum_phase + rng.uniform(0, 2 * np.pi) * LINES_HZ / LINES_HZ[0]
        strength = network.hum_rms * draw("hum_level", (N_CHANNELS, 1)) * N_SAMPLES / np.sqrt(2)
        spectrum[:, bins] += strength * np.exp(1j * phase)
    spectrum[:, 0] = 0
    return fft.irfft(spectrum, N_SAMPLES)


def _share_low_frequencies(draw: Draws, network: Network, spectrum: np.ndarray) -> None:
    """Add, in place, noise common to all stations and noise common to one station's components."""
    n_low = int(COMMON_NOISE_HZ * N_SAMPLES / SAMPLING_RATE_HZ)
    shape = (1 + N_STATIONS, n_low * 2)
    shared = draw.rng.standard_normal(shape, dtype=np.float32).view(np.complex64)
    azimuth = draw.rng.uniform(0, 2 * np.pi)
    delay_s = network.position_m @ (np.sin(azimuth), np.cos(azimuth)) / draw("p_velocity_m_s")
    plane_wave = shared[0] * np.exp(-2j * np.pi * delay_s[:, None] * RECORD_HZ[:n_low])
    of_all, of_station = draw("noise_shared_by_all"), draw("noise_shared_by_station")
    mixed = (np.sqrt(of_all) * plane_wave + np.sqrt(of_station) * shared[1:]).repeat(
        N_COMPONENTS, axis=0
    )
    low = spectrum[:, :n_low]
    low *= np.sqrt(1 - of_all - of_station)
    low += np.sign(network.gain)[:, None] * mixed
