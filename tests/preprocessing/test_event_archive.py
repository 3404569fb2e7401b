import csv
import random
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest

from preprocessing import archive_writer
from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import ArchiveError, EventArchive
from tests.preprocessing.small_archive import write_archive


def test_events_without_a_recording_are_told_apart_by_name_and_waveforms(tmp_path):
    waveforms = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32)
    one, same = (
        EventArchive(write_archive(tmp_path / name, waveforms)) for name in ("one", "same")
    )
    other = EventArchive(write_archive(tmp_path / "other", waveforms[::-1]))
    assert one.identities.tolist() == same.identities.tolist()
    assert not set(one.identities.tolist()) & set(other.identities.tolist())


def test_a_file_damaged_after_packing_is_named(tmp_path):
    path = write_archive(tmp_path / "a")
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
    path = write_archive(tmp_path / "a")
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        file["data/event_0"][1, 5] += 1
    with pytest.raises(ArchiveError, match="event_0 differs.*restore it from a copy, or delete"):
        EventArchive(path).verify()


def test_nan_in_the_file_is_named_when_read(tmp_path):
    path = write_archive(tmp_path / "a")
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        file["data/event_0"][1, 5] = np.nan
    with pytest.raises(ArchiveError, match="event event_0, channel 1: NaN"):
        EventArchive(path).waveforms(0)


def test_what_is_no_archive_is_refused(tmp_path):
    with pytest.raises(ArchiveError, match="not an event archive"):
        EventArchive(tmp_path)
    path = write_archive(tmp_path / "a")
    lines = (path / "metadata.csv").read_text().splitlines(keepends=True)
    (path / "metadata.csv").write_text("".join(lines[:-1]))
    with pytest.raises(ArchiveError, match="list different events"):
        EventArchive(path)
    (path / "metadata.csv").write_text("trace_name,x\na,1\n")
    with pytest.raises(ArchiveError, match="without the columns trace_category"):
        EventArchive(path)
    other = write_archive(tmp_path / "b")
    (other / "waveforms.hdf5").write_bytes(b"nonsense")
    with pytest.raises(ArchiveError, match="waveforms.hdf5: cannot be opened"):
        EventArchive(other)


def rewrite(path, change) -> None:
    """Let ``change`` edit the rows of the metadata."""
    with open(path / "metadata.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    change(rows)
    with open(path / "metadata.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def swap(column):
    def change(rows):
        rows[0][column], rows[1][column] = rows[1][column], rows[0][column]

    return change


@pytest.mark.parametrize("column", ["trace_live_channels", "trace_crc32", "trace_name"])
def test_columns_that_have_changed_rows_fail_verification(tmp_path, column):
    waveforms = np.random.default_rng(0).normal(size=(2, 3, 100)).astype(np.float32)
    waveforms[0, 1] = 7
    path = write_archive(tmp_path / "a", waveforms)
    EventArchive(path).verify()
    rewrite(path, swap(column))
    with pytest.raises(ArchiveError, match="event event_[01]"):
        EventArchive(path).verify()


@pytest.mark.parametrize(("of_before", "padding"), [(False, 7), (True, 0)])
def test_a_dead_channel_that_was_padded_is_no_contradiction(
    tmp_path, monkeypatch, of_before, padding
):
    """Neither with its mean, nor with zeros, as in archives of earlier versions."""
    if of_before:
        monkeypatch.setattr(
            archive_writer,
            "fit_length",
            lambda block, n: np.pad(block, ((0, 0), (0, n - block.shape[1]))),
        )
    block = np.random.default_rng(0).normal(size=(2, 60)).astype(np.float32)
    block[1] = 7
    with ArchiveWriter(tmp_path / "a", 100.0, 1.0) as writer:
        writer.add("x", block, "A")
    archive = EventArchive(tmp_path / "a")
    archive.verify()
    assert archive.live.tolist() == [[True, False]] and archive.waveforms(0)[1, 59:61].tolist() == [
        7,
        padding,
    ]


@pytest.mark.parametrize("other", ["shape", "rows", "dtype", "group"])
def test_datasets_that_disagree_with_the_metadata_are_named(tmp_path, other):
    path = write_archive(tmp_path / "a")
    block = {
        "shape": np.ones((3, 99), "f4"),
        "rows": np.ones((2, 100), "f4"),
        "dtype": np.ones((3, 100), "i4"),
    }
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        del file["data/event_1"]
        if other == "group":
            file.create_group("data/event_1")
        else:
            file["data/event_1"] = block[other]
    archive = EventArchive(path)
    archive.waveforms(0)
    for sensors in (None, [0]):
        with pytest.raises(ArchiveError, match="event event_1, .*restore it from a copy"):
            archive.waveforms(1, sensors)


def test_a_live_channel_that_has_been_lost_is_named_when_read(tmp_path):
    path = write_archive(tmp_path / "a")
    with h5py.File(path / "waveforms.hdf5", "r+") as file:
        file["data/event_0"][1] = 0
    assert EventArchive(path).waveforms(0, [0]).any()
    with pytest.raises(ArchiveError, match="event event_0, channel 1: no signal"):
        EventArchive(path).waveforms(0, [2, 1])


def damage(content: bytearray, number: int) -> None:
    """Truncate a file, or overwrite some of its bytes."""
    rng = random.Random(number)
    if rng.random() < 0.2:
        del content[rng.randrange(len(content)) :]
        return
    for _ in range(rng.choice((1, 1, 1, 20))):
        place, size = rng.randrange(len(content)), rng.choice((1, 2, 4, 8))
        old = int.from_bytes(content[place : place + size], "little")
        new = rng.choice(
            (0, 2 ** (8 * size) - 1, old ^ 1 << rng.randrange(8 * size), rng.randrange(256**size))
        )
        content[place : place + size] = new.to_bytes(size, "little")


def outcomes_of_damage(path, n: int) -> list[str]:
    """Damage the waveforms in ``n`` ways, open and verify; in a child process: HDF5 may crash."""
    whole = (path / "waveforms.hdf5").read_bytes()
    archive, outcomes = EventArchive(path), []
    expected = [archive.waveforms(index) for index in range(len(archive))]
    archive._file[1].close()
    for number in range(n):
        content = bytearray(whole)
        damage(content, number)
        (path / "waveforms.hdf5").write_bytes(content)
        try:
            archive = EventArchive(path)
            archive.verify()
            same = all(
                np.array_equal(archive.waveforms(index), block)
                for index, block in enumerate(expected)
            )
            outcomes.append("harmless" if same else f"damage {number}: wrong data pass")
        except ArchiveError as error:
            named = str(path) in str(error) and "copy" in str(error)
            outcomes.append("refused" if named else f"damage {number}: {error}")
        except Exception as error:
            outcomes.append(f"damage {number}: {error!r}")
        if archive._file:
            archive._file[1].close()
    return outcomes


def test_waveforms_damaged_anywhere_are_refused_in_words(tmp_path):
    path = write_archive(tmp_path / "a", np.random.default_rng(0).normal(size=(4, 3, 100)))
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        outcomes = pool.submit(outcomes_of_damage, path, 800).result(timeout=120)
    assert set(outcomes) == {"harmless", "refused"} and outcomes.count("refused") > 400


def test_tables_in_memory_stay_small_however_many_events_are_met(tmp_path):
    """A larger cache fragments the heap; memory grew by a quarter over an epoch of 3000 events."""
    with ArchiveWriter(tmp_path / "a", 100.0, 1.0) as writer:
        for number in range(1500):
            writer.add(
                f"{number}",
                np.random.default_rng(number).normal(size=(1, 100)).astype(np.float32),
                "x",
            )
    archive = EventArchive(tmp_path / "a")
    for index in range(1500):
        archive.waveforms(index)
    _, _, used_bytes, _ = archive._open().file.id.get_mdc_size()
    assert used_bytes < 2 * 2**16


@pytest.fixture
def table(tmp_path):
    """Return the metadata of an archive of three events."""
    with ArchiveWriter(tmp_path / "a", 100.0) as writer:
        for number, block in enumerate(np.random.default_rng(0).normal(size=(3, 2, 50))):
            writer.add(f"event_{number}", block, "A", start_time="2020-01-01T00:00:00.000000Z")
    return tmp_path / "a" / "metadata.csv"


@pytest.mark.parametrize(
    ("column", "values"),
    {
        "trace_name": ["", "event_0", "other"],
        "trace_category": [""],
        "trace_start_time": ["yesterday", "01/02/2020 10:00", "2020", "NaT"],
        "trace_sampling_rate_hz": ["", "x", "nan", "inf", "-100", "0", "200.0"],
        "trace_npts": ["", "x", "50.0", "-50", "0", "49"],
        "trace_component_order": ["", "BA", "A", "ABC"],
        "trace_live_channels": ["", "00", "12"],
        "trace_crc32": ["", "x", "0", "1.23E+45", "DEADBEEF"],
    }.items(),
)
def test_invalid_values_are_named(table, column, values):
    whole = table.read_text()
    for value in values:
        lines = whole.splitlines()
        fields = lines[2].split(",")
        fields[lines[0].split(",").index(column)] = value
        lines[2] = ",".join(fields)
        table.write_text("\n".join(lines) + "\n", encoding="utf-8")
        with pytest.raises(ArchiveError, match="restore it from a copy") as error:
            EventArchive(table.parent)
        if value != "other":  # a valid name, but not one of waveforms.hdf5
            assert f"line 3: {column} " in str(error.value), value


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda text: text.replace(",11,", ",111,"),
            "line 2: trace_component_order has the invalid",
        ),
        (
            lambda text: text[: text.rindex("event_2") + 7],
            "line 4: trace_category has the invalid value ''",
        ),
        (
            lambda text: text.replace("event_1,A", "event_1,A,B"),
            "line 3: trace_start_time has the invalid",
        ),
        (lambda text: text.replace("event_1", '"event_1'), "not an event archive .*unexpected end"),
        (lambda text: text.splitlines()[0] + "\n", "without events"),
        (lambda text: "", "without the columns trace_category"),
        (lambda text: text + text.splitlines()[3] + "\n", "line 5: trace_name is given twice"),
        (lambda text: text.replace("trace_crc32", "trace_crc"), "without the columns trace_crc32"),
        (lambda text: text.replace("event_1", "event_7"), "list different events"),
    ],
)
def test_tables_that_are_damaged_are_refused(table, change, message):
    table.write_text(change(table.read_text()))
    with pytest.raises(ArchiveError, match=message):
        EventArchive(table.parent)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"trace_name\n\xe9\n"])
def test_binary_files_are_refused(table, content):
    table.write_bytes(content)
    with pytest.raises(ArchiveError, match="not an event archive"):
        EventArchive(table.parent)


def test_rows_in_another_order_are_the_same_archive(table):
    first, *rows = table.read_text().splitlines()
    table.write_text("\n".join([first, *rows[::-1]]) + "\n")
    archive = EventArchive(table.parent)
    archive.verify()
    assert archive.names.tolist() == ["event_2", "event_1", "event_0"]
