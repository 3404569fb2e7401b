"""Small recordings for tests."""

import numpy as np
from obspy import Stream, Trace, UTCDateTime


def trace(samples, rate_hz=100.0, start=0.0, station="A") -> Trace:
    header = {
        "sampling_rate": rate_hz,
        "starttime": UTCDateTime(2020, 1, 1) + start,
        "station": station,
    }
    return Trace(np.asarray(samples, dtype=np.float32), header)


def write(path, *traces, format="MSEED"):
    Stream(list(traces)).write(str(path), format=format)
    return path
