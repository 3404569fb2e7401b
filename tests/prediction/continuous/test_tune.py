"""--tune: how many events each trigger of a grid finds."""

import numpy as np
import pytest

from prediction.continuous.tune import grid, n_found, read_known_times
from prediction.predict_config import TriggerParams
from tests.prediction.conftest import START, TRIGGER, predict, table
from utils.errors import UserError


def test_the_configured_trigger_finds_what_a_run_finds(place, ckpt, day):
    path, truth = day
    known = place / "known.csv"
    times = [str(START + onset_s) for onset_s, _ in truth] + ["2020-02-01T00:01:40", "2021-01-01"]
    known.write_text("name,time\n" + "".join(f"e,{time}\n" for time in times))
    arguments = ["--continuous", path, "--known-times", known, "--out", "tune.csv", *TRIGGER]
    output = predict(ckpt, "--tune", *arguments, "chunk_s=500", cwd=place)
    assert "1 of the known times are outside of the recordings" in output
    rows = {(float(r["thr_on"]), int(r["channels"])): r for r in table(place / "tune.csv")}
    assert sorted(rows)[0] == (2.5, 1) and len(rows) == 6 * 3
    chosen = rows[4.0, 3]
    assert int(chosen["events"]) == 14 and float(chosen["events_per_hour"]) == pytest.approx(42)
    assert (chosen["known"], chosen["known_found"]) == ("15", "14")
    events = [[int(rows[x, n]["events"]) for x in (4.0, 5.0, 7.0, 10.0)] for n in (1, 2, 3)]
    assert (np.diff(events, axis=0) <= 0).all()
    assert (place / "tune.png").stat().st_size > 10_000
    assert "exists; choose another name" in predict(ckpt, "--tune", *arguments, cwd=place, status=2)


def test_the_grid_holds_the_configured_trigger_and_only_possible_ones():
    trigger = TriggerParams(sta_s=1, lta_s=6, thr_on=3.3, thr_off=2.8, channels=7)
    found = {(each.thr_on, each.channels) for each in grid(trigger, 24)}
    assert {x for x, _ in found} == {3.0, 3.3, 4.0, 5.0}
    assert {n for _, n in found} == {2, 5, 7, 10, 14, 19}
    assert all(each.thr_off == 2.8 for each in grid(trigger, 24))


def test_known_times_are_read_or_the_mistake_is_named(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("start_time,class\n2020-01-01T00:00:01Z,x\n")
    (known_ns,) = read_known_times(path)
    assert known_ns == np.datetime64("2020-01-01T00:00:01", "ns").astype(np.int64)
    assert n_found(np.array([known_ns]), [known_ns + 4 * 10**9]) == 1
    assert n_found(np.array([known_ns]), [known_ns + 6 * 10**9]) == 0
    assert n_found(np.array([known_ns]), []) == 0
    for text, message in (
        ("when\nx\n", "found the columns when"),
        ("", "found the columns none"),
        ("time\nyesterday\n", "line 2: found 'yesterday'"),
    ):
        path.write_text(text)
        with pytest.raises(UserError, match=message):
            read_known_times(path)
    with pytest.raises(UserError, match="No such file"):
        read_known_times(tmp_path / "nothing.csv")
