import numpy as np

from preprocessing.dataset import (
    CROP_DRAWS,
    MASK_DRAWS,
    N_DRAWS,
    N_SENSOR_DRAWS,
    NOISE_DRAWS,
    SCALE_DRAWS,
    SHIFT_DRAWS,
    event_draws,
)


def test_draws_belong_to_event_and_epoch():
    draws = event_draws(0, 0, 1, [5, 6])
    assert draws.shape == (2, N_DRAWS) and np.array_equal(draws[1], event_draws(0, 0, 1, [6])[0])
    keys = [(0, 0, 1), (1, 0, 1), (0, 1, 1), (0, 0, 2)]
    assert len({event_draws(*key, [5]).tobytes() for key in keys}) == 4


def test_the_published_views_keep_the_numbers_they_had_before_there_were_others():
    generator = np.random.Generator(np.random.Philox(key=[3, (1 << 60) | (7 << 32) | 11]))
    np.testing.assert_array_equal(event_draws(3, 1, 7, [11])[0, :8], generator.random(8))


def test_every_column_belongs_to_one_kind_of_draw():
    columns = list(range(N_DRAWS - N_SENSOR_DRAWS))
    slices = (CROP_DRAWS, SCALE_DRAWS, SHIFT_DRAWS, MASK_DRAWS, NOISE_DRAWS)
    assert [column for one in slices for column in columns[one]] == columns
