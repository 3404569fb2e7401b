import numpy as np
import pytest

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import ArchiveError, EventArchive, component_order
from tests.preprocessing.small_archive import write_archive


def test_an_exception_leaves_nothing(tmp_path):
    with pytest.raises(KeyboardInterrupt), ArchiveWriter(tmp_path / "a", 100.0) as writer:
        writer.add("x", np.ones((1, 50)).cumsum(1), "A")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -1e25])
def test_bad_samples_are_refused_on_writing(tmp_path, value):
    block = np.random.default_rng(0).random((2, 50))
    block[1, 3] = value
    with (
        pytest.raises(ArchiveError, match="event bad: samples that are NaN"),
        ArchiveWriter(tmp_path / "a", 100.0) as writer,
    ):
        writer.add("bad", block, "A")


@pytest.mark.parametrize("duration_s", [None, 2.0])
def test_dead_channels_stay_dead_when_padded(tmp_path, duration_s):
    rng = np.random.default_rng(0)
    short, long = rng.normal(size=(2, 50)), rng.normal(size=(2, 200))
    short[1] = 7.0
    with ArchiveWriter(tmp_path / "a", 100.0, duration_s) as writer:
        for number, block in enumerate((short, long, long)):
            writer.add(f"e{number}", block, "A")
    archive = EventArchive(tmp_path / "a")
    assert archive.n_samples == 200 and archive.live.tolist() == [
        [True, False],
        [True, True],
        [True, True],
    ]


def test_only_an_archive_is_written_over(tmp_path):
    write_archive(tmp_path / "a")
    write_archive(tmp_path / "a")
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "thesis.txt").write_text("years of work")
    with pytest.raises(
        ArchiveError, match="precious: contains files that are not an event archive"
    ):
        write_archive(tmp_path / "precious")
    assert (tmp_path / "precious" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize(
    ("options", "second", "message"),
    [
        ({"duration_s": 0.001}, "event_1", "0.001 s at .* is less than one sample"),
        ({}, "event_0", "event_0: another event has the same name"),
    ],
)
def test_what_cannot_be_stored_is_said(tmp_path, options, second, message):
    with (
        pytest.raises(ArchiveError, match=message),
        ArchiveWriter(tmp_path / "a", 100.0, **options) as writer,
    ):
        for name in ("event_0", second):
            writer.add(name, np.random.default_rng(0).normal(size=(1, 50)), "A")


def test_rates_that_differ_by_rounding_are_one(tmp_path):
    block = np.random.default_rng(0).normal(size=(1, 50))
    with ArchiveWriter(tmp_path / "a") as writer:
        writer.add("a", block, "A", sampling_rate_hz=100.0)
        writer.add("b", block, "A", sampling_rate_hz=float(1 / np.float32(0.01)))
    assert EventArchive(tmp_path / "a").sampling_rate_hz == 100


def test_extra_columns_and_component_names(tmp_path):
    archive = EventArchive(write_archive(tmp_path / "a"))
    assert archive.metadata["magnitude"].tolist() == ["0", "1"]
    assert component_order(26)[-1] == "Z" and len(set(component_order(300))) == 300


def test_the_tables_of_hdf5_have_checksums(tmp_path):
    content = (write_archive(tmp_path / "a") / "waveforms.hdf5").read_bytes()
    assert content[:4] == b"\x89HDF" and content[8] >= 2  # superblock versions 0 and 1 have none
