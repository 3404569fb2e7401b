import numpy as np
import pytest

from preprocessing.channels import fit_length


def test_long_events_keep_their_beginning_and_short_ones_end_with_their_means():
    event = np.random.default_rng(0).normal(5000, 3, (3, 700))
    event[2] -= 9000
    stored = event.astype(np.float32)
    np.testing.assert_array_equal(fit_length(event, 600), stored[:, :600])
    padded = fit_length(event, 1000)
    assert padded.shape == (3, 1000) and padded.dtype == np.float32
    np.testing.assert_array_equal(padded[:, :700], stored)
    means = [np.float32(sum(map(float, channel)) / 700) for channel in stored]
    np.testing.assert_array_equal(padded[:, 700:], np.repeat(np.array(means)[:, None], 300, axis=1))


@pytest.mark.parametrize("value", [0.0, 0.1, -7.3, 8_388_607.0, 1e15])
@pytest.mark.parametrize("n_found", [1, 3, 701, 15_999])
def test_a_constant_channel_stays_constant(value, n_found):
    padded = fit_length(np.full((1, n_found), value, np.float32), 16_000)
    assert np.ptp(padded) == 0 and padded[0, 0] == np.float32(value)
