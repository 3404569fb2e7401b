import csv

import numpy as np
import obspy
import pytest

from preprocessing.simulate import simulated_days as continuous

MINUTES = ["--hours", "0.05", "--events-per-hour", "100"]


def test_the_same_seed_gives_the_same_recordings(tmp_path, capsys):
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        continuous.main(["--out", str(tmp_path / f"{name}.mseed"), *MINUTES, "--seed", seed])
    a, b, c = ((tmp_path / f"{name}.mseed").read_bytes() for name in "abc")
    assert a == b != c
    stream = obspy.read(str(tmp_path / "a.mseed")).merge()
    assert (
        len(stream) == 24
        and {t.stats.npts for t in stream} == {12 * 16_000}
        and {t.stats.delta for t in stream} == {0.001}
    )
    truth = list(csv.DictReader((tmp_path / "a.events.csv").open()))
    assert f"{len(truth)} events" in capsys.readouterr().out and 2 <= len(truth) <= 7
    starts = [obspy.UTCDateTime(row["start_time"]) for row in truth]
    assert min(np.diff(starts)) >= continuous.LEAST_INTERVAL_S
    # an event is louder than the noise before it, on six channels at least
    for start in starts:
        window = stream.slice(start, start + 10)
        block = np.stack([t.data for t in window]) - np.stack([t.data for t in window]).mean(
            1, keepdims=True
        )
        louder = np.abs(block[:, 2500:]).max(1) > 1.2 * np.abs(block[:, :2000]).max(1)
        assert louder.sum() >= 6


def test_blocks_go_over_into_each_other_without_a_step(tmp_path):
    continuous.simulate_continuous(tmp_path / "a.mseed", 3, 60.0, 100.0)
    stream = obspy.read(str(tmp_path / "a.mseed")).merge()
    for trace in stream:
        steps = np.abs(np.diff(trace.data))
        edge = steps[[16_000 * k - 1 for k in range(1, 4)]]
        assert edge.max() <= steps.max() * 0.8 or np.ptp(trace.data) == 0


@pytest.mark.parametrize(
    "arguments", [["--hours", "0.001"], ["--events-per-hour", "1000"], ["--seed", "-1"]]
)
def test_wrong_arguments_end_in_one_line_and_status_2(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        continuous.main(["--out", str(tmp_path / "a.mseed"), *MINUTES, *arguments])
    assert capsys.readouterr().err.count("\n") == 1


def test_an_existing_file_is_left_alone(tmp_path, capsys):
    (tmp_path / "a.mseed").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        continuous.main(["--out", str(tmp_path / "a.mseed"), *MINUTES])
    assert (tmp_path / "a.mseed").read_text() == "mine" and "exists" in capsys.readouterr().err
