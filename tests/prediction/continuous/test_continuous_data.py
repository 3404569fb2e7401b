import re
import subprocess
import sys

import numpy as np
import obspy
import pytest
from pymseed import DataEncoding, MS3TraceList

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


@pytest.mark.parametrize(
    ("damage", "message", "n_lost"),
    [
        (lambda b: b[:1044] + b"\xff\xff" + b[1046:], "damaged: .*the other records are used", 1),
        (lambda b: b[:1024] + bytes(512) + b[1024:], "512 bytes at byte 1024 are no miniSEED", 0),
        (lambda b: b[:1024] + b"\x07" * 700 + b[1024:], "700 bytes at byte 1024 are no mini", 0),
        (lambda b: b[:1024] + b[1124:], "412 bytes at byte 1024 are no miniSEED record", 1),
    ],
)
def test_what_lies_between_records_costs_no_other_record(tmp_path, hour, damage, message, n_lost):
    """A wrong year, blanks, other bytes, a record without its first bytes."""
    path = tmp_path / "bad.mseed"
    obspy.read(str(hour[0])).write(str(path), format="MSEED", reclen=512)
    whole = window(ContinuousData([path]), 0, 3700)
    path.write_bytes(damage(path.read_bytes()))
    data = ContinuousData([path])
    found = window(data, 0, 3700)
    lost = sum(t.stats.npts for t in whole) - sum(t.stats.npts for t in found)
    assert re.search(message, data.unusable[path]) and 0 <= lost <= n_lost * 120
    assert (lost > 0) == (n_lost > 0)


def test_records_of_other_lengths_and_byte_orders_are_read(tmp_path, hour):
    """A backfill in records of 4096 bytes, then SeedLink's of 512; their byte orders differ."""
    first, second = tmp_path / "first", tmp_path / "second"
    stream = obspy.read(str(hour[0]))
    stream.slice(START, START + 1799.9).write(str(first), "MSEED", reclen=4096)
    stream.slice(START + 1800).write(str(second), "MSEED", reclen=512, byteorder="<")
    path = tmp_path / "mixed.mseed"
    path.write_bytes(first.read_bytes() + second.read_bytes())
    data = ContinuousData([path])
    found = window(data, 0, 3700)
    assert not data.unusable and [t.stats.npts for t in found] == [36_000] * 3
    for trace, samples in zip(found, hour[1]):
        np.testing.assert_array_equal(trace.data, samples)


@pytest.mark.parametrize("applied", [False, True])
def test_a_time_correction_that_is_not_yet_applied_counts(tmp_path, hour, applied):
    """[SEED manual 2.4, chapter 8, fields 12 and 16]: 60 s, in units of 0.1 ms."""
    path = tmp_path / "late.mseed"
    obspy.read(str(hour[0])).write(str(path), "MSEED", reclen=512)
    content = bytearray(path.read_bytes())
    for first in range(0, len(content), 512):
        content[first + 36] |= 2 * applied
        content[first + 40 : first + 44] = (600_000).to_bytes(4, "big")
    path.write_bytes(content)
    data = ContinuousData([path])
    shift_s = 0 if applied else 60
    assert (data.start_ns, data.end_ns) == (
        START.ns + shift_s * NS,
        START.ns + (3600 + shift_s) * NS,
    )
    (trace, *_) = window(data, 100 + shift_s, 101 + shift_s)
    np.testing.assert_array_equal(trace.data, hour[1][0, 1000:1011])


def test_miniseed_3_is_read_like_miniseed_2(tmp_path, hour):
    path = tmp_path / "three.mseed3"
    traces = MS3TraceList()
    for number, samples in enumerate(hour[1]):
        source = f"FDSN:XX_S{number:02d}__H_H_Z"
        traces.add_data(source, samples, "f", 10.0, starttime_str=str(START))
    traces.to_file(str(path), format_version=3, encoding=DataEncoding.FLOAT32)
    data = ContinuousData([path])
    expected = window(ContinuousData([hour[0]]), 100, 200)
    found = window(data, 100, 200)
    assert [t.id for t in found] == [t.id for t in expected] and not data.unusable
    for a, b in zip(found, expected):
        assert a.stats.starttime == b.stats.starttime
        np.testing.assert_array_equal(a.data, b.data)


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
