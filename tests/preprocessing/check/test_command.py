"""python -m preprocessing.check, as a user runs it."""

import pytest

from preprocessing.check.__main__ import main
from preprocessing.packing import pack_recordings

FAULTS = (
    "Channels with a dead part: 1\n  Quake/channels.mseed: XX.S02..HHZ: 50 % of it is one value",
    "Dead channels: 1\n  Quake/channels.mseed: XX.S00..HHZ: constant",
    "Clipped channels: 1\n  Quake/channels.mseed: XX.S01..HHZ: at 30",
    "Quake/in_metres.mseed: its noise is ",
    "Quake/good0.mseed, Rockfall/copy.mseed: the same samples in two classes",
    "Quake/channels.mseed: XX.S04..HHZ has the samples of XX.S03..HHZ",
    "Quake/gaps.mseed: XX.S00..HHZ: gap of ",
    "Quake/gaps.mseed: XX.S02..HHZ: covers 25 % of the event's 12 s",
    "broken.mseed",
    "a class without recordings",
    "notes.txt: a file outside of the class folders",
    "class Rockfal has 1 usable event(s)",
    "classes Rockfal and Rockfall have nearly the same name",
    "sampling_freq: 100",
    "max_gap_s: 1",
    "keeps 1 channel(s) with short gaps",
    "skip_unreadable: true",
    "100 Hz: 52 channels, 50 Hz: 3 channels",
)


def test_every_fault_of_a_folder_is_named(faulty, tmp_path, capsys):
    main([str(faulty), "--output", str(tmp_path / "look")])
    report = capsys.readouterr().out
    assert [fault for fault in FAULTS if fault not in report] == []
    assert (tmp_path / "look" / "check.txt").read_text() == report
    assert (tmp_path / "look" / "examples.png").stat().st_size > 20_000


def test_a_packed_archive_says_what_was_left_out(faulty, tmp_path, capsys):
    pack_recordings(faulty, tmp_path / "archive", 100.0, 12.0, skip_unreadable=True)
    main([str(tmp_path / "archive"), "--output", str(tmp_path / "look")])
    report = capsys.readouterr().out
    assert "Quake__gaps.mseed: XX.S00..HHZ: gap of " in report
    assert "classes Rockfal and Rockfall" in report and "nperseg: " in report
    assert "the same samples in two classes" in report
    assert "duration_s" not in report  # an archive has its length
    assert (tmp_path / "look" / "examples.png").is_file()


def test_a_wrong_folder_is_one_message(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_status:
        main([str(tmp_path / "nothing")])
    assert exit_status.value.code == 2 and "no such folder" in capsys.readouterr().err
