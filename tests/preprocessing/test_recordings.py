import numpy as np
import obspy
import pytest
from obspy import Stream, Trace, UTCDateTime

from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError
from tests.conftest import write_mseed
from tests.preprocessing.recording_files import trace, write

RNG = np.random.default_rng(0)


def test_the_real_event(aknes_event, recwarn):
    recording = read_recording(aknes_event)
    assert recording.waveforms.shape == (24, 16000) and recording.waveforms.dtype == np.float32
    assert (
        recording.sampling_rate_hz == 1000 and recording.start_time == "2007-02-03T06:22:32.000000Z"
    )
    stream = obspy.read(str(aknes_event))
    recwarn.clear()
    np.testing.assert_array_equal(recording.waveforms, np.stack([t.data for t in stream]))
    read_recording(aknes_event)
    assert not [w for w in recwarn if "SEG2" in str(w.message) or "DELAY" in str(w.message)]


@pytest.mark.parametrize("format", ["MSEED", "SAC", "GSE2", "SEGY", "WAV"])
def test_formats(tmp_path, format):
    samples = (RNG.normal(size=500) * 1000).astype(
        np.int32 if format in ("MSEED", "GSE2") else np.float32
    )
    path = tmp_path / "event.dat"
    header = {
        "sampling_rate": 100.0,
        "starttime": UTCDateTime(2020, 1, 1),
        "station": "A",
        "channel": "HHZ",
    }
    options = {"WAV": {"framerate": 100, "rescale": True}, "SEGY": {"data_encoding": 5}}.get(
        format, {}
    )
    Stream([Trace(samples, header)]).write(str(path), format=format, **options)
    recording = read_recording(path)
    assert recording.waveforms.shape == (1, 500) and recording.sampling_rate_hz == pytest.approx(
        100, rel=1e-4
    )
    if format != "WAV":
        np.testing.assert_allclose(recording.waveforms[0], samples, rtol=1e-6)


def test_channels_are_cut_to_their_common_window(tmp_path):
    ramp = np.arange(1000.0)
    path = write(
        tmp_path / "e.mseed",
        trace(ramp, station="A"),
        trace(ramp, start=2.0, station="B"),
        trace(ramp[:900], station="C"),
    )
    recording = read_recording(path)
    assert (
        recording.waveforms.shape == (3, 700)
        and recording.start_time == "2020-01-01T00:00:02.000000Z"
    )
    np.testing.assert_array_equal(recording.waveforms[:, 0], [200, 0, 200])


def good_and(bad: Trace, n_good: int = 18) -> list[Trace]:
    """Return good channels of 180 s at 20 Hz, and a bad one."""
    good = [trace(RNG.normal(size=3600), 20.0, station=f"G{n:02d}") for n in range(n_good)]
    return [*good[:5], bad, *good[5:]]


@pytest.mark.parametrize(
    ("start", "seconds", "reason"),
    [
        (172.4, 180, ".BAD..: covers 4 % of the event's 180 s"),  # late
        (0, 12, ".BAD..: covers 7 % of the event's 180 s"),  # dies
        (300, 180, ".BAD..: covers 0 % of the event's 180 s"),  # elsewhere
    ],
)
def test_one_bad_channel_does_not_ruin_the_event(tmp_path, start, seconds, reason):
    bad = trace(RNG.normal(size=20 * seconds), 20.0, start, "BAD")
    traces = good_and(bad)
    recording = read_recording(write(tmp_path / "e.mseed", *traces))
    assert recording.left_out == (reason,) and recording.padded == ()
    good = np.stack([t.data for t in traces if t is not bad])
    np.testing.assert_array_equal(recording.waveforms, good)
    assert recording.start_time == "2020-01-01T00:00:00.000000Z"
    assert recording.channels == tuple(t.id for t in traces if t is not bad)


def test_a_channel_that_lacks_a_little_is_padded_with_its_mean_and_named(tmp_path):
    late, short = RNG.normal(5, 1, (2, 3440)).astype(np.float32)
    traces = good_and(trace(late, 20.0, 8.0, "LATE"), n_good=40)
    traces.append(trace(short, 20.0, 0, "SHORT"))
    recording = read_recording(write(tmp_path / "e.mseed", *traces))
    assert recording.waveforms.shape == (42, 3600) and not recording.left_out
    assert recording.padded == (
        ".LATE..: 8 s padded with its mean",
        ".SHORT..: 8 s padded with its mean",
    )
    channels = dict(zip(recording.channels, recording.waveforms))
    np.testing.assert_allclose(channels[".LATE.."][:160], late.mean(), rtol=1e-6)
    np.testing.assert_allclose(channels[".LATE.."][160:], late, rtol=1e-6)
    np.testing.assert_allclose(channels[".SHORT.."], np.r_[short, np.full(160, short.mean())], 1e-6)


def test_the_state_of_a_recorder_is_left_out_by_name(tmp_path):
    wave = RNG.normal(size=3000)
    state = trace(np.arange(10.0), 0.1, station="SOH")
    slow = trace(RNG.normal(size=200), 4.0, station="SLOW")
    path = write(tmp_path / "e.mseed", trace(wave), state, slow)
    for rate_hz in (None, 100.0):
        recording = read_recording(path, rate_hz)
        np.testing.assert_array_equal(recording.waveforms, wave.astype(np.float32)[None])
        assert recording.left_out == (
            ".SOH..: 0.1 Hz has 0.1 % of the frequencies of 100 Hz; no seismometer?",
            ".SLOW..: 4 Hz has 4 % of the frequencies of 100 Hz; no seismometer?",
        )
    ramp = write(tmp_path / "ramp.mseed", trace(np.arange(60.0), 1.0))
    with pytest.raises(
        RecordingError, match=r"ramp.mseed: no usable channel \(.A..: 1 Hz has 0.1 %"
    ):
        read_recording(ramp, 1000.0)


def test_the_rates_as_recorded_are_known(tmp_path):
    path = write(
        tmp_path / "e.mseed", trace(RNG.normal(size=6000)), trace(RNG.normal(size=3000), 50, 0, "B")
    )
    assert read_recording(path, 100.0).own_rates_hz == (100.0, 50.0)


def test_differing_rates_need_a_choice(tmp_path):
    time_s = {rate: np.arange(60 * rate) / rate for rate in (50, 100, 200)}
    tone = {rate: np.sin(2 * np.pi * 3 * t + 0.3) for rate, t in time_s.items()}
    path = write(
        tmp_path / "e.mseed", *(trace(x, rate, station=str(rate)) for rate, x in tone.items())
    )
    with pytest.raises(RecordingError, match=r"e.mseed.*50, 100, 200 Hz.*dataset.sampling_freq"):
        read_recording(path)
    recording = read_recording(path, 100.0)
    assert recording.n_resampled == 2 and recording.waveforms.shape == (3, 6000)
    for channel in recording.waveforms:
        np.testing.assert_allclose(channel[300:-300], tone[100][300:-300], atol=0.01)


def test_resampling_does_not_alias(tmp_path):
    time_s = np.arange(20000) / 500
    path = write(tmp_path / "e.mseed", trace(np.sin(2 * np.pi * 180 * time_s), 500))
    assert np.abs(read_recording(path, 100.0).waveforms[0, 50:-50]).max() < 0.02


def test_gaps(tmp_path):
    ramp = np.arange(1000.0)
    whole, first, second = (
        trace(ramp, station="A"),
        trace(ramp[:400], station="B"),
        trace(ramp[450:], start=4.5, station="B"),
    )
    path = write(tmp_path / "e.mseed", whole, first, second)
    recording = read_recording(path)
    assert recording.waveforms.shape == (1, 1000) and recording.n_bridged == 0
    assert recording.left_out == (".B..: gap of 0.5 s",)
    recording = read_recording(path, max_gap_s=0.5)
    assert (
        recording.waveforms.shape == (2, 1000)
        and recording.n_bridged == 1
        and not recording.left_out
    )
    np.testing.assert_allclose(recording.waveforms[1], ramp, atol=1e-3)


def test_segments_without_a_gap_are_one_channel(tmp_path):
    ramp = np.arange(1000.0)
    path = write(tmp_path / "e.mseed", trace(ramp[:400]), trace(ramp[400:], start=4.0))
    np.testing.assert_array_equal(read_recording(path).waveforms, ramp[None])


def test_warnings_are_one_line_that_names_the_file(tmp_path, recwarn):
    path = write_mseed(tmp_path / "e.mseed", RNG.normal(size=(1, 5000)).astype(np.float32))
    content = bytearray(path.read_bytes())
    for place in range(0, len(content), 4096):
        content[place + 39] = 7
    path.write_bytes(content)
    assert read_recording(path).waveforms.shape == (1, 5000)
    assert (
        len(recwarn) == 1
        and "e.mseed: " in str(recwarn[0].message)
        and "more)" in str(recwarn[0].message)
    )


def test_channels_without_numbers_or_with_absurd_ones_are_left_out(tmp_path):
    good = trace(RNG.normal(size=500))
    log = trace(np.zeros(500), station="L")
    log.data = np.array([b"l"] * 500, dtype="|S1")
    assert read_recording(write(tmp_path / "log.mseed", good, log)).left_out == (
        ".L..: samples are not numbers",
    )
    huge = Trace(np.r_[1e300, RNG.normal(size=499)], good.stats.copy())
    huge.stats.station = "H"
    good.data = good.data.astype(np.float64)
    recording = read_recording(write(tmp_path / "huge.mseed", good, huge))
    assert recording.waveforms.shape == (1, 500) and "not finite" in recording.left_out[0]


def test_channels_that_overlap_by_less_than_a_sample_share_nothing(tmp_path):
    """At 100 Hz: one ends as the other begins, the third is elsewhere."""
    traces = [trace(RNG.normal(size=1000), station=name) for name in "ABC"]
    for each, shift_s in zip(traces, (0, 9.996, 60)):
        each.stats.starttime += shift_s
    with pytest.raises(RecordingError, match="no time window in common"):
        read_recording(write(tmp_path / "apart.mseed", *traces), 100.0)


def test_names_with_pattern_characters(tmp_path):
    path = write_mseed(tmp_path / "event[1].mseed", RNG.normal(size=(1, 200)).astype(np.float32))
    assert read_recording(path).waveforms.shape == (1, 200)


def test_real_events_of_another_network(pnw):
    for path in sorted(pnw.glob("*/*.mseed")):
        recording = read_recording(path, 100.0)
        assert recording.sampling_rate_hz == 100 and np.isfinite(recording.waveforms).all()
    gap = read_recording(pnw / "earthquake" / "uw61801937.mseed", 100.0)
    assert gap.waveforms.shape == (8, 14999) and gap.n_resampled == 2
    assert gap.left_out == (
        "CC.CRBN..BHZ: gap of 7.52 s",
        "CC.PR05..BHZ: covers 65 % of the event's 150 s",
        "CC.RUSH..BHZ: covers 64 % of the event's 150 s",
        "CC.VOIT..BHZ: covers 67 % of the event's 150 s",
    )
