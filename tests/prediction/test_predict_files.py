"""predict.py as users type it, on files of many formats."""

import json
import os
import re
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch

from prediction.classifier import load_classifier
from prediction.outputs import Outputs
from preprocessing.recordings import read_recording
from tests.commands.running import run
from tests.conftest import write_mseed
from tests.prediction.conftest import predict, table

OBSPY_DATA = Path(obspy.__file__).parent / "io"
# real recordings that ObsPy ships, one event each, long enough for the model of these tests
REAL = [
    "gse2/tests/data/acc.gse",
    "sac/tests/data/test.sac",
    "mseed/tests/data/BW.BGLD.__.EHE.D.2008.001.first_10_records",
    "kinemetrics/tests/data/BI008_MEMA-04823.evt",
    "nied/tests/data/test.knet",
    "win/tests/data/10030302.00",
]


def test_new_events_are_classified_and_every_number_is_what_it_says(place, ckpt, events):
    output = predict(
        ckpt,
        events,
        "--out",
        "all.csv",
        "--per-sensor",
        "--quakeml",
        "all.xml",
        "--plots",
        "pictures",
        cwd=place,
        new=True,
    )
    rows, sensors = table(place / "all.csv"), table(place / "all_sensors.csv")
    assert (
        len(rows) == 27
        and "27 events in" in output
        and "events/s" in output
        and "Temperature" in output
    )
    right = [row["class"] == Path(row["file"]).parent.name for row in rows]
    assert np.mean(right) > 0.8
    model, fingerprint = load_classifier(ckpt)
    for row in rows:
        p = {name: float(row[f"prob_{name}"]) for name in model.class_names}
        assert sum(p.values()) == pytest.approx(1, abs=2e-4) and row["class"] == max(p, key=p.get)
        assert float(row["confidence"]) == max(p.values()) and row["model"] == fingerprint
        assert float(row["entropy"]) == pytest.approx(
            -sum(v * np.log(v) for v in p.values() if v), abs=2e-3
        )
        own = [s for s in sensors if s["file"] == row["file"]]
        assert [s["channel"] for s in own] == ["XX.S00..HHZ", "XX.S01..HHZ", "XX.S02..HHZ"]
        assert float(row["agreement"]) == pytest.approx(
            np.mean([s["class"] == row["class"] for s in own]), abs=1e-4
        )
        assert (row["sensors"], row["error"]) == ("3", "")
        assert int(row["usable_sensors"]) == sum(float(s["signal_to_noise"]) >= 1.5 for s in own)
        below = float(row["confidence"]) < model.calibrations["all"].threshold(0.05)
        assert (row["review"] == "1") == bool(row["review_reason"]) and below == (
            "confidence" in row["review_reason"]
        )
    waveforms = torch.from_numpy(read_recording(rows[0]["file"]).waveforms)[None]
    expected = model.predict_waveforms(waveforms)[0]
    assert [float(rows[0][f"prob_{name}"]) for name in model.class_names] == pytest.approx(
        expected.tolist(), abs=1e-3
    )
    catalogue = obspy.read_events(str(place / "all.xml"))
    assert len(catalogue) == 27 and {e.event_descriptions[0].text for e in catalogue} == {
        row["class"] for row in rows
    }
    assert len(list((place / "pictures").glob("*.png"))) == 27


def test_json_has_the_same_rows(place, ckpt, events):
    predict(ckpt, events / "low", "--out", "low.csv", cwd=place)
    predict(ckpt, events / "low", "--out", "low.json", "--format", "json", cwd=place)
    rows = [json.loads(line) for line in (place / "low.json").read_text().splitlines()]
    assert [{name: str(value) for name, value in row.items()} for row in rows] == table(
        place / "low.csv"
    )


@pytest.fixture(scope="module")
def mixed(place, events):
    """Real recordings of six formats among files that are broken in every way."""
    folder = place / "mixed"
    (folder / "deep" / ".hidden").mkdir(parents=True)
    for number, name in enumerate(REAL):
        (folder / f"{number}_{Path(name).name}").symlink_to(OBSPY_DATA / name)
    good = next((events / "high").iterdir())
    (folder / "deep" / "good.mseed").write_bytes(good.read_bytes())
    (folder / "deep" / ".hidden" / "x.mseed").write_bytes(good.read_bytes())
    (folder / "cut.mseed").write_bytes(good.read_bytes()[:-77])
    (folder / "empty.dat").write_bytes(b"")
    (folder / "notes.txt").write_text("wind from the west")
    write_mseed(
        folder / "short.mseed", np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32)
    )
    write_mseed(
        folder / "part.mseed", np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32)
    )
    write_mseed(folder / "dead.mseed", np.full((3, 1200), 4, np.float32))
    write_mseed(folder / "nan.mseed", np.full((3, 1200), np.nan, np.float32))
    return folder


def test_a_mixed_folder_gets_a_row_for_every_file(place, ckpt, mixed):
    output = predict(ckpt, mixed, "--out", "mixed.csv", cwd=place, status=1)
    rows = {Path(row["file"]).name: row for row in table(place / "mixed.csv")}
    assert len(rows) == len(REAL) + 8 and "Traceback" not in output
    wrong = {
        "cut.mseed": "truncated",
        "empty.dat": "cannot be read",
        "notes.txt": "not a format that ObsPy knows",
        "short.mseed": "2 s are too short",
        "dead.mseed": "every channel is constant",
        "nan.mseed": "missing or not finite",
        "1_test.sac": "1 Hz has 1 % of the frequencies of 100 Hz",
    }
    assert {name for name, row in rows.items() if row["error"]} == set(wrong)
    for name, reason in wrong.items():
        assert reason in rows[name]["error"] and not rows[name]["class"]
    assert rows["part.mseed"]["class"] and "only 5 s of 12 s" in rows["part.mseed"]["review_reason"]
    assert rows["good.mseed"]["class"] == "high"
    assert "recordings had another sampling rate and were resampled to 100 Hz" in output
    assert f"{len(wrong)} without prediction" in output


def test_strict_stops_at_the_first_bad_file(place, ckpt, mixed):
    output = predict(ckpt, mixed, "--out", "strict.csv", "--strict", cwd=place, status=2)
    assert "error: " in output and "1_test.sac: no usable" in output and "Traceback" not in output


def test_the_real_event_goes_through_at_another_rate_and_length(place, ckpt, aknes_event):
    predict(ckpt, aknes_event, "--out", "real.csv", "--per-sensor", "ensemble=usable", cwd=place)
    row = table(place / "real.csv")[0]
    sensors = table(place / "real_sensors.csv")
    # at 100 Hz, too, the three channels of the broken station are told from the others
    assert (
        row["start_time"] == "2007-02-03T06:22:32.000000Z"
        and row["sensors"] == row["usable_sensors"] == "21"
    )
    assert [k for k, s in enumerate(sensors) if s["weight"] == "0.0"] == [
        k for k, s in enumerate(sensors) if float(s["signal_to_noise"]) < 1.5
    ]
    assert all(s["class"] for s in sensors if s["weight"] == "1.0") and len(sensors) == 24


def test_the_previous_study_predicts_too(place, separable, events):
    run("original", separable, "stacked", cwd=place, epochs=1)
    output = predict(
        "runs/original/stacked/checkpoints/last.ckpt",
        events / "low",
        "--out",
        "stacked.csv",
        "--per-sensor",
        cwd=place,
    )
    assert "has no calibration" in output
    rows = table(place / "stacked.csv")
    assert (
        len(rows) == 9
        and {row["sensors"] for row in rows} == {"1"}
        and {row["review"] for row in rows} == {"0"}
    )
    assert [row["channel"] for row in table(place / "stacked_sensors.csv")] == ["stack of all"] * 9


def test_an_offset_and_missing_seconds_do_not_make_an_event(place, ckpt):
    """What is missing is filled with each channel's mean, not with zeros, which would be a step."""
    noise = np.random.default_rng(3).normal(0, 3, (3, 700)).astype(np.float32)
    for name, offset in (("plain", 0), ("offset", 2000)):
        write_mseed(place / "padded" / f"{name}.mseed", noise + np.float32(offset))
    silent = np.zeros((3, 2000), np.float32)
    silent[:, 1500:] = np.random.default_rng(3).normal(0, 3, (3, 500))
    write_mseed(place / "padded" / "silent.mseed", silent)
    predict(ckpt, place / "padded", "--out", "padded.csv", cwd=place, status=1)
    rows = {Path(row["file"]).stem: row for row in table(place / "padded.csv")}
    assert (
        rows["plain"]["usable_sensors"] == rows["offset"]["usable_sensors"]
        and rows["plain"]["class"] == rows["offset"]["class"]
    )
    assert float(rows["plain"]["confidence"]) == pytest.approx(
        float(rows["offset"]["confidence"]), abs=0.01
    )
    assert "every channel is constant in the first 12 s" in rows["silent"]["error"]


def test_one_file_is_one_event_however_its_path_is_written(place, ckpt, events):
    path = next((events / "low").iterdir())
    predict(ckpt, path, os.path.relpath(path, place), "--out", "paths.csv", cwd=place)
    assert len(table(place / "paths.csv")) == 1
    predict(ckpt, os.path.relpath(path, place), "--out", "paths.csv", "--resume", cwd=place)
    assert len(table(place / "paths.csv")) == 1


def test_names_that_are_no_text_and_tables_among_the_recordings(place, ckpt, events):
    folder = place / "odd"
    folder.mkdir()
    good = next((events / "low").iterdir()).read_bytes()
    for name in (b"\xc5knes.mseed", b"a,b\nc.mseed", b"x$^$y.mseed"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(good)
    arguments = [folder, "--out", "odd/table.csv", "--per-sensor", "--plots", "odd/pictures"]
    predict(ckpt, *arguments, cwd=place)
    before = (folder / "table.csv").read_bytes()
    assert (
        before.count(b"low") >= 3
        and b"\xc5knes" in before
        and len(list((folder / "pictures").iterdir())) == 3
    )
    predict(ckpt, *arguments, "--resume", cwd=place)
    assert (folder / "table.csv").read_bytes() == before


def test_only_what_a_run_writes_is_left_out(tmp_path):
    """Not what begins with the name of the table, nor recordings beside the pictures."""
    outputs = Outputs(tmp_path / "day1", plots=tmp_path, per_sensor=True)
    for name, left_out in (
        *(("day1", True), ("day1_sensors", True), ("low_1.png", True)),
        *(("day1.mseed", False), ("day10", False), ("deep/low_1.png", False)),
    ):
        assert outputs.holds(tmp_path / name) == left_out, name


def test_one_bad_channel_changes_nothing_and_is_named(place, ckpt, events):
    """A channel that starts late, dies or is the state of the recorder; and a slow recording."""
    good = sorted(events.glob("high/*.mseed"))[0]
    folder = place / "bad_channels"
    folder.mkdir()
    for name, start_s, seconds, rate_hz in (
        ("late", 11, 12, 100),
        ("dies", 0, 1, 100),
        ("elsewhere", 300, 12, 100),
        ("soh", 0, 120, 0.1),
    ):
        stream = obspy.read(str(good))
        bad = stream[0].copy()
        bad.stats.station, bad.stats.sampling_rate = name[:5].upper(), rate_hz
        bad.data = np.arange(round(seconds * rate_hz), dtype=np.float32)
        bad.stats.starttime += start_s
        obspy.Stream([bad, *stream]).write(str(folder / f"{name}.mseed"), format="MSEED")
    slow = obspy.read(str(good)).decimate(2)
    for trace in slow:
        trace.data = trace.data.astype(np.float32)
    slow.write(str(folder / "slow.mseed"), format="MSEED")
    output = predict(ckpt, good, folder, "--out", "bad_channels.csv", cwd=place)
    assert "In 4 recordings channels were left out; the column left_out names them" in output
    expected, *rows = table(place / "bad_channels.csv")
    by_name = {Path(row["file"]).stem: row for row in rows}
    slow_row = by_name.pop("slow")
    assert (
        slow_row["review"] == "1" and "recorded at 50 Hz: 50 % of the" in slow_row["review_reason"]
    )
    assert expected["left_out"] == "" and expected["best_channel"].startswith("XX.S0")
    for name, reason in (
        ("late", "XX.LATE..HHZ: covers 8 % of the event's 12 s"),
        ("dies", "XX.DIES..HHZ: covers 8 % of the event's 12 s"),
        ("elsewhere", "XX.ELSEW..HHZ: covers 0 % of the event's 12 s"),
        ("soh", "XX.SOH..HHZ: 0.1 Hz has 0.1 % of the frequencies of 100 Hz; no seismometer?"),
    ):
        row = by_name[name]
        assert row["left_out"] == reason
        different = {key for key in row if row[key] != expected[key]}
        assert different == {"file", "left_out"}


def test_other_units_are_flagged_with_the_factor(place, ckpt, events):
    """The same event in m/s: log10(S + 1) sees nothing of it."""
    good = sorted(events.glob("low/*.mseed"))[0]
    stream = obspy.read(str(good))
    for trace in stream:
        trace.data = (1e-9 * trace.data).astype(np.float32)
    stream.write(str(place / "metres.mseed"), format="MSEED")
    predict(ckpt, good, place / "metres.mseed", "--out", "units.csv", cwd=place)
    counts, metres = table(place / "units.csv")
    assert "units?" not in counts["review_reason"]
    factor = re.search(
        r"noise (\S+) times below that of the training events", metres["review_reason"]
    )
    assert metres["review"] == "1" and 1e8 < float(factor[1]) < 1e10
