"""Amplitude and record start of an event: it is scaled until the network's STA/LTA triggers."""

import numpy as np

from preprocessing.simulate.ranges import (
    BLOCK,
    COINCIDENCE_S,
    GROWTH,
    LATEST_TRIGGER_S,
    LTA_S,
    N_CHANNELS,
    N_DRAWS,
    N_SAMPLES,
    ONSET_S,
    RANGES,
    SAMPLING_RATE_HZ,
    STA_LTA_THRESHOLD,
    STA_S,
    TRIGGER_CHANNELS,
    Draws,
)


def scale_until_triggered(
    draw: Draws, source_class: str, wave: np.ndarray, noise: np.ndarray
) -> tuple[float, int]:
    """Scale ``wave`` (24, GRID) in place until the network triggers on it in ``noise`` (24, 16000).

    Returns the log10 amplitude and the first sample of the record in the wave. The amplitude is the
    largest 50 ms rms on the tenth best channel, in recorder units.
    """
    n_blocks = int(LATEST_TRIGGER_S * SAMPLING_RATE_HZ) // BLOCK
    blocks = wave.reshape(N_CHANNELS, -1, BLOCK)
    reach = blocks[:, : int((ONSET_S * SAMPLING_RATE_HZ + N_SAMPLES) / BLOCK)]
    wave /= np.sqrt(
        np.sort(np.einsum("cbt,cbt->cb", reach, reach).max(axis=1))[-TRIGGER_CHANNELS] / BLOCK
    )
    w, n = blocks[:, :n_blocks], noise[:, : n_blocks * BLOCK].reshape(N_CHANNELS, n_blocks, BLOCK)
    nn, nw, ww = (
        np.einsum("cbt,cbt->cb", a, b, dtype=np.float64) for a, b in ((n, n), (n, w), (w, w))
    )
    pre_trigger_s = draw("pre_trigger_s")
    for magnitude in _magnitudes(draw, source_class):
        size = 10**magnitude
        energy = nn + 2 * size * nw + size**2 * ww
        trigger_s = trigger_time_s(energy)
        if trigger_s is None:
            continue
        first = max(0, round((trigger_s - pre_trigger_s) * SAMPLING_RATE_HZ) // BLOCK)
        # must also trigger on the record alone, with channel offsets estimated from it: 3 % margin
        if trigger_time_s(energy[:, first:], 1.03 * STA_LTA_THRESHOLD) is not None:
            wave *= np.float32(size)
            return magnitude, first * BLOCK
    raise AssertionError("no amplitude makes the network trigger")


def _magnitudes(draw: Draws, source_class: str) -> list[float]:
    """Return log10 amplitudes to try in turn: random ones, then larger and larger ones."""
    low, high, *_ = RANGES["magnitude"]
    decay = draw("Noise.magnitude_decay" if source_class == "Noise" else "magnitude_decay")
    tries = low + draw.rng.exponential(decay, N_DRAWS)
    tries = tries[tries < high]
    return [*tries.tolist(), *(tries.max() + np.log10(GROWTH) * np.arange(1, 80)).tolist()]


def trigger_time_s(energy: np.ndarray, threshold: float = STA_LTA_THRESHOLD) -> float | None:
    """Return the trigger time in seconds, or None without one.

    ``energy`` (24, n) is the energy of each channel in blocks of 50 ms.
    """
    sta, lta, coincidence = (
        round(s * SAMPLING_RATE_HZ) // BLOCK for s in (STA_S, LTA_S, COINCIDENCE_S)
    )
    total = np.concatenate([np.zeros((len(energy), 1)), energy.cumsum(axis=1)], axis=1)
    short = (total[:, lta + sta :] - total[:, lta:-sta]) / sta
    long = (total[:, lta:-sta] - total[:, : -sta - lta]) / lta
    above = np.concatenate(
        [np.zeros((len(energy), coincidence)), short > threshold * long], axis=1
    ).cumsum(axis=1)
    recently = above[:, coincidence:] > above[:, :-coincidence]
    triggered = recently.sum(axis=0) >= TRIGGER_CHANNELS
    return (
        float((triggered.argmax() + lta + sta) * BLOCK / SAMPLING_RATE_HZ)
        if triggered.any()
        else None
    )
