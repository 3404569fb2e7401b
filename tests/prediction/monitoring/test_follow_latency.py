"""How soon after its last sample an event is in the table, as the clock on the wall goes."""

import os
import subprocess
import sys
import time

import obspy
import pytest

from tests.conftest import ROOT
from tests.prediction.conftest import table
from tests.prediction.growing_files import append, bursts, records_of

START = obspy.UTCDateTime("2024-05-01T12:00:00")
HISTORY_S, SECONDS = 40.0, 90.0
ONSETS_S = [48.0, 66.0]
WINDOW_AFTER_S = 13.0  # of the demo model: 16 s with 3 s before the trigger
GOAL_S = 5.0


@pytest.mark.slow
def test_an_event_is_in_the_table_five_seconds_after_its_last_sample(tmp_path):
    """24 channels at 1000 Hz, as they come from the recorder, on two cores."""
    records = records_of(bursts(START, SECONDS, ONSETS_S, rate_hz=1000.0, n=24))
    ready = [record for record in records if record[0] < float(START) + HISTORY_S]
    append(tmp_path / "sds", ready)
    command = [sys.executable, str(ROOT / "predict.py"), "--ckpt", "demo", "--follow"]
    command += ["--config_predict", str(ROOT / "configs" / "predict.yaml"), "--out", "e.csv"]
    command += ["--sds", "sds", "--streams", "XX.S*..HHZ", "--to", str(START + SECONDS - 14)]
    environment = os.environ | {"OMP_NUM_THREADS": "2"}
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE)
    state = tmp_path / ".e.csv.follow.json"
    while not state.exists():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.1)
    began, n_fed, written_s, latencies_s = time.monotonic(), len(ready), {}, []
    while process.poll() is None:
        passed_s = HISTORY_S + time.monotonic() - began
        due = sum(end <= float(START) + passed_s for end, _, _ in records[n_fed:])
        append(tmp_path / "sds", records[n_fed : n_fed + due])
        n_fed += due
        for row in table(tmp_path / "e.csv")[len(latencies_s) :]:
            last_s = obspy.UTCDateTime(row["trigger_time"]) - START + WINDOW_AFTER_S
            latencies_s.append(passed_s - written_s[row_time(records, last_s)])
        for end, _, _ in records[n_fed - due : n_fed]:
            written_s[end] = passed_s
        time.sleep(0.05)
    assert process.returncode == 0, process.stderr.read()
    print("\nseconds from the last sample to the row:", [round(s, 2) for s in latencies_s])
    assert len(latencies_s) == len(ONSETS_S) and max(latencies_s) < GOAL_S


def row_time(records, last_s: float) -> float:
    """Return the end of the last record that a window needs, of the slowest channel."""
    needed = {}
    for end, path, _ in records:
        if end >= float(START) + last_s - 0.001:
            needed.setdefault(path, end)
    return max(needed.values())
