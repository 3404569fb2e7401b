"""predict.py as users type it: files of many formats, continuous recordings, kills, several processes, export."""

import csv
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import obspy
import pytest
import torch

from preprocessing.recordings import read_recording
from tests.conftest import ROOT, run_script, write_mseed, write_separable_events
from tests.test_commands import run
from utils.classifiers import load_classifier
from utils.locks import take_lock

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
START = obspy.UTCDateTime("2020-02-01T00:00:00")
TRIGGER = ["trigger.channels=3"]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("predict")


@pytest.fixture(scope="module")
def ckpt(place, separable):
    """A classifier of low, high and double bursts: three channels, 12 s at 100 Hz, calibrated."""
    output = run("finetune", separable, "model", "dataset.calibration_ratio=0.3", "dataset.batch_size=8", cwd=place, epochs=25)
    assert "Temperature" in output and (place / "runs/finetune/model/plots/calibration.png").is_file()
    return place / "runs/finetune/model/checkpoints/last.ckpt"


@pytest.fixture(scope="module")
def events(place):
    """New events of the same kind, not those of training."""
    return write_separable_events(place / "new", n_per_class=9, n_unlabeled=0, seed=77)


def predict(ckpt, *arguments, cwd, status=0, **options) -> str:
    config = ["--config_predict", str(ROOT / "configs" / "predict.yaml"), "--ckpt", str(ckpt)]
    return run_script("predict.py", *config, *map(str, arguments), "precision=32-true", cwd=cwd, status=status, **options)


def table(path) -> list[dict]:
    return list(csv.DictReader(path.open(encoding="utf-8")))


def test_new_events_are_classified_and_every_number_is_what_it_says(place, ckpt, events):
    output = predict(ckpt, events, "--out", "all.csv", "--per-sensor", "--quakeml", "all.xml", "--plots", "pictures", cwd=place)
    rows, sensors = table(place / "all.csv"), table(place / "all_sensors.csv")
    assert len(rows) == 27 and "27 events in" in output and "events/s" in output and "Temperature" in output
    right = [row["class"] == Path(row["file"]).parent.name for row in rows]
    assert np.mean(right) > 0.8
    model, fingerprint = load_classifier(ckpt)
    for row in rows:
        p = {name: float(row[f"prob_{name}"]) for name in model.class_names}
        assert sum(p.values()) == pytest.approx(1, abs=2e-4) and row["class"] == max(p, key=p.get)
        assert float(row["confidence"]) == max(p.values()) and row["model"] == fingerprint
        assert float(row["entropy"]) == pytest.approx(-sum(v * np.log(v) for v in p.values() if v), abs=2e-3)
        own = [s for s in sensors if s["file"] == row["file"]]
        assert [s["channel"] for s in own] == ["XX.S00..HHZ", "XX.S01..HHZ", "XX.S02..HHZ"]
        assert float(row["agreement"]) == pytest.approx(np.mean([s["class"] == row["class"] for s in own]), abs=1e-4)
        assert (row["sensors"], row["error"]) == ("3", "")
        assert int(row["usable_sensors"]) == sum(float(s["signal_to_noise"]) >= 1.5 for s in own)
        below = float(row["confidence"]) < model.calibrations["all"].threshold(0.05)
        assert (row["review"] == "1") == bool(row["review_reason"]) and below == ("confidence" in row["review_reason"])
    waveforms = torch.from_numpy(read_recording(rows[0]["file"]).waveforms)[None]
    expected = model.predict_waveforms(waveforms)[0]
    assert [float(rows[0][f"prob_{name}"]) for name in model.class_names] == pytest.approx(expected.tolist(), abs=1e-3)
    catalogue = obspy.read_events(str(place / "all.xml"))
    assert len(catalogue) == 27 and {e.event_descriptions[0].text for e in catalogue} == {row["class"] for row in rows}
    assert len(list((place / "pictures").glob("*.png"))) == 27


def test_json_has_the_same_rows(place, ckpt, events):
    predict(ckpt, events / "low", "--out", "low.csv", cwd=place)
    predict(ckpt, events / "low", "--out", "low.json", "--format", "json", cwd=place)
    rows = [json.loads(line) for line in (place / "low.json").read_text().splitlines()]
    assert [{name: str(value) for name, value in row.items()} for row in rows] == table(place / "low.csv")


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
    write_mseed(folder / "short.mseed", np.random.default_rng(0).normal(size=(3, 200)).astype(np.float32))
    write_mseed(folder / "part.mseed", np.random.default_rng(0).normal(size=(3, 500)).astype(np.float32))
    write_mseed(folder / "dead.mseed", np.full((3, 1200), 4, np.float32))
    write_mseed(folder / "nan.mseed", np.full((3, 1200), np.nan, np.float32))
    return folder


def test_a_mixed_folder_gets_a_row_for_every_file(place, ckpt, mixed):
    output = predict(ckpt, mixed, "--out", "mixed.csv", cwd=place, status=1)
    rows = {Path(row["file"]).name: row for row in table(place / "mixed.csv")}
    assert len(rows) == len(REAL) + 8 and "Traceback" not in output
    wrong = {"cut.mseed": "truncated", "empty.dat": "cannot be read", "notes.txt": "not a format that ObsPy knows", "short.mseed": "2 s are too short",
             "dead.mseed": "every channel is constant", "nan.mseed": "missing or not finite"}  # fmt: skip
    assert {name for name, row in rows.items() if row["error"]} == set(wrong)
    for name, reason in wrong.items():
        assert reason in rows[name]["error"] and not rows[name]["class"]
    assert rows["part.mseed"]["class"] and "only 5 s of 12 s" in rows["part.mseed"]["review_reason"]
    assert rows["good.mseed"]["class"] == "high"
    assert "recordings had another sampling rate than the model and were resampled to 100 Hz" in output
    assert f"{len(wrong)} without prediction" in output


def test_strict_stops_at_the_first_bad_file(place, ckpt, mixed):
    output = predict(ckpt, mixed, "--out", "strict.csv", "--strict", cwd=place, status=2)
    assert "error: " in output and "cut.mseed: truncated" in output and "Traceback" not in output


def test_the_real_event_goes_through_at_another_rate_and_length(place, ckpt, aknes_event):
    predict(ckpt, aknes_event, "--out", "real.csv", "--per-sensor", "ensemble=usable", cwd=place)
    row = table(place / "real.csv")[0]
    sensors = table(place / "real_sensors.csv")
    # at 100 Hz two channels of the broken station are still told from the others
    assert row["start_time"] == "2007-02-03T06:22:35.000000Z" and row["sensors"] == row["usable_sensors"] == "22"
    assert [k for k, s in enumerate(sensors) if s["weight"] == "0.0"] == [
        k for k, s in enumerate(sensors) if float(s["signal_to_noise"]) < 1.5
    ]
    assert all(s["class"] for s in sensors if s["weight"] == "1.0") and len(sensors) == 24


@pytest.fixture(scope="module")
def day(place):
    """Twenty minutes with 14 known bursts."""
    rng = np.random.default_rng(5)
    time_s = np.arange(1200 * 100) / 100
    samples, truth = rng.normal(0, 3, (3, time_s.size)), []
    for number in range(14):
        kind, onset_s = ("high", "low", "twice")[number % 3], 40 + 80 * number + rng.uniform(-20, 20)
        hz = {"high": 30.0, "low": 7.0, "twice": 15.0}[kind] * rng.uniform(0.85, 1.15)
        for t in [onset_s, onset_s + 4] if kind == "twice" else [onset_s]:
            samples += rng.uniform(20, 60, (3, 1)) * np.exp(-(((time_s - t) / 0.8) ** 2)) * np.sin(2 * np.pi * hz * (time_s - t))
        truth.append((onset_s, kind))
    return write_mseed(place / "day.mseed", samples.astype(np.float32), 100.0, str(START)), truth


def test_continuous_recordings(place, ckpt, day):
    path, truth = day
    output = predict(
        ckpt,
        "--continuous",
        path,
        "--out",
        "day.csv",
        "--plots",
        "day",
        "--quakeml",
        "day.xml",
        *TRIGGER,
        "chunk_s=130",
        cwd=place,
    )
    rows = table(place / "day.csv")
    found_s = np.array([obspy.UTCDateTime(row["trigger_time"]) - START for row in rows])
    onset_s = np.array([onset for onset, _ in truth])
    hits = np.abs(onset_s[:, None] - found_s) < 2.5
    missed, false = int((~hits.any(1)).sum()), int((~hits.any(0)).sum())
    right = np.mean([rows[int(hits[k].argmax())]["class"] == kind for k, (_, kind) in enumerate(truth) if hits[k].any()])
    print(
        f"{len(truth)} events: {len(truth) - missed} found, {missed} missed, {false} false, {100 * right:.0f} % of the right class"
    )
    assert missed == 0 and false == 0 and right > 0.7
    assert (place / "day" / "timeline.png").is_file() and len(list((place / "day").iterdir())) == 15
    assert [pick.time for event in obspy.read_events(str(place / "day.xml")) for pick in event.picks] == [
        START + s for s in found_s
    ]
    assert "14 events in" in output


def killed(ckpt, n_writes, *arguments, cwd):
    """Run the command in an interpreter that dies in the middle of writing for the ``n_writes``-th time."""
    shim = cwd / f"shim{n_writes}"
    shim.mkdir(exist_ok=True)
    (shim / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if sys.argv and sys.argv[0].endswith('predict.py') or any(a.endswith('predict.py') for a in sys.orig_argv):\n"
        "    sys.path.insert(0, os.path.dirname([a for a in sys.orig_argv if a.endswith('predict.py')][0]))\n"
        "    from utils import tables\n"
        f"    left = [{n_writes}]\n"
        "    def write(self, rows, whole=tables.Table.write):\n"
        "        left[0] -= 1\n"
        "        if left[0]: return whole(self, rows)\n"
        "        text = tables._lines(rows, self.columns, self.form)\n"
        "        with open(self.path, 'a') as file: file.write(text[: 2 * len(text) // 3])\n"
        "        os.kill(os.getpid(), 9)\n"
        "    tables.Table.write = write\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        predict(ckpt, *arguments, cwd=cwd, status=-9)


@pytest.mark.parametrize("n_writes", [1, 4])
def test_a_killed_run_goes_on_and_ends_as_one_that_was_not(place, ckpt, events, n_writes):
    files = [events, "--per-sensor"]
    if not (place / "whole.csv").exists():
        predict(ckpt, *files, "--out", "whole.csv", cwd=place)
    out = f"killed{n_writes}.csv"
    killed(ckpt, n_writes, *files, "--out", out, cwd=place)
    output = predict(ckpt, *files, "--out", out, cwd=place, status=2)
    assert f"{out}: exists; choose another name, remove it, or go on with it by --resume" in output
    predict(ckpt, *files, "--out", out, "--resume", cwd=place)
    for name in ("", "_sensors"):
        assert (place / f"killed{n_writes}{name}.csv").read_bytes() == (place / f"whole{name}.csv").read_bytes()


@pytest.mark.parametrize("n_writes", [5])
def test_a_killed_watch_goes_on(place, ckpt, day, n_writes):
    arguments = ["--continuous", day[0], *TRIGGER, "chunk_s=130"]
    if not (place / "watch.csv").exists():
        predict(ckpt, *arguments, "--out", "watch.csv", cwd=place)
    killed(ckpt, n_writes, *arguments, "--out", f"watch{n_writes}.csv", cwd=place)
    predict(ckpt, *arguments, "--out", f"watch{n_writes}.csv", "--resume", cwd=place)
    assert (place / f"watch{n_writes}.csv").read_bytes() == (place / "watch.csv").read_bytes()


@pytest.mark.parametrize("continuous", [False, True])
def test_two_processes_write_every_event_once(place, ckpt, events, day, continuous):
    arguments = ["--continuous", day[0], *TRIGGER, "chunk_s=130"] if continuous else [events, "--per-sensor"]
    name = f"two{continuous}.csv"
    launcher = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node=2",
        "--master_port=29731",
        str(ROOT / "predict.py"),
    ]
    config = ["--config_predict", str(ROOT / "configs" / "predict.yaml"), "--ckpt", str(ckpt), "--out", name, "precision=32-true"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*launcher, *config, *map(str, arguments)], cwd=place, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one = "oneTrue.csv" if continuous else "oneFalse.csv"
    predict(ckpt, *arguments, "--out", one, cwd=place)
    two, one = table(place / name), table(place / one)
    assert [(row["file"], row["trigger_time"], row["class"]) for row in two] == [
        (r["file"], r["trigger_time"], r["class"]) for r in one
    ]
    assert [float(row["confidence"]) for row in two] == pytest.approx([float(row["confidence"]) for row in one], abs=1e-3)
    assert not list(place.glob(f"{name}.part*"))


def test_export_gives_one_graph_from_waveforms_to_probabilities(place, ckpt, events):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    output = predict(ckpt, "--export", "model.onnx", cwd=place)
    assert "differs from PyTorch by at most" in output
    session, (model, _) = onnxruntime.InferenceSession(place / "model.onnx"), load_classifier(ckpt)
    for path in sorted((events / "low").iterdir())[:3]:
        waveforms = read_recording(path).waveforms
        for n in (1, 3):
            (found,) = session.run(None, {"waveforms": waveforms[:n]})
            np.testing.assert_allclose(
                found, model.predict_waveforms(torch.from_numpy(waveforms[:n])[None])[0].numpy(), atol=1e-4
            )
    assert session.get_modelmeta().custom_metadata_map["class_names"] == "high,low,twice"


def test_export_without_its_packages_is_refused(place, ckpt):
    shim = place / "no_onnx"
    shim.mkdir()
    (shim / "sitecustomize.py").write_text("import sys\nsys.modules['onnxruntime'] = None\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(shim))
        output = predict(ckpt, "--export", "none.onnx", cwd=place, status=2)
    assert "--export needs onnxruntime: pip install -r requirements-export.txt" in output and not (place / "none.onnx").exists()


def test_the_previous_study_predicts_too(place, separable, events):
    run("original", separable, "stacked", cwd=place, epochs=1)
    output = predict(
        "runs/original/stacked/checkpoints/last.ckpt", events / "low", "--out", "stacked.csv", "--per-sensor", cwd=place
    )
    assert "holds no calibration" in output
    rows = table(place / "stacked.csv")
    assert len(rows) == 9 and {row["sensors"] for row in rows} == {"1"} and {row["review"] for row in rows} == {"0"}
    assert [row["channel"] for row in table(place / "stacked_sensors.csv")] == ["stack of all"] * 9


def test_mistakes_get_one_message_and_status_2(place, ckpt, events):
    (place / "garbage.ckpt").write_bytes(b"garbage")
    encoder = next(ckpt.parent.glob("encoder-ep_*.ckpt"))
    out = ["--out", "wrong.csv"]
    for wrong, arguments, message in (
        ("none.ckpt", [events, *out], "--ckpt: no such file: none.ckpt"),
        ("garbage.ckpt", [events, *out], "garbage.ckpt: not a checkpoint that can be loaded safely"),
        (encoder, [events, *out], "an encoder file; give the checkpoints/last.ckpt of a run"),
        (ckpt, ["nowhere", *out], "nowhere: no such file or folder"),
        (ckpt, [events, *out, "ensemble=best"], "ensemble: found 'best'; should be 'all', 'usable' or 'weighted'"),
        (ckpt, [events, *out, "trigger.sta=1"], "trigger.sta: unknown key; did you mean trigger.sta_s?"),
        (ckpt, [events, *out, "trigger.lta_s=2"], "it stays below lta_s / sta_s = 4"),
        (ckpt, [events], "recordings and --out FILE are needed"),
        (ckpt, ["--continuous", ckpt, *out], "cannot be read"),
    ):
        output = predict(wrong, *arguments, cwd=place, status=2)
        assert message in output and "Traceback" not in output, output
        assert not (place / "wrong.csv").exists()


def test_another_model_does_not_go_on_with_a_table(place, ckpt, events):
    predict(ckpt, events / "high", "--out", "first.csv", cwd=place)
    other = place / "other.ckpt"
    content = torch.load(ckpt, weights_only=True)
    torch.save(content | {"global_step": 0}, other)
    output = predict(other, events / "high", "--out", "first.csv", "--resume", cwd=place, status=2)
    assert "was begun with another model" in output
    shutil.copy(place / "first.csv", place / "second.csv")
    predict(ckpt, events / "high", "--out", "second.csv", "--resume", cwd=place)  # nothing left to do
    assert (place / "second.csv").read_bytes() == (place / "first.csv").read_bytes()


def test_bad_files_among_continuous_ones_get_a_row(place, ckpt, day):
    folder = place / "records"
    folder.mkdir()
    shutil.copy(day[0], folder / "a.mseed")
    (folder / "truth.csv").write_text("what happened")
    output = predict(ckpt, "--continuous", folder, "--out", "records.csv", *TRIGGER, "chunk_s=300", cwd=place, status=1)
    rows = table(place / "records.csv")
    assert len(rows) == 15 and rows[-1]["file"].endswith("truth.csv") and "not a format that ObsPy knows" in rows[-1]["error"]
    assert "1 without prediction" in output
    predict(ckpt, "--continuous", folder, "--out", "records.csv", "--resume", *TRIGGER, "chunk_s=300", cwd=place, status=1)
    assert table(place / "records.csv") == rows
    output = predict(ckpt, "--continuous", folder, "--out", "strict2.csv", "--strict", *TRIGGER, cwd=place, status=2)
    assert "truth.csv: cannot be read" in output


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
        rows["plain"]["usable_sensors"] == rows["offset"]["usable_sensors"] and rows["plain"]["class"] == rows["offset"]["class"]
    )
    assert float(rows["plain"]["confidence"]) == pytest.approx(float(rows["offset"]["confidence"]), abs=0.01)
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
    assert before.count(b"low") >= 3 and b"\xc5knes" in before and len(list((folder / "pictures").iterdir())) == 3
    predict(ckpt, *arguments, "--resume", cwd=place)
    assert (folder / "table.csv").read_bytes() == before


def test_a_run_of_two_processes_can_be_finished_by_one(place, ckpt, events):
    """Whatever parts a killed torchrun leaves: nothing lost, nothing twice."""
    files = [events / "low", events / "high", events / "twice"]
    predict(ckpt, *files, "--out", "alone.csv", "--per-sensor", cwd=place)
    for name in ("alone.csv", "alone_sensors.csv"):
        lines = (place / name).read_text().splitlines(keepends=True)
        per_event = (len(lines) - 1) // 27
        new = place / name.replace("alone", "parts")
        new.write_text("".join(lines[: 1 + 9 * per_event]))
        # the last of the whole table is in a part, too, as after a kill while they were put together
        (place / f"{new.name}.part1").write_text("".join([lines[0], *lines[1 + 8 * per_event : 1 + 15 * per_event]]))
    output = predict(ckpt, *files, "--out", "parts.csv", "--per-sensor", cwd=place, status=2)
    assert "go on" in output and "--resume" in output
    predict(ckpt, *files, "--out", "parts.csv", "--per-sensor", "--resume", cwd=place)
    for name in ("", "_sensors"):
        ours, theirs = table(place / f"parts{name}.csv"), table(place / f"alone{name}.csv")
        assert [row["file"] for row in ours] == [row["file"] for row in theirs] and len(ours) == len(theirs)
    assert not list(place.glob("parts*.part*"))


def test_a_table_has_one_writer_one_model_and_one_configuration(place, ckpt, events):
    predict(ckpt, events / "low", "--out", "mine.csv", cwd=place)
    output = predict(ckpt, events / "low", "--out", "mine.csv", "--resume", "error_rate=0.2", cwd=place, status=2)
    assert "was begun with another configuration" in output
    output = predict(ckpt, events / "low", "--out", "mine.csv", "--resume", "--per-sensor", cwd=place, status=2)
    assert "was begun without --per-sensor" in output
    lock = take_lock(place / ".mine.csv.lock")
    output = predict(ckpt, events / "low", "--out", "mine.csv", "--resume", cwd=place, status=2)
    lock.close()
    assert "mine.csv: another process is writing it" in output
    output = predict(ckpt, "--export", "m.onnx", "ensemble=usable", cwd=place, status=2)
    assert "--export writes the ensemble of all living sensors" in output


def test_sigterm_ends_prediction_and_its_readers(place, ckpt, events):
    many = place / "many"
    many.mkdir()
    content = next((events / "low").iterdir()).read_bytes()
    for number in range(4000):
        (many / f"{number}.mseed").write_bytes(content)
    command = [sys.executable, str(ROOT / "predict.py"), "--config_predict", str(ROOT / "configs" / "predict.yaml"), "--ckpt", str(ckpt), str(many),
               "--out", "many.csv", "precision=32-true"]  # fmt: skip
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as running:
        deadline = time.monotonic() + 200
        while not ((place / "many.csv").exists() and len((place / "many.csv").read_text().splitlines()) > 20):
            assert time.monotonic() < deadline and running.poll() is None
            time.sleep(0.1)
        running.terminate()
        _, message = running.communicate(timeout=60)
    assert (
        running.returncode == 143
        and "terminated: go on by the same command with --resume" in message
        and "Traceback" not in message
    )
    session = [p for p in Path("/proc").glob("[0-9]*") if _session(p) == running.pid]
    deadline = time.monotonic() + 20
    while session and time.monotonic() < deadline:
        time.sleep(0.5)
        session = [p for p in Path("/proc").glob("[0-9]*") if _session(p) == running.pid]
    assert not session


def _session(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[3])
    except (OSError, IndexError, ValueError):
        return -1
