import csv
import json
import os
import shutil

import h5py
import numpy as np
import obspy

from preprocessing import packing
from preprocessing.event_archive import EventArchive
from preprocessing.packing import open_or_pack, pack_recordings
from preprocessing.recordings import read_recording
from tests.conftest import write_mseed

RNG = np.random.default_rng(0)


def test_pack_and_read_back(folder, tmp_path):
    report = pack_recordings(folder, tmp_path / "archive")
    archive = EventArchive(tmp_path / "archive")
    assert report.n_events == len(archive) == 7 and report.n_channels == archive.n_sensors.sum()
    assert archive.names[0] == "Quake__2020_000_x.mseed" and archive.class_names == (
        "Quake",
        "Rock",
    )
    assert archive.labels.tolist() == ["Quake"] * 4 + ["Rock"] * 3
    assert archive.n_samples == 1000 and report.n_events_cut == 2 and report.n_events_padded == 3
    for index, name in enumerate(archive.names):
        original = read_recording(folder / name.replace("__", "/")).waveforms
        stored = archive.waveforms(index)
        n = min(1000, original.shape[1])
        np.testing.assert_array_equal(stored[:, :n], original[:, :n])
        means = original.mean(axis=1, dtype=np.float64, keepdims=True).astype(np.float32)
        np.testing.assert_array_equal(stored[:, n:], np.repeat(means, 1000 - n, axis=1))
        np.testing.assert_array_equal(archive.waveforms(index, [1, 0]), stored[[1, 0]])
    assert (
        archive.days[0] == "2020-01-01"
        and archive.metadata["trace_start_time"][0] == "2020-01-01T00:00:00.000000Z"
    )
    archive.verify()


def test_layout_is_seisbenchs(folder, tmp_path):
    pack_recordings(folder, tmp_path / "archive", sampling_rate_hz=100.0, duration_s=9.0)
    with h5py.File(tmp_path / "archive" / "waveforms.hdf5") as file:
        assert (
            file["data_format/dimension_order"][()] == b"CW"
            and file["data_format/sampling_rate"][()] == 100
        )
        data = file["data/Quake__2020_002_x.mseed"]
        assert data.shape == (4, 900) and data.dtype == np.float32 and data.chunks == (1, 900)
    metadata = EventArchive(tmp_path / "archive").metadata
    assert (
        metadata["trace_component_order"][2] == "ABCD"
        and metadata["trace_sampling_rate_hz"][0] == "100.0"
    )
    assert {
        "trace_name",
        "trace_category",
        "trace_start_time",
        "source_file",
        "source_sha256",
    } <= metadata.keys()


def test_an_event_keeps_its_identity_at_another_rate_and_length_and_in_another_class(
    folder, tmp_path
):
    pack_recordings(folder, tmp_path / "one")
    (folder / "Tremor").mkdir()
    (folder / "Rock" / "2020_001_x.mseed").rename(folder / "Tremor" / "renamed.mseed")
    pack_recordings(folder, tmp_path / "two", sampling_rate_hz=50.0, duration_s=7.0)
    one, two = EventArchive(tmp_path / "one"), EventArchive(tmp_path / "two")
    assert one.identities.dtype == np.int64 and len(set(one.identities.tolist())) == 7
    assert one.identities[[0, 1, 2, 3, 4, 6, 5]].tolist() == two.identities.tolist()


def test_processes_and_order_do_not_matter(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MAX_SERIAL_FILES", 2)
    pack_recordings(folder, tmp_path / "one", n_workers=1)
    pack_recordings(folder, tmp_path / "two", n_workers=2)
    assert EventArchive(tmp_path / "one").fingerprint == EventArchive(tmp_path / "two").fingerprint
    assert {path.name for path in (tmp_path / "two").iterdir()} == {
        "waveforms.hdf5",
        "metadata.csv",
        "packing.json",
        "chunks",  # these three are for SeisBench
        "metadata_stations.csv",
        "waveforms_stations.hdf5",
    }


def test_changes_are_noticed(folder, tmp_path, caplog):
    caplog.set_level("INFO")
    target = tmp_path / "archive"

    def reasons() -> list[str]:
        caplog.clear()
        open_or_pack(folder, target)
        return [
            record.getMessage().split(";")[0].split(": ", 1)[1]
            for record in caplog.records
            if "packing into" in record.message
        ]

    assert reasons() == ["not packed yet"]
    assert reasons() == []
    os.utime(folder / "Rock" / "2020_000_x.mseed")
    assert reasons() == []
    write_mseed(folder / "Rock" / "2020_000_x.mseed", RNG.normal(size=(2, 900)).astype(np.float32))
    assert reasons() == ["1 files changed"]
    shutil.copy(folder / "Rock" / "2020_000_x.mseed", folder / "Rock" / "new.mseed")
    assert reasons() == ["1 files added"]
    (folder / "Rock" / "new.mseed").unlink()
    assert reasons() == ["1 files removed"]


def test_one_rate_per_archive(folder, tmp_path):
    write_mseed(
        folder / "Rock" / "other.mseed", RNG.normal(size=(2, 900)).astype(np.float32), rate_hz=50.0
    )
    for rate_hz in (None, 100.0):
        report = pack_recordings(folder, tmp_path / "archive", sampling_rate_hz=rate_hz)
        assert report.n_channels_resampled == 2 and report.sampling_rate_hz == 100
        assert report.n_channels_of_rate == {"100": 20, "50": 2}
    archive = EventArchive(tmp_path / "archive")
    assert archive.metadata["source_rate_hz"].tolist().count("50") == 1


def test_the_usual_rate_and_the_beginnings_of_events_are_said_once(folder, tmp_path, caplog):
    """The state of a recorder does not vote; a rate that only makes files larger is named."""
    caplog.set_level("INFO")
    for path in sorted((folder / "Rock").iterdir())[1:]:
        stream = obspy.read(str(path))
        state = stream[0].copy()
        state.data, state.stats.sampling_rate = np.arange(20, dtype=np.float32), 1.0
        more = [state.copy() for _ in range(30)]
        for number, trace in enumerate(more):
            trace.stats.channel = f"V{number:02d}"
        obspy.Stream([*stream, *more]).write(str(path), format="MSEED")
    open_or_pack(folder, tmp_path / "archive")
    assert "Sampling rate: 100 Hz, the most common one" in caplog.text
    assert "Events begin" in caplog.text
    caplog.clear()
    open_or_pack(folder, tmp_path / "archive")
    assert "Sampling rate" not in caplog.text and "Events begin" not in caplog.text
    open_or_pack(folder, tmp_path / "large", sampling_rate_hz=1000.0)
    assert "sampling_freq 1000 makes the archive 10 times as large and adds nothing" in caplog.text


def test_dead_channels_are_kept_but_marked(folder, tmp_path):
    samples = RNG.normal(size=(3, 1000)).astype(np.float32)
    samples[1] = 42.0
    write_mseed(folder / "Quake" / "0.mseed", samples)
    pack_recordings(folder, tmp_path / "archive")
    archive = EventArchive(tmp_path / "archive")
    assert archive.live.shape == (8, 4) and archive.live[0].tolist() == [True, False, True, False]


def test_archives_without_names_number_their_channels(folder, tmp_path):
    pack_recordings(folder, tmp_path / "archive")
    path = tmp_path / "archive" / "metadata.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, [name for name in rows[0] if name != "channels"])
        table.writeheader()
        table.writerows({k: v for k, v in row.items() if k != "channels"} for row in rows)
    assert EventArchive(tmp_path / "archive").channels(0) == ("channel 1", "channel 2")


def test_the_real_event_round_trips(aknes_event, tmp_path):
    (tmp_path / "events" / "Regional").mkdir(parents=True)
    shutil.copy(aknes_event, tmp_path / "events" / "Regional")
    pack_recordings(tmp_path / "events", tmp_path / "archive")
    archive = EventArchive(tmp_path / "archive")
    np.testing.assert_array_equal(archive.waveforms(0), read_recording(aknes_event).waveforms)
    assert archive.days[0] == "2007-02-03" and archive.live.all()
    assert archive.metadata["trace_start_time"][0] == "2007-02-03T06:22:32.000000Z"
    assert archive.metadata["seg2_delay_s"][0] == "-3"
    assert archive.channels(0)[3] == "channel 4"
    assert (
        json.loads((tmp_path / "archive" / "packing.json").read_text())["report"]["n_events"] == 1
    )
