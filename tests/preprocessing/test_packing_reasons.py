"""What cannot be packed is named with the reason; what was lost is packed again."""

import json
import multiprocessing
import os
import shutil
import signal
import time

import numpy as np
import obspy
import pytest

from preprocessing import recording_folder
from preprocessing.event_archive import ArchiveError
from preprocessing.packing import open_or_pack, pack_recordings
from tests.conftest import write_mseed

RNG = np.random.default_rng(0)


def test_unreadable_files_stop_or_are_skipped_and_counted(folder, tmp_path):
    (folder / "Rock" / "bad.dat").write_text("no waveform")
    write_mseed(folder / "Rock" / "dead.mseed", np.zeros((2, 1000), dtype=np.float32))
    with pytest.raises(
        ArchiveError, match=r"(?s)2 of 9 recordings.*bad.dat: cannot be read.*skip_unreadable"
    ):
        pack_recordings(folder, tmp_path / "archive")
    assert not (tmp_path / "archive").exists() and not (tmp_path / "archive.partial").exists()
    assert len((tmp_path / "archive.unreadable.txt").read_text().splitlines()) == 2
    report = pack_recordings(folder, tmp_path / "archive", skip_unreadable=True)
    assert report.n_events == 7 and set(report.unreadable) == {"Rock/bad.dat", "Rock/dead.mseed"}
    assert "2 unreadable files skipped" in str(report)
    with pytest.raises(
        ArchiveError, match="bad.dat"
    ):  # a later start without permission does not reuse it
        open_or_pack(folder, tmp_path / "archive")


def test_nothing_but_unreadable_files_is_never_skipped(tmp_path):
    (tmp_path / "events" / "A").mkdir(parents=True)
    (tmp_path / "events" / "A" / "x.dat").write_text("no waveform")
    with pytest.raises(ArchiveError, match="1 of 1 recordings cannot be used"):
        pack_recordings(tmp_path / "events", tmp_path / "archive", skip_unreadable=True)


def test_lost_waveforms_are_packed_again(folder, tmp_path):
    open_or_pack(folder, tmp_path / "archive")
    (tmp_path / "archive" / "waveforms.hdf5").unlink()
    assert len(open_or_pack(folder, tmp_path / "archive")) == 7


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"files": []}',
        '{"files": {}}',
        '{"files": 3, "report": {}}',
        "[" * 100_000,
        '{"files": {"Rock/2020_000_x.mseed": 1}, "report": {"unreadable": {}}, "options": 2}',
    ],
)
def test_a_damaged_memory_of_the_packing_is_packed_again(folder, tmp_path, content, caplog):
    caplog.set_level("INFO")
    open_or_pack(folder, tmp_path / "archive")
    (tmp_path / "archive" / "packing.json").write_text(content)
    caplog.clear()
    assert len(open_or_pack(folder, tmp_path / "archive")) == 7
    assert "not packed yet" in caplog.text


def test_one_damaged_file_among_good_ones_is_named_in_report_and_refusal(folder, tmp_path):
    file = folder / "Rock" / "2020_001_x.mseed"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(
        ArchiveError, match=r"(?s)1 of 7 recordings.*2020_001_x.mseed: truncated.*Repair or remove"
    ):
        pack_recordings(folder, tmp_path / "archive")
    report = pack_recordings(folder, tmp_path / "archive", skip_unreadable=True)
    assert "truncated" in report.unreadable[
        "Rock/2020_001_x.mseed"
    ] and "1 unreadable files skipped" in str(report)
    assert (
        json.loads((tmp_path / "archive" / "packing.json").read_text())["report"]["unreadable"]
        == report.unreadable
    )


@pytest.mark.skipif(os.name == "nt", reason="names are text there")
def test_a_name_that_is_no_text_is_a_reason_not_a_crash(folder, tmp_path):
    shutil.copy(
        os.fsencode(folder / "Rock" / "2020_000_x.mseed"),
        os.fsencode(folder / "Rock") + b"/\xff.mseed",
    )
    with pytest.raises(ArchiveError, match=r"(?s)1 of 8 recordings.*name.*UTF-8"):
        pack_recordings(folder, tmp_path / "archive")
    assert "xff.mseed" in (tmp_path / "archive.unreadable.txt").read_text()


def test_a_bad_channel_is_left_out_and_named_and_the_names_of_the_others_survive(
    folder, tmp_path, caplog
):
    caplog.set_level("INFO")
    good = np.random.default_rng(1).normal(size=(4, 1000)).astype(np.float32)
    path = write_mseed(folder / "Quake" / "0.mseed", good)
    traces = obspy.read(str(path))
    traces[1].trim(traces[1].stats.starttime + 9.5)
    traces[1].stats.sampling_rate = 100.0
    traces.write(str(path), format="MSEED")
    archive = open_or_pack(folder, tmp_path / "archive", duration_s=10.0)
    np.testing.assert_array_equal(archive.waveforms(0), good[[0, 2, 3]])
    assert archive.channels(0) == ("XX.S00..HHZ", "XX.S02..HHZ", "XX.S03..HHZ")
    assert archive.channels(1) == ("XX.S00..HHZ", "XX.S01..HHZ")
    reason = "XX.S01..HHZ: covers 5 % of the event's 10 s"
    report = json.loads((tmp_path / "archive" / "packing.json").read_text())["report"]
    assert report["left_out"] == {"Quake/0.mseed": [reason]}
    assert f"Quake/0.mseed: left out: {reason}" in caplog.text
    assert "1 channels left out" in caplog.text


def test_empty_and_missing_folders(tmp_path):
    with pytest.raises(ArchiveError, match="no such folder"):
        pack_recordings(tmp_path / "nowhere", tmp_path / "archive")
    (tmp_path / "empty" / "Class").mkdir(parents=True)
    with pytest.raises(ArchiveError, match="no recordings found"):
        pack_recordings(tmp_path / "empty", tmp_path / "archive")


@pytest.mark.parametrize("name", ["unlabeled", "UNLABELED", "Unlabelled"])
def test_a_folder_of_events_without_label_does_not_become_a_class(tmp_path, name):
    (tmp_path / "events" / name).mkdir(parents=True)
    with pytest.raises(ArchiveError, match=f"{name}: would be a class; rename the folder to Unl"):
        pack_recordings(tmp_path / "events", tmp_path / "archive")


def _pack_slowly(source, target) -> None:
    real = recording_folder.read_recording
    recording_folder.read_recording = lambda *args, **kwargs: (
        time.sleep(0.3),
        real(*args, **kwargs),
    )[1]
    pack_recordings(source, target)


def test_a_killed_packing_leaves_nothing_that_looks_finished(folder, tmp_path):
    process = multiprocessing.get_context("fork").Process(
        target=_pack_slowly, args=(folder, tmp_path / "archive")
    )
    process.start()
    while not (tmp_path / "archive.partial" / "waveforms.hdf5").exists():
        time.sleep(0.01)
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "archive").exists()
    assert len(open_or_pack(folder, tmp_path / "archive")) == 7
    assert not (tmp_path / "archive.partial").exists()
