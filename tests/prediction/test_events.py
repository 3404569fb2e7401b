import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from prediction.events import Event, Sensor, read_event
from prediction.tables import EventTable, SensorTable
from tests.conftest import ROOT, write_mseed


def test_a_file_becomes_a_window_or_a_reason(tmp_path):
    waveforms = np.random.default_rng(0).normal(0, 50, (3, 500)).astype(np.float32)
    file = write_mseed(tmp_path / "event.mseed", waveforms)
    window = read_event(file, rate_hz=100, n_samples=200, max_gap_s=0)
    assert window.key == str(file.resolve()) and window.reason == ""
    np.testing.assert_array_equal(window.recording.waveforms, waveforms[:, :200])
    (tmp_path / "notes.txt").write_text("what happened")
    window = read_event(tmp_path / "notes.txt", rate_hz=100, n_samples=200, max_gap_s=0)
    assert window.recording is None
    assert window.reason == "cannot be read: not a format that ObsPy knows"


def test_a_process_that_reads_does_not_import_pytorch(tmp_path):
    file = write_mseed(tmp_path / "event.mseed", np.eye(1, 500, dtype=np.float32))
    script = (
        "import sys\nfrom pathlib import Path\nfrom prediction.events import read_event\n"
        "assert read_event(Path(sys.argv[1]), 100, 500, 0).recording\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(file)], cwd=ROOT, check=True)


CLASSES = ("Slope, HF", 'é "2"', "3")
FULL = Event(
    file="a, b.mseed",
    start_time="2020-01-01T00:00:00.000000Z",
    trigger_time="2020-01-01T00:00:03.000000Z",
    probabilities=dict(zip(CLASSES, (0.25, 0.5, 0.25))),
    model="12345678",
    settings="1234",
    class_name=CLASSES[1],
    confidence=0.5,
    entropy=1.0397,
    agreement=0.6667,
    sensors=3,
    usable_sensors=2,
    review_reason="confidence 0.500 below 0.7; only 2 s",
    left_out=("NO.A..GHZ: gap of 3 s", "NO.B..GHZ: 1 samples"),
    padded=("NO.C..GHZ: 0.5 s padded with its mean",),
    best_channel="NO.A..GHN",
    picks={"NO.A..GHN": 0.0, "channel 2": 0.013},
    peak_counts=1234.5,
    duration_s=2.25,
)
UNUSABLE = Event("x.mseed", "", "", dict.fromkeys(CLASSES), "12345678", "1234", error="a gap")


@pytest.mark.parametrize("form", ["csv", "json"])
def test_an_event_that_is_read_from_a_table_is_the_one_that_was_written(tmp_path, form):
    events = [FULL, UNUSABLE, replace(FULL, trigger_time="", review_reason="", picks={})]
    table = EventTable(tmp_path / "table", CLASSES, form)
    table.begin()
    table.add(events)
    assert table.events() == events
    content = table.path.read_bytes()
    again = EventTable(tmp_path / "again", CLASSES, form)
    again.begin()
    again.add(table.events())
    assert again.path.read_bytes() == content


def test_a_table_of_the_first_release_is_read(tmp_path):
    """Names and order of the columns, and how their values are written, stay."""
    (tmp_path / "t.csv").write_text(
        "file,start_time,trigger_time,class,confidence,prob_a,prob_b,entropy,agreement,sensors,"
        "usable_sensors,review,review_reason,error,model,settings,left_out,padded,best_channel,"
        "picks,peak_counts,duration_s\n"
        "day.mseed,2020-01-01T00:00:00.000000Z,2020-01-01T00:00:03.000000Z,b,0.9,0.1,0.9,0.3251,"
        "1.0,2,1,1,no calibration,,0a1b2c3d,e4f5,N.S..Z: gap of 2 s; N.T..Z: gap of 3 s,,N.S..N,"
        '"N.S..N +0.000, N.T..N +0.250",88.0,1.5\n'
        "bad.mseed,,,,,,,,,,,,,no channel,0a1b2c3d,e4f5,,,,,,\n"
    )
    event, unusable = EventTable(tmp_path / "t.csv", ("a", "b")).events()
    assert (event.class_name, event.confidence, event.review) == ("b", 0.9, True)
    assert event.probabilities == {"a": 0.1, "b": 0.9} and event.sensors == 2
    assert event.picks == {"N.S..N": 0.0, "N.T..N": 0.25} and event.peak_counts == 88
    assert event.left_out == ("N.S..Z: gap of 2 s", "N.T..Z: gap of 3 s")
    assert unusable.error == "no channel" and unusable.confidence is None and not unusable.review


def test_rows_of_sensors_are_kept_for_events_that_are_in_the_table(tmp_path):
    sensor = Sensor("NO.A..GHN", 2.5, 1.0, CLASSES[0], dict.fromkeys(CLASSES, 0.25))
    first, second = (
        replace(FULL, trigger_time=f"2020-01-01T00:0{n}:00.000000Z", per_sensor=(sensor, sensor))
        for n in range(2)
    )
    table = SensorTable(tmp_path / "sensors.csv", CLASSES)
    table.begin()
    table.add([first])
    content = table.path.read_bytes()
    table.add([second])
    table.begin_with({first.key}, resume=True)
    assert table.path.read_bytes() == content
