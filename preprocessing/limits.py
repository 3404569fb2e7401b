"""Limits shared by recordings, archives and models."""

import numpy as np

UNLABELED = "Unlabeled"  # the class of events that only self-supervised learning may use
LARGEST_SAMPLE = 1e15  # recorder units; the power of larger samples would overflow float32
# Largest relative difference between sampling rates that count as equal. Clocks of recorders drift
# less; over 16 000 samples this is less than two samples.
SAME_RATE = 1e-4


def live_channels(waveforms: np.ndarray) -> np.ndarray:
    """Return a mask (S,) of the channels of (S, T) with a signal; a constant channel has none."""
    return np.ptp(waveforms, axis=-1) > 0
