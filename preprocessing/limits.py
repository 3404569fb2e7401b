"""Limits and rules that recordings, archives and models share."""

import numpy as np

UNLABELED = "Unlabeled"  # the class of events that only self-supervised learning may use
LARGEST_SAMPLE = 1e15  # recorder units; the square of more, summed, leaves float32
SAME_RATE = 1e-4  # relative; recorder clocks drift by less, and over 16 000 samples this is under two samples


def live_channels(waveforms: np.ndarray) -> np.ndarray:
    """Tell which channels of (S, T) carry a signal: a constant one does not."""
    return np.ptp(waveforms, axis=-1) > 0
