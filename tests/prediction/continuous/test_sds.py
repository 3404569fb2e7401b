"""An SDS archive as files: which are read, and what was added to them."""

import numpy as np
import obspy
import pytest

from prediction.continuous.sds import DAY_NS, SdsArchive, day_of, parse_streams
from prediction.monitoring.growing_archive import GrowingArchive
from tests.prediction.growing_files import append, bursts, records_of
from utils.errors import UserError

START = obspy.UTCDateTime("2020-12-30T12:00:00")
PATTERNS = parse_streams("XX.S0?..HH?")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Twenty seconds of two channels on each of three days, and again ten days later."""
    folder = tmp_path_factory.mktemp("archive")
    for day in (0, 1, 2, 10):
        append(folder, records_of(bursts(START + 86400 * day, 20, [10.0], n=2)))
    (folder / "2020" / "XX" / "S00" / "HHZ.D" / "notes.txt").write_text("by hand")
    return folder


def days(paths):
    return sorted({path.name[-8:] for path in paths})


def test_files_are_listed_by_day_across_new_year(root):
    archive, first = SdsArchive(root, PATTERNS), day_of("x.2020.365")
    assert days(archive.paths()) == ["2020.365", "2020.366", "2021.001", "2021.009"]
    assert days(archive.paths(first + 1, first + 2)) == ["2020.366", "2021.001"]
    assert len(archive.paths()) == 8 and day_of("notes.txt") == -1
    assert first == (np.datetime64("2020-12-30") - np.datetime64("1970-01-01")).astype(int)


def test_a_long_archive_is_indexed_day_by_day(root):
    archive = GrowingArchive(root, PATTERNS)
    for day, indexed in (
        (0, ["2020.365", "2020.366"]),
        (1, ["2020.365", "2020.366", "2021.001"]),
        (2, ["2020.366", "2021.001", "2021.009"]),  # the next day that has data
        (9, ["2021.009"]),
    ):
        archive.update(START.ns + day * DAY_NS)
        assert days(archive.files) == indexed


def test_what_was_added_is_known_whatever_the_length_of_records(tmp_path):
    stream = bursts(START, 60, [30.0], n=1)
    first, second = stream.slice(START, START + 29.99), stream.slice(START + 30)
    append(tmp_path, records_of(first))
    archive = GrowingArchive(tmp_path, PATTERNS)
    assert not any(arrival.is_new.any() for arrival in archive.update(START.ns))
    path = archive.paths()[0]
    with open(path, "ab") as file:
        second.write(file, format="MSEED", reclen=4096)
    (arrival,) = archive.update(START.ns)
    assert arrival.is_new.all() and arrival.start_ns.min() >= (START + 29.9).ns
    found = archive.read(START.ns, (START + 60).ns)
    assert len(found) == 1 and found[0].stats.npts == 6000
    assert archive.update(START.ns) == []


@pytest.mark.parametrize(
    ("root_name", "streams", "message"),
    [
        ("nowhere", "XX.S00..HHZ", "no such folder"),
        ("", "XX.S00.HHZ", "should be NETWORK.STATION.LOCATION"),
        ("", " ", "names no channel"),
        ("", "YY.*..*", "no files of YY.*..*"),
    ],
)
def test_mistakes_are_explained(root, root_name, streams, message):
    with pytest.raises(UserError, match=message.replace("*", r"\*")):
        SdsArchive(root / root_name, parse_streams(streams))
