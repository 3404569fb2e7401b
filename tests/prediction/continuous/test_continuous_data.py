import re
import subprocess
import sys

import numpy as np
import obspy
import pytest

from prediction.continuous.continuous_data import ContinuousData
from prediction.continuous.miniseed import NS
from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError
from tests.conftest import ROOT, write_mseed

START = obspy.UTCDateTime("2020-01-01T00:00:00")


@pytest.fixture
def hour(tmp_path):
    samples = np.random.default_rng(0).normal(0, 50, (3, 36_000)).astype(np.float32)
    return write_mseed(tmp_path / "hour.mseed", samples, rate_hz=10), samples


def window(data, start_s, end_s):
    return data.read(START.ns + int(start_s * NS), START.ns + int(end_s * NS))


@pytest.mark.parametrize(
    "encoding", [{"reclen": 512}, {"reclen": 4096}, {"reclen": 512, "byteorder": "<"}]
)
def test_a_window_is_what_obspy_would_cut_out(tmp_path, hour, encoding):
    path = tmp_path / "again.mseed"
    obspy.read(str(hour[0])).write(str(path), format="MSEED", **encoding)
    data = ContinuousData([path])
    assert (data.start_ns, data.end_ns) == (START.ns, START.ns + 3600 * NS)
    for start_s, end_s in ((0, 10), (1234.5, 1300), (3590, 3700)):
        expected = obspy.read(str(path)).trim(START + start_s, START + end_s).sort()
        found = window(data, start_s, end_s)
        assert [t.id for t in found] == [t.id for t in expected] and len(found) == 3
        for a, b in zip(found, expected):
            assert a.stats.starttime == b.stats.starttime
            np.testing.assert_array_equal(a.data, b.data)
    assert len(window(data, 5000, 6000)) == 0


def test_files_are_joined_and_gaps_stay_gaps(tmp_path, hour):
    stream = obspy.read(str(hour[0]))
    parts = [
        stream.slice(START, START + 999.9),
        stream.slice(START + 1000, START + 2000),
        stream.slice(START + 2100),
    ]
    paths = [tmp_path / name for name in ("a.mseed", "b.mseed", "c.sac")]
    parts[0].write(str(paths[0]), format="MSEED")
    parts[1].write(str(paths[1]), format="MSEED")
    parts[2].select(station="S00").write(
        str(paths[2]), format="SAC"
    )  # another format holds one channel
    data = ContinuousData([*paths[:2], next(tmp_path.glob("c*.sac"))])
    found = window(data, 900, 2200)
    assert [(t.stats.station, t.stats.starttime - START, t.stats.npts) for t in found] == [
        ("S00", 900, 11_001),
        ("S00", 2100, 1001),
        ("S01", 900, 11_001),
        ("S02", 900, 11_001),
    ]
    np.testing.assert_array_equal(found[0].data, hour[1][0, 9000:20_001])


def test_a_changed_rate_and_a_log_do_no_harm(tmp_path, hour):
    odd = obspy.Trace(
        np.zeros(50, np.float32),
        {
            "network": "XX",
            "station": "S00",
            "channel": "HHZ",
            "sampling_rate": 20.0,
            "starttime": START + 1800,
        },
    )
    stream = obspy.read(str(hour[0])) + obspy.Stream([odd])
    stream.write(str(tmp_path / "odd.mseed"), format="MSEED", reclen=512)
    assert {
        t.stats.sampling_rate for t in window(ContinuousData([tmp_path / "odd.mseed"]), 1700, 1900)
    } == {10.0}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda b: b[: 4096 + 20] + b"\xff\xff" + b[4096 + 22 :],
            "damaged: a record of the year 65535",
        ),
        (lambda b: b"not seismic data" * 40, "not a format that ObsPy knows"),
        (lambda b: b[:2000], "cannot be read|truncated"),
    ],
)
def test_files_that_cannot_be_used_are_named_and_the_others_are_read(
    tmp_path, hour, damage, message
):
    bad = tmp_path / "bad.mseed"
    bad.write_bytes(damage(hour[0].read_bytes()))
    with pytest.raises(RecordingError, match=f"bad.mseed: .*({message})"):
        ContinuousData([bad])
    with pytest.raises(RecordingError, match="no such file"):
        ContinuousData([tmp_path / "none.mseed"])
    data = ContinuousData([bad, hour[0]])
    assert re.search(message, data.unusable[bad]) and len(window(data, 0, 100)) == 3


def test_of_damaged_files_the_rest_is_read(tmp_path, hour):
    cut, bad = tmp_path / "cut.mseed", tmp_path / "bad.mseed"
    content = hour[0].read_bytes()
    cut.write_bytes(content[:-100])
    ends = ContinuousData([cut])
    assert "truncated" in ends.unusable[cut] and len(window(ends, 0, 3700)) == 3
    stream = obspy.read(str(hour[0]))
    for trace in stream:
        trace.data = trace.data.astype(np.int32)
    stream.write(str(bad), format="MSEED", encoding="STEIM2", reclen=512)
    content = bad.read_bytes()
    place = 512 * (len(content) // 1024)
    bad.write_bytes(content[: place + 64] + bytes(range(7, 255)) + content[place + 64 + 248 :])
    data = ContinuousData([bad])
    found = window(data, 0, 3700)
    n_found = sum(t.stats.npts for t in found)
    assert (
        bad in data.unusable and 3 * 36_000 * (1 - 3 * 512 / len(content)) <= n_found < 3 * 36_000
    )


def test_channels_without_names_stay_apart(aknes_event):
    data = ContinuousData([aknes_event])
    stream = data.read(data.start_ns, data.end_ns)
    recorded = read_recording(aknes_event).waveforms
    assert len(stream) == 24
    for number in (1, 13, 24):
        trace = stream.select(channel=str(number))[0]
        np.testing.assert_array_equal(trace.data.astype(np.float32), recorded[number - 1])


def test_segments_of_other_types_join_and_invalid_samples_part(tmp_path):
    header = {"network": "XX", "station": "A", "channel": "HHZ", "sampling_rate": 10.0}
    first = obspy.Trace(np.arange(1000, dtype=np.int32), header | {"starttime": START})
    second = obspy.Trace(
        np.arange(1000, 2000, dtype=np.float32),
        header | {"starttime": START + 100, "sampling_rate": 10.0002},
    )
    second.data[500] = np.nan
    for name, trace in (("a", first), ("b", second)):
        obspy.Stream([trace]).write(str(tmp_path / f"{name}.mseed"), format="MSEED")
    found = window(ContinuousData([tmp_path / "a.mseed", tmp_path / "b.mseed"]), 0, 300)
    assert [t.stats.npts for t in found] == [1500, 499] and found[0].data[-1] == 1499


def test_memory_is_that_of_a_window_and_not_of_the_file(tmp_path):
    """400 MB of recordings, read minute by minute, cost less than 100 MB."""
    samples = np.random.default_rng(0).normal(0, 50, (1, 5_000_000)).astype(np.float32)
    path = tmp_path / "long.mseed"
    with open(path, "wb") as file:
        for part in range(20):
            header = {"station": "A", "sampling_rate": 1000.0, "starttime": START + part * 5000}
            obspy.Stream([obspy.Trace(samples[0], header)]).write(file, format="MSEED", reclen=4096)
    assert path.stat().st_size > 400e6
    script = (
        "import resource, sys, obspy, numpy, scipy.signal\n"
        "from prediction.continuous.continuous_data import ContinuousData\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = ContinuousData([sys.argv[1]])\n"
        "minute = 60 * 10**9\n"
        "starts = range(data.start_ns, data.end_ns - minute, 100 * minute)\n"
        "n = sum(len(data.read(t, t + minute)[0]) for t in starts)\n"
        "print(n, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    n, kilobytes = map(int, done.stdout.split())
    assert n == 17 * 60_001 and kilobytes < 100_000
