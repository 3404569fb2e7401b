import logging

from training.fine_tuning import compare_images

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
