"""Random numbers of an event: fixed by (seed, epoch, event), and which view uses which of them.

They do not depend on batches, loader workers or processes, and a resumed run needs only the number
of its epoch.
"""

from collections.abc import Sequence

import numpy as np

N_VIEWS = 3  # at most so many views of an event
N_SENSOR_DRAWS = 2  # the first numbers choose the sensors; the others are EventBatch.draws
# Columns of EventBatch.draws: those of the first view, of the second, of the third. New columns are
# appended, so that the published views keep their random numbers.
CROP_DRAWS = slice(0, 3)  # place the crops
SCALE_DRAWS = slice(3, 6)  # RandomAmplitudeJitter
SHIFT_DRAWS = slice(6, 9)  # RandomTimeShift
MASK_DRAWS = slice(9, 21)  # RandomMask, four for each view
NOISE_DRAWS = slice(21, 27)  # RandomNoise, two for each view
N_DRAWS = N_SENSOR_DRAWS + NOISE_DRAWS.stop
TRAINING, HELD_OUT, ORDER = 0, 1, 2  # independent streams of random numbers


def event_draws(
    seed: int, stream: int, epoch: int, events: Sequence[int] | np.ndarray
) -> np.ndarray:
    """Return the uniform random numbers (B, ``N_DRAWS``) of these events in this epoch."""
    generators = (
        np.random.Philox(key=[seed, (stream << 60) | (epoch << 32) | int(event)])
        for event in events
    )
    return np.stack([np.random.Generator(generator).random(N_DRAWS) for generator in generators])
