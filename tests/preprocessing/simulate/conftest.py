"""Simulated events shared by several test files, and the recorded event."""

import numpy as np
import pytest

from preprocessing.recordings import read_recording
from preprocessing.simulate.ranges import CLASS_COUNTS
from preprocessing.simulate.simulated_archive import simulate_event


@pytest.fixture(scope="session")
def pooled():
    """Regional events of twelve networks, because stations and noise differ between networks."""
    return [simulate_event(seed, "Regional", number) for seed in range(12) for number in range(4)]


@pytest.fixture(scope="session")
def of_each_class():
    return [simulate_event(3, name, number) for name in CLASS_COUNTS for number in range(8)]


@pytest.fixture(scope="session")
def real(aknes_event) -> np.ndarray:
    return read_recording(aknes_event).waveforms
