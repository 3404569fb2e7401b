import sys

import numpy as np
import pytest

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import ArchiveError
from preprocessing.sources import open_source
from tests.conftest import write_mseed
from utils.dataset_sections import DatasetParams


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number in range(2):
        write_mseed(
            tmp_path / "events" / "A" / f"{number}.mseed",
            np.random.default_rng(number).normal(size=(2, 1000)).astype(np.float32),
        )
    return tmp_path / "events"


def test_a_folder_is_packed_under_data_once_per_set_of_options(folder):
    first = open_source(DatasetParams(source="folder", root=str(folder), sampling_freq=None))
    assert first.n_samples == 1000 and first.archive_dir.parts[:2] == ("data", "archives")
    again = open_source(DatasetParams(source="folder", root=str(folder), sampling_freq=None))
    shorter = open_source(
        DatasetParams(source="folder", root=str(folder), sampling_freq=50, duration_s=8)
    )
    assert (
        again.archive_dir == first.archive_dir != shorter.archive_dir and shorter.n_samples == 400
    )
    assert len(list(folder.iterdir())) == 1  # nothing is written beside the recordings


def test_a_packed_archive_opens_without_obspy_and_pooch(tmp_path, monkeypatch):
    with ArchiveWriter(tmp_path / "packed", 100.0) as writer:
        writer.add("e", np.random.default_rng(0).random((2, 100)), "A")
    for name in ("obspy", "pooch", "wandb", "preprocessing.packing", "preprocessing.recordings"):
        monkeypatch.setitem(sys.modules, name, None)
    assert len(open_source(DatasetParams(source="folder", root=str(tmp_path / "packed")))) == 1
    with pytest.raises(
        ArchiveError, match="dataset.sampling_freq: found 1000, but the packed archive .* has 100"
    ):
        open_source(
            DatasetParams(source="folder", root=str(tmp_path / "packed"), sampling_freq=1000)
        )
    for late in ({"max_gap_s": 1.0}, {"skip_unreadable": True}):
        with pytest.raises(
            ArchiveError, match=f"dataset.{next(iter(late))}: has no meaning for the packed archive"
        ):
            open_source(
                DatasetParams(
                    source="folder", root=str(tmp_path / "packed"), sampling_freq=100, **late
                )
            )
    with pytest.raises(ArchiveError, match="dataset.duration_s: found 2, but .* has 1"):
        open_source(
            DatasetParams(
                source="folder", root=str(tmp_path / "packed"), sampling_freq=None, duration_s=2
            )
        )


def test_simulated_events_are_made_once_in_the_real_proportions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archive = open_source(DatasetParams(source="simulated", n_simulated=100))
    counts = dict(zip(*np.unique(archive.labels, return_counts=True)))
    assert (
        counts["Noise"] == 4
        and counts["Slope_HF"] == round(448 * 100 / 3429)
        and counts["Unlabeled"] == round(1611 * 100 / 3429)
    )
    assert (
        archive.live.shape[1] == 24
        and archive.n_samples == 16000
        and archive.sampling_rate_hz == 1000
    )
    monkeypatch.setattr(
        "preprocessing.simulate.simulated_archive.simulate_archive", None
    )  # a second simulation would fail
    assert (
        open_source(DatasetParams(source="simulated", n_simulated=100)).fingerprint
        == archive.fingerprint
    )
