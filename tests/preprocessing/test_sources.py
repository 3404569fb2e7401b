import sys

import numpy as np
import pytest

from preprocessing.sources import open_source
from preprocessing.storage import ArchiveWriter
from tests.conftest import write_mseed
from utils.schema import DatasetParams


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_mseed(
            tmp_path / "events" / "A" / f"{number}.mseed", np.random.default_rng(number).normal(size=(2, 1000)).astype(np.float32)
        )
    return tmp_path / "events"


def test_a_folder_is_packed_under_data_once_per_set_of_options(folder):
    first = open_source(DatasetParams(source="folder", root=str(folder), sampling_freq=None))
    assert first.n_samples == 1000 and first.archive_dir.parts[:2] == ("data", "archives")
    again = open_source(DatasetParams(source="folder", root=str(folder), sampling_freq=None))
    shorter = open_source(DatasetParams(source="folder", root=str(folder), sampling_freq=50, duration_s=8))
    assert again.archive_dir == first.archive_dir != shorter.archive_dir and shorter.n_samples == 400
    assert len(list(folder.iterdir())) == 1  # nothing is written beside the recordings


def test_a_packed_archive_opens_without_obspy_and_pooch(tmp_path, monkeypatch):
    with ArchiveWriter(tmp_path / "packed", 100.0) as writer:
        writer.add("e", np.random.default_rng(0).random((2, 100)), "A")
    for name in ("obspy", "pooch", "wandb", "preprocessing.archive", "preprocessing.recordings"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(open_source(DatasetParams(source="folder", root=str(tmp_path / "packed")))) == 1
