"""Simulated stations: like the recorded ones (method.md §8), changing with time."""

import numpy as np
import pytest
from scipy.signal import welch

from preprocessing.simulate import simulated_archive as simulate
from preprocessing.simulate.network import network_on
from preprocessing.simulate.simulated_archive import simulate_event
from tests.preprocessing.simulate.simulated import PRE, broken_of, good_of, rms_ratios, share_above


def year_of(seed: int, category: str, number: int) -> float:
    return simulate.year_of(simulate._start_time(seed, category, number))


def test_stations_differ_in_gain_as_measured(pooled):
    strong = [e for e in pooled if rms_ratios(e.waveforms, good_of(e))[1] > 10]
    assert len(strong) >= 8
    lowest, highest, within = [], [], []
    for event in strong:
        rms = (
            event.waveforms[:, 3000:]
            .std(axis=1)
            .reshape(8, 3)[good_of(event).reshape(8, 3).all(axis=1)]
        )
        station = np.median(rms, axis=1)
        lowest.append(station.min() / np.median(station))
        highest.append(station.max() / np.median(station))
        within.append((rms.max(axis=1) / rms.min(axis=1)).max())
    assert 0.12 < np.median(lowest) < 0.5 and 2 < np.median(highest) < 7  # measured: 0.23 and 4
    assert 2.5 < np.median(within) < 12  # measured: up to 6


def test_nothing_is_left_above_the_anti_alias_filter(of_each_class):
    waveforms = np.concatenate([e.waveforms[good_of(e)] for e in of_each_class[::3]])
    frequency, psd = welch(waveforms.astype(float), fs=1000, nperseg=1000, window="blackmanharris")
    below, above = (
        np.median(psd[:, (frequency > a) & (frequency < b)], axis=1)
        for a, b in ((320, 380), (460, 495))
    )
    assert (above < 0.03 * below).all()


def test_broken_station_is_as_measured_and_sees_no_event(pooled, of_each_class):
    events = [
        e
        for e in [*pooled, *of_each_class]
        if broken_of(e).any() and np.ptp(e.waveforms[broken_of(e)], axis=1).all()
    ]
    assert len(events) >= 5
    rms = np.array([e.waveforms[broken_of(e)].std(axis=1) for e in events])
    assert np.median(rms, axis=0) == pytest.approx([86, 724, 2047], rel=0.15)
    assert rms / [86, 724, 2047] == pytest.approx(np.ones_like(rms), abs=0.6)
    for level, recorded in (
        (0.1, [0.62, 0.75, 0.90]),
        (0.3, [0.30, 0.53, 0.80]),
    ):  # share of the image's pixels
        share = np.array([share_above(e.waveforms[broken_of(e)], level) for e in events])
        assert np.median(share, axis=0) == pytest.approx(recorded, abs=0.05)
        assert share == pytest.approx(np.broadcast_to(recorded, share.shape), abs=0.15)
    for event in events:
        waveforms = event.waveforms[broken_of(event)]
        assert waveforms[:, 3000:7000].std(axis=1) == pytest.approx(
            waveforms[:, PRE].std(axis=1), rel=0.3
        )


def test_some_networks_of_the_time_have_a_broken_station_and_some_not():
    broken = [
        network_on(seed, year).broken_station
        for seed in range(5)
        for year in np.arange(2007.05, 2022, 0.25)
    ]
    assert 0.05 < np.mean(np.array(broken) >= 0) < 0.5
    assert all(
        network_on(seed, 2007.1).broken_station >= 0 for seed in range(5)
    )  # as on 3 February 2007


def test_dead_channels_are_constant_and_no_others():
    numbers = [n for n in range(150) if network_on(1, year_of(1, "Spike", n)).dead.any()]
    assert 2 < len(numbers) < 110
    for number in numbers[:4]:
        event = simulate_event(1, "Spike", number)
        dead = network_on(1, year_of(1, "Spike", number)).dead
        assert np.array_equal(np.ptp(event.waveforms, axis=1) == 0, dead)
        assert event.truth["n_dead_channels"] == dead.sum()


def test_stations_stay_what_they_are_from_day_to_day_but_not_for_ever():
    today, next_week, much_later = (
        network_on(0, year).gain for year in (2009.50, 2009.52, 2021.50)
    )
    alike = np.isclose(today, next_week, rtol=0.05)
    assert alike.sum() >= 21
    assert (~np.isclose(today, much_later, rtol=0.35)).sum() >= 3
    assert (np.sign(today) < 0).any() and (np.sign(today) > 0).any()


def test_a_station_is_replaced_before_the_unlabelled_events():
    before, after = network_on(0, 2020.99), network_on(0, 2021.01)
    replaced = ~np.isclose(before.gain, after.gain, rtol=0.2).reshape(8, 3).all(axis=1)
    assert 1 <= replaced.sum() < 8
