import numpy as np
import pytest
from matplotlib.image import imread

from prediction import Classifier
from prediction.event_sheet import plot_event, without_drift
from prediction.events import read_event
from prediction.outputs import EventWriter, Outputs


def test_microseism_is_gone_and_the_event_stays():
    time_s = np.arange(0, 60, 0.01)
    microseism = 1000 * np.sin(2 * np.pi * 0.2 * time_s) + 50 * time_s
    event = 10 * np.exp(-(((time_s - 30) / 2) ** 2)) * np.sin(2 * np.pi * 8 * time_s)
    (drawn,) = without_drift((microseism + event)[None], 100.0)
    inside = drawn[200:-200]  # at the ends the mean is one-sided
    assert np.corrcoef(inside, microseism[200:-200])[0, 1] < 0.99
    assert np.abs(inside).max() < 90  # of 4000
    (alone,) = without_drift(event[None], 100.0)
    np.testing.assert_allclose(alone, event, atol=0.3)
    slow = np.arange(12.0)[None]
    np.testing.assert_allclose(without_drift(slow, 1.0), slow - 5.5)


@pytest.fixture(scope="module")
def items(ckpt, events):
    classifier = Classifier.load(ckpt, max_plots=2)
    predictor = classifier.predictor
    files = sorted((events / "low").iterdir())[:4]
    rest = predictor.rate_hz, predictor.n_samples, 0.0
    return predictor, list(classifier.classify_windows([read_event(file, *rest) for file in files]))


def test_at_most_max_plots_pictures_also_after_a_resumed_run(items, tmp_path, caplog):
    predictor, classified = items
    outputs = Outputs(tmp_path / "table.csv", plots=tmp_path / "pictures")
    caplog.set_level("INFO")
    with EventWriter(predictor, outputs) as writer:
        writer.write(classified[:1])
        assert len(list(outputs.plots.iterdir())) == 1
        writer.write(classified[1:])
    writer.finish()
    assert len(list(outputs.plots.iterdir())) == 2
    assert "2 events have no picture" in caplog.text and "max_plots" in caplog.text
    resumed = Outputs(tmp_path / "table.csv", plots=tmp_path / "pictures", resume=True)
    with EventWriter(predictor, resumed) as writer:
        writer.write(classified)
    assert len(list(outputs.plots.iterdir())) == 2


def test_the_sheet_of_one_channel_is_large_enough(items, tmp_path):
    predictor, (first, *_) = items
    one = first._replace(waveforms=first.waveforms[:1])
    image = imread(plot_event(one, predictor, tmp_path / "one.png"))
    assert image.shape[0] > 300 and image[..., :3].std() > 0.02
