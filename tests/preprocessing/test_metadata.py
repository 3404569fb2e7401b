import numpy as np
import pytest

from preprocessing.archive_writer import ArchiveWriter
from preprocessing.event_archive import EventArchive
from preprocessing.metadata import ArchiveError


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
