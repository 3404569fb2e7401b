from types import SimpleNamespace

import numpy as np
import pytest
import torch

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import EventArchive
from preprocessing.spectrogram import LogSpectrogram
from training.reports import draw_samples


@pytest.mark.parametrize("label", ["a/../../../x", "surface event/rockfall", "x" * 240])
def test_pictures_of_events_stay_in_the_run_folder_whatever_their_class(tmp_path, label):
    with ArchiveWriter(tmp_path / "archive", 100.0, 4.0) as writer:
        waveforms = np.random.default_rng(0).normal(size=(2, 400)).astype(np.float32)
        writer.add("one", waveforms, label, "2020-01-01T00:00:00Z")
    archive = EventArchive(tmp_path / "archive")
    run = SimpleNamespace(plots=tmp_path / "runs" / "one" / "plots")
    module = torch.nn.ModuleDict({"spectrogram": LogSpectrogram(100, 20, resize_size=None)})
    data = SimpleNamespace(archive=archive, train_events=np.array([0]), class_names=[label])
    draw_samples(run, module, data)
    pictures = list(tmp_path.rglob("*.png"))
    assert len(pictures) == 1 and pictures[0].parent == run.plots
