"""SeisBench opens our archives without being told anything."""

import numpy as np

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import EventArchive
from preprocessing.sources import open_source
from utils.dataset_sections import DatasetParams

RNG = np.random.default_rng(0)


def write_events(folder, blocks, channels=()):
    with ArchiveWriter(folder, 250.0) as writer:
        for number, block in enumerate(blocks):
            writer.add(
                f"event_{number}",
                block,
                "Quake",
                "2020-01-01T00:00:00.000000Z",
                channels="|".join(channels),
                source_magnitude="2.5",
            )
    return EventArchive(folder)


def test_all_24_channels_with_their_samples_and_rate(library, tmp_path):
    archive = write_events(tmp_path, RNG.normal(size=(2, 24, 300)).astype(np.float32))
    theirs = library.WaveformDataset(tmp_path)
    assert len(theirs) == 48 and set(theirs.metadata["trace_sampling_rate_hz"]) == {250.0}
    waveforms = theirs.get_waveforms()  # Z, N, E of each channel; only Z is known
    assert not waveforms[:, 1:].any()
    ours = np.concatenate([archive.waveforms(0), archive.waveforms(1)])
    np.testing.assert_array_equal(waveforms[:, 0], ours)
    theirs.grouping = "source_id"
    samples, metadata = theirs.get_group_samples(1)
    np.testing.assert_array_equal(np.stack(samples)[:, 0], archive.waveforms(1))
    assert metadata["station_code"][3] == "channel 4" and metadata["source_id"][0] == "event_1"
    assert metadata["source_magnitude"][0] == 2.5 and metadata["trace_category"][0] == "Quake"


def test_components_of_a_station_stay_together(library, tmp_path):
    channels = ("NO.A..HHZ", "NO.A..HHN", "NO.A..HHE", "NO.B..HHZ", "NO.B.01.HHZ", "channel 6")
    archive = write_events(tmp_path, RNG.normal(size=(1, 6, 300)).astype(np.float32), channels)
    theirs, block = library.WaveformDataset(tmp_path), archive.waveforms(0)
    assert theirs.metadata["station_code"].tolist() == ["A", "B", "B", "channel 6"]
    assert theirs.metadata["trace_channel"].tolist()[:2] == ["HH", "HH"]
    np.testing.assert_array_equal(theirs.get_waveforms(0), block[:3])
    np.testing.assert_array_equal(theirs.get_waveforms([1, 2, 3])[:, 0], block[3:])


def test_our_archive_is_opened_directly_as_a_dataset_too(tmp_path):
    archive = write_events(tmp_path / "a", RNG.normal(size=(2, 3, 300)).astype(np.float32))
    again = open_source(DatasetParams(source="seisbench", root=str(tmp_path / "a")))
    assert again.fingerprint == archive.fingerprint
