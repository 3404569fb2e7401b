import numpy as np
import obspy
import pytest

from prediction.continuous.continuous_data import ContinuousData
from prediction.continuous.miniseed import NS
from prediction.continuous.trigger import find_events, time_ns
from prediction.predict_config import TriggerParams
from preprocessing.simulate.simulated_days import simulate_continuous
from tests.conftest import write_mseed

RATE_HZ = 100.0
START = obspy.UTCDateTime("2020-01-01T00:00:00")
TRIGGER = TriggerParams(channels=4)


def recordings(path, onsets_s, duration_s=400.0, n_channels=6, on_channels=6, seed=0):
    """Write noise with bursts of two seconds at the given times."""
    rng = np.random.default_rng(seed)
    samples = rng.normal(0, 3, (n_channels, int(duration_s * RATE_HZ)))
    for onset_s in onsets_s:
        first = round(onset_s * RATE_HZ)
        burst = 80 * np.exp(-np.arange(200) / 60) * np.sin(np.arange(200))
        samples[:on_channels, first : first + 200] += burst[: samples.shape[1] - first]
    return write_mseed(path, samples.astype(np.float32), RATE_HZ)


def found(path, chunk_s=60.0, **changes):
    chunks = find_events(
        ContinuousData([path]),
        "",
        changes.pop("trigger", TRIGGER),
        chunk_s,
        3.0,
        12.0,
        RATE_HZ,
        **changes,
    )
    return [window for chunk in chunks for window in chunk]


def seconds(windows):
    return [(time_ns(window.trigger_time) - START.ns) / NS for window in windows]


def test_events_are_found_once_wherever_the_chunks_end(tmp_path):
    onsets = [40.0, 59.6, 119.95, 120.0 + 60.0, 240.4, 299.0]
    path = recordings(tmp_path / "a.mseed", onsets)
    for chunk_s in (60.0, 60.5, 119.97, 1000.0):
        windows = found(path, chunk_s)
        np.testing.assert_allclose(seconds(windows), onsets, atol=0.3)
    window = windows[0]
    assert (
        window.recording.waveforms.shape == (6, 1200)
        and window.recording.channels[0] == "XX.S00..HHZ"
    )
    start_s = obspy.UTCDateTime(window.recording.start_time) - START
    assert start_s == pytest.approx(seconds(windows)[0] - 3, abs=0.006)
    raw = obspy.read(str(path)).sort()
    first = round(start_s * RATE_HZ)
    np.testing.assert_array_equal(
        window.recording.waveforms, [t.data[first : first + 1200] for t in raw]
    )


def test_triggers_within_a_window_belong_to_it(tmp_path):
    path = recordings(tmp_path / "a.mseed", [100.0, 103.0, 108.5, 112.5, 200.0])
    for chunk_s in (60.0, 100.1, 101.0, 1000.0):
        np.testing.assert_allclose(seconds(found(path, chunk_s)), [100, 112.5, 200], atol=0.3)


def test_too_few_channels_or_too_far_apart_do_not_trigger(tmp_path):
    assert found(recordings(tmp_path / "few.mseed", [100.0], on_channels=3)) == []
    late = obspy.read(str(recordings(tmp_path / "late.mseed", [100.0])))
    for number, trace in enumerate(late):
        trace.data = np.roll(trace.data, round(3 * number * RATE_HZ))
    late.write(str(tmp_path / "late.mseed"), format="MSEED")
    assert found(tmp_path / "late.mseed") == []


def test_gaps_neither_trigger_nor_stop_the_search(tmp_path):
    stream = obspy.read(str(recordings(tmp_path / "a.mseed", [50.0, 150.0, 300.0])))
    for trace in stream:
        trace.data += 5000  # an offset, as recorders have
    gap = obspy.Stream(
        [
            part
            for trace in stream
            for part in (trace.slice(endtime=START + 100), trace.slice(START + 130))
        ]
    )
    short = stream[0].stats.station  # this one is missing during the second event, too
    gap = obspy.Stream(
        [t for t in gap if t.stats.station != short or t.stats.starttime < START + 100]
    ) + stream.select(station=short).slice(START + 152)
    gap.write(str(tmp_path / "gap.mseed"), format="MSEED")
    windows = found(tmp_path / "gap.mseed")
    np.testing.assert_allclose(seconds(windows), [50, 150, 300], atol=0.3)
    assert [len(window.recording.waveforms) for window in windows] == [6, 5, 6]


def test_an_event_at_the_end_is_not_lost(tmp_path):
    enough, too_late = (found(recordings(tmp_path / f"{s}.mseed", [s]))[0] for s in (395.0, 398.5))
    assert 750 <= enough.recording.waveforms.shape[1] <= 850
    assert (
        too_late.recording is None and "no channel covers enough of the window" in too_late.reason
    )


def test_short_gaps_are_bridged_if_that_is_allowed(tmp_path):
    stream = obspy.read(str(recordings(tmp_path / "a.mseed", [200.0])))
    parts = obspy.Stream(
        [
            t
            for trace in stream
            for t in (trace.slice(endtime=START + 204), trace.slice(START + 204.06))
        ]
    )
    parts.write(str(tmp_path / "gap.mseed"), format="MSEED")
    assert (
        found(tmp_path / "gap.mseed")[0].recording.waveforms.shape[1] < 1200
    )  # half of it, before the gap
    bridged = found(tmp_path / "gap.mseed", max_gap_s=0.1)[0].recording
    assert bridged.waveforms.shape == (6, 1200) and bridged.n_bridged == 6


def test_slow_channels_are_left_out_and_said(tmp_path, caplog):
    stream = obspy.read(str(recordings(tmp_path / "a.mseed", [200.0])))
    health = obspy.Trace(
        np.arange(400, dtype=np.float32),
        {"network": "XX", "station": "S00", "channel": "LCE", "starttime": START},
    )
    (stream + obspy.Stream([health])).write(str(tmp_path / "soh.mseed"), format="MSEED")
    windows = found(tmp_path / "soh.mseed")
    assert len(windows) == 1 and "XX.S00..LCE" not in windows[0].recording.channels
    assert caplog.text.count("too low for a highpass at 2 Hz; they are left out: XX.S00..LCE") == 1


def test_too_few_channels_for_the_trigger_are_said(tmp_path, caplog):
    assert (
        found(recordings(tmp_path / "a.mseed", [200.0]), trigger=TriggerParams(channels=10)) == []
    )
    assert (
        caplog.text.count("have only 6 channels; with trigger.channels = 10 no event is found") == 1
    )


def test_onsets_within_a_second_count_together_however_short(tmp_path):
    for shift_s, n in ((0.6, 1), (1.4, 0)):
        samples = np.random.default_rng(0).normal(0, 3, (6, 40_000))
        for channel in range(6):
            first = 20_000 + round((channel % 2) * shift_s * 100)
            samples[channel, first : first + 4] += 400 * np.array([1, -1, 1, -1])
        windows = found(
            write_mseed(tmp_path / f"{shift_s}.mseed", samples.astype(np.float32), RATE_HZ)
        )
        assert len(windows) == n


def test_one_invalid_sample_does_not_silence_a_channel(tmp_path):
    stream = obspy.read(str(recordings(tmp_path / "a.mseed", [200.0], on_channels=4)))
    for trace in stream:
        trace.data[5000] = np.nan
    stream.write(str(tmp_path / "nan.mseed"), format="MSEED")
    assert len(found(tmp_path / "nan.mseed", 1000.0)) == 1


def test_going_on_finds_the_rest_as_without_the_interruption(tmp_path):
    path = recordings(tmp_path / "a.mseed", [20.0, 55.0, 70.0, 78.0, 118.0, 122.0, 250.0, 300.0])
    whole = [time_ns(window.trigger_time) for window in found(path)]
    assert len(whole) >= 6
    for n in range(1, len(whole) + 1):
        rest = [time_ns(window.trigger_time) for window in found(path, known_ns=whole[:n])]
        assert rest == [ns for ns in whole if ns >= rest[0]] and rest[0] <= whole[n - 1]
        assert set(whole[n:]) <= set(rest)


def test_most_events_of_a_simulated_network_are_found(tmp_path):
    path = tmp_path / "quarter.mseed"
    truth = simulate_continuous(path, 1, 900.0, 60.0)
    windows = [
        w
        for chunk in find_events(
            ContinuousData([path]), "", TriggerParams(), 300.0, 3.0, 16.0, 1000.0
        )
        for w in chunk
    ]
    trigger_s = np.array([time_ns(w.trigger_time) / NS for w in windows])
    start_s = float(obspy.UTCDateTime("2016-05-17T00:00:00"))
    onset_s = np.array([start_s + event.first_sample / 1000 for event in truth])
    hits = (np.abs(onset_s[:, None] + 3 - trigger_s) < 5).any(1)
    assert hits.mean() > 0.85 and len(windows) <= len(truth) + 3
    assert all(window.recording.waveforms.shape[1] == 16_000 for window in windows)


def test_a_station_code_with_a_point_is_a_station(tmp_path):
    stream = obspy.read(str(recordings(tmp_path / "a.mseed", [200.0])))
    for each in stream:
        each.stats.station = "S." + each.stats.station[-1]
    stream.write(str(tmp_path / "b.mseed"), format="MSEED")
    (window,) = found(tmp_path / "b.mseed")
    assert len(window.picks) == 6
