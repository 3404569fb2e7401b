"""What the network is given: the same in training and in prediction."""

import numpy as np
import pytest
import torch

from models.ensemble import USABLE_RATIO, signal_to_noise
from prediction.config import PredictConfig
from prediction.predictor import Predictor
from prediction.reading import Item
from preprocessing.event_archive import EventArchive
from preprocessing.packing import pack_recordings
from preprocessing.recordings import read_recording
from tests.conftest import write_mseed
from tests.modules import small_classifier

RATE_HZ, N_SAMPLES, PRE_TRIGGER_S = 100.0, 1200, 3.0


@pytest.fixture
def predictor():
    torch.manual_seed(0)
    model = small_classifier(
        n_samples=N_SAMPLES,
        pre_trigger_s=PRE_TRIGGER_S,
        spectrogram={"sampling_rate_hz": RATE_HZ, "nperseg": 20, "resize_size": 32},
    )
    return Predictor(model.eval(), "0" * 8, PredictConfig(precision="32-true"), torch.device("cpu"))


@pytest.mark.parametrize("n_found", [700, 1200, 1500])
def test_an_event_is_the_same_block_in_training_and_in_prediction(tmp_path, predictor, n_found):
    """With an offset of some thousand counts, and a sensor that records nothing but noise."""
    rng = np.random.default_rng(0)
    event = rng.normal(0, 3, (3, n_found))
    event[:2, 350:450] += 60 * np.sin(np.arange(100))
    event += [[5000], [-3000], [4000]]
    file = write_mseed(tmp_path / "events" / "a" / "0.mseed", event.astype(np.float32), RATE_HZ)
    pack_recordings(tmp_path / "events", tmp_path / "archive", RATE_HZ, N_SAMPLES / RATE_HZ)
    in_training = EventArchive(tmp_path / "archive").waveforms(0)
    classified = predictor.classify([Item("0", str(file), read_recording(file, RATE_HZ))])[0]
    np.testing.assert_array_equal(classified.waveforms, in_training)
    ratio = signal_to_noise(torch.from_numpy(in_training), RATE_HZ, PRE_TRIGGER_S)
    assert [sensor.signal_to_noise for sensor in classified.event.per_sensor] == pytest.approx(
        ratio.tolist(), abs=1e-3
    )
    assert (ratio >= USABLE_RATIO).tolist() == [True, True, False]


def test_a_short_recording_is_not_padded_with_noise_by_a_high_pass(tmp_path):
    """Noise is that of what was recorded: the filter rings in the padding, but very low."""
    torch.manual_seed(0)
    images = {"sampling_rate_hz": RATE_HZ, "nperseg": 20, "resize_size": 32, "highpass_hz": 1.0}
    model = small_classifier(n_samples=N_SAMPLES, quiet_noise=True, spectrogram=images).eval()
    predictor = Predictor(model, "0" * 8, PredictConfig(precision="32-true"), torch.device("cpu"))
    event = np.random.default_rng(0).normal(0, 3, (3, 800)).astype(np.float32)
    event[:, 350:450] += 60 * np.sin(np.arange(100, dtype=np.float32))
    file = write_mseed(tmp_path / "0.mseed", event, RATE_HZ)
    (classified,) = predictor.classify([Item("0", str(file), read_recording(file, RATE_HZ))])
    ratios = [sensor.signal_to_noise for sensor in classified.event.per_sensor]
    in_model = model.signal_to_noise(torch.from_numpy(classified.waveforms)[None], None)[0]
    assert max(ratios) < 1000 and ratios == pytest.approx(in_model.tolist(), rel=1e-3)
    assert classified.event.duration_s < 6
