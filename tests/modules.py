"""Small LightningModules for tests, with fixed values for the arguments from configurations."""

import torch

from models.event_classifier import EventClassifier
from models.vnibcreg import VNIbCReg

SMALL_IMAGES = {"sampling_rate_hz": 100, "nperseg": 80, "resize_size": 64}
CLASSIFIER = {
    "class_weights": None,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "label_smoothing": 0.0,
    "freeze_encoder": False,
    "freeze_bn_stat_train": False,
    "augmentations": [],
    "spectrogram": SMALL_IMAGES,
}
PRETRAINING = {
    "proj_hid": 64,
    "proj_out": 64,
    "lambda_": 2.0,
    "mu": 3.0,
    "nu": 5.0,
    "rho": 7.0,
    "use_diag_loss": True,
    "use_tnc": True,
    "learning_rate": 1e-3,
    "weight_decay": 0.0,
    "augmentations": ["NeighboringCrop"],
    "spectrogram": SMALL_IMAGES,
    "knn_period": -1,
}


def small_pretraining(**changes) -> VNIbCReg:
    """Build VNIbCReg on a CompactEncoder with seeded weights; ``changes`` replace arguments."""
    torch.manual_seed(0)
    return VNIbCReg("CompactEncoder", **(PRETRAINING | changes))


def small_classifier(**changes) -> EventClassifier:
    """Build a classifier of three classes on a CompactEncoder with seeded weights."""
    torch.manual_seed(0)
    return EventClassifier(["a", "b", "c"], "CompactEncoder", **(CLASSIFIER | changes))
