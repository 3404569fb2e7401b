"""Probabilities over time: what the model says of each window, also in files and pictures."""

import numpy as np
import obspy
import pytest

from prediction import Classifier
from prediction.annotate import channel_codes
from tests.prediction.conftest import START, TRIGGER, predict
from utils.errors import UserError


@pytest.fixture(scope="module")
def classifier(ckpt):
    settings = {"network": "NO", "station": "AKN"}
    return Classifier.load(ckpt, precision="32-true", catalogue=settings)


@pytest.fixture(scope="module")
def minutes(day):
    """Two minutes of the day with two events, a gap of all channels, and a channel that ends."""
    stream = obspy.read(str(day[0])).slice(START, START + 120)
    parts = [stream.slice(endtime=START + 69.99), stream.slice(START + 75)]
    parts[1].traces[2].trim(endtime=START + 90)
    return sum(parts, obspy.Stream()).copy()


def test_a_sample_is_what_the_model_says_of_its_window(classifier, minutes):
    traces = classifier.annotate(minutes, stride_s=2.5)
    assert [trace.id for trace in traces] == ["NO.AKN..HIG", "NO.AKN..LOW", "NO.AKN..TWI"]
    assert [trace.stats.class_name for trace in traces] == list(classifier.class_names)
    table = np.ma.stack([trace.data for trace in traces])
    first, stride_s = traces[0].stats.starttime, traces[0].stats.delta
    time_s = first - START + stride_s * np.arange(traces[0].stats.npts)
    before_s = classifier.predictor.pre_trigger_s  # as measured in the training
    np.testing.assert_allclose(time_s, before_s + 2.5 * np.arange(44))
    for number in (0, 7, 36, 40):
        start = START + time_s[number] - before_s
        window = minutes.slice(start, start + 11.99)
        whole = [t for t in window if t.stats.npts == 1200]
        (event,) = classifier.classify(obspy.Stream(whole))
        found = dict(zip(classifier.class_names, table[:, number]))
        assert found == pytest.approx(event.probabilities, abs=1e-4)
    # windows that touch the gap
    missing = (time_s - before_s + 12 > 70) & (time_s - before_s < 75)
    assert (np.ma.getmaskarray(table) == missing).all() and missing.any()
    np.testing.assert_allclose(table.sum(axis=0)[~missing], 1, atol=1e-5)


def test_too_short_recordings_and_mistakes(classifier, minutes):
    assert not classifier.annotate(minutes.slice(START, START + 5))
    assert not classifier.annotate(obspy.Stream())
    with pytest.raises(UserError, match="stride_s"):
        classifier.annotate(minutes, stride_s=-1)


def test_the_command_writes_the_traces(place, ckpt, minutes, classifier):
    minutes.write(str(place / "minutes.mseed"), format="MSEED")
    arguments = ["--continuous", "minutes.mseed", "--out", "minutes.csv", "--plots", "minutes"]
    places = ["catalogue.network=NO", "catalogue.station=AKN", "annotate_stride_s=2.5"]
    annotated = [*arguments, "--annotate", "p.mseed", *places, *TRIGGER]
    output = predict(ckpt, *annotated, cwd=place)
    assert "p.mseed: probabilities every 2.5 s: HIG high, LOW low, TWI twice" in output
    expected = classifier.annotate(minutes, stride_s=2.5).split()
    found = obspy.read(str(place / "p.mseed"))
    assert len(found) == len(expected) == 6
    for one, other in zip(found.sort(), expected.sort()):
        assert one.id == other.id and one.stats.starttime == other.stats.starttime
        np.testing.assert_array_equal(one.data, other.data)
    assert (place / "minutes" / "timeline.png").is_file()
    output = predict(ckpt, "p.mseed", "--out", "x.csv", "--annotate", "q", cwd=place, status=2)
    assert "--annotate goes with --continuous" in output


def test_codes_tell_classes_apart():
    aknes = ["Noise", "Regional", "Slope_HF", "Slope_LF", "Slope_Multi", "Slope Tremor"]
    assert channel_codes(aknes) == ["NOI", "REG", "SHF", "SLF", "SMU", "STR"]
    assert channel_codes(["rockfall", "rock", "Rockslide", "ås", "x"]) == [
        "ROC",
        "RO2",
        "RO3",
        "SXX",
        "XXX",
    ]
    many = channel_codes([f"class {number}" for number in range(120)])
    assert len(set(many)) == 120 and {len(code) for code in many} == {3}
