import logging

import torch

from preprocessing.spectrogram import LogSpectrogram
from training.fine_tuning import compare_images, spectrogram_of_pretraining

IMAGES = {"sampling_rate_hz": 100.0, "nperseg": 20, "highpass_hz": 1.0, "resize_size": None}


def test_a_warning_names_what_differs_from_pretraining(caplog):
    caplog.set_level(logging.WARNING)
    compare_images(IMAGES, IMAGES | {"amplitude_scale": 3.0})
    compare_images(None, IMAGES)
    assert not caplog.records
    compare_images(IMAGES, IMAGES | {"highpass_hz": None, "nperseg": 16})
    (record,) = caplog.records
    assert (
        "dataset.nperseg was 20, here it is 16; dataset.highpass_hz was 1.0, here it is None"
        in (record.getMessage())
    )


def test_images_are_found_in_encoder_files_and_checkpoints(tmp_path):
    LogSpectrogram(**IMAGES)  # these are its arguments
    files = {
        "encoder": {"epoch": 1, "model_state_dict": {}, "spectrogram": IMAGES},
        "last": {"hyper_parameters": {"spectrogram": IMAGES}},
        "old": {"epoch": 1, "model_state_dict": {}},
        "strange": {"spectrogram": 5},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / name)
    found = {name: spectrogram_of_pretraining(tmp_path / name) for name in files}
    assert found == {"encoder": IMAGES, "last": IMAGES, "old": None, "strange": None}
