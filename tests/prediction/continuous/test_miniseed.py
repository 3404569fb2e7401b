"""The index of miniSEED files against ObsPy, and against the SEED manual."""

import io
import struct
from fractions import Fraction

import numpy as np
import obspy
import pytest

from prediction.continuous.miniseed import NS, index_records

RECORD_BYTES = 512


@pytest.mark.parametrize("rate_hz", [0.1, 20.0, 33.3, 1000.0])
def test_records_begin_and_end_where_obspy_says(tmp_path, rate_hz):
    start = obspy.UTCDateTime("2023-12-31T23:59:58.7654")
    samples = np.random.default_rng(0).integers(-(2**20), 2**20, 2000).astype(np.int32)
    header = {"station": "S", "channel": "HHZ", "sampling_rate": rate_hz, "starttime": start}
    path = tmp_path / "record.mseed"
    obspy.Trace(samples, header).write(str(path), format="MSEED", reclen=RECORD_BYTES)
    index = index_records(path, {})
    content = path.read_bytes()
    assert len(index.offsets) == len(content) // RECORD_BYTES > 1
    for offset, start_ns, end_ns in zip(index.offsets, index.start_ns, index.end_ns):
        stats = obspy.read(io.BytesIO(content[offset : offset + RECORD_BYTES]))[0].stats
        assert abs(start_ns - stats.starttime.ns) < NS / 10_000
        due_ns = stats.starttime.ns + round(stats.npts * stats.delta * NS)
        assert abs(end_ns - due_ns) < NS / 1_000


@pytest.mark.parametrize(
    ("factor", "multiplier", "rate_hz"),
    [
        (100, 1, Fraction(100)),
        (100, -8, Fraction(100, 8)),
        (-10, 1, Fraction(1, 10)),
        (-10, -3, Fraction(1, 30)),
        (7, 3, Fraction(21)),
    ],
)
def test_a_sampling_rate_is_a_factor_and_a_multiplier(tmp_path, factor, multiplier, rate_hz):
    """[SEED manual 2.4, chapter 8, fields 10 and 11]"""
    path, n_samples = tmp_path / "record.mseed", 60
    trace = obspy.Trace(np.arange(n_samples, dtype=np.int32), {"sampling_rate": 1.0})
    trace.write(str(path), format="MSEED", reclen=RECORD_BYTES)
    content = bytearray(path.read_bytes())
    content[32:36] = struct.pack(">hh", factor, multiplier)
    path.write_bytes(content)
    index = index_records(path, {})
    assert index.end_ns[0] - index.start_ns[0] == round(n_samples / rate_hz * NS)
