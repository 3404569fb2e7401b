"""Recordings that are damaged, empty or forbidden: a reason, never a crash or wrong samples."""

import os

import numpy as np
import pytest
from obspy import Stream, Trace

from preprocessing.recordings import read_recording
from preprocessing.traces import RecordingError
from tests.conftest import write_mseed
from tests.preprocessing.recording_files import trace, write

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_samples(tmp_path, bad):
    samples = np.arange(100.0)
    samples[10:13] = bad
    path = write(tmp_path / "e.sac", trace(samples), format="SAC")
    with pytest.raises(RecordingError, match=r"e.sac: no usable channel \(.*0.03 s missing"):
        read_recording(path)
    np.testing.assert_allclose(
        read_recording(path, max_gap_s=0.05).waveforms[0], np.arange(100.0), atol=1e-4
    )


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: p.write_text("hello\nworld 1 2 3\n"), "not a format that ObsPy knows"),
        (lambda p: p.write_bytes(b""), "not a format"),
        (lambda p: None, "no such file"),
        (
            lambda p: write(p, trace(np.zeros(100)), trace(np.full(100, 7.0), station="B")),
            "every channel is constant",
        ),
        (
            lambda p: write(
                p,
                *(
                    trace(RNG.normal(size=100), start=50 * number, station=name)
                    for number, name in enumerate("ABC")
                ),
            ),
            "no time window",
        ),
    ],
)
def test_unusable_files_are_named_with_the_reason(tmp_path, make, reason):
    path = tmp_path / "event.dat"
    make(path)
    with pytest.raises(RecordingError, match=f"event.dat.*{reason}"):
        read_recording(path)


@pytest.mark.parametrize("keep", [12, 1000, 0.5, -100, -1])
def test_truncated_seg2(tmp_path, aknes_event, keep):
    content = aknes_event.read_bytes()
    path = tmp_path / "cut.dat"
    path.write_bytes(content[: int(keep * len(content)) if 0 < keep < 1 else keep])
    with pytest.raises(RecordingError, match="cut.dat"):
        read_recording(path)


@pytest.mark.parametrize("missing", [1, 100, 3000])
def test_truncated_miniseed(tmp_path, missing):
    path = write_mseed(tmp_path / "cut.mseed", RNG.normal(size=(2, 5000)).astype(np.float32))
    path.write_bytes(path.read_bytes()[:-missing])
    with pytest.raises(RecordingError, match="cut.mseed: truncated"):
        read_recording(path)


def test_a_flipped_bit_in_compressed_samples_is_noticed(tmp_path):
    path = tmp_path / "e.mseed"
    header = {"sampling_rate": 100.0, "station": "A"}
    steim = Trace((RNG.normal(size=5000) * 1000).astype(np.int32), header)
    Stream([steim]).write(str(path), format="MSEED", encoding="STEIM2", reclen=512)
    content = bytearray(path.read_bytes())
    content[800] ^= 4
    path.write_bytes(content)
    with pytest.raises(RecordingError, match="e.mseed: damaged: .*integrity check"):
        read_recording(path)


def test_a_lost_record_is_noticed_wherever_it_was(tmp_path):
    path = write_mseed(tmp_path / "e.mseed", RNG.normal(size=(2, 5000)).astype(np.float32))
    whole = path.read_bytes()
    for place in range(0, len(whole), 4096):
        content = bytearray(whole)
        content[place : place + 60] = b"x" * 60
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="e.mseed: "):
            read_recording(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission_is_a_reason(tmp_path):
    path = write_mseed(tmp_path / "e.mseed", RNG.normal(size=(1, 500)).astype(np.float32))
    path.chmod(0)
    with pytest.raises(RecordingError, match="e.mseed: cannot be read: Permission denied"):
        read_recording(path)


def test_reading_never_runs_code_in_a_file(tmp_path, monkeypatch):
    import pickle

    class Command:
        def __reduce__(self):
            import os

            return os.system, ("touch pwned",)

    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.dat").write_bytes(
        b"\x80\x04\x8c\x11obspy.core.stream0" + pickle.dumps(Command())
    )
    (tmp_path / "plain.dat").write_bytes(pickle.dumps(Command()))
    for name in ("evil.dat", "plain.dat"):
        with pytest.raises(RecordingError, match=name):
            read_recording(name)
    assert not (tmp_path / "pwned").exists()


def test_nothing_but_missing_samples_cannot_be_bridged(tmp_path):
    path = write(tmp_path / "e.sac", trace(np.full(50, np.nan)), format="SAC")
    with pytest.raises(RecordingError, match="no usable channel"):
        read_recording(path, max_gap_s=100)
