import h5py
import numpy as np
import pytest

from preprocessing.storage import ArchiveError, ArchiveWriter, EventArchive, component_order


def write(path, waveforms=None, **options):
    waveforms = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32) if waveforms is None else waveforms
    with ArchiveWriter(path, 100.0, **options) as writer:
        for number, block in enumerate(waveforms):
            writer.add(
                f"event_{number}", block, category="AB"[number % 2], start_time="2020-01-01T00:00:00.000000Z", magnitude=number
            )
    return path


def test_an_exception_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(tmp_path / "a", 100.0) as writer:
        writer.add("x", np.ones((1, 50)).cumsum(1), "A")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_bad_samples_are_refused_on_writing(tmp_path, value):
    block = np.random.default_rng(0).random((2, 50))
    block[1, 3] = value
    with pytest.raises(ArchiveError, match="event bad: NaN"), ArchiveWriter(tmp_path / "a", 100.0) as writer:
        writer.add("bad", block, "A")


def test_extra_columns_and_component_names(tmp_path):
    archive = EventArchive(write(tmp_path / "a"))
    assert archive.metadata["magnitude"].tolist() == ["0", "1"]
    assert component_order(26)[-1] == "Z" and len(set(component_order(300))) == 300


def test_a_file_damaged_after_packing_is_named(tmp_path):
    path = write(tmp_path / "a")
    archive = EventArchive(path)
    content = bytearray((path / "waveforms.hdf5").read_bytes())
    place = content.find(archive.waveforms(1, [2]).tobytes())
    assert place > 0
    content[place + 40] ^= 1
    archive._file[1].close()
    (path / "waveforms.hdf5").write_bytes(content)
    damaged = EventArchive(path)
    damaged.waveforms(1, [0])
    with pytest.raises(ArchiveError, match="event event_1, channel 2: damaged"):
        damaged.waveforms(1, [0, 2])
    with pytest.raises(ArchiveError, match="event event_1"):
        damaged.verify()


def test_a_changed_event_fails_verification(tmp_path):
    path = write(tmp_path / "a")
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        file["data/event_0"][1, 5] += 1
    with pytest.raises(ArchiveError, match="event_0 differs"):
        EventArchive(path).verify()


def test_nan_in_the_file_is_named_when_read(tmp_path):
    path = write(tmp_path / "a")
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        file["data/event_0"][1, 5] = np.nan
    with pytest.raises(ArchiveError, match="event event_0, channel 1: NaN"):
        EventArchive(path).waveforms(0)


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="not an event archive"):
        EventArchive(tmp_path)
    path = write(tmp_path / "a")
    lines = (path / "metadata.csv").read_text().splitlines(keepends=True)
    (path / "metadata.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ArchiveError, match="list different events"):
        EventArchive(path)
    (path / "metadata.csv").write_text("trace_name,x\na,1\n")
    with pytest.raises(ArchiveError, match="without the columns trace_category"):
        EventArchive(path)
    other = write(tmp_path / "b")
    (other / "waveforms.hdf5").write_bytes(b"nonsense")
    with pytest.raises(ArchiveError, match="waveforms.hdf5: cannot be opened"):
        EventArchive(other)
