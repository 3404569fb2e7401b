import numpy as np
import pytest
from obspy import UTCDateTime

from benchmarks import seg2
from preprocessing.recordings import read_recording
from preprocessing.traces import read_traces, seg2_problem
from tests.preprocessing.fuzzing import seg2_bytes, with_fields


@pytest.mark.parametrize("order", ["<", ">"])
def test_traces_lie_behind_one_another(tmp_path, order):
    path, whole = tmp_path / "e.dat", seg2_bytes(3, order=order)
    path.write_bytes(whole)
    assert seg2_problem(path) == ""
    path.write_bytes(
        with_fields(whole, (36, whole[32:36]))
    )  # the second pointer names the first trace
    assert "no trace 2" in seg2_problem(path)
    path.write_bytes(whole[:-1])
    assert "trace 3 would end" in seg2_problem(path)


@pytest.mark.parametrize(
    ("delay", "start", "found"),
    [
        ("-0.500", "2020-01-01T11:59:59.500000Z", -0.5),
        ("0.25", "2020-01-01T12:00:00.250000Z", 0.25),
        ("1e9", "2020-01-01T12:00:00.000000Z", None),  # a damaged header
    ],
)
def test_the_delay_of_a_seg2_file_moves_its_start(tmp_path, delay, start, found):
    samples = np.random.default_rng(0).normal(size=(2, 2000)).astype(np.float32)
    path = tmp_path / "e.dat"
    day = ["ACQUISITION_DATE 01/01/2020", "ACQUISITION_TIME 12:00:00"]
    strings = ["SAMPLE_INTERVAL 0.001", f"DELAY {delay}"]
    path.write_bytes(seg2.seg2_bytes(samples, strings, file_strings=day))
    recording = read_recording(path)
    assert recording.start_time == start and recording.delay_s == found
    noon = UTCDateTime(2020, 1, 1, 12)
    part = read_traces(path, starttime=noon + 0.5, endtime=noon + 1)
    expected = round(1000 * (0.5 - (found or 0)))
    np.testing.assert_array_equal(part[0].data, samples[0, expected : expected + 501])
