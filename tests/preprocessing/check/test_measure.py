import numpy as np
import pytest

from preprocessing.channels import Channel
from preprocessing.check.examples import clear_channel
from preprocessing.check.measure import MeasuredEvent, measure_channel, measure_files, outcome
from preprocessing.check.report import write_report
from preprocessing.levels import measure
from preprocessing.packing import pack_recordings
from preprocessing.recording_folder import RecordingFolder
from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError

RATE_HZ = 100.0
RNG = np.random.default_rng(5)


def measured(samples: np.ndarray):
    end_ns = round(len(samples) / RATE_HZ * 1e9)
    return measure_channel(Channel("A", samples, 0, end_ns, RATE_HZ, RATE_HZ))


def noise(n: int = 2000) -> np.ndarray:
    return RNG.normal(0, 100, n).round().astype(np.float32)


def test_levels_are_about_the_median_and_the_waveform_is_not_kept():
    samples = noise() + 5000
    samples[1000] = 9000
    channel = measured(samples)
    assert channel.noise == pytest.approx(100, rel=0.15)  # the quietest of 20 s
    assert channel.peak == pytest.approx(4000, rel=0.01)
    assert channel.span.samples.size == 0 and channel.span.name == "A"


def test_noise_is_that_of_training_also_where_the_event_is_longer_than_the_noise():
    samples = noise(6000)
    samples[2000:] *= 30
    channel = measured(samples)
    assert channel.noise == measure(samples[None], RATE_HZ).noise == pytest.approx(100, rel=0.15)


def test_a_channel_too_short_for_a_noise_is_reported_without_one():
    event = MeasuredEvent("a/1", "a", (measured(noise(20)), measured(noise(6000))))
    assert np.isnan(event.channels[0].noise) and clear_channel(event) == "A"
    report = write_report("folder", [event], is_archive=False)
    row = next(line for line in report.splitlines() if line.startswith("a "))
    assert "nan" not in row and f"{event.channels[1].noise:.3g}" in row.split()


def test_dead_and_partly_dead_channels():
    assert measured(np.full(2000, 3.0)).is_dead
    samples = noise()
    samples[500:1000] = samples[500]
    channel = measured(samples)
    assert not channel.is_dead and channel.dead_share == pytest.approx(0.25, abs=0.01)


def test_clipping_is_found_and_chance_is_not_clipping():
    time_s = np.arange(2000) / RATE_HZ
    wave = 1000 * np.sin(2 * np.pi * 2 * time_s) + noise() / 10
    assert measured(wave.clip(-800, 900)).is_clipped
    assert not measured(wave).is_clipped
    assert not measured(RNG.integers(-2, 3, 2000)).is_clipped  # a quiet channel of few counts
    filled = wave - 5000
    filled[100:600] = 0  # a gap filled with zeros is one stretch at the largest value
    assert not measured(filled).is_clipped


def test_slow_share_finds_microseism_and_ignores_a_trend():
    time_s = np.arange(6000) / RATE_HZ
    trend = noise(6000) + 300 * time_s
    assert measured(trend).slow_share < 0.1
    assert measured(noise(6000) + 2000 * np.sin(2 * np.pi * 0.2 * time_s)).slow_share > 0.9
    assert np.isnan(measured(noise(300)).slow_share)


def test_outcome_is_what_packing_does(pnw, tmp_path):
    """At the rate of the archive; real recordings of mixed rates with gaps."""
    folder = RecordingFolder(pnw)
    events = [event for event in folder.list_events() if "uw618" in event.name]
    assert len(events) > 3
    n_left_out = 0
    for event, found_in_file in zip(events, measure_files(events)):
        found = outcome(found_in_file, 100.0)
        read = read_recording(event.place, 100.0)
        assert found.left_out == read.left_out and len(found.padded) == len(read.padded)
        assert found.length_s == pytest.approx(read.waveforms.shape[1] / 100, abs=0.03)
        n_left_out += len(found.left_out)
    assert n_left_out > 0


def test_packed_events_are_measured_with_what_packing_left_out(faulty, tmp_path):
    """Reasons against channels come from packing.json."""
    from preprocessing.check.measure import measure_archive
    from preprocessing.event_archive import EventArchive

    pack_recordings(faulty, tmp_path / "archive", 100.0, 12.0, skip_unreadable=True)
    events = list(measure_archive(EventArchive(tmp_path / "archive")))
    assert any("gap of" in reason for event in events for reason in event.left_out)
    assert any(channel.is_clipped for event in events for channel in event.channels)


def test_a_file_that_cannot_be_read_is_a_problem_of_its_event(faulty):
    problems = {
        event.name: event.problem for event in measure_files(RecordingFolder(faulty).list_events())
    }
    path = "Quake/broken.mseed"
    with pytest.raises(RecordingError) as error:
        read_recording(faulty / path)
    assert problems.pop(path) == str(error.value) and not any(problems.values())
