"""Classifier as users of ObsPy call it: the same as predict.py."""

import doctest
import subprocess
import sys

import numpy as np
import obspy
import pytest

from prediction import Classifier
from prediction.predict_config import PredictConfig
from preprocessing.recordings import read_recording
from tests.conftest import ROOT
from tests.prediction.conftest import TRIGGER, predict, table
from utils.config import ConfigError
from utils.errors import UserError

CHANNELS = {"channels": 3}


@pytest.fixture(scope="module")
def classifier(ckpt):
    return Classifier.load(ckpt, precision="32-true", trigger=CHANNELS)


def written(events, path, **options) -> list[dict]:
    events.to_csv(path, **options)
    return table(path)


def without(rows, *names):
    return [{key: value for key, value in row.items() if key not in names} for row in rows]


def test_streams_and_arrays_give_the_rows_of_predict_py(place, classifier, ckpt, events, tmp_path):
    files = sorted((events / "low").iterdir())[:3]
    predict(ckpt, *files, "--out", "python.csv", "--per-sensor", "trigger.channels=3", cwd=place)
    streams = [obspy.read(str(file)) for file in files]
    before = streams[0].copy()
    found = classifier.classify(streams)
    assert streams[0] == before
    rows = table(place / "python.csv")
    assert without(written(found, tmp_path / "a.csv"), "file") == without(rows, "file")
    sensors = written(found, tmp_path / "b.csv", per_sensor=True)
    assert without(sensors, "file") == without(table(place / "python_sensors.csv"), "file")
    (one,) = classifier.classify(streams[0])
    assert one.probabilities == pytest.approx(found[0].probabilities, abs=1e-5)
    assert one.time == streams[0][0].stats.starttime and one.class_name == rows[0]["class"]
    assert one.review == (rows[0]["review"] == "1") and len(one.per_sensor) == one.sensors == 3
    waveforms = read_recording(files[0]).waveforms
    (of_array,) = classifier.classify(waveforms, sampling_rate_hz=100)
    assert of_array.probabilities == pytest.approx(one.probabilities, abs=1e-5)
    assert of_array.time is None


def test_what_cannot_be_classified_says_why(classifier, events):
    good = obspy.read(str(next((events / "high").iterdir())))
    short = good.copy().trim(endtime=good[0].stats.starttime + 1)
    found = classifier.classify([good, short, obspy.Stream()])
    assert [bool(event.error) for event in found] == [False, True, True]
    assert "too short" in found[1].error and found[1].confidence is None
    assert found[1].start_time == found[0].start_time != ""
    assert len(found.to_catalog()) == 1
    with pytest.raises(UserError, match="needs its sampling_rate_hz"):
        classifier.classify(np.zeros((3, 100)))
    with pytest.raises(UserError, match="shape"):
        classifier.classify(np.zeros(100), 100)


def test_detections_are_those_of_predict_py(place, classifier, ckpt, day, tmp_path):
    predict(ckpt, "--continuous", day[0], "--out", "detected.csv", *TRIGGER, cwd=place)
    stream = obspy.read(str(day[0]))
    found = classifier.detect(stream)
    rows = table(place / "detected.csv")
    assert len(rows) == 14
    assert without(written(found, tmp_path / "d.csv"), "file") == without(rows, "file")
    first_picks = [min(pick.time for pick in event.picks) for event in found.to_catalog()]
    assert first_picks == [event.time for event in found]
    assert classifier.detect(obspy.Stream()) == []


def test_settings_are_checked_like_a_configuration(ckpt):
    with pytest.raises(ConfigError, match="Classifier.load: 1 mistake\n  enssemble: unknown key"):
        Classifier.load(ckpt, enssemble="all")
    with pytest.raises(ConfigError, match="found config and ensemble; give one of both"):
        Classifier.load(ckpt, PredictConfig(), ensemble="all")


def test_a_checkpoint_says_what_the_model_knows(place, classifier, ckpt):
    text = str(classifier)
    for part in (
        "high, low, twice",
        "12 s at 100 Hz",
        " s before the event (median of the training events",
        "multiplied by ",
        "in the units of the training events",
        "high 1",
        "folder",
    ):
        assert part in text, part
    for part in ("3 channels", "2020-01-01", "test events", "torch 2", "temperature", "accuracy"):
        assert part in text, part
    assert "not in the checkpoint" not in text
    assert predict(ckpt, "--describe", cwd=place).count("\n") > 8


def test_an_old_checkpoint_says_what_it_does_not_know(classifier):
    about, classifier.predictor.model.about = classifier.predictor.model.about, {}
    text = str(classifier)
    classifier.predictor.model.about = about
    assert text.count("not in the checkpoint") == 5 and "high, low, twice" in text


def test_importing_it_imports_nothing_slow():
    script = "import sys, prediction; sys.exit(bool({'torch', 'obspy', 'scipy'} & {*sys.modules}))"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_channels_of_seg2_have_the_same_names_as_an_event_and_in_continuous_data(aknes_event):
    classifier = Classifier.load("demo", trigger={"channels": 3, "thr_on": 3.0})
    stream = obspy.read(str(aknes_event))
    (event,) = classifier.classify(stream)
    names = [sensor.channel for sensor in event.per_sensor]
    assert names[:2] == ["channel 1", "channel 2"] and len(names) == 24
    found = classifier.detect(stream)
    assert found and {sensor.channel for each in found for sensor in each.per_sensor} <= set(names)
    assert found[0].picks and set(found[0].picks) <= set(names)
    picks = found.to_catalog()[0].picks
    assert {pick.waveform_id.channel_code for pick in picks} <= {str(n) for n in range(1, 25)}


def test_examples_in_docstrings_are_right(monkeypatch):
    monkeypatch.chdir(ROOT)
    found = doctest.testmod(
        sys.modules[Classifier.__module__], extraglobs={"Classifier": Classifier}
    )
    assert found.attempted > 10 and not found.failed
