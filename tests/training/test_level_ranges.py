import csv
import shutil
from dataclasses import asdict

import numpy as np
import pytest
import torch

from preprocessing.data_module import EventDataModule
from preprocessing.event_archive import EventArchive
from preprocessing.spectrogram import LogSpectrogram
from tests.preprocessing.small_archive import write_archive
from training import data
from training.data import spectrogram_settings
from training.level_ranges import NOISE_DENSITY, amplitude_scale, noise_and_onset, quiet_parts
from utils.config import ConfigError
from utils.schema import FinetuneConfig


def config(**dataset) -> FinetuneConfig:
    return FinetuneConfig(dataset={"source": "folder", "root": "events", **dataset})


def module_of(archive) -> EventDataModule:
    return EventDataModule(
        archive,
        np.array([0, 1, 2]),
        np.array([3]),
        class_names=("A", "B"),
        batch_size=2,
        sensors_train="one",
    )


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """Four events of white noise with a burst from 30 s on, in counts and in m/s."""
    place, rng = tmp_path_factory.mktemp("levels"), np.random.default_rng(0)
    waveforms = rng.normal(0, 3, (4, 3, 6000))
    waveforms[..., 3000:3500] *= 40
    units = {"counts": 1.0, "metres": 1e-9}
    return {
        name: EventArchive(write_archive(place / name, (unit * waveforms).astype(np.float32)))
        for name, unit in units.items()
    }


def test_automatic_amplitudes_make_images_of_any_unit_the_same(archives):
    images = [
        LogSpectrogram(**asdict(spectrogram_settings(config(), archive)))(
            torch.from_numpy(archive.waveforms(0))
        )
        for archive in archives.values()
    ]
    torch.testing.assert_close(*images, rtol=1e-3, atol=1e-4)
    scale = amplitude_scale(config(), archives["counts"])
    assert scale**2 * 3**2 / 50 == pytest.approx(NOISE_DENSITY, rel=0.1)
    for archive in archives.values():
        assert amplitude_scale(config(amplitude="counts"), archive) == 1


def test_levels_are_those_after_the_high_pass(tmp_path):
    """Noise of 3 counts; microseism of some hundred counts rules what is not filtered."""
    rng, time_s = np.random.default_rng(0), np.arange(6000) / 100
    waveforms = rng.normal(0, 3, (4, 3, 6000))
    waveforms[..., 3000:3500] *= 40
    quiet = EventArchive(write_archive(tmp_path / "quiet", waveforms.astype(np.float32)))
    waveforms += 500 * np.sin(2 * np.pi * 0.2 * time_s + rng.uniform(0, 6, (4, 3, 1)))
    loud = EventArchive(write_archive(tmp_path / "loud", waveforms.astype(np.float32)))
    filtered = config(highpass_hz=2.0)
    scales = [amplitude_scale(filtered, archive) for archive in (quiet, loud)]
    assert scales[0] == pytest.approx(scales[1], rel=0.05)
    assert amplitude_scale(config(), loud) < 0.1 * scales[1]
    assert spectrogram_settings(filtered, loud).highpass_hz == 2.0
    start_s, end_s = quiet_parts(filtered, loud, np.array([0]))[0]
    assert 0 <= start_s < end_s and (end_s <= 30 or start_s >= 35)


def test_with_a_high_pass_padding_is_not_noise(tmp_path):
    rng = np.random.default_rng(0)
    waveforms = rng.normal(0, 3, (4, 3, 6000))
    waveforms[..., 3000:3500] *= 40
    waveforms[1:, :, 4000:] = waveforms[1:, :, :4000].mean(-1, keepdims=True)
    archive = EventArchive(write_archive(tmp_path / "padded", waveforms.astype(np.float32)))
    scales = [amplitude_scale(config(highpass_hz=hz), archive) for hz in (None, 0.5)]
    assert scales[1] == pytest.approx(scales[0], rel=0.05)
    module = module_of(archive)
    found = noise_and_onset(config(highpass_hz=0.5), module)
    assert found.pre_trigger_s == pytest.approx(30, abs=0.6)
    assert found.levels["noise"][0] == pytest.approx(3, rel=0.1)
    assert quiet_parts(config(highpass_hz=0.5), archive, np.array([3]))[3, 1] <= 40


def test_with_a_high_pass_given_onsets_stay(archives, tmp_path):
    """Those of the source of the events, or of a user who has corrected the table."""
    folder = shutil.copytree(archives["counts"].archive_dir, tmp_path / "corrected")
    table = folder / "metadata.csv"
    rows = list(csv.DictReader(table.read_text().splitlines()))
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row | {"event_onset_s": "12.25"} for row in rows)
    for name, onset_s in ((archives["counts"].archive_dir, 30), (folder, 12.25)):
        module = module_of(EventArchive(name))
        for hz in (None, 1.0):
            found = noise_and_onset(config(highpass_hz=hz), module)
            assert found.pre_trigger_s == pytest.approx(onset_s, abs=0.6 * (onset_s == 30))


def test_a_high_pass_above_all_frequencies_is_refused(archives, monkeypatch):
    monkeypatch.setattr(data, "open_source", lambda _: archives["counts"])
    with pytest.raises(ConfigError, match="highpass_hz: found 60; it must be below 50, half the"):
        data.open_events(config(highpass_hz=60.0, nperseg=20))


def test_events_too_short_for_a_noise_are_refused(tmp_path):
    waveforms = np.random.default_rng(0).normal(size=(2, 1, 20)).astype(np.float32)
    archive = EventArchive(write_archive(tmp_path / "short", waveforms))
    with pytest.raises(ConfigError, match="dataset.amplitude: found auto.*set it to counts"):
        amplitude_scale(config(), archive)


def test_a_classifier_knows_its_levels_and_where_events_begin(archives):
    archive = archives["counts"]
    module = module_of(archive)
    found = noise_and_onset(config(), module)
    assert found.quiet_noise and found.pre_trigger_s == pytest.approx(30, abs=0.6)
    low, high = found.levels["noise"]
    assert 2.5 < low <= high < 3.5 and 100 < found.levels["signal"][0] < 140
    assert found.levels["rate_hz"] == 100
    assert quiet_parts(config(), archive, np.array([3]))[:3].tolist() == [[0, 0]] * 3
    start_s, end_s = quiet_parts(config(), archive, np.array([3]))[3]
    assert end_s <= 30 or start_s >= 35
    at_aknes = config(pre_trigger_s=3.0)
    assert noise_and_onset(at_aknes, module) == (found.levels, 3.0, False)
    assert quiet_parts(at_aknes, archive, np.array([3])) is None
