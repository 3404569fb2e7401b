"""A folder with every fault that the check should find."""

from pathlib import Path

import numpy as np
import obspy
import pytest

from tests.conftest import made_once, write_mseed

RNG = np.random.default_rng(7)


def _event(n_channels: int = 3, n_samples: int = 1200, gain: float = 1.0) -> np.ndarray:
    samples = RNG.normal(0, 100, (n_channels, n_samples))
    samples[:, 400:500] *= 20
    return (gain * samples).astype(np.float32)


def write_faulty(root: Path) -> None:
    """Write a good class, its misspelt twin, a small class, and one file for each fault."""
    for number in range(6):
        start = f"2020-01-{1 + number:02d}"
        write_mseed(root / "Quake" / f"good{number}.mseed", _event(), start=start)
        write_mseed(root / "Rockfall" / f"good{number}.mseed", _event(), start=start)
    write_mseed(root / "Rockfal" / "one.mseed", _event(), start="2020-01-02")
    quake = root / "Quake"
    copied = (quake / "good0.mseed").read_bytes()
    (root / "Rockfall" / "copy.mseed").write_bytes(copied)
    faulty = _event(5)
    faulty[0] = 7
    faulty[1] = faulty[1].round().clip(-300, 300)
    faulty[2, 600:] = 0
    faulty[4] = faulty[3]
    write_mseed(quake / "channels.mseed", faulty, start="2020-01-03")
    write_mseed(quake / "in_metres.mseed", _event(gain=1e-9), start="2020-01-04")
    write_mseed(quake / "slow.mseed", _event(), rate_hz=50.0, start="2020-01-05")
    (quake / "broken.mseed").write_bytes(b"no recording")
    stream = obspy.read(write_mseed(quake / "gaps.mseed", _event(4), start="2020-01-06"))
    stream[0].data[600] = 0
    start = stream[0].stats.starttime
    stream += stream[0].slice(start + 7)  # a gap of 2 s
    stream[0].trim(endtime=start + 5)
    stream += stream[1].slice(start + 5.5)  # of half a second
    stream[1].trim(endtime=start + 5)
    stream[2].trim(starttime=start + 9)  # late
    stream.write(str(quake / "gaps.mseed"), format="MSEED")
    (root / "Empty").mkdir()
    (root / "notes.txt").write_text("not in a class")


@pytest.fixture(scope="session")
def faulty(tmp_path_factory) -> Path:
    return made_once(tmp_path_factory, "faulty", write_faulty)
