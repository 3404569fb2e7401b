"""SeisBench datasets, written by SeisBench itself, become event archives."""

import h5py
import numpy as np
import pytest

from preprocessing.event_archive import ArchiveError
from preprocessing.packing import pack_recordings
from preprocessing.seisbench_dataset import SeisBenchDataset
from preprocessing.sources import open_source
from tests.preprocessing.seisbench_files import write_dataset
from utils.dataset_sections import DatasetParams

RNG = np.random.default_rng(0)
MIDNIGHT = "2020-01-01T00:00:{:09.6f}Z"


def station(event, name, start_s=0.0, rate_hz=100.0, seconds=10.0, components="ZNE", **columns):
    """One row: three components of a station."""
    metadata = {
        "trace_name": f"{event}.{name}",
        "source_id": event,
        "source_type": "quake" if event.startswith("q") else "blast",
        "station_network_code": "XX",
        "station_code": name,
        "trace_channel": "HH",
        "trace_start_time": MIDNIGHT.format(start_s),
        "trace_sampling_rate_hz": rate_hz,
        "trace_component_order": components,
        "source_magnitude": 1.5,
        "split": "train" if event.endswith("1") else "test",
    }
    samples = RNG.normal(0, 100, (len(components), int(seconds * rate_hz))).astype(np.float32)
    return metadata | columns, samples


def opened(folder, **options):
    return open_source(DatasetParams(source="seisbench", root=str(folder), **options))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "dataset"


def test_rows_of_one_event_become_its_channels_across_buckets_and_chunks(library, here):
    rows = [station(event, name) for event in ("q1", "b2") for name in ("A", "B", "C")]
    # station B begins a second earlier and ends with the others, C has one component only
    rows[1] = station("q1", "B", -1.0 + 2, seconds=9.0)
    rows[2] = station("q1", "C", components="Z")
    write_dataset(library, here, rows[:4], "2020")
    write_dataset(library, here, rows[4:], "2021")
    names = [row["trace_name"] for row in library.WaveformDataset(here).metadata.to_dict("records")]
    assert any(name.startswith("bucket0$1,:3,:") for name in names)  # as SeisBench writes it
    archive = opened(here)
    assert archive.names.tolist() == ["q1", "b2"] and archive.labels.tolist() == ["quake", "blast"]
    assert archive.sampling_rate_hz == 100 and archive.n_sensors.tolist() == [7, 9]
    assert archive.channels(0) == (*(f"XX.{s}..HH{c}" for s in "AB" for c in "ZNE"), "XX.C..HHZ")
    # the common window of q1 begins where B begins
    expected = np.concatenate([rows[0][1][:, 100:], rows[1][1], rows[2][1][:, 100:]])
    assert archive.n_samples == 1000 and archive.metadata["trace_start_time"][0][17:19] == "01"
    np.testing.assert_array_equal(archive.waveforms(0)[:, :900], expected)
    np.testing.assert_array_equal(archive.waveforms(1), np.concatenate([w for _, w in rows[3:]]))
    for column, values in {"split": ["train", "test"], "source_magnitude": ["1.5"] * 2}.items():
        assert archive.metadata[column].tolist() == values
    archive.verify()


def test_an_event_begins_at_its_first_p_arrival(library, here, caplog):
    """In the window that its channels share; without an arrival, or outside of it, it is found."""
    caplog.set_level("INFO")
    p, pg = {"trace_P_arrival_sample": 450.0}, {"trace_Pg_arrival_sample": 300.0}
    outside = {"trace_P_arrival_sample": 5000.0}
    rows = [station("q1", "A", **p), station("q1", "B", 1.0, **pg)]  # at 4.5 and at 4 s
    rows += [station("b2", "A"), station("q2", "A", **outside)]
    archive = opened(write_dataset(library, here, rows))
    onsets = dict(zip(archive.names.tolist(), archive.metadata["event_onset_s"].tolist()))
    starts = dict(zip(archive.names.tolist(), archive.metadata["trace_start_time"].tolist()))
    assert float(onsets["q1"]) == pytest.approx(4 - float(starts["q1"][17:26].rstrip("Z")))
    assert 0 <= float(onsets["b2"]) < 10 and 0 <= float(onsets["q2"]) < 10
    assert "as the source says or as found in the waveforms" in caplog.text


def test_every_row_reads_as_seisbench_reads_it(library, here):
    rows = [station(f"q{n}", "A", seconds=8 + n % 3, source_id=None) for n in range(7)]
    write_dataset(library, here, rows)
    theirs, ours = library.WaveformDataset(here, component_order="ZNE"), opened(here, duration_s=8)
    assert len(ours) == len(theirs) == 7 and ours.names[3] == "q3.A"
    for index in range(7):
        np.testing.assert_array_equal(ours.waveforms(index), theirs.get_waveforms(index)[:, :800])


@pytest.mark.parametrize(
    ("columns", "data_format"),
    [
        ({"trace_sampling_rate_hz": None, "trace_dt_s": 0.02}, {}),
        ({"trace_sampling_rate_hz": None}, {"sampling_rate": 50.0}),
        ({"trace_component_order": None}, {"component_order": "ZNE"}),
        ({}, {"component_order": "XYZ"}),  # the row's own order counts
    ],
)
def test_rate_and_components_per_row_or_per_file(library, here, columns, data_format):
    rows = [station("q1", "A", rate_hz=50.0, **columns)]
    write_dataset(library, here, rows, **data_format)
    archive = opened(here)
    assert archive.sampling_rate_hz == 50 and archive.channels(0)[1] == "XX.A..HHN"
    np.testing.assert_array_equal(archive.waveforms(0), rows[0][1])


def test_samples_before_components(library, here):
    rows = [station(event, "A") for event in ("q1", "b2", "q3")]
    write_dataset(library, here, [(m, w.T) for m, w in rows], dimension_order="WC")
    np.testing.assert_array_equal(opened(here).waveforms(1), rows[1][1])


def test_most_rows_give_the_rate_and_others_are_resampled(library, here):
    rows = [station("q1", name, rate_hz=rate) for name, rate in (("A", 100), ("B", 50), ("C", 50))]
    write_dataset(library, here, rows)
    archive = opened(here)
    assert archive.sampling_rate_hz == 50 and archive.n_samples == 500
    np.testing.assert_array_equal(
        archive.waveforms(0)[3:], np.concatenate([rows[1][1], rows[2][1]])
    )
    assert opened(here, sampling_freq=100).n_samples == 1000


def test_columns_of_the_users_choice_and_what_there_is_instead(library, here):
    rows = [
        station(event, name, pair="ab"[n]) for n, event in enumerate(("q1", "b2")) for name in "AB"
    ]
    rows += [station("q3", "A", pair=None, source_type=None)]
    write_dataset(library, here, rows)
    assert len(opened(here)) == 3
    by_pair = opened(here, group_by="pair", label_column="split")
    assert by_pair.names.tolist() == ["a", "b", "q3.A"]
    assert by_pair.labels.tolist() == ["train", "test", "test"]
    assert opened(here).labels.tolist() == ["quake", "blast", "Unlabeled"]
    for key in ("label_column", "group_by"):
        with pytest.raises(ArchiveError, match=f"dataset.{key}: found nme, but .*source_type"):
            opened(here, **{key: "nme"})
    with pytest.raises(ArchiveError, match="a SeisBench dataset.*set dataset.source"):
        open_source(DatasetParams(source="folder", root=str(here)))


def test_rows_that_cannot_be_used_are_named(library, here):
    rows = [station("q1", "A"), station("q1", "B", source_type="blast"), station("q2", "A")]
    rows += [station("q2", "B", trace_start_time=None), station("q3", "A", components="ZNE1")]
    rows += [station("q4", "A"), station("q5", "A", trace_component_order="ZN")]
    rows += [station("q6", "A", trace_start_time="noon")]
    write_dataset(library, here, rows)
    report = pack_recordings(SeisBenchDataset(here), here / "archive", skip_unreadable=True)
    assert (
        report.n_events == 2
        and "different labels in source_type: blast, quake" in (report.unreadable["q1"])
    )
    assert "no trace_start_time" in report.unreadable["q2"]
    assert "3 components, but its component order is ZN" in report.unreadable["q5"]
    assert "'noon' is not a time" in report.unreadable["q6"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("lost", "cannot be read"),
        ("block$9,:3,:100", "cannot be read"),
        ("block$0,:3,x", "cannot be read"),
        ("block$0,:3,:100,:9", "cannot be read"),
        ("text", "expected numbers"),
        ("block", "expected numbers"),  # a whole bucket
        ("large", "too long"),
    ],
)
def test_damaged_places_are_reasons(here, name, reason):
    here.mkdir()
    with h5py.File(here / "waveforms.hdf5", "w") as file:
        file["data/block"] = RNG.normal(size=(2, 3, 100))
        file["data/text"] = np.array([[b"a", b"b"]])
        file["data"].create_dataset("large", (3, 2**24), "f4")  # not allocated
    (here / "metadata.csv").write_text(f'trace_name,trace_sampling_rate_hz\n"{name}",100\n')
    with pytest.raises(ArchiveError, match=f"trace .*{reason}"):
        opened(here)


def test_files_that_are_no_dataset(here):
    with pytest.raises(ArchiveError, match="no such folder"):
        opened(here)
    here.mkdir()
    with pytest.raises(ArchiveError, match="not a SeisBench dataset; expected metadata.csv"):
        opened(here)
    (here / "metadata_1.csv").write_text("trace_name\na\n")
    with pytest.raises(ArchiveError, match="waveforms_1.hdf5: no such file"):
        opened(here)
    (here / "waveforms_1.hdf5").write_text("no HDF5")
    with pytest.raises(ArchiveError, match="waveforms_1.hdf5: cannot be read"):
        opened(here)


def test_a_changed_table_is_packed_again_and_an_unchanged_one_is_not(library, here, caplog):
    caplog.set_level("INFO")
    write_dataset(library, here, [station("q1", "A"), station("b2", "A")])
    opened(here)
    caplog.clear()
    opened(here)
    assert "packing into" not in caplog.text
    table = here / "metadata.csv"
    table.write_text(table.read_text().replace("quake", "slide"))
    assert opened(here).class_names == ("blast", "slide") and "1 files changed" in caplog.text
