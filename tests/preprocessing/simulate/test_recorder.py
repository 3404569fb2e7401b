"""Every simulated event triggers the network; background noise does not."""

import numpy as np

from preprocessing.simulate.network import network_on
from preprocessing.simulate.noise import background
from preprocessing.simulate.ranges import Draws


def triggers_at_s(waveforms: np.ndarray) -> float:
    """Trigger time by the published rule: STA/LTA of the energy above 4 on ten channels within 1 s.

    STA over 0.5 s, LTA over the 2 s before it.
    """
    step, ends = 10, np.arange(2500, 16001, 10)
    energy = (waveforms - np.median(waveforms, axis=1, keepdims=True)).astype(float) ** 2
    total = np.concatenate([np.zeros((24, 1)), energy.cumsum(axis=1)], axis=1)
    sta = (total[:, ends] - total[:, ends - 500]) / 500
    lta = (total[:, ends - 500] - total[:, ends - 2500]) / 2000
    above = sta > 4 * lta
    for k, end in enumerate(ends):
        if above[:, max(0, k - 1000 // step + 1) : k + 1].any(axis=1).sum() >= 10:
            return end / 1000
    return float("inf")


def test_the_trigger_rule_holds_about_three_seconds_into_every_record(of_each_class):
    for event in of_each_class:
        assert 2.5 <= triggers_at_s(event.waveforms) < 3.7, event.truth


def test_background_alone_does_not_trigger():
    for seed in range(5):
        draw, network = Draws(np.random.default_rng(seed)), network_on(seed, 2019.0)
        assert triggers_at_s(background(draw, network, 0.0)) == float("inf")
