import csv

import numpy as np
import pytest
import torch

from preprocessing.event_archive import ArchiveError, EventArchive
from preprocessing.levels import COLUMNS, LEAST_SAMPLES, NOTHING, levels_of, measure
from preprocessing.recordings import read_recording
from preprocessing.spectrogram import high_pass
from tests.preprocessing.small_archive import write_archive

RNG = np.random.default_rng(0)


def noise_and_burst(onset_s, rate_hz=100.0, seconds=120.0, n_channels=5, noise=3.0, signal=200.0):
    """White noise, and from ``onset_s`` on a louder part that decays within ten seconds."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    envelope = np.where(time_s < onset_s, 0, np.exp(-(time_s - onset_s) / 10))
    shape = (n_channels, len(time_s))
    return noise * RNG.normal(size=shape) + signal * envelope * RNG.normal(size=shape)


@pytest.mark.parametrize("rate_hz", [20.0, 100.0, 500.0])
@pytest.mark.parametrize("onset_s", [2.0, 70.0])
def test_beginning_and_levels_are_found_wherever_the_event_is(rate_hz, onset_s):
    waveforms = noise_and_burst(onset_s, rate_hz) + 1e5  # a recorder with an offset
    found = measure(waveforms.astype(np.float32), rate_hz)
    assert found.onset_s == pytest.approx(onset_s, abs=max(1.0, 50 / rate_hz))
    assert found.quiet_end_s <= onset_s or found.quiet_start_s > onset_s + 20
    assert found.quiet_end_s - found.quiet_start_s == pytest.approx(12, abs=2)
    assert found.noise == pytest.approx(3, rel=0.1) and found.signal == pytest.approx(195, rel=0.2)


def test_other_units_change_the_levels_and_nothing_else():
    waveforms = noise_and_burst(50).astype(np.float32)
    counts, metres = measure(waveforms, 100.0), measure(1e-9 * waveforms, 100.0)
    assert counts[:3] == metres[:3]
    assert metres[3:] == pytest.approx([1e-9 * level for level in counts[3:]])


def test_dead_parts_are_not_quiet():
    waveforms = noise_and_burst(70).astype(np.float32)
    waveforms[:, 9000:] = waveforms[:, :9000].mean(1, keepdims=True)  # padded at the end
    waveforms[2] = 7.0  # a dead channel
    found = measure(waveforms, 100.0)
    assert found.onset_s == pytest.approx(70, abs=1) and found.noise == pytest.approx(3, rel=0.1)


def test_the_ringing_of_a_filter_in_dead_parts_is_not_quiet():
    """A short event is padded with its mean, and the filter's ringing there is tiny."""
    recorded = (noise_and_burst(70) + 1e4).astype(np.float32)
    recorded[:, 9000:] = recorded[:, :9000].mean(1, keepdims=True)
    filtered = high_pass(torch.from_numpy(recorded), 100.0, 1.0).numpy()
    assert measure(filtered, 100.0).noise < 1e-3  # what would be found
    found = measure(filtered, 100.0, recorded)
    assert found.onset_s == pytest.approx(70, abs=1) and found.noise == pytest.approx(3, rel=0.1)
    assert found.quiet_end_s <= 90


def test_nothing_is_measured_where_there_is_nothing():
    assert measure(np.ones((2, 1000), np.float32), 100.0) is NOTHING
    assert measure(RNG.normal(size=(2, LEAST_SAMPLES - 1)), 100.0) is NOTHING
    short = measure(RNG.normal(size=(2, LEAST_SAMPLES)).astype(np.float32), 100.0)
    assert np.isfinite(short).all()


def test_the_real_event(aknes_event):
    found = measure(read_recording(aknes_event).waveforms, 1000.0)
    assert found.onset_s == pytest.approx(2.25, abs=0.5)  # P arrives 2.2 to 2.5 s into the record
    assert found.noise == pytest.approx(12, rel=0.05)


def test_real_events_of_another_network(pnw):
    onsets = [
        measure(read_recording(path, 100.0).waveforms, 100.0).onset_s
        for path in sorted(pnw.glob("*/*.mseed"))[::4]
    ]
    # their origins are 50 s after the start
    assert np.mean([50 <= onset <= 68 for onset in onsets]) > 0.8


def test_an_archive_knows_its_levels(tmp_path):
    """Also an archive of an earlier version, and a table that was edited."""
    waveforms = np.stack([noise_and_burst(onset, seconds=60) for onset in (10, 30, 40)])
    folder = write_archive(tmp_path / "archive", waveforms.astype(np.float32))
    archive = EventArchive(folder)
    found = levels_of(archive, np.array([2, 0]))
    np.testing.assert_allclose(found[0], measure(archive.waveforms(2), 100.0), rtol=1e-5)
    assert found[:, 0] == pytest.approx([40, 10], abs=1)
    table = folder / "metadata.csv"
    whole = table.read_text()
    rows = list(csv.DictReader(whole.splitlines()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name not in COLUMNS])
        writer.writeheader()
        writer.writerows({k: v for k, v in row.items() if k not in COLUMNS} for row in rows)
    np.testing.assert_allclose(levels_of(EventArchive(folder), np.array([2, 0])), found, rtol=1e-5)
    table.write_text(whole.replace(f",{rows[1]['event_noise']},", ",loud,"))
    with pytest.raises(ArchiveError, match="event_noise.*'loud'"):
        levels_of(EventArchive(folder), np.array([1]))
