from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from training import training_plots as plots

NAMES = ["Noise", "Slope_HF", "Spike"]


def has_ink(path) -> bool:
    image = imread(path)
    return path.suffix == ".png" and image[..., :3].std() > 0.01


def test_curves_draw_every_metric_and_survive_gaps(tmp_path):
    (tmp_path / "m.csv").write_text(
        "epoch,train/loss,val/loss,val/knn_accuracy\n0,2,2.5,\n1,1,1.5,0.4\n"
    )
    assert has_ink(plots.plot_loss_curves(tmp_path / "m.csv", tmp_path / "c.png"))
    watched = plots.plot_loss_curves(tmp_path / "m.csv", tmp_path / "d.png", "test events", "note")
    assert not np.array_equal(imread(watched), imread(tmp_path / "c.png"))
    (tmp_path / "m.csv").write_text("epoch\n")
    assert plots.plot_loss_curves(tmp_path / "m.csv", tmp_path / "d.png") is None


def test_curves_count_epochs_from_one(tmp_path, monkeypatch):
    (tmp_path / "m.csv").write_text("epoch,train/loss,val/loss\n0,2,\n1,1,1.5\n")
    lines = {}

    @contextmanager
    def picture(path, size):
        figure = Figure(figsize=size)
        yield figure
        for line in figure.axes[0].lines:
            lines[line.get_label()] = line.get_xydata().tolist()

    monkeypatch.setattr(plots, "picture", picture)
    plots.plot_loss_curves(tmp_path / "m.csv", tmp_path / "c.png")
    assert lines == {"training": [[1, 2], [2, 1]], "held out": [[2, 1.5]]}


@pytest.mark.parametrize("confusion", [[[3, 1, 0], [0, 5, 2], [0, 0, 9]], [[0] * 3] * 3])
def test_confusion_and_recall(tmp_path, confusion):
    assert has_ink(plots.plot_confusion(confusion, NAMES, "title", tmp_path / "c.png"))
    metrics = {
        "ensemble": {"recall": [None, 0.5, 1.0], "confusion": confusion, "balanced_accuracy": 0.75}
    }
    assert has_ink(
        plots.plot_recall(
            metrics | {"single_channel": metrics["ensemble"]}, NAMES, tmp_path / "r.png"
        )
    )


@pytest.mark.parametrize("n_sensors", [1, 5, 24, 30])
def test_event_sheet_for_any_number_of_sensors(tmp_path, n_sensors):
    images, live = np.random.default_rng(0).random((n_sensors, 16, 40)), np.arange(n_sensors) != 1
    names, path = [f"NO.AK{n:02d}..GHZ" for n in range(n_sensors)], tmp_path / "e.png"
    assert has_ink(plots.plot_event_sheet(images, names, live, 16.0, 500.0, "event", path))
